//! Output of attempts, fetched from the worker that has it over its stream.
//!
//! The worker's stream must never wait for a slow reader: its heartbeats are behind. So a reader that falls behind is
//! cut off, and asks again from where it is.

use std::collections::BTreeMap;

use futures::Stream;
use machine::State;
use model::{JobId, SessionId};
use tokio::sync::{mpsc, oneshot};
use wire::v1;
use wire::v1::logs_reply::Stream as Which;

use crate::lead::{Control, FetchError};

/// Chunks that a reader may be behind.
const CHUNKS_MAX: usize = 256;

pub(super) enum Item {
    Chunk(v1::LogsReply),
    /// Nothing more will come over this stream of the worker.
    Gone {
        why: &'static str,
    },
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

    /// A worker's stream is gone, or (`None`) the leadership.
    pub fn lose(&mut self, stream: Option<u64>, why: &'static str) {
        let is_lost = |open: &Open| stream.is_none_or(|stream| open.stream == stream);
        for open in self.open.extract_if(.., |_, open| is_lost(open)).map(|(_, open)| open) {
            // A reader that is so far behind finds out when it asks again.
            drop(open.items.try_send(Item::Gone { why }));
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
    let Some(outcome) = outcomes.find(|outcome| is_wanted(outcome.attempt)) else {
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
        let chunks = ask(&control, &wanted).await?;
        Ok(Fetching { control, wanted, chunks: Some(chunks) })
    }

    pub fn into_stream(self) -> impl Stream<Item = v1::LogsReply> + Send + 'static {
        futures::stream::unfold(self, |mut fetching| async move {
            let chunk = fetching.next().await?;
            Some((chunk, fetching))
        })
    }

    async fn next(&mut self) -> Option<v1::LogsReply> {
        loop {
            match self.chunks.as_mut()?.items.recv().await {
                Some(Item::Chunk(chunk)) => return Some(self.pass(chunk)),
                Some(Item::Gone { why }) => return Some(self.finish(why.to_owned())),
                None => match ask(&self.control, &self.wanted).await {
                    Ok(chunks) => self.chunks = Some(chunks),
                    Err(error) => return Some(self.finish(error.to_string())),
                },
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
        fetches.lose(Some(1), "gone");
        assert!(matches!(chunks.items.try_recv(), Ok(Item::Gone { why: "gone" })));
    }
}
