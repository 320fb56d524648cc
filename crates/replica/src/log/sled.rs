//! The log on sled 0.34. Three of its habits are mended here:
//! its `flush` is `sync_file_range`, which is no fsync, so a handle of our own on its file is synced after it;
//! a kill during its `open` leaves a torn `snap.*.generating` that would fail every later open, so that is
//! deleted first (it is never live before its rename); and what is appended to a tree is written again and again as its leaves
//! split, so chunks lie in leaves that were split while they were empty (see `slots`).

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use sled::{Batch, Db, IVec, Tree};

use super::backend::{ChunkKey, Loaded, LogBackend};
use super::slots::Slots;
use crate::disk;

const CACHE_BYTES: u64 = 64 << 20;
// Its garbage collection runs in the flusher only, so the flusher must stay on.
const FLUSH_EVERY_MS: u64 = 1000;

const CHUNKS: &str = "chunks";
/// Where versions before this one keep chunks, by their keys.
const CHUNKS_OLD: &str = "log";
/// The only key of that tree once they are in the other. Those versions refuse it, or they would take the log for empty.
const MOVED: &[u8] = b"moved to chunks";

/// Puts the data of a file on the disk. A seam: that it is called at all can be seen in no other way.
pub(super) type SyncData = Box<dyn Fn(&File) -> io::Result<()> + Send>;

pub struct SledBackend {
    /// By slot: the chunk's key and the chunk, or nothing.
    chunks: Tree,
    /// Once the chunks have been read.
    slots: Option<Slots>,
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
        let (chunks, meta) = (db.open_tree(CHUNKS)?, db.open_tree("meta")?);
        let mut backend = SledBackend { chunks, slots: None, meta, file, sync_data, db };
        backend.move_old()?;
        backend.sync()?;
        // The names of new files are durable only when their directory is.
        disk::sync_dir(dir)?;
        Ok(backend)
    }

    /// Takes over what an older version has left. Killed in the middle, it begins anew.
    fn move_old(&mut self) -> io::Result<()> {
        let old = self.db.open_tree(CHUNKS_OLD)?;
        if !old.contains_key(MOVED)? {
            self.chunks.clear()?;
            self.slots = Some(Slots::default());
            for record in &old {
                let (key, value) = record?;
                let key = ChunkKey::from_bytes(&key).ok_or_else(|| not_ours(&key))?;
                self.put_chunk(key, &value)?;
            }
            self.sync()?;
            old.insert(MOVED, &[])?;
            self.sync()?;
        }
        for key in old.iter().keys() {
            let key = key?;
            if key != MOVED {
                old.remove(key)?;
            }
        }
        Ok(())
    }

    fn slots(&mut self) -> io::Result<&mut Slots> {
        if self.slots.is_none() {
            self.load()?;
        }
        Ok(self.slots.get_or_insert_default())
    }

    /// The chunk's slot, with entries around it.
    fn slot_for(&mut self, key: ChunkKey) -> io::Result<u64> {
        let slots = self.slots()?;
        let slot = slots.of(key).unwrap_or_else(|| slots.take(key));
        for ready in slots.make_ready() {
            self.chunks.insert(slot_key(ready), &[])?;
        }
        Ok(slot)
    }

    fn remove(&self, slot: u64) -> io::Result<()> {
        self.chunks.remove(slot_key(slot))?;
        Ok(())
    }
}

fn slot_key(slot: u64) -> [u8; 8] {
    slot.to_be_bytes()
}

fn slot_of(key: &[u8]) -> io::Result<u64> {
    key.try_into().map(u64::from_be_bytes).map_err(|_| not_ours(key))
}

fn framed(key: ChunkKey, chunk: &[u8]) -> IVec {
    [&key.to_bytes()[..], chunk].concat().into()
}

fn split(value: &[u8]) -> io::Result<(ChunkKey, &[u8])> {
    let parts = value.split_first_chunk::<{ ChunkKey::BYTES }>();
    let parts = parts.and_then(|(key, chunk)| Some((ChunkKey::from_bytes(key)?, chunk)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a chunk of the log lacks its key"))
}

fn not_ours(key: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("log key {key:?} is not ours"))
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
        let mut entries = Vec::new();
        for record in &self.chunks {
            let (slot, value) = record?;
            let key = if value.is_empty() { None } else { Some(split(&value)?.0) };
            entries.push((slot_of(&slot)?, key));
            // Not copied: of a large log that took longer than to read it.
            let chunk = key.map(|key| (key, Bytes::from_owner(value).slice(ChunkKey::BYTES..)));
            loaded.chunks.extend(chunk);
        }
        loaded.chunks.sort_unstable_by_key(|(key, _)| *key);
        let (slots, stale) = Slots::read(entries.into_iter());
        self.slots = Some(slots);
        stale.into_iter().try_for_each(|slot| self.remove(slot))?;
        for record in self.meta.iter() {
            let (name, value) = record?;
            loaded.meta.insert(String::from_utf8_lossy(&name).into_owned(), value.to_vec());
        }
        Ok(loaded)
    }

    fn chunk(&mut self, key: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        let Some(slot) = self.slots()?.of(key) else { return Ok(None) };
        let value = self.chunks.get(slot_key(slot))?;
        value.map(|value| Ok(split(&value)?.1.to_vec())).transpose()
    }

    fn put_chunk(&mut self, key: ChunkKey, value: &[u8]) -> io::Result<()> {
        let slot = self.slot_for(key)?;
        self.chunks.insert(slot_key(slot), framed(key, value))?;
        Ok(())
    }

    fn remove_chunk(&mut self, key: ChunkKey) -> io::Result<()> {
        let Some(freed) = self.slots()?.free(key) else { return Ok(()) };
        let slots = freed.leaf.unwrap_or(freed.slot..freed.slot + 1);
        slots.into_iter().try_for_each(|slot| self.remove(slot))
    }

    fn replace_chunks(&mut self, remove: &[ChunkKey], put: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        let mut batch = Batch::default();
        let slots = self.slots()?;
        let freed: Vec<_> = remove.iter().filter_map(|key| slots.free(*key)).collect();
        freed.iter().for_each(|freed| batch.remove(&slot_key(freed.slot)));
        for (key, value) in put {
            let slot = self.slot_for(*key)?;
            batch.insert(&slot_key(slot), framed(*key, value));
        }
        self.chunks.apply_batch(batch)?;
        // What is left of their leaves says nothing, whenever it goes.
        freed.into_iter().filter_map(|freed| freed.leaf).flatten().try_for_each(|slot| self.remove(slot))
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
