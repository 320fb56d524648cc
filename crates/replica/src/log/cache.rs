//! What the log knows without its disk: where each entry lies, votes and marks; and of the newest entries what is in
//! them. What has been applied and is further back than a bound is let go of: a follower that is late, or a start, reads
//! it back. So memory does not grow with what waits for a snapshot, which of a large state is long.

use std::collections::VecDeque;
use std::ops::Range;

use openraft::EntryPayload;

use super::chunk::CHUNK_BYTES_MAX;
use super::contents::Logged;
use super::store::Owner;
use crate::codec::Record;
use crate::types::{self, Entry, LogId, Vote};

/// At the least so much of what was applied last stays: when entries are taken back, what shares a chunk with them is
/// written anew from here. Twice a chunk, since small entries count for half as much again here as they take there.
const KEPT_BYTES_MIN: u64 = 2 * CHUNK_BYTES_MAX as u64;

enum Content {
    Here(Entry),
    /// On the disk only.
    Away(Logged),
}

struct Cached {
    content: Content,
    /// Bytes of all entries from some fixed point up to the end of this one.
    end: u64,
}

impl Cached {
    fn log_id(&self) -> LogId {
        match &self.content {
            Content::Here(entry) => entry.log_id,
            Content::Away(logged) => types::log_id(logged.term, logged.index),
        }
    }

    fn entry(&self) -> Option<&Entry> {
        match &self.content {
            Content::Here(entry) => Some(entry),
            Content::Away(_) => None,
        }
    }
}

/// Entries of a range: first those that must be read back, then those that are here.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    pub away: Range<u64>,
    pub here: Vec<Entry>,
}

pub struct Cache {
    entries: VecDeque<Cached>,
    /// Where the first of them begins, in the bytes of [`Cached::end`].
    begin: u64,
    pub purged: Option<LogId>,
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub owner: Option<Owner>,
    /// Commands below this index are held as bytes only.
    forgotten: u64,
    /// Entries below this index are away.
    away: u64,
    /// Bytes of applied entries that stay.
    kept_bytes: u64,
}

impl Cache {
    pub fn new(kept_bytes: u64) -> Cache {
        Cache {
            entries: VecDeque::new(),
            begin: 0,
            purged: None,
            vote: None,
            committed: None,
            owner: None,
            forgotten: 0,
            away: 0,
            kept_bytes: kept_bytes.max(KEPT_BYTES_MIN),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn first(&self) -> u64 {
        self.entries.front().map_or(0, |cached| cached.log_id().index)
    }

    fn end(&self) -> u64 {
        self.entries.back().map_or(self.begin, |cached| cached.end)
    }

    pub fn last_log_id(&self) -> Option<LogId> {
        self.entries.back().map(Cached::log_id).or(self.purged)
    }

    /// Where entries of these indexes lie.
    fn positions(&self, range: Range<u64>) -> Range<usize> {
        let (first, len) = (self.first(), self.entries.len() as u64);
        let position = |index: u64| index.saturating_sub(first).min(len) as usize;
        position(range.start)..position(range.end.max(range.start))
    }

    pub fn push(&mut self, entry: Entry) {
        let end = self.end() + bytes(&entry);
        self.entries.push_back(Cached { content: Content::Here(entry), end });
    }

    /// Takes back everything from this index on.
    pub fn truncate(&mut self, from: u64) {
        let kept = self.positions(0..from).end;
        self.entries.truncate(kept);
    }

    /// False: it was purged before.
    pub fn purge(&mut self, upto: LogId) -> bool {
        if self.purged.is_some_and(|purged| purged >= upto) {
            return false;
        }
        self.purged = Some(upto);
        let gone = self.positions(0..upto.index + 1).end;
        self.begin = self.entries.drain(..gone).next_back().map_or(self.begin, |last| last.end);
        true
    }

    /// Those that are here.
    pub fn here(&self, range: Range<u64>) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.positions(range)).filter_map(Cached::entry)
    }

    /// At most so many bytes of them, unless the first is larger; all of those that are away.
    pub fn find(&self, range: Range<u64>, bytes_max: u64) -> Found {
        let first = range.start.max(self.first());
        let here = first.max(self.away.min(range.end));
        let mut left = bytes_max;
        let fits = |entry: &&Entry| {
            let before = left;
            left = left.saturating_sub(bytes(entry));
            before > 0
        };
        Found { here: self.here(here..range.end).take_while(fits).cloned().collect(), away: first..here }
    }

    pub fn logged(&self, range: Range<u64>) -> Vec<Logged> {
        let logged = |cached: &Cached| match &cached.content {
            Content::Here(entry) => Logged::from(&Record::new(entry)),
            Content::Away(logged) => *logged,
        };
        self.entries.range(self.positions(range)).map(logged).collect()
    }

    /// Bytes of the entries that are not purged.
    pub fn bytes(&self) -> u64 {
        self.end() - self.begin
    }

    /// Bytes of the entries above `index`.
    pub fn bytes_after(&self, index: u64) -> u64 {
        let position = self.positions(index..index.saturating_add(1)).start;
        match self.entries.get(position) {
            Some(cached) if cached.log_id().index == index => self.end() - cached.end,
            Some(_) => self.bytes(),
            None => 0,
        }
    }

    /// The newest index that can be purged such that at least `bytes` of entries stay.
    pub fn tail_start(&self, bytes: u64) -> Option<u64> {
        let end = self.end();
        let kept = self.entries.partition_point(|cached| end - cached.end >= bytes);
        let last_purged = kept.checked_sub(1)?;
        Some(self.entries[last_purged].log_id().index)
    }

    /// Everything up to `upto` has been applied: lets go of its decoded form, and of what is far behind altogether.
    pub fn applied(&mut self, upto: u64) {
        let positions = self.positions(self.forgotten..upto + 1);
        for cached in self.entries.range_mut(positions) {
            if let Content::Here(Entry { payload: EntryPayload::Normal(proposal), .. }) = &mut cached.content
            {
                proposal.forget_entry();
            }
        }
        self.forgotten = self.forgotten.max(upto + 1);
        self.let_go(upto);
    }

    /// Of what is far behind `upto`, which must be committed: what may be taken back must be here.
    pub fn let_go(&mut self, upto: u64) {
        let positions = self.positions(self.away..upto + 1);
        let Some(last) = positions.end.checked_sub(1) else { return };
        let applied = self.entries[last].end;
        for position in positions {
            let cached = &mut self.entries[position];
            if applied - cached.end < self.kept_bytes {
                return;
            }
            if let Content::Here(entry) = &cached.content {
                self.away = entry.log_id.index + 1;
                cached.content = Content::Away(Logged::from(&Record::new(entry)));
            }
        }
    }
}

fn bytes(entry: &Entry) -> u64 {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.bytes().len() as u64 + 32,
        EntryPayload::Blank => 32,
        EntryPayload::Membership(_) => 256,
    }
}
