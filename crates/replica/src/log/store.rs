//! The log as Raft sees it: reads from memory, writes through the [`Writer`](super::writer::Writer).
//!
//! Everything that is not purged is kept in memory, for the state machine and every follower read it back. An
//! append is readable when it returns and acknowledged when it is synced. Votes, appends, truncations and marks
//! go through one queue, so they reach the disk in the order in which Raft asked for them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::backend::{Loaded, LogBackend};
use super::chunk::{self, CorruptChunk, Unpacked};
use super::contents::Logged;
use super::mark::{self, CorruptMark};
use super::writer::{COMMITTED, Change, Done, PURGED, QUEUE_MAX, Request, Writer};
use crate::Hooks;
use crate::codec::{Record, Undecodable};
use crate::env::Env;
use crate::types::{Entry, IoFlushed, LogId, TypeConfig, Vote};

pub(super) const VOTE: &str = "vote";
const OWNER: &str = "owner";
/// What one read for a follower may return, unless its first entry is larger.
const READ_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log cannot be read")]
    Io(#[from] io::Error),
    #[error("the log is corrupt")]
    Chunk(#[from] CorruptChunk),
    #[error("what the log notes beside its entries is corrupt")]
    Mark(#[from] CorruptMark),
    #[error("the log holds what this binary cannot read")]
    Content(#[from] Undecodable),
    #[error("the log begins at entry {found} although everything before {expected} only is purged")]
    Start { expected: u64, found: u64 },
    #[error(
        "entry {committed} was committed, but log and snapshot end at {last}: the end of the log is lost"
    )]
    LostTail { committed: u64, last: u64 },
}

/// Whose log this is: it must agree with the identity file beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub cluster_id: String,
    pub id: u64,
    pub incarnation: u64,
}

struct Cached {
    entry: Entry,
    /// Bytes of all entries from some fixed point up to the end of this one.
    end: u64,
}

#[derive(Default)]
struct Cache {
    entries: VecDeque<Cached>,
    purged: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    owner: Option<Owner>,
    /// Commands below this index are held as bytes only.
    forgotten: u64,
}

impl Cache {
    fn first(&self) -> u64 {
        self.entries.front().map_or(0, |cached| cached.entry.log_id.index)
    }

    fn end(&self) -> u64 {
        self.entries.back().map_or(0, |cached| cached.end)
    }

    fn last_log_id(&self) -> Option<LogId> {
        self.entries.back().map(|cached| cached.entry.log_id).or(self.purged)
    }

    /// Where entries of these indexes lie.
    fn positions(&self, range: Range<u64>) -> Range<usize> {
        let (first, len) = (self.first(), self.entries.len() as u64);
        let position = |index: u64| index.saturating_sub(first).min(len) as usize;
        position(range.start)..position(range.end.max(range.start))
    }

    fn push(&mut self, entry: Entry) {
        let end = self.end() + bytes(&entry);
        self.entries.push_back(Cached { entry, end });
    }
}

fn bytes(entry: &Entry) -> u64 {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.bytes().len() as u64 + 32,
        EntryPayload::Blank => 32,
        EntryPayload::Membership(_) => 256,
    }
}

/// What the writer and all readers share.
#[derive(Default)]
pub(super) struct Shared {
    cache: RwLock<Cache>,
}

impl Shared {
    pub fn records(&self, range: Range<u64>) -> Vec<Record> {
        let cache = self.cache.read();
        let positions = cache.positions(range);
        cache.entries.range(positions).map(|cached| Record::new(&cached.entry)).collect()
    }
}

#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
    hooks: Hooks,
}

#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogStore {
    /// Reads and checks all of it, and starts the writer.
    pub fn open(
        mut backend: Box<dyn LogBackend>,
        env: &Arc<dyn Env>,
        runtime: &Handle,
        hooks: &Hooks,
    ) -> Result<LogStore, LogError> {
        let loaded = backend.load()?;
        let purged: Option<LogId> = mark::open(&loaded, PURGED)?;
        let live = purged.map_or(0, |purged| purged.index + 1);
        let Unpacked { records, extents, torn, .. } = chunk::unpack(&loaded.chunks, live)?;
        for key in torn {
            tracing::warn!(
                index = key.first,
                part = key.part,
                "dropping part of an entry that was never finished"
            );
            backend.remove_chunk(key)?;
        }
        let cache = fill(&loaded, records)?;
        let mut extents: VecDeque<_> = extents.into();
        let gone = extents.partition_point(|extent| extent.last < live);
        let purged = extents.drain(..gone).collect();

        let shared = Arc::new(Shared { cache: RwLock::new(cache) });
        let (queue, requests) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            backend,
            extents,
            purged,
            shared: shared.clone(),
            env: env.clone(),
            hooks: hooks.clone(),
            failed: false,
            closed: false,
        };
        if env.has_threads() {
            std::thread::Builder::new().name("log".into()).spawn(move || writer.run(requests))?;
        } else {
            env.spawn(runtime, Box::pin(writer.run_as_task(requests)));
        }
        Ok(LogStore { shared, queue, hooks: hooks.clone() })
    }

    pub fn owner(&self) -> Option<Owner> {
        self.shared.cache.read().owner.clone()
    }

    /// Durable when it returns.
    pub async fn set_owner(&self, owner: Owner) -> io::Result<()> {
        let value = mark::seal(OWNER, &owner);
        self.shared.cache.write().owner = Some(owner);
        self.write_and_wait(Change::Put { name: OWNER, value }).await
    }

    /// Whether nothing was ever written: no vote, no entry.
    pub fn is_pristine(&self) -> bool {
        let cache = self.shared.cache.read();
        cache.vote.is_none() && cache.last_log_id().is_none()
    }

    /// Whether all that was marked as committed is here, or in a snapshot that ends at `snapshot`. A mark is written
    /// after the entries that it covers, and a crash leaves a prefix of what was written: a mark that is ahead of
    /// them says that acknowledged entries are gone, and then this replica must not vote.
    pub fn check_tail(&self, snapshot: Option<LogId>) -> Result<(), LogError> {
        let mut cache = self.shared.cache.write();
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let last = cache.last_log_id().max(snapshot);
        match index(cache.committed) {
            Some(committed) if Some(committed) > index(last) => {
                if self.hooks.accepts_lost_tail() {
                    cache.committed = last;
                    return Ok(());
                }
                Err(LogError::LostTail { committed, last: index(last).unwrap_or(0) })
            }
            _ => Ok(()),
        }
    }

    /// What is purged, and the last entry.
    pub fn ends(&self) -> (Option<LogId>, Option<LogId>) {
        let cache = self.shared.cache.read();
        (cache.purged, cache.last_log_id())
    }

    pub fn logged(&self, range: Range<u64>) -> Vec<Logged> {
        self.shared.records(range).iter().map(Logged::from).collect()
    }

    /// Bytes of the entries held.
    pub fn bytes(&self) -> u64 {
        let cache = self.shared.cache.read();
        let before = cache.entries.front().map_or(0, |cached| cached.end - bytes(&cached.entry));
        cache.end() - before
    }

    /// Bytes of the entries above `index`.
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        let Some(index) = index else { return self.bytes() };
        let cache = self.shared.cache.read();
        let position = cache.positions(index..index.saturating_add(1)).start;
        match cache.entries.get(position) {
            Some(cached) if cached.entry.log_id.index == index => cache.end() - cached.end,
            Some(_) => {
                drop(cache);
                self.bytes()
            }
            None => 0,
        }
    }

    /// The newest index that can be purged such that at least `bytes` of entries stay.
    pub fn tail_start(&self, bytes: u64) -> Option<u64> {
        let cache = self.shared.cache.read();
        let end = cache.end();
        let kept = cache.entries.partition_point(|cached| end - cached.end >= bytes);
        let last_purged = kept.checked_sub(1)?;
        Some(cache.entries[last_purged].entry.log_id.index)
    }

    /// Lets go of the decoded form of what has been applied.
    pub fn forget_decoded(&self, upto: u64) {
        let mut cache = self.shared.cache.write();
        let positions = cache.positions(cache.forgotten..upto + 1);
        for cached in cache.entries.range_mut(positions) {
            if let EntryPayload::Normal(proposal) = &mut cached.entry.payload {
                proposal.forget_entry();
            }
        }
        cache.forgotten = cache.forgotten.max(upto + 1);
    }

    /// Writes what waits and closes the store; it may be opened again when this returns.
    pub async fn close(&self) {
        // An error means that the writer is gone already.
        drop(self.write_and_wait(Change::Close).await);
    }

    async fn write(&self, change: Change, done: Done) -> io::Result<()> {
        let request = Request { change, done };
        self.queue.send(request).await.map_err(|_| io::Error::other("the log's writer has stopped"))
    }

    async fn write_and_wait(&self, change: Change) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        self.write(change, Done::Caller(sender)).await?;
        receiver.await.unwrap_or_else(|_| Err(io::Error::other("the log's writer has stopped")))
    }
}

fn fill(loaded: &Loaded, records: Vec<Record>) -> Result<Cache, LogError> {
    let mut cache = Cache {
        purged: mark::open(loaded, PURGED)?,
        vote: mark::open(loaded, VOTE)?,
        committed: mark::open(loaded, COMMITTED)?,
        owner: mark::open(loaded, OWNER)?,
        ..Cache::default()
    };
    let expected = cache.purged.map_or(0, |purged| purged.index + 1);
    for record in records {
        if cache.entries.is_empty() && record.index != expected {
            return Err(LogError::Start { expected, found: record.index });
        }
        cache.push(record.into_entry()?);
    }
    Ok(cache)
}

fn bounds(range: impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let cache = self.shared.cache.read();
        let positions = cache.positions(bounds(range));
        Ok(cache.entries.range(positions).map(|cached| cached.entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.cache.read().vote)
    }

    /// Nothing where the first is purged: what is read is sent as what follows the entry before `start`.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let cache = self.shared.cache.read();
        if start < cache.first() {
            return Ok(Vec::new());
        }
        let mut left = READ_BYTES_MAX;
        let mut entries = Vec::new();
        for cached in cache.entries.range(cache.positions(start..end)) {
            entries.push(cached.entry.clone());
            left = left.saturating_sub(bytes(&cached.entry));
            if left == 0 {
                break;
            }
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let cache = self.shared.cache.read();
        Ok(LogState { last_purged_log_id: cache.purged, last_log_id: cache.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let change = Change::Put { name: VOTE, value: mark::seal(VOTE, vote) };
        if self.hooks.skips_vote_sync() {
            self.write(change, Done::Nobody).await?;
        } else {
            self.write_and_wait(change).await?;
        }
        self.shared.cache.write().vote = Some(*vote);
        Ok(())
    }

    /// Best effort: it lets a restart apply at once what was known to be committed.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.cache.write().committed = committed;
        let Some(committed) = committed else { return Ok(()) };
        self.write(Change::Put { name: COMMITTED, value: mark::seal(COMMITTED, &committed) }, Done::Nobody)
            .await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.cache.read().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        {
            let mut cache = self.shared.cache.write();
            for entry in entries {
                let (last, index) = (cache.last_log_id(), entry.log_id.index);
                if last.is_some_and(|last| last.index + 1 != index) {
                    return Err(io::Error::other(format!("entry {index} does not follow {last:?}")));
                }
                records.push(Record::new(&entry));
                cache.push(entry);
            }
        }
        self.write(Change::Append(records), Done::Raft(callback)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let after = last.map(|last| last.index);
        {
            let mut cache = self.shared.cache.write();
            let kept = cache.positions(0..after.map_or(0, |after| after + 1)).end;
            cache.entries.truncate(kept);
        }
        self.write_and_wait(Change::Truncate { after }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut cache = self.shared.cache.write();
            if cache.purged.is_some_and(|purged| purged >= upto) {
                return Ok(());
            }
            cache.purged = Some(upto);
            let gone = cache.positions(0..upto.index + 1).end;
            cache.entries.drain(..gone);
        }
        self.write(Change::Purge { mark: mark::seal(PURGED, &upto), upto: upto.index }, Done::Nobody).await
    }
}
