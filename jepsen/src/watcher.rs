//! Reads the events of all jobs throughout the run: the applied log as a client sees it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use baton_tests::cluster::LOOK_AGAIN;
use client::{Client, Event, Position, Watched};
use futures::StreamExt;
use model::views::{JobState, TaskState};
use model::{JobId, TaskId};

/// Final states in the order of the log.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub tasks: BTreeMap<TaskId, Vec<TaskState>>,
    pub jobs: BTreeMap<JobId, Vec<JobState>>,
    /// Events that came out of order: there must be none.
    pub disorder: Vec<(Position, Position)>,
    /// Times that events were gone before they could be read.
    pub gaps: u64,
    last: Option<Position>,
}

impl Seen {
    fn note(&mut self, at: Position, event: Event) {
        if let Some(last) = self.last.filter(|last| *last >= at) {
            self.disorder.push((last, at));
        }
        self.last = Some(at);
        match event {
            Event::Job { job, state } if state.is_final() => self.jobs.entry(job).or_default().push(state),
            Event::Tasks { job, tasks, state, .. } if state.is_final() => {
                for number in tasks.first..tasks.end() {
                    self.tasks.entry(TaskId { job, number }).or_default().push(state);
                }
            }
            Event::Job { .. } | Event::Tasks { .. } | Event::Worker { .. } | Event::Queue { .. } => {}
        }
    }
}

/// Never ends by itself.
pub async fn watch(client: Client, seen: Arc<Mutex<Seen>>) {
    loop {
        let after = seen.lock().expect("nobody panics with it").last;
        let mut events = client.watch(None, after);
        while let Some(watched) = events.next().await {
            let mut seen = seen.lock().expect("nobody panics with it");
            match watched {
                // So that nothing is missed between two streams, even if no event came before the first one broke.
                Ok(Watched::Begin { at }) => seen.last = seen.last.or(Some(at)),
                Ok(Watched::Event { at, event }) => seen.note(at, event),
                Ok(Watched::Compacted { oldest }) => {
                    seen.gaps += 1;
                    seen.last = Some(oldest);
                }
                Err(_) => break,
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
