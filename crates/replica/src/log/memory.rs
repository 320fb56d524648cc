//! The log in memory, for simulations: a crash loses what was not synced, and a sync may take its time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::backend::{ChunkKey, Loaded, LogBackend};
use super::contents::Contents;

#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    chunks: BTreeMap<ChunkKey, Vec<u8>>,
    meta: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Chunks { remove: Vec<ChunkKey>, put: Vec<(ChunkKey, Vec<u8>)> },
    Meta { name: String, value: Vec<u8> },
}

impl Tables {
    #[cfg(any(test, feature = "chaos"))]
    pub fn of(loaded: Loaded) -> Tables {
        let chunks = loaded.chunks.into_iter().map(|(key, value)| (key, value.into())).collect();
        Tables { chunks, meta: loaded.meta }
    }

    pub fn into_loaded(self) -> Loaded {
        let chunks = self.chunks.into_iter().map(|(key, value)| (key, value.into())).collect();
        Loaded { chunks, meta: self.meta }
    }

    pub fn make(&mut self, change: Change) {
        match change {
            Change::Chunks { remove, put } => {
                remove.iter().for_each(|key| drop(self.chunks.remove(key)));
                self.chunks.extend(put);
            }
            Change::Meta { name, value } => drop(self.meta.insert(name, value)),
        }
    }
}

/// What the last of these changes to touch the chunk has made of it; `None`: none of them did.
pub(super) fn last_of(changes: &[Change], key: ChunkKey) -> Option<Option<Vec<u8>>> {
    changes.iter().rev().find_map(|change| match change {
        Change::Chunks { remove, put } => {
            let put = put.iter().find(|(other, _)| *other == key).map(|(_, value)| Some(value.clone()));
            put.or_else(|| remove.contains(&key).then_some(None))
        }
        Change::Meta { .. } => None,
    })
}

#[derive(Debug, Default)]
struct Disk {
    synced: Tables,
    contents: Arc<Contents>,
    pending: Vec<Change>,
}

impl Disk {
    fn sync(&mut self) {
        let contents = Arc::make_mut(&mut self.contents);
        for change in std::mem::take(&mut self.pending) {
            match &change {
                Change::Chunks { remove, put } => {
                    let keys: Vec<ChunkKey> = put.iter().map(|(key, _)| *key).collect();
                    let gone = remove.iter().chain(&keys).copied();
                    contents.forget(&self.synced.chunks, gone);
                    self.synced.make(change);
                    contents.learn(&self.synced.chunks, keys.into_iter());
                }
                Change::Meta { name, value } => {
                    contents.learn_meta(name, value);
                    self.synced.make(change);
                }
            }
        }
    }
}

/// What outlives the process that writes to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl MemoryDisk {
    /// As when the power fails: of what was written since the last sync only the first `kept` changes are left. They
    /// are on the disk then.
    pub fn crash(&self, kept: usize) {
        let mut disk = self.0.lock();
        disk.pending.truncate(kept);
        disk.sync();
    }

    /// How many changes a power failure could lose.
    pub fn unsynced(&self) -> usize {
        self.0.lock().pending.len()
    }

    /// What would be left if it failed now and lost all of these.
    pub fn durable(&self) -> Arc<Contents> {
        self.0.lock().contents.clone()
    }

    /// A backend on this disk. The writer of an earlier life must have ended.
    pub fn open(&self) -> MemoryBackend {
        self.open_paced(|| Duration::ZERO)
    }

    /// `pace` says how long each sync takes.
    pub fn open_paced(&self, pace: impl Fn() -> Duration + Send + 'static) -> MemoryBackend {
        // What a killed process has left in the system's memory reads as if it were on the disk: as in the other
        // backend, it is before anybody builds on it.
        self.0.lock().sync();
        MemoryBackend { disk: self.clone(), pace: Box::new(pace) }
    }
}

pub struct MemoryBackend {
    disk: MemoryDisk,
    pace: Box<dyn Fn() -> Duration + Send>,
}

impl MemoryBackend {
    fn write(&self, change: Change) -> io::Result<()> {
        self.disk.0.lock().pending.push(change);
        Ok(())
    }
}

impl LogBackend for MemoryBackend {
    fn load(&mut self) -> io::Result<Loaded> {
        let disk = self.disk.0.lock();
        let mut tables = disk.synced.clone();
        disk.pending.iter().cloned().for_each(|change| tables.make(change));
        Ok(tables.into_loaded())
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        let disk = self.disk.0.lock();
        Ok(last_of(&disk.pending, key).unwrap_or_else(|| disk.synced.chunks.get(&key).cloned()))
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        self.write(Change::Chunks { remove: vec![], put: vec![(key, value.to_vec())] })
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        self.write(Change::Chunks { remove: vec![key], put: vec![] })
    }

    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        self.write(Change::Chunks { remove: remove.to_vec(), put: put.to_vec() })
    }

    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.write(Change::Meta { name: name.to_owned(), value: value.to_vec() })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.0.lock().sync();
        Ok(())
    }

    fn sync_takes(&self) -> Duration {
        (self.pace)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Record;
    use crate::log::chunk;

    fn record(term: u64, index: u64, bytes: usize) -> Record {
        Record { term, index, kind: 1, payload: vec![index as u8; bytes].into() }
    }

    fn put(backend: &mut MemoryBackend, records: &[Record]) {
        for packed in chunk::pack(records) {
            for (key, value) in packed.extent.keys().zip(&packed.values) {
                backend.put_chunk(key, value).unwrap();
            }
        }
    }

    fn entries(disk: &MemoryDisk) -> Vec<(u64, u64)> {
        disk.durable().entries.values().map(|entry| (entry.term, entry.index)).collect()
    }

    #[test]
    fn only_what_was_synced_counts_as_durable() {
        let disk = MemoryDisk::default();
        let mut backend = disk.open();
        put(&mut backend, &[record(1, 0, 10), record(1, 1, 10)]);
        // In several parts.
        put(&mut backend, &[record(1, 2, 30_000)]);
        assert_eq!(entries(&disk), []);
        backend.sync().unwrap();
        assert_eq!(entries(&disk), [(1, 0), (1, 1), (1, 2)]);

        put(&mut backend, &[record(1, 3, 30_000)]);
        assert_eq!(disk.unsynced(), 3);
        disk.crash(2);
        assert_eq!(entries(&disk), [(1, 0), (1, 1), (1, 2)], "the last part of the last is lost");

        let rewritten = chunk::pack(&[record(1, 0, 10)]).remove(0).values.remove(0);
        let key = |first, part| ChunkKey { first, part };
        let remove = [key(0, 0), key(2, 0), key(2, 1), key(2, 2), key(3, 0), key(3, 1)];
        backend.replace_chunks(&remove, &[(key(0, 0), rewritten)]).unwrap();
        put(&mut backend, &[record(2, 1, 10)]);
        backend.sync().unwrap();
        assert_eq!(entries(&disk), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_process_that_is_killed_loses_nothing_and_the_next_one_syncs_it() {
        let disk = MemoryDisk::default();
        put(&mut disk.open(), &[record(1, 0, 10)]);
        assert_eq!(entries(&disk), []);
        drop(disk.open());
        assert_eq!(entries(&disk), [(1, 0)]);
    }
}
