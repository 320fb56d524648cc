//! Follows what this replica applies: events go into the ring, and on the leader they are counted.

use std::sync::Arc;

use machine::{Applied, Event, State};
use model::views::{JobState, TaskState};
use model::{JobId, LogIndex, Run};
use replica::{Feed, Replica, Subscription};

use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::ring::Ring;

pub struct Follower {
    pub replica: Arc<Replica>,
    pub feed: Subscription,
    pub ring: Ring,
    pub metrics: Arc<Metrics>,
    /// The newest job counted: a repeated submit is answered alike and is no second job.
    last_job: JobId,
    /// The newest entry, while there is anything to claim: told here, so that those who wait need not look at each whether there is.
    claims: watch::Sender<Option<LogIndex>>,
}

impl Follower {
    /// Subscribes first and reads the index then, so that nothing lies between the ring's start and the feed.
    pub fn new(replica: Arc<Replica>, events_max: usize, metrics: Arc<Metrics>) -> Follower {
        let feed = replica.applied();
        let (index, last_job) = replica.read(|state| (state.index(), state.last_job()));
        let claims = watch::channel(replica.read(claimable)).0;
        Follower { replica, feed, ring: Ring::new(index, events_max), metrics, last_job, claims }
    }

    /// As of which entry workers may claim anything.
    pub fn claims(&self) -> watch::Receiver<Option<LogIndex>> {
        self.claims.subscribe()
    }

    /// Until the replica has stopped.
    pub async fn run(mut self) {
        while let Some(feed) = self.feed.next().await {
            match feed {
                Feed::Applied { index, applied } => {
                    self.ring.push(index, &applied.events);
                    self.count(&applied);
                }
                // What was missed is lost to watchers: they list again, and go on from here.
                Feed::Installed { index } => self.ring.reset(index),
                Feed::Lagged { missed } => {
                    tracing::warn!(missed, "events were missed; watchers list again");
                    self.ring.reset(self.replica.read(State::index));
                }
            }
            let now = self.replica.read(claimable);
            self.claims.send_if_modified(|before| std::mem::replace(before, now) != now);
        }
    }

    fn count(&mut self, applied: &Applied) {
        // Releases of periodic tasks too, which have no reply of their own.
        let submitted = applied.events.iter().filter_map(|event| match event {
            Event::Job { job, state: JobState::Waiting } => Some(*job),
            _ => None,
        });
        let new = submitted
            .filter(|job| *job > self.last_job)
            .fold((0, self.last_job), |(count, last), job| (count + 1, last.max(job)));
        self.last_job = new.1;
        if self.replica.leadership().borrow().term().is_none() {
            return;
        }
        self.metrics.jobs_submitted.add(new.0);
        for event in &applied.events {
            match event {
                Event::Job { state, .. } => self.metrics.job_turned(*state),
                Event::Tasks { job, tasks, state, .. } => self.count_tasks(*job, *tasks, *state),
                Event::Worker { .. } | Event::Queue { .. } => {}
            }
        }
    }

    fn count_tasks(&self, job: JobId, tasks: Run, state: TaskState) {
        self.metrics.tasks_turned(state, tasks.len.into());
        if state == TaskState::Placed
            && let Some(wait) = self.replica.read(|state| ready_wait(state, job, tasks))
        {
            self.metrics.ready_wait.observe_many(wait, tasks.len.into());
        }
    }
}

fn claimable(state: &State) -> Option<LogIndex> {
    scheduler::claim::is_open(state).then(|| state.index())
}

/// From when the tasks were ready to when they were placed.
fn ready_wait(state: &State, job: JobId, tasks: Run) -> Option<std::time::Duration> {
    let (_, group) = state.job(job)?.group_of(tasks.first)?;
    let (_, live) = group.live_at(tasks.first - group.first)?;
    let allocation = state.session(live.session)?.allocations.get(&live.seq)?;
    Some(allocation.placed.elapsed.since(group.ready_since))
}
