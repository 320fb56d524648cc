//! Damage to a log that nobody has open: what a disk that lies, or a hand that errs, may do to it.
//!
//! Every function changes one thing and says what; `None`: there is nothing of the kind, and nothing was changed.

use serde::Serialize;

use super::backend::{ChunkKey, LogBackend};
use super::chunk::{self, CHUNK_BYTES_MAX, Scanned};
use super::mark;
use super::store::{LogError, VOTE};
use super::writer::{COMMITTED, PURGED};
use crate::codec::Record;
use crate::types::LogId;

/// Entries that are gone, the first and the last of them, and the mark that says that they were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LostTail {
    pub first: u64,
    pub last: u64,
    pub committed: u64,
}

/// One of so many parts is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TornTail {
    pub index: u64,
    pub parts: u16,
}

/// Which bit of a value or a file is another now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flipped {
    pub byte: usize,
    pub bit: u8,
}

/// The first entry of the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlippedChunk {
    pub index: u64,
    pub part: u16,
    #[serde(flatten)]
    pub at: Flipped,
}

struct Found {
    records: Vec<Record>,
    scanned: Scanned,
    purged: Option<LogId>,
    committed: Option<LogId>,
}

fn look(backend: &mut dyn LogBackend) -> Result<Found, LogError> {
    let loaded = backend.load()?;
    let purged: Option<LogId> = mark::open(&loaded, PURGED)?;
    let committed = mark::open(&loaded, COMMITTED)?;
    let live = purged.map_or(0, |purged| purged.index + 1);
    let (records, scanned) = chunk::unpack(&loaded.chunks, live)?;
    Ok(Found { records, scanned, purged, committed })
}

/// Takes away the chunk of the last committed entry and all behind it; the mark stays. `covered`: by a snapshot, so
/// that the log need not have it.
pub fn lose_tail(backend: &mut dyn LogBackend, covered: Option<u64>) -> Result<Option<LostTail>, LogError> {
    let Found { scanned, committed, .. } = look(backend)?;
    let Some(committed) = committed.map(|id| id.index).filter(|index| Some(*index) > covered) else {
        return Ok(None);
    };
    let kept = scanned.extents.partition_point(|extent| extent.last < committed);
    let gone = &scanned.extents[kept..];
    let (Some(first), Some(last)) = (gone.first(), gone.last()) else { return Ok(None) };
    let keys: Vec<ChunkKey> = gone.iter().flat_map(|extent| extent.keys()).collect();
    backend.replace_chunks(&keys, &[])?;
    backend.sync()?;
    Ok(Some(LostTail { first: first.first, last: last.last, committed }))
}

/// Puts the first part of an entry of three behind the last one, as a crash in the middle of an append leaves it.
pub fn tear_tail(backend: &mut dyn LogBackend) -> Result<Option<TornTail>, LogError> {
    let Found { records, purged, .. } = look(backend)?;
    let last = records.last().map(|record| (record.term, record.index));
    let Some((term, last)) = last.or(purged.map(|id| (*id.leader_id, id.index))) else { return Ok(None) };
    let payload = vec![0; 2 * CHUNK_BYTES_MAX + 1].into();
    let packed = chunk::pack(&[Record { term, index: last + 1, kind: 0, payload }]).remove(0);
    let key = packed.extent.keys().next().expect("an extent has a key");
    backend.put_chunk(key, &packed.values[0])?;
    backend.sync()?;
    Ok(Some(TornTail { index: last + 1, parts: packed.extent.parts }))
}

/// Flips a bit of the chunk in the middle of what is not purged.
pub fn flip_log(backend: &mut dyn LogBackend) -> Result<Option<FlippedChunk>, LogError> {
    let loaded = backend.load()?;
    let purged: Option<LogId> = mark::open(&loaded, PURGED)?;
    let live: Vec<_> =
        loaded.chunks.into_iter().filter(|(key, _)| purged.is_none_or(|id| key.first > id.index)).collect();
    let Some((key, value)) = live.get(live.len() / 2) else { return Ok(None) };
    let (key, mut value) = (*key, value.to_vec());
    let Some(at) = flip(&mut value) else { return Ok(None) };
    backend.put_chunk(key, &value)?;
    backend.sync()?;
    Ok(Some(FlippedChunk { index: key.first, part: key.part, at }))
}

pub fn flip_vote(backend: &mut dyn LogBackend) -> Result<Option<Flipped>, LogError> {
    let Some(mut value) = backend.load()?.meta.remove(VOTE) else { return Ok(None) };
    let Some(at) = flip(&mut value) else { return Ok(None) };
    backend.put_meta(VOTE, &value)?;
    backend.sync()?;
    Ok(Some(at))
}

/// The lowest bit in the middle.
pub fn flip(bytes: &mut [u8]) -> Option<Flipped> {
    let byte = bytes.len() / 2;
    *bytes.get_mut(byte)? ^= 1;
    Some(Flipped { byte, bit: 0 })
}
