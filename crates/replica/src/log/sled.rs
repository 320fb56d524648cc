//! The log on sled 0.34. Two of its habits are mended here:
//! its `flush` is `sync_file_range`, which is no fsync, so a handle of our own on its file is synced after it;
//! and a kill during its `open` leaves a torn `snap.*.generating` that would fail every later open, so that is
//! deleted first (it is never live before its rename).

use std::fs::File;
use std::io;
use std::path::Path;

use sled::{Batch, Db, Tree};

use super::backend::{ChunkKey, Loaded, LogBackend};
use crate::disk;

const CACHE_BYTES: u64 = 64 << 20;
// Its garbage collection runs in the flusher only, so the flusher must stay on.
const FLUSH_EVERY_MS: u64 = 1000;

/// Puts the data of a file on the disk. A seam: that it is called at all can be seen in no other way.
pub(super) type SyncData = Box<dyn Fn(&File) -> io::Result<()> + Send>;

pub struct SledBackend {
    chunks: Tree,
    meta: Tree,
    // Any descriptor of the inode will do for fsync.
    file: File,
    sync_data: SyncData,
    // Last: the trees go before the database.
    db: Db,
}

impl SledBackend {
    pub fn open(dir: &Path) -> io::Result<SledBackend> {
        SledBackend::open_with(dir, Box::new(File::sync_data))
    }

    pub(super) fn open_with(dir: &Path, sync_data: SyncData) -> io::Result<SledBackend> {
        disk::create_dir(dir)?;
        remove_torn_snapshots(dir)?;
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(Some(FLUSH_EVERY_MS))
            .open()
            .map_err(io::Error::from)?;
        let file = File::open(dir.join("db"))?;
        let (chunks, meta) = (db.open_tree("log")?, db.open_tree("meta")?);
        let mut backend = SledBackend { chunks, meta, file, sync_data, db };
        backend.sync()?;
        // The names of new files are durable only when their directory is.
        disk::sync_dir(dir)?;
        Ok(backend)
    }
}

fn remove_torn_snapshots(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removing a file that a killed open left torn");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl LogBackend for SledBackend {
    fn load(&mut self) -> io::Result<Loaded> {
        let mut loaded = Loaded::default();
        for record in self.chunks.iter() {
            let (key, value) = record?;
            let key = ChunkKey::from_bytes(&key).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("log key {key:?} is not ours"))
            })?;
            loaded.chunks.push((key, value.to_vec()));
        }
        for record in self.meta.iter() {
            let (name, value) = record?;
            loaded.meta.insert(String::from_utf8_lossy(&name).into_owned(), value.to_vec());
        }
        Ok(loaded)
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        Ok(self.chunks.get(key.to_bytes())?.map(|value| value.to_vec()))
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        self.chunks.insert(key.to_bytes(), value)?;
        Ok(())
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        self.chunks.remove(key.to_bytes())?;
        Ok(())
    }

    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        let mut batch = Batch::default();
        remove.iter().for_each(|key| batch.remove(&key.to_bytes()));
        put.iter().for_each(|(key, value)| batch.insert(&key.to_bytes(), value.as_slice()));
        self.chunks.apply_batch(batch)?;
        Ok(())
    }

    fn put_meta(&mut self, name: &str, value: &[u8]) -> io::Result<()> {
        self.meta.insert(name, value)?;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.db.flush()?;
        (self.sync_data)(&self.file)
    }
}
