//! The log as Raft sees it: reads from memory, writes through the [`Writer`](super::writer::Writer), and so is read back
//! what is in memory no more.
//!
//! What is not applied, and the newest of what is, is in the [`Cache`]: the state machine and every follower that is not
//! late read it there. An append is readable when it returns and acknowledged when it is synced. Votes, appends, truncations and marks
//! go through one queue, so they reach the disk in the order in which Raft asked for them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::backend::{Loaded, LogBackend};
use super::cache::{Cache, Found};
use super::chunk::{self, CorruptChunk, Scanned};
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

/// What the writer and all readers share.
pub(super) struct Shared {
    cache: RwLock<Cache>,
}

impl Shared {
    /// The first index that is not purged.
    pub fn live(&self) -> u64 {
        self.cache.read().purged.map_or(0, |purged| purged.index + 1)
    }

    /// Of entries that are not applied, or were lately.
    pub fn records(&self, range: Range<u64>) -> Vec<Record> {
        self.cache.read().here(range).map(Record::new).collect()
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
    /// Its ends are the store's, not this reader's.
    queue: mpsc::WeakSender<Request>,
}

impl LogStore {
    /// Reads and checks all of it, and starts the writer. `kept_bytes` of what was applied last stay in memory.
    pub fn open(
        mut backend: Box<dyn LogBackend>,
        kept_bytes: u64,
        env: &Arc<dyn Env>,
        runtime: &Handle,
        hooks: &Hooks,
    ) -> Result<LogStore, LogError> {
        let loaded = backend.load()?;
        let mut cache = marks(&loaded, kept_bytes)?;
        let live = cache.purged.map_or(0, |purged| purged.index + 1);
        let Scanned { extents, torn } = chunk::scan(&loaded.chunks, live, |record| {
            if cache.is_empty() && record.index != live {
                return Err(LogError::Start { expected: live, found: record.index });
            }
            let index = record.index;
            cache.push(record.into_entry()?);
            // It is applied soon, and read back for that. All of a long log at once would take as much memory, and longer.
            if cache.committed.is_some_and(|committed| index <= committed.index) {
                cache.let_go(index);
            }
            Ok(())
        })?;
        if let Some(first) = torn.first() {
            tracing::warn!(index = first.first, "dropping parts of an entry that was never finished");
            // All or none: a rest without its first part would look like damage.
            backend.replace_chunks(&torn, &[])?;
        }
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
        self.shared.cache.read().logged(range)
    }

    #[cfg(test)]
    pub(super) fn find(&self, range: Range<u64>) -> Found {
        self.shared.cache.read().find(range, u64::MAX)
    }

    /// Bytes of the entries that are not purged.
    pub fn bytes(&self) -> u64 {
        self.shared.cache.read().bytes()
    }

    /// Bytes of the entries above `index`.
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        let cache = self.shared.cache.read();
        index.map_or_else(|| cache.bytes(), |index| cache.bytes_after(index))
    }

    /// The newest index that can be purged such that at least `bytes` of entries stay.
    pub fn tail_start(&self, bytes: u64) -> Option<u64> {
        self.shared.cache.read().tail_start(bytes)
    }

    /// Lets go of what nobody needs in memory once it is applied.
    pub fn applied(&self, upto: u64) {
        self.shared.cache.write().applied(upto);
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

/// A cache that knows what is noted beside the entries.
fn marks(loaded: &Loaded, kept_bytes: u64) -> Result<Cache, LogError> {
    let mut cache = Cache::new(kept_bytes);
    cache.purged = mark::open(loaded, PURGED)?;
    cache.vote = mark::open(loaded, VOTE)?;
    cache.committed = mark::open(loaded, COMMITTED)?;
    cache.owner = mark::open(loaded, OWNER)?;
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

impl LogReader {
    /// From the disk: at most so many bytes, unless the first entry is larger. Less, or nothing, if it is purged meanwhile.
    async fn read_back(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Entry>> {
        let stopped = || io::Error::other("the log's writer has stopped");
        let queue = self.queue.upgrade().ok_or_else(stopped)?;
        let (answer, records) = oneshot::channel();
        let change = Change::Read { range: range.clone(), bytes_max, answer };
        queue.send(Request { change, done: Done::Nobody }).await.map_err(|_| stopped())?;
        let records = records.await.map_err(|_| stopped())??;
        if records.first().is_none_or(|first| first.index != range.start) {
            self.check_purged(range.start)?;
            return Ok(Vec::new());
        }
        records.into_iter().map(|record| Ok(record.into_entry()?)).collect()
    }

    /// What is not there must have been purged.
    fn check_purged(&self, index: u64) -> io::Result<()> {
        if self.shared.live() > index {
            return Ok(());
        }
        let text = format!("entries from {index} on are gone from the log, and were not purged");
        Err(io::Error::new(io::ErrorKind::InvalidData, text))
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let range = bounds(range);
        loop {
            let Found { away, here } = self.shared.cache.read().find(range.clone(), u64::MAX);
            let mut entries = match away.is_empty() {
                true => Vec::new(),
                false => self.read_back(away.clone(), u64::MAX).await?,
            };
            if entries.len() as u64 == away.end - away.start {
                entries.extend(here);
                return Ok(entries);
            }
            // The next look finds what is left.
            self.check_purged(away.start)?;
        }
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.cache.read().vote)
    }

    /// Nothing where the first is purged: what is read is sent as what follows the entry before `start`.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let Found { away, here } = {
            let cache = self.shared.cache.read();
            if start < cache.first() {
                return Ok(Vec::new());
            }
            cache.find(start..end, READ_BYTES_MAX)
        };
        if away.is_empty() { Ok(here) } else { self.read_back(away, READ_BYTES_MAX).await }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let cache = self.shared.cache.read();
        Ok(LogState { last_purged_log_id: cache.purged, last_log_id: cache.last_log_id() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader { shared: self.shared.clone(), queue: self.queue.downgrade() }
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
        self.shared.cache.write().truncate(after.map_or(0, |after| after + 1));
        self.write_and_wait(Change::Truncate { after }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        if !self.shared.cache.write().purge(upto) {
            return Ok(());
        }
        self.write(Change::Purge { mark: mark::seal(PURGED, &upto), upto: upto.index }, Done::Nobody).await
    }
}
