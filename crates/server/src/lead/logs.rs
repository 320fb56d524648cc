//! Output of attempts, fetched from the worker that has it over its stream.
//!
//! The worker's stream must never wait for a slow reader: its heartbeats are behind. So a reader that falls behind is
//! cut off, and asks again from where it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use machine::State;
use model::{JobId, Outcome, SessionId};
use tokio::sync::{mpsc, oneshot};
use wire::v1;
use wire::v1::logs_reply::Stream as Which;

use crate::lead::{Control, FetchError};

/// Chunks of some 32 KiB that a reader may be behind: with `logs_max` readers at once this is 1 GiB.
const CHUNKS_MAX: usize = 32;
/// How often a worker that is away is looked for, and how many times for output that is not followed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 50;

pub(super) enum Item {
    Chunk(v1::LogsReply),
    /// The stream of the worker is gone; it may come back with another.
    WorkerLeft,
    LeadershipEnded,
}

/// What a reader gets; ends without a word when it was too slow.
pub(super) struct Chunks {
    fetch: u64,
    items: mpsc::Receiver<Item>,
}

impl Chunks {
    pub fn id(&self) -> u64 {
        self.fetch
    }
}

/// The fetches under way: owned by the task.
#[derive(Default)]
pub(super) struct Fetches {
    open: BTreeMap<u64, Open>,
    last: u64,
}

struct Open {
    stream: u64,
    items: mpsc::Sender<Item>,
}

impl Fetches {
    pub fn open(&mut self, stream: u64) -> Chunks {
        self.last += 1;
        let (items, items_in) = mpsc::channel(CHUNKS_MAX);
        self.open.insert(self.last, Open { stream, items });
        Chunks { fetch: self.last, items: items_in }
    }

    /// A chunk came. True: nobody wants more of this fetch, and the worker should be told.
    pub fn take(&mut self, stream: u64, chunk: v1::LogChunk) -> bool {
        let fetch = chunk.fetch;
        let Some(open) = self.open.get(&fetch).filter(|open| open.stream == stream) else { return true };
        let Some(chunk) = chunk.chunk else { return false };
        let is_last = chunk.end;
        let is_refused = open.items.try_send(Item::Chunk(chunk)).is_err();
        if is_last || is_refused {
            self.open.remove(&fetch);
        }
        is_refused
    }

    /// The reader is gone: the stream of the worker that should be told.
    pub fn close(&mut self, fetch: u64) -> Option<u64> {
        self.open.remove(&fetch).map(|open| open.stream)
    }

    pub fn worker_left(&mut self, stream: u64) {
        for (_, open) in self.open.extract_if(.., |_, open| open.stream == stream) {
            // A reader that is so far behind finds out when it asks again.
            drop(open.items.try_send(Item::WorkerLeft));
        }
    }

    pub fn leadership_ended(&mut self) {
        for open in std::mem::take(&mut self.open).into_values() {
            drop(open.items.try_send(Item::LeadershipEnded));
        }
    }
}

/// Which session has the output, by the state.
pub(super) fn locate(wanted: &v1::FetchLog, state: &State) -> Result<SessionId, FetchError> {
    let job = state.job(JobId(wanted.job)).ok_or(FetchError::UnknownJob { job: wanted.job })?;
    let unknown = FetchError::UnknownTask { job: wanted.job, task: wanted.task };
    let (_, group) = job.group_of(wanted.task).ok_or(unknown)?;
    let position = wanted.task - group.first;
    let is_wanted = |attempt: u32| wanted.attempt == 0 || wanted.attempt == attempt;
    if let Some((_, live)) = group.live_at(position).filter(|(_, live)| is_wanted(live.attempt)) {
        return Ok(live.session);
    }
    let earlier = group.rows.get(&position).map(|row| row.earlier.as_slice()).unwrap_or_default();
    let mut outcomes = group.outcome_at(position).into_iter().chain(earlier.iter().rev());
    let has_output = |outcome: &&Arc<Outcome>| outcome.attempt > 0 && is_wanted(outcome.attempt);
    let Some(outcome) = outcomes.find(has_output) else {
        return Err(match group.attempts(position) {
            0 => FetchError::NotPlaced,
            last => FetchError::UnknownAttempt { attempt: wanted.attempt, last },
        });
    };
    let gone = || FetchError::WorkerGone { worker: outcome.worker.clone() };
    state.worker(&outcome.worker).and_then(|worker| worker.session).ok_or_else(gone)
}

/// A reader: asks, passes on, asks again where it was cut off.
pub(super) struct Fetching {
    control: mpsc::UnboundedSender<Control>,
    /// With the offsets of what has been passed on.
    wanted: v1::FetchLog,
    chunks: Option<Chunks>,
}

impl Drop for Fetching {
    fn drop(&mut self) {
        if let Some(chunks) = &self.chunks {
            // The task may have ended.
            drop(self.control.send(Control::CloseFetch { fetch: chunks.fetch }));
        }
    }
}

impl Fetching {
    pub async fn begin(
        control: mpsc::UnboundedSender<Control>,
        wanted: v1::FetchLog,
    ) -> Result<Fetching, FetchError> {
        let chunks = find(&control, &wanted).await?;
        Ok(Fetching { control, wanted, chunks: Some(chunks) })
    }

    pub fn into_stream(self) -> impl Stream<Item = Result<v1::LogsReply, FetchError>> + Send + 'static {
        futures::stream::unfold(self, |mut fetching| async move {
            let chunk = fetching.next().await?;
            Some((chunk, fetching))
        })
    }

    /// An error is one that another replica can mend.
    async fn next(&mut self) -> Option<Result<v1::LogsReply, FetchError>> {
        loop {
            let again = match self.chunks.as_mut()?.items.recv().await {
                Some(Item::Chunk(chunk)) => return Some(Ok(self.pass(chunk))),
                Some(Item::LeadershipEnded) => Err(FetchError::NotLeader { leader: None }),
                // Cut off for being slow, too: from where it is.
                Some(Item::WorkerLeft) | None => find(&self.control, &self.wanted).await,
            };
            match again {
                Ok(chunks) => self.chunks = Some(chunks),
                Err(error @ FetchError::NotLeader { .. }) => {
                    self.chunks = None;
                    return Some(Err(error));
                }
                Err(error) => return Some(Ok(self.finish(error.to_string()))),
            }
        }
    }

    fn pass(&mut self, chunk: v1::LogsReply) -> v1::LogsReply {
        let end = chunk.offset + chunk.data.len() as u64;
        match chunk.stream() {
            Which::Stdout => self.wanted.stdout_offset = self.wanted.stdout_offset.max(end),
            Which::Stderr => self.wanted.stderr_offset = self.wanted.stderr_offset.max(end),
        }
        // The same attempt when it asks again, even if there is a later one by then.
        self.wanted.attempt = self.wanted.attempt.max(chunk.attempt);
        if chunk.end {
            self.chunks = None;
        }
        chunk
    }

    fn finish(&mut self, note: String) -> v1::LogsReply {
        self.chunks = None;
        v1::LogsReply { note, end: true, attempt: self.wanted.attempt, ..Default::default() }
    }
}

/// Asks the worker that has the output; one that is only away, as all are after a change of leader, is waited for.
async fn find(control: &mpsc::UnboundedSender<Control>, wanted: &v1::FetchLog) -> Result<Chunks, FetchError> {
    for look in 0.. {
        match ask(control, wanted).await {
            // Who follows waits until the worker is back or its session ends.
            Err(FetchError::WorkerAway { .. }) if wanted.follow || look < LOOKS_MAX => {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            found => return found,
        }
    }
    unreachable!("the looks do not end")
}

async fn ask(control: &mpsc::UnboundedSender<Control>, wanted: &v1::FetchLog) -> Result<Chunks, FetchError> {
    let (answer, answered) = oneshot::channel();
    let stopping = FetchError::NotLeader { leader: None };
    control.send(Control::Fetch { wanted: *wanted, answer }).map_err(|_| stopping.clone())?;
    answered.await.map_err(|_| stopping)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(fetch: u64, end: bool) -> v1::LogChunk {
        v1::LogChunk { fetch, chunk: Some(v1::LogsReply { end, ..Default::default() }) }
    }

    #[test]
    fn a_slow_reader_is_cut_off_and_nobody_waits_for_it() {
        let mut fetches = Fetches::default();
        let slow = fetches.open(1);
        for _ in 0..CHUNKS_MAX {
            assert!(!fetches.take(1, chunk(slow.fetch, false)));
        }
        assert!(fetches.take(1, chunk(slow.fetch, false)));
        assert_eq!(fetches.close(slow.fetch), None);
    }

    #[test]
    fn chunks_of_another_worker_are_not_passed_on() {
        let mut fetches = Fetches::default();
        let mut chunks = fetches.open(1);
        assert!(fetches.take(2, chunk(chunks.fetch, false)));
        assert!(chunks.items.try_recv().is_err());
        fetches.worker_left(2);
        assert!(chunks.items.try_recv().is_err());
        fetches.worker_left(1);
        assert!(matches!(chunks.items.try_recv(), Ok(Item::WorkerLeft)));
        let mut chunks = fetches.open(1);
        fetches.leadership_ended();
        assert!(matches!(chunks.items.try_recv(), Ok(Item::LeadershipEnded)));
    }
}
