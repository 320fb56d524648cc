//! What a [`MemoryDisk`](super::MemoryDisk) would still hold if the power failed now. For simulations.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::backend::ChunkKey;
use super::store::VOTE;
use super::writer::{COMMITTED, PURGED};
use super::{chunk, mark};
use crate::codec::Record;
use crate::types::{LogId, NodeId, Vote};

/// An entry by what tells it from others: two logs that have the same term at an index have the same hash there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    pub index: u64,
    pub term: u64,
    /// Of its kind and its bytes.
    pub hash: u64,
}

impl From<&Record> for Logged {
    fn from(record: &Record) -> Logged {
        let hash = xxh3_64_with_seed(&record.payload, record.kind.into());
        Logged { index: record.index, term: record.term, hash }
    }
}

/// Whom a replica has voted for, and whether it knows that this one was elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot {
    pub term: u64,
    pub node: NodeId,
    pub elected: bool,
}

impl From<&Vote> for Ballot {
    fn from(vote: &Vote) -> Ballot {
        Ballot { term: vote.leader_id.term, node: vote.leader_id.voted_for, elected: vote.committed }
    }
}

#[derive(Clone, Debug, Default)]
pub struct Contents {
    /// By index. Some that are purged may still be there.
    pub entries: BTreeMap<u64, Logged>,
    pub purged: Option<u64>,
    pub committed: Option<u64>,
    /// All that it ever held, the newest last.
    pub ballots: Vec<Ballot>,
}

type Chunks = BTreeMap<ChunkKey, Vec<u8>>;

impl Contents {
    /// The chunks under these keys are about to change: what they held is gone.
    pub(super) fn forget(&mut self, chunks: &Chunks, keys: impl Iterator<Item = ChunkKey>) {
        for key in keys {
            for record in read(chunks, key) {
                self.entries.remove(&record.index);
            }
        }
    }

    pub(super) fn learn(&mut self, chunks: &Chunks, keys: impl Iterator<Item = ChunkKey>) {
        for key in keys {
            self.entries.extend(read(chunks, key).iter().map(|record| (record.index, record.into())));
        }
    }

    pub(super) fn learn_meta(&mut self, name: &str, value: &[u8]) {
        let index = |name| mark::read::<LogId>(name, value).ok().map(|id| id.index);
        match name {
            VOTE => self.ballots.extend(mark::read::<Vote>(VOTE, value).iter().map(Ballot::from)),
            PURGED => self.purged = index(PURGED),
            COMMITTED => self.committed = index(COMMITTED),
            _ => {}
        }
    }
}

/// What a chunk holds, or all parts of the entry that it is a part of. Nothing while one of these is missing.
fn read(chunks: &Chunks, key: ChunkKey) -> Vec<Record> {
    let parts = ChunkKey { part: 0, ..key }..=ChunkKey { part: u16::MAX, ..key };
    let parts: Vec<_> = chunks.range(parts).map(|(key, value)| (*key, value.clone().into())).collect();
    chunk::unpack(&parts, 0).map(|(records, _)| records).unwrap_or_default()
}
