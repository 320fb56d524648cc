//! Periodic sets: tasks that are released as jobs, each every period, in queues that are the set's own, one for each slot.

use std::sync::Arc;
use std::time::Duration;

use model::policy::Order;
use model::time::micros;
use model::views::{PeriodicTaskView, PeriodicView};
use model::{Actor, Elapsed, JobId, JobSpec};
use serde::{Deserialize, Serialize};

use crate::Stamp;
use crate::state::State;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodicSet {
    pub name: String,
    pub order: Order,
    pub slots: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemptive: bool,
    pub admitted: Vec<String>,
    /// Who made it, and in whose name it is released.
    pub actor: Actor,
    /// The first release of all tasks.
    pub began: Stamp,
    pub tasks: Vec<PeriodicTask>,
    /// The next release of any of them.
    pub due: Elapsed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodicTask {
    pub name: String,
    pub run_time: Duration,
    pub period: Duration,
    pub deadline: Duration,
    pub slot: u32,
    pub job: Arc<JobSpec>,
    /// Number of the next release, from 0.
    pub next: u64,
    pub released: u64,
    pub skipped: u64,
    pub met: u64,
    pub missed: u64,
    /// Of its newest release that is a job.
    pub last: Option<JobId>,
}

impl PeriodicTask {
    pub fn due(&self, began: Elapsed) -> Elapsed {
        Elapsed(began.0.saturating_add(micros(self.period).saturating_mul(self.next)))
    }
}

impl PeriodicSet {
    pub(crate) fn next_due(&self) -> Elapsed {
        self.tasks.iter().map(|task| task.due(self.began.elapsed)).min().unwrap_or(Elapsed::MAX)
    }

    /// For the digest.
    pub(crate) fn mark(&self) -> [u64; 4] {
        let sum = |of: fn(&PeriodicTask) -> u64| self.tasks.iter().map(of).fold(0, u64::wrapping_add);
        [self.due.0, sum(|task| task.released), sum(|task| task.skipped), sum(|task| task.missed)]
    }
}

/// The queue of a slot.
pub fn queue_of(set: &str, slot: u32) -> String {
    format!("{set}.{}", slot + 1)
}

impl State {
    pub fn periodic_sets(&self) -> impl Iterator<Item = &PeriodicSet> {
        self.periodic.values()
    }

    pub(crate) fn next_release(&self) -> Option<Elapsed> {
        self.periodic.values().map(|set| set.due).min()
    }

    /// How many releases are due at this time, at most so many.
    pub fn releases_due(&self, now: Elapsed, max: usize) -> u32 {
        let sets = self.periodic.values().filter(|set| set.due <= now);
        let due = sets.flat_map(|set| set.tasks.iter().filter(|task| task.due(set.began.elapsed) <= now));
        due.take(max).count() as u32
    }

    pub fn periodic_views(&self) -> Vec<PeriodicView> {
        let stamp = self.stamp();
        let task = |set: &PeriodicSet, task: &PeriodicTask| PeriodicTaskView {
            name: task.name.clone(),
            run_time: task.run_time,
            period: task.period,
            deadline: task.deadline,
            queue: queue_of(&set.name, task.slot),
            released: task.released,
            skipped: task.skipped,
            met: task.met,
            missed: task.missed,
            last: task.last,
            next: stamp.wall.plus(task.due(set.began.elapsed).since(stamp.elapsed)),
        };
        let view = |set: &PeriodicSet| PeriodicView {
            name: set.name.clone(),
            order: set.order,
            slots: set.slots,
            preemptive: set.preemptive,
            admitted: set.admitted.clone(),
            since: set.began.wall,
            tasks: set.tasks.iter().map(|of| task(set, of)).collect(),
        };
        self.periodic.values().map(view).collect()
    }
}
