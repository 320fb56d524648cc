//! W17: a running task gives way only where its queue wants it so, and only to one that waits and has a higher priority.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::allocations::Key;
use super::job::Job;
use super::read::number;
use super::task::State;

/// A preemption as a plan names it: whose allocation, for which task.
#[derive(Clone, Copy)]
pub struct Preemption {
    pub victim: Key,
    job: u64,
    task: u64,
}

impl Preemption {
    pub fn all_of(plan: &Value) -> impl Iterator<Item = Preemption> {
        plan["preemptions"].as_array().into_iter().flatten().filter_map(|preemption| {
            let victim = (number(&preemption["session"])?, number(&preemption["seq"])?);
            Some(Preemption { victim, job: number(&preemption["job"])?, task: number(&preemption["task"])? })
        })
    }
}

/// Which attempts of which task, by job and number, gave way.
pub type GaveWay = BTreeMap<(u64, u64), BTreeSet<u64>>;

/// What of queues matters here.
#[derive(Default)]
pub struct Queues(BTreeMap<String, Queue>);

#[derive(Default)]
struct Queue {
    is_fair: bool,
    preempts: bool,
    is_claimed: bool,
}

impl Queues {
    /// What is absent stays as it was.
    pub fn put(&mut self, spec: &Value) {
        let queue = self.0.entry(spec["name"].as_str().unwrap_or_default().to_owned()).or_default();
        if let Some(order) = spec["order"].as_str() {
            queue.is_fair = order == "fair";
            // It goes with this order only.
            queue.preempts &= order == "priority";
        }
        queue.preempts = spec["preempt"].as_bool().unwrap_or(queue.preempts);
        queue.is_claimed = spec["mode"].as_str().map_or(queue.is_claimed, |mode| mode != "push");
    }

    pub fn is_fair(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|queue| queue.is_fair)
    }

    /// Whether workers may take its tasks themselves.
    pub fn is_claimed(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|queue| queue.is_claimed)
    }

    fn preempts(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|queue| queue.preempts)
    }
}

/// Why the job's task must not give way to what is named.
pub fn objection(
    jobs: &BTreeMap<u64, Job>,
    queues: &Queues,
    (victim, number): (&Job, u64),
    to: &Preemption,
) -> Option<String> {
    let name = format!("j{}.{}", to.job, to.task);
    let Some(other) = jobs.get(&to.job) else {
        return Some(format!("gives way to {name}, which is unknown"));
    };
    let why = if victim.gang_of(number).is_some() || other.gang_of(to.task).is_some() {
        "though one of them is of a gang"
    } else if victim.queue != other.queue {
        "which is in another queue"
    } else if !queues.preempts(&victim.queue) {
        "though nothing does in their queue"
    } else if other.state_of(to.task) != State::Ready {
        "which does not wait"
    } else if victim.priority >= other.priority && !victim.is_held_back && !other.is_held_back {
        "which has no higher priority"
    } else {
        return None;
    };
    Some(format!("gives way to {name}, {why}"))
}
