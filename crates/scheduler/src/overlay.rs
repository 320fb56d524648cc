//! Plans that were proposed and not applied yet: what they take is not planned with again.

use std::collections::BTreeMap;

use machine::state::queues::QueueId;
use machine::{Plan, State};
use model::{JobId, RunSet, SessionId};

#[derive(Clone, Debug, Default)]
pub struct Overlay {
    plans: BTreeMap<u64, Plan>,
    version: u64,
}

impl Overlay {
    pub fn add(&mut self, id: u64, plan: &Plan) {
        self.version += 1;
        self.plans.insert(id, plan.clone());
    }

    /// The plan was applied, or never will be.
    pub fn remove(&mut self, id: u64) {
        self.version += 1;
        self.plans.remove(&id);
    }

    pub fn clear(&mut self) {
        self.version += 1;
        self.plans.clear();
    }

    pub fn len(&self) -> usize {
        self.plans.len()
    }

    pub fn is_empty(&self) -> bool {
        self.plans.is_empty()
    }

    /// Changes with every change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn taken(&self, state: &State) -> Taken {
        let mut taken = Taken::default();
        for placement in self.plans.values().flat_map(|plan| &plan.placements) {
            taken.tasks.entry(placement.job).or_default().insert(placement.tasks);
            let Some(job) = state.job(placement.job) else { continue };
            *taken.running.entry(job.queue).or_default() += u64::from(placement.tasks.len);
            let class = job.group_of(placement.tasks.first).map(|(_, group)| group.class);
            if let Some(class) = class.filter(|_| !placement.held) {
                taken.classes.entry(placement.session).or_default().push(class);
            }
        }
        let reservations = self.plans.values().flat_map(|plan| &plan.reservations);
        taken.reserved = reservations.map(|r| (r.session, (r.job, r.task))).collect();
        taken
    }
}

/// What the plans in flight take.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Task numbers by job.
    pub tasks: BTreeMap<JobId, RunSet>,
    pub running: BTreeMap<QueueId, u64>,
    /// The classes of what is placed on each session.
    pub classes: BTreeMap<SessionId, Vec<u32>>,
    pub reserved: BTreeMap<SessionId, (JobId, u32)>,
}
