//! What the log needs of a store: two ordered tables whose writes survive as a prefix, and a real sync.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;

/// The first index of a chunk, and the part if one entry is spread over several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkKey {
    pub first: u64,
    pub part: u16,
}

impl ChunkKey {
    pub const BYTES: usize = 10;

    pub fn to_bytes(self) -> [u8; ChunkKey::BYTES] {
        let mut bytes = [0; ChunkKey::BYTES];
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[8..].copy_from_slice(&self.part.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<ChunkKey> {
        let (first, part) = bytes.split_at_checked(8)?;
        Some(ChunkKey {
            first: u64::from_be_bytes(first.try_into().ok()?),
            part: u16::from_be_bytes(part.try_into().ok()?),
        })
    }
}

/// All that a store holds.
#[derive(Debug, Default)]
pub struct Loaded {
    /// In order of their keys.
    pub chunks: Vec<(ChunkKey, Bytes)>,
    pub meta: BTreeMap<String, Vec<u8>>,
}

/// A store of chunks and of a few named values. Called by one thread only.
///
/// After a crash a prefix of all writes is left, over both tables together, and it reaches at least to the last
/// `sync` that returned.
pub trait LogBackend: Send + 'static {
    fn load(&mut self) -> io::Result<Loaded>;
    /// What was last put under the key, synced or not.
    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>>;
    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()>;
    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()>;
    /// Removes and rewrites chunks, all of it or nothing.
    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()>;
    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()>;
    /// Returns once everything written before is on the disk itself.
    fn sync(&mut self) -> io::Result<()>;
    /// How long the next sync is in coming. In a simulation, where nothing blocks, that much time passes before it.
    fn sync_takes(&self) -> Duration {
        Duration::ZERO
    }
}

impl LogBackend for Box<dyn LogBackend> {
    fn load(&mut self) -> io::Result<Loaded> {
        (**self).load()
    }
    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        (**self).chunk(key)
    }
    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        (**self).put_chunk(key, value)
    }
    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        (**self).remove_chunk(key)
    }
    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        (**self).replace_chunks(remove, put)
    }
    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        (**self).put_meta(name, value)
    }
    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
    fn sync_takes(&self) -> Duration {
        (**self).sync_takes()
    }
}
