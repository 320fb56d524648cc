//! Events, in order and without a gap: when a replica goes, the stream goes on through another from where it was.

use std::collections::VecDeque;

use futures::stream::{self, Stream};
use model::views::{JobState, TaskState, WorkerState};
use model::{JobId, LogIndex, Run};
use serde::de::value::{Error as WordError, StrDeserializer};
use serde::de::{DeserializeOwned, IntoDeserializer};
use tonic::{Code, Streaming};
use wire::error::{Failure, code};
use wire::v1;
use wire::v1::watch_reply::Event as WireEvent;

use crate::call::{Stub, explain};
use crate::env::Deadline;
use crate::error::{backoff, is_passing};
use crate::{Client, Error};

/// The name of an event: the log index of its entry and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub index: LogIndex,
    pub place: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The stream begins: what a list as of this index shows is before every event that follows.
    Begin {
        at: Position,
    },
    /// Events after the asked position are gone: list, then watch from the list's index. The stream ends.
    Compacted {
        oldest: Position,
    },
    Event {
        at: Position,
        event: Event,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Job {
        job: JobId,
        state: JobState,
    },
    /// `tasks` are numbers.
    Tasks {
        job: JobId,
        tasks: Run,
        state: TaskState,
        attempt: u32,
        worker: Option<String>,
    },
    Worker {
        worker: String,
        state: WorkerState,
    },
    Queue {
        queue: String,
    },
}

struct Watch {
    client: Client,
    job: JobId,
    after: Option<Position>,
    inbound: Option<Streaming<v1::WatchReply>>,
    begun: bool,
    ended: bool,
    ready: VecDeque<Watched>,
}

impl Client {
    /// Events of one job or all, after a position or from now.
    pub fn watch(
        &self,
        job: Option<JobId>,
        after: Option<Position>,
    ) -> impl Stream<Item = Result<Watched, Error>> + Send + Unpin + use<> {
        let watch = Watch {
            client: self.clone(),
            job: job.unwrap_or_default(),
            after,
            inbound: None,
            begun: false,
            ended: false,
            ready: VecDeque::new(),
        };
        Box::pin(stream::unfold(watch, |mut watch| async move {
            let next = watch.next().await?;
            watch.ended |= matches!(next, Err(_) | Ok(Watched::Compacted { .. }));
            Some((next, watch))
        }))
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Watched, Error>> {
        if self.ended {
            return None;
        }
        // From the first failure after something has arrived: a quiet cluster is not a gone one.
        let (mut failing, mut tries) = (None, 0);
        loop {
            if let Some(watched) = self.ready.pop_front() {
                return Some(Ok(watched));
            }
            let failure = match self.receive().await {
                Ok(reply) => match self.take(reply) {
                    Ok(()) => {
                        (failing, tries) = (None, 0);
                        continue;
                    }
                    Err(error) => return Some(Err(error)),
                },
                Err(failure) => failure,
            };
            self.inbound = None;
            let shared = &self.client.shared;
            let (place, address) = shared.current();
            let deadline = failing.get_or_insert_with(|| Deadline::after(shared.options.deadline));
            if !is_passing(&failure) || deadline.has_passed() {
                let tried = vec![(address.to_owned(), failure.message.clone())];
                return Some(Err(Error { failure, tried }));
            }
            shared.move_on(place);
            tries += 1;
            tokio::time::sleep(shared.jitter(backoff(tries, &failure))).await;
        }
    }

    async fn receive(&mut self) -> Result<v1::WatchReply, Failure> {
        let inbound = match &mut self.inbound {
            Some(inbound) => inbound,
            empty => empty.insert(open(&self.client, self.job, self.after).await?),
        };
        match inbound.message().await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => {
                Err(Failure::new(code::UNAVAILABLE, Code::Unavailable, "the replica ended the stream"))
            }
            Err(status) => Err(explain(&status)),
        }
    }

    fn take(&mut self, reply: v1::WatchReply) -> Result<(), Error> {
        let at = position(reply.at.unwrap_or_default());
        let event = reply.event.ok_or_else(|| Error::unreadable("an event of an unknown kind"))?;
        match read(at, event).map_err(Error::unreadable)? {
            Watched::Begin { at } => {
                self.after = self.after.or(Some(at));
                if !std::mem::replace(&mut self.begun, true) {
                    self.ready.push_back(Watched::Begin { at });
                }
            }
            compacted @ Watched::Compacted { .. } => self.ready.push_back(compacted),
            event @ Watched::Event { .. } => {
                self.after = Some(at);
                self.ready.push_back(event);
            }
        }
        Ok(())
    }
}

async fn open(
    client: &Client,
    job: JobId,
    after: Option<Position>,
) -> Result<Streaming<v1::WatchReply>, Failure> {
    let after = after.map(|at| v1::Position { index: at.index, place: at.place });
    let (_, mut stub): (usize, Stub) = client.shared.stub()?;
    client.shared.opened(stub.watch(v1::WatchRequest { job: job.0, after })).await
}

fn position(at: v1::Position) -> Position {
    Position { index: at.index, place: at.place }
}

fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let words: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(words).map_err(|error| error.to_string())
}

fn read(at: Position, event: WireEvent) -> Result<Watched, String> {
    let event = match event {
        WireEvent::Begin(_) => return Ok(Watched::Begin { at }),
        WireEvent::Compacted(compacted) => {
            return Ok(Watched::Compacted { oldest: position(compacted.oldest.unwrap_or_default()) });
        }
        WireEvent::Job(event) => Event::Job { job: JobId(event.job), state: word(&event.state)? },
        WireEvent::Tasks(event) => Event::Tasks {
            job: JobId(event.job),
            tasks: Run::try_from(event.tasks.unwrap_or_default())?,
            state: word(&event.state)?,
            attempt: event.attempt,
            worker: (!event.worker.is_empty()).then_some(event.worker),
        },
        WireEvent::Worker(event) => Event::Worker { worker: event.worker, state: word(&event.state)? },
        WireEvent::Queue(event) => Event::Queue { queue: event.queue },
    };
    Ok(Watched::Event { at, event })
}
