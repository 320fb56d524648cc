//! A backend around another that keeps what is written in memory until it is synced. A process that is killed then loses
//! what a power cut would, which SIGKILL alone does not show: the kernel writes down what a dead process had written.

use std::io;

use super::backend::{ChunkKey, Loaded, LogBackend};
use super::memory::{self, Change, Tables};

pub struct Volatile<B> {
    inner: B,
    pending: Vec<Change>,
}

impl<B: LogBackend> Volatile<B> {
    pub fn new(inner: B) -> Volatile<B> {
        Volatile { inner, pending: Vec::new() }
    }

    fn pass(&mut self, change: Change) -> io::Result<()> {
        match change {
            Change::Meta { name, value } => self.inner.put_meta(&name, &value),
            Change::Chunks { remove, put } => match (&remove[..], &put[..]) {
                ([], [(key, value)]) => self.inner.put_chunk(*key, value),
                ([key], []) => self.inner.remove_chunk(*key),
                _ => self.inner.replace_chunks(&remove, &put),
            },
        }
    }
}

impl<B: LogBackend> LogBackend for Volatile<B> {
    fn load(&mut self) -> io::Result<Loaded> {
        let mut tables = Tables::of(self.inner.load()?);
        self.pending.iter().cloned().for_each(|change| tables.make(change));
        Ok(tables.into_loaded())
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        match memory::last_of(&self.pending, key) {
            Some(pending) => Ok(pending),
            None => self.inner.chunk(key),
        }
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        self.pending.push(Change::Chunks { remove: vec![], put: vec![(key, value.to_vec())] });
        Ok(())
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        self.pending.push(Change::Chunks { remove: vec![key], put: vec![] });
        Ok(())
    }

    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        self.pending.push(Change::Chunks { remove: remove.to_vec(), put: put.to_vec() });
        Ok(())
    }

    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.pending.push(Change::Meta { name: name.to_owned(), value: value.to_vec() });
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        for change in std::mem::take(&mut self.pending) {
            self.pass(change)?;
        }
        self.inner.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Faults, MemoryDisk, Operation};

    fn key(first: u64) -> ChunkKey {
        ChunkKey { first, part: 0 }
    }

    fn firsts(backend: &mut impl LogBackend) -> Vec<u64> {
        backend.load().unwrap().chunks.iter().map(|(key, _)| key.first).collect()
    }

    #[test]
    fn what_is_not_synced_can_be_read_and_is_gone_when_the_process_is() {
        let disk = MemoryDisk::default();
        let mut volatile = Volatile::new(disk.open());
        volatile.put_chunk(key(1), b"a").unwrap();
        volatile.put_meta("vote", b"v").unwrap();
        volatile.sync().unwrap();
        volatile.put_chunk(key(2), b"b").unwrap();
        volatile.remove_chunk(key(1)).unwrap();
        volatile.put_meta("vote", b"w").unwrap();
        assert_eq!(firsts(&mut volatile), [2]);
        assert_eq!(volatile.load().unwrap().meta["vote"], b"w");
        drop(volatile);
        let mut left = disk.open().load().unwrap();
        assert_eq!(left.chunks, [(key(1), "a".into())]);
        assert_eq!(left.meta.remove("vote").unwrap(), b"v");
    }

    #[test]
    fn a_sync_passes_everything_on_in_order_and_syncs_that() {
        let faults = Faults::default();
        let mut volatile = Volatile::new(faults.wrap(MemoryDisk::default().open()));
        volatile.put_chunk(key(1), b"a").unwrap();
        volatile.put_meta("committed", b"1").unwrap();
        volatile.put_chunk(key(2), b"b").unwrap();
        volatile.remove_chunk(key(1)).unwrap();
        assert_eq!(faults.trace(), []);
        volatile.sync().unwrap();
        let expected = [
            Operation::PutChunk(key(1)),
            Operation::PutMeta("committed".to_owned()),
            Operation::PutChunk(key(2)),
            Operation::RemoveChunk(key(1)),
            Operation::Sync,
        ];
        assert_eq!(faults.trace(), expected);
        volatile.sync().unwrap();
        assert_eq!(faults.trace().len(), expected.len() + 1, "nothing is passed on twice");
    }

    #[test]
    fn chunks_that_are_replaced_are_replaced_together() {
        let (disk, faults) = (MemoryDisk::default(), Faults::default());
        let mut volatile = Volatile::new(faults.wrap(disk.open()));
        (1..=3).for_each(|first| volatile.put_chunk(key(first), b"old").unwrap());
        volatile.sync().unwrap();
        volatile.replace_chunks(&[key(2), key(3)], &[(key(2), b"new".to_vec())]).unwrap();
        assert_eq!(firsts(&mut volatile), [1, 2]);
        assert_eq!(firsts(&mut disk.open()), [1, 2, 3], "none of it before the sync");
        volatile.sync().unwrap();
        assert_eq!(disk.open().load().unwrap().chunks[1..], [(key(2), "new".into())]);
        let replaced = faults.trace().into_iter().filter(|operation| *operation == Operation::ReplaceChunks);
        assert_eq!(replaced.count(), 1);
    }
}
