//! The log's store with faults that the knobs switch on.

use std::io;
use std::sync::Arc;

use crate::chaos::knobs::{Knobs, WriteError};
use crate::log::{ChunkKey, Loaded, LogBackend};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

pub(super) struct Faulty {
    inner: Box<dyn LogBackend>,
    knobs: Arc<Knobs>,
}

impl Faulty {
    pub fn new(inner: Box<dyn LogBackend>, knobs: Arc<Knobs>) -> Faulty {
        Faulty { inner, knobs }
    }

    /// `write` gets as much of the value as reaches the store.
    fn put(
        &mut self,
        value: &[u8],
        write: impl FnOnce(&mut dyn LogBackend, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let error = match self.knobs.write_error() {
            None => return write(&mut *self.inner, value),
            Some(WriteError::Short) => {
                write(&mut *self.inner, &value[..value.len() / 2])?;
                EIO
            }
            Some(WriteError::Eio) => EIO,
            Some(WriteError::Enospc) => ENOSPC,
        };
        Err(io::Error::from_raw_os_error(error))
    }
}

impl LogBackend for Faulty {
    fn load(&mut self) -> io::Result<Loaded> {
        self.inner.load()
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        self.inner.chunk(key)
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        self.put(value, |inner, written| inner.put_chunk(key, written))
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        self.put(&[], |inner, _| inner.remove_chunk(key))
    }

    /// All of it or nothing, so that nothing of it can be short.
    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        match self.knobs.write_error() {
            Some(WriteError::Short) => Err(io::Error::from_raw_os_error(EIO)),
            _ => self.put(&[], |inner, _| inner.replace_chunks(remove, put)),
        }
    }

    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.put(value, |inner, written| inner.put_meta(name, written))
    }

    fn sync(&mut self) -> io::Result<()> {
        let delay = self.knobs.sync_delay();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        if self.knobs.fails_sync() {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        self.inner.sync()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::knobs::parse;
    use crate::env::WallOffset;
    use crate::log::MemoryDisk;

    const KEY: ChunkKey = ChunkKey { first: 1, part: 0 };

    fn faulty() -> (Faulty, Arc<Knobs>) {
        let knobs = Knobs::watched(None, WallOffset::default());
        (Faulty::new(Box::new(MemoryDisk::default().open()), knobs.clone()), knobs)
    }

    #[test]
    fn a_write_fails_as_it_is_told_to_and_a_short_one_leaves_half() {
        let (mut faulty, knobs) = faulty();
        for (error, code, left) in [("eio", EIO, None), ("enospc", ENOSPC, None), ("short", EIO, Some(2))] {
            knobs.set(parse(&format!(r#"{{"write_error": "{error}"}}"#)).unwrap());
            let failed = faulty.put_chunk(KEY, b"four").unwrap_err();
            assert_eq!(failed.raw_os_error(), Some(code));
            assert!(faulty.put_meta("vote", b"four").is_err() && faulty.replace_chunks(&[KEY], &[]).is_err());
            let loaded = faulty.load().unwrap();
            assert_eq!(loaded.chunks.first().map(|(_, value)| value.len()), left, "{error}");
            assert_eq!(loaded.meta.get("vote").map(Vec::len), left, "{error}");
        }
        knobs.set(parse("{}").unwrap());
        faulty.put_chunk(KEY, b"four").unwrap();
        assert_eq!(faulty.load().unwrap().chunks, [(KEY, "four".into())]);
    }

    #[test]
    fn a_sync_fails_or_waits_as_it_is_told_to() {
        let (mut faulty, knobs) = faulty();
        knobs.set(parse(r#"{"sync_error": "once", "sync_delay_ms": 1}"#).unwrap());
        assert_eq!(faulty.sync().unwrap_err().raw_os_error(), Some(EIO));
        faulty.sync().unwrap();
    }
}
