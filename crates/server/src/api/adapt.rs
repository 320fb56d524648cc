//! Queues that are `auto`: whoever leads looks at their history every `limits.adapt_every_s`, and writes what would have served
//! it better into the log, where it is checked that the queue is still as it was looked at.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use machine::{Op, Reply, State};
use model::policy::{Adaptation, QueuePolicy};
use model::time::format_duration;
use model::{Moment, Timestamp};
use tracing::{debug, info, warn};
use whatif::{ADAPT_TASKS_MAX, Recent, adapt};
use wire::v1;

use crate::api::{Api, Running};

/// How often it is seen whether it is time: the setting may change.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A queue as it is looked at.
struct Subject {
    name: String,
    present: QueuePolicy,
    home: QueuePolicy,
    /// When it was changed last.
    last: Option<Timestamp>,
}

impl Api {
    /// Once this replica runs.
    pub async fn adapt_queues(&self) -> Infallible {
        let mut last: Option<Moment> = None;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(running) = self.running() else { continue };
            if !running.leads() {
                last = None;
                continue;
            }
            let now = self.shared.clock.moment();
            let since = *last.get_or_insert(now);
            let every = running.replica.read(|state| state.limits().adapt_every_s);
            if now.since(since) < Duration::from_secs(every) {
                continue;
            }
            last = Some(now);
            for subject in running.replica.read(subjects) {
                self.adapt_queue(running, subject).await;
            }
        }
    }

    async fn adapt_queue(&self, running: &Running, subject: Subject) {
        let name = subject.name.clone();
        let Some(found) = find(running, subject).await else { return };
        let header =
            v1::WriteHeader { user: "baton".to_owned(), via: "auto".to_owned(), ..Default::default() };
        let id = self.shared.requests.next(self.shared.clock.wall());
        let op = Op::Adapt { queue: name.clone(), adaptation: Box::new(found) };
        let Ok(write) = self.as_write(id, &header, op) else { return };
        match running.lead.write(Box::new(write.write), write.bytes).await.map(|written| written.reply) {
            Ok(Reply::Done) => info!(
                queue = name,
                from = %told(&found.from),
                to = %told(&found.to),
                tasks = found.tasks,
                mean_wait_from = format_duration(found.wait_from),
                mean_wait_to = format_duration(found.wait_to),
                "the queue has another policy; `baton queue undo` takes it back"
            ),
            // It was changed meanwhile, or another replica leads: there will be another look.
            other => debug!(queue = name, ?other, "the queue was not changed"),
        }
    }
}

fn told(policy: &QueuePolicy) -> String {
    format!("{}/{}", policy.order, policy.backfill)
}

fn subjects(state: &State) -> Vec<Subject> {
    let auto = state.queues().filter(|queue| queue.auto && !queue.deleted);
    let subject = |queue: &machine::state::queues::Queue| Subject {
        name: queue.name.clone(),
        present: queue.policy,
        home: queue.adapted.as_ref().map_or(queue.policy, |adapted| adapted.home),
        last: queue.adapted.as_ref().map(|adapted| adapted.at),
    };
    auto.map(subject).collect()
}

/// Says stop when it is dropped: nobody waits for the answer any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The search takes up to seconds, on a thread of its own.
async fn find(running: &Running, subject: Subject) -> Option<Adaptation> {
    let mut recent = Recent::new(&subject.name, ADAPT_TASKS_MAX);
    while running.replica.read(|state| recent.step(state)) {
        tokio::task::yield_now().await;
    }
    let (history, cores) = (recent.into_history(), running.replica.read(whatif::cores));
    let stop = Stop(Arc::default());
    let stopped = stop.0.clone();
    let search = tokio::task::spawn_blocking(move || {
        let Subject { present, home, last, .. } = &subject;
        adapt(present, home, *last, &history, cores, || !stopped.load(Ordering::Relaxed))
    });
    let found = search.await;
    drop(stop);
    found.unwrap_or_else(|error| {
        warn!(%error, "a look at the history of a queue has failed");
        None
    })
}
