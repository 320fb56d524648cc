//! The one writer of the log. It drains its queue, writes, syncs once, and only then answers, in order: many
//! appends and votes share one sync. A disk error stops the process; a sync that failed is never tried again.
//!
//! Purged chunks are deleted a few at a time after the answers, so that a purge never delays a commit. The mark
//! that names what is purged is written before and is what counts.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::backend::{ChunkKey, LogBackend};
use super::chunk::{self, Extent, Packed};
use super::store::Shared;
use crate::Hooks;
use crate::codec::Record;
use crate::env::Env;
use crate::types::IoFlushed;

const REQUESTS_PER_CYCLE_MAX: usize = 4096;
const BYTES_PER_CYCLE_MAX: usize = 4 << 20;
const PURGED_PER_CYCLE_MAX: usize = 16;
/// Requests that may wait before the sender does.
pub(super) const QUEUE_MAX: usize = 4096;

pub(super) const COMMITTED: &str = "committed";
pub(super) const PURGED: &str = "purged";

pub(super) enum Change {
    Append(Vec<Record>),
    Put {
        name: &'static str,
        value: Vec<u8>,
    },
    /// Keeps entries up to and including this one.
    Truncate {
        after: Option<u64>,
    },
    Purge {
        mark: Vec<u8>,
        upto: u64,
    },
    /// What the cache has let go of. No change, but it must not overtake one.
    Read {
        range: Range<u64>,
        bytes_max: u64,
        answer: oneshot::Sender<io::Result<Vec<Record>>>,
    },
    Close,
}

pub(super) enum Done {
    /// Nobody waits: the change rides with the next sync.
    Nobody,
    Raft(IoFlushed),
    Caller(oneshot::Sender<io::Result<()>>),
}

pub(super) struct Request {
    pub change: Change,
    pub done: Done,
}

impl Request {
    fn bytes(&self) -> usize {
        match &self.change {
            Change::Append(records) => records.iter().map(|record| record.payload.len() + 32).sum(),
            Change::Put { value, .. } => value.len(),
            Change::Truncate { .. } | Change::Purge { .. } | Change::Read { .. } | Change::Close => 0,
        }
    }
}

pub(super) struct Writer {
    pub backend: Box<dyn LogBackend>,
    /// What lies in the store, in order.
    pub extents: VecDeque<Extent>,
    /// To be deleted when there is time.
    pub purged: VecDeque<Extent>,
    pub shared: Arc<Shared>,
    pub env: Arc<dyn Env>,
    pub hooks: Hooks,
    pub failed: bool,
    pub closed: bool,
}

impl Writer {
    /// For a thread of its own.
    pub fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while !self.closed {
            let first = if self.purged.is_empty() || self.failed {
                queue.blocking_recv()
            } else {
                match queue.try_recv() {
                    Ok(request) => Some(request),
                    Err(TryRecvError::Empty) => {
                        self.delete_purged();
                        continue;
                    }
                    Err(TryRecvError::Disconnected) => None,
                }
            };
            let Some(first) = first else { return };
            self.cycle(first, &mut queue);
        }
    }

    /// For a simulation, where there are no threads: a sync takes its time, but blocks nobody else.
    pub async fn run_as_task(mut self, mut queue: mpsc::Receiver<Request>) {
        while !self.closed {
            let Some(first) = queue.recv().await else { return };
            let (waiting, written) = self.write(gather(first, &mut queue));
            let takes = self.backend.sync_takes();
            if !waiting.is_empty() && !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            self.finish(waiting, written);
        }
    }

    fn cycle(&mut self, first: Request, queue: &mut mpsc::Receiver<Request>) {
        let (waiting, written) = self.write(gather(first, queue));
        self.finish(waiting, written);
    }

    /// Syncs what was written, if anybody waits for it, and says so.
    fn finish(&mut self, waiting: Vec<Done>, written: io::Result<()>) {
        let result = written.and_then(|()| {
            let syncs = !waiting.is_empty() && !self.hooks.puts_sync_off(|| self.env.now());
            if syncs { self.backend.sync() } else { Ok(()) }
        });
        if let Err(error) = &result
            && !self.failed
        {
            self.failed = true;
            self.env.stop(&format!("the log cannot be written: {error}; nothing unsynced was acknowledged"));
        }
        if self.closed {
            // The store must be closed, its lock released, before the closer is told.
            self.backend = Box::new(Closed);
        }
        answer(waiting, &result);
        self.delete_purged();
    }

    /// Returns who waits for it to be synced.
    fn write(&mut self, requests: Vec<Request>) -> (Vec<Done>, io::Result<()>) {
        let mut result =
            if self.failed { Err(io::Error::other("the log has failed before")) } else { Ok(()) };
        let mut waiting = Vec::with_capacity(requests.len());
        let mut committed = None;
        for Request { change, done } in requests {
            match change {
                // Also when the log has failed.
                Change::Close => self.closed = true,
                change if result.is_ok() => result = self.make(change, &mut committed),
                _ => {}
            }
            if !matches!(done, Done::Nobody) {
                waiting.push(done);
            }
        }
        if let (Ok(()), Some(value)) = (&result, committed) {
            result = self.backend.put_meta(COMMITTED, &value);
        }
        (waiting, result)
    }

    fn make(&mut self, change: Change, committed: &mut Option<Vec<u8>>) -> io::Result<()> {
        match change {
            Change::Append(records) => self.append(&records),
            // Only the newest matters, once per cycle.
            Change::Put { name: COMMITTED, value } => {
                *committed = Some(value);
                Ok(())
            }
            Change::Put { name, value } => self.backend.put_meta(name, &value),
            Change::Truncate { after } => self.truncate(after),
            Change::Purge { mark, upto } => self.purge(&mark, upto),
            Change::Read { range, bytes_max, answer } => {
                // Whoever asked may have gone.
                drop(answer.send(self.read(range, bytes_max)));
                Ok(())
            }
            Change::Close => Ok(()),
        }
    }

    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        for Packed { extent, values } in chunk::pack(records) {
            for (key, value) in extent.keys().zip(&values) {
                self.backend.put_chunk(key, value)?;
            }
            self.extents.push_back(extent);
        }
        Ok(())
    }

    /// Checked as at a start.
    fn read(&mut self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<Record>> {
        let from = self.extents.partition_point(|extent| extent.last < range.start);
        let (mut chunks, mut bytes) = (Vec::new(), 0);
        for extent in self.extents.range(from..).take_while(|extent| extent.first < range.end) {
            for key in extent.keys() {
                let missing = || io::Error::other(format!("chunk {}.{} is gone", key.first, key.part));
                let value = self.backend.chunk(key)?.ok_or_else(missing)?;
                bytes += value.len() as u64;
                chunks.push((key, value.into()));
            }
            if bytes >= bytes_max {
                break;
            }
        }
        let unpacked = chunk::unpack(&chunks, range.start);
        let (mut records, _) = unpacked.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        records.retain(|record| record.index < range.end);
        Ok(records)
    }

    fn truncate(&mut self, after: Option<u64>) -> io::Result<()> {
        let next = after.map_or(0, |after| after + 1);
        let kept = self.extents.partition_point(|extent| extent.last < next);
        let removed: Vec<Extent> = self.extents.drain(kept..).collect();
        let Some(straddling) = removed.first() else { return Ok(()) };
        let from = straddling.first.max(self.shared.live());
        let records = self.shared.records(from..next);
        if records.len() as u64 != next.saturating_sub(from) {
            return Err(io::Error::other(format!("entries before {next} are not there to be written anew")));
        }
        let rewritten = chunk::pack(&records);
        let remove: Vec<ChunkKey> = removed.iter().flat_map(|extent| extent.keys()).collect();
        let put: Vec<_> = rewritten
            .iter()
            .flat_map(|packed| packed.extent.keys().zip(packed.values.iter().cloned()))
            .collect();
        self.backend.replace_chunks(&remove, &put)?;
        self.extents.extend(rewritten.iter().map(|packed| packed.extent));
        Ok(())
    }

    fn purge(&mut self, mark: &[u8], upto: u64) -> io::Result<()> {
        self.backend.put_meta(PURGED, mark)?;
        let gone = self.extents.partition_point(|extent| extent.last <= upto);
        self.purged.extend(self.extents.drain(..gone));
        Ok(())
    }

    fn delete_purged(&mut self) {
        for _ in 0..PURGED_PER_CYCLE_MAX {
            if self.failed || self.closed {
                return;
            }
            let Some(extent) = self.purged.pop_front() else { return };
            let keys: Vec<_> = extent.keys().collect();
            let deleted = match keys[..] {
                [key] => self.backend.remove_chunk(key),
                // All parts or none: a rest would look like damage.
                _ => self.backend.replace_chunks(&keys, &[]),
            };
            if let Err(error) = deleted {
                self.failed = true;
                self.env.stop(&format!("the log cannot be written: {error}"));
            }
        }
    }
}

/// What waits in the queue, up to the bounds of one cycle.
fn gather(first: Request, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = first.bytes();
    let mut requests = vec![first];
    while requests.len() < REQUESTS_PER_CYCLE_MAX && bytes < BYTES_PER_CYCLE_MAX {
        let Ok(request) = queue.try_recv() else { break };
        bytes += request.bytes();
        requests.push(request);
    }
    requests
}

fn answer(waiting: Vec<Done>, result: &io::Result<()>) {
    for done in waiting {
        let result = match result {
            Ok(()) => Ok(()),
            Err(error) => Err(copy(error)),
        };
        match done {
            Done::Nobody => {}
            Done::Raft(flushed) => flushed.io_completed(result),
            // Whoever asked may have gone.
            Done::Caller(sender) => drop(sender.send(result)),
        }
    }
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// Stands where the backend was once it is closed.
struct Closed;

impl LogBackend for Closed {
    fn load(&mut self) -> io::Result<super::Loaded> {
        Err(closed())
    }
    fn chunk(&mut self, _: ChunkKey) -> io::Result<Option<Vec<u8>>> {
        Err(closed())
    }
    fn put_chunk(&mut self, _: ChunkKey, _: &[u8]) -> io::Result<()> {
        Err(closed())
    }
    fn remove_chunk(&mut self, _: ChunkKey) -> io::Result<()> {
        Err(closed())
    }
    fn replace_chunks(&mut self, _: &[ChunkKey], _: &[(ChunkKey, Vec<u8>)]) -> io::Result<()> {
        Err(closed())
    }
    fn put_meta(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(closed())
    }
    fn sync(&mut self) -> io::Result<()> {
        Err(closed())
    }
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}
