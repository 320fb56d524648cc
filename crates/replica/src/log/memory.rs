//! The log in memory, for simulations: a crash loses what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::backend::{ChunkKey, Loaded, LogBackend};

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
        Tables { chunks: loaded.chunks.into_iter().collect(), meta: loaded.meta }
    }

    pub fn into_loaded(self) -> Loaded {
        Loaded { chunks: self.chunks.into_iter().collect(), meta: self.meta }
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

#[derive(Debug, Default)]
struct Disk {
    synced: Tables,
    pending: Vec<Change>,
}

/// What outlives the process that writes to it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk(Arc<Mutex<Disk>>);

impl MemoryDisk {
    /// As when the power fails: of what was written since the last sync only the first `kept` changes are left.
    pub fn crash(&self, kept: usize) {
        self.0.lock().pending.truncate(kept);
    }

    /// A backend on this disk. The writer of an earlier life must have ended.
    pub fn open(&self) -> MemoryBackend {
        MemoryBackend(self.clone())
    }
}

pub struct MemoryBackend(MemoryDisk);

impl MemoryBackend {
    fn write(&self, change: Change) -> io::Result<()> {
        self.0.0.lock().pending.push(change);
        Ok(())
    }
}

impl LogBackend for MemoryBackend {
    fn load(&mut self) -> io::Result<Loaded> {
        let disk = self.0.0.lock();
        let mut tables = disk.synced.clone();
        disk.pending.iter().cloned().for_each(|change| tables.make(change));
        Ok(tables.into_loaded())
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
        let mut disk = self.0.0.lock();
        let pending = std::mem::take(&mut disk.pending);
        pending.into_iter().for_each(|change| disk.synced.make(change));
        Ok(())
    }
}
