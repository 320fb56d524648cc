//! Reads the events of all jobs throughout the run, through each replica: the applied log as clients see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use baton_tests::cluster::LOOK_AGAIN;
use client::{Client, Event, Position, Watched};
use futures::StreamExt;
use model::views::{JobState, TaskState};
use model::{JobId, TaskId};
use serde::{Deserialize, Serialize};

/// What one watcher was told, in the order in which it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Where it began: nothing up to here was told.
    pub begin: Option<(u64, u32)>,
    pub told: Vec<Told>,
}

/// One thing that it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// (log index, place in the entry), and what happened, in words.
    Event(u64, u32, String),
    /// Events up to there were gone before they could be read.
    Compacted(u64, u32),
}

/// Final states in the order of the log, from the words of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finals {
    pub tasks: BTreeMap<TaskId, Vec<TaskState>>,
    pub jobs: BTreeMap<JobId, Vec<JobState>>,
    /// Times that events were gone before they could be read.
    pub gaps: u64,
}

/// An event in words, the same for all who tell of it.
pub fn words(event: &Event) -> String {
    match event {
        Event::Job { job, state } => format!("job {job} {state}"),
        Event::Tasks { job, tasks, state, attempt, worker } => {
            let worker = worker.as_deref().unwrap_or("-");
            format!("tasks {job} {}+{} {state} {attempt} {worker}", tasks.first, tasks.len)
        }
        Event::Worker { worker, state } => format!("worker {worker} {state}"),
        Event::Queue { queue } => format!("queue {queue}"),
    }
}

fn state<T: serde::de::DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word.to_owned())).ok()
}

impl Finals {
    pub fn of(stream: &Stream) -> Finals {
        let mut finals = Finals::default();
        for told in &stream.told {
            match told {
                Told::Event(_, _, words) => drop(finals.note(words)),
                Told::Compacted(..) => finals.gaps += 1,
            }
        }
        finals
    }

    fn note(&mut self, words: &str) -> Option<()> {
        let words: Vec<&str> = words.split(' ').collect();
        match words[..] {
            ["job", job, word] => {
                let (job, state): (JobId, JobState) = (job.parse().ok()?, state(word)?);
                if state.is_final() {
                    self.jobs.entry(job).or_default().push(state);
                }
            }
            ["tasks", job, range, word, ..] => {
                let (job, state): (JobId, TaskState) = (job.parse().ok()?, state(word)?);
                let (first, len) = range.split_once('+')?;
                let (first, len): (u32, u32) = (first.parse().ok()?, len.parse().ok()?);
                if state.is_final() {
                    for number in first..first + len {
                        self.tasks.entry(TaskId { job, number }).or_default().push(state);
                    }
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// Never ends by itself. `client` knows all replicas, this one first; when it goes the stream goes on through another.
pub async fn watch(client: Client, stream: Arc<Mutex<Stream>>) {
    loop {
        let after = last(&stream.lock().expect("nobody panics with it"));
        let mut events = client.watch(None, after);
        while let Some(watched) = events.next().await {
            let mut stream = stream.lock().expect("nobody panics with it");
            match watched {
                // So that nothing is missed between two streams, even if no event came before the first one broke.
                Ok(Watched::Begin { at }) => stream.begin = stream.begin.or(Some((at.index, at.place))),
                Ok(Watched::Event { at, event }) => {
                    stream.told.push(Told::Event(at.index, at.place, words(&event)));
                }
                Ok(Watched::Compacted { oldest }) => {
                    stream.told.push(Told::Compacted(oldest.index, oldest.place));
                }
                Err(_) => break,
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Where to go on. After a gap: from the oldest that is still there.
fn last(stream: &Stream) -> Option<Position> {
    let last = stream.told.last().map(|told| match told {
        Told::Event(index, place, _) | Told::Compacted(index, place) => (*index, *place),
    });
    let (index, place) = last.or(stream.begin)?;
    Some(Position { index, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_states_are_read_off_the_words() {
        let event = |index, words: &str| Told::Event(index, 0, words.to_owned());
        let told = vec![
            event(1, "tasks j1 0+2 running 1 w1"),
            event(2, "tasks j1 0+2 succeeded 1 w1"),
            Told::Compacted(3, 0),
            event(4, "job j1 succeeded"),
            event(5, "worker w1 gone"),
        ];
        let finals = Finals::of(&Stream { begin: None, told });
        assert_eq!(finals.tasks.len(), 2);
        assert_eq!(finals.jobs[&JobId(1)], [JobState::Succeeded]);
        assert_eq!(finals.gaps, 1);
    }
}
