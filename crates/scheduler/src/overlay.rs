//! Plans that were proposed and not applied yet: what they take is not planned with again.

use std::collections::{BTreeMap, BTreeSet};

use machine::state::queues::QueueId;
use machine::state::sessions::Room;
use machine::state::users::{EVERYBODY, UserId};
use machine::{Placement, Plan, Promise, Session, State};
use model::{Elapsed, JobId, Pace, Resources, RunSet, Seq, SessionId};

use crate::ahead::Asked;
use crate::slices;

#[derive(Clone, Debug, Default)]
pub struct Overlay {
    plans: BTreeMap<u64, Planned>,
    version: u64,
}

#[derive(Clone, Debug)]
struct Planned {
    plan: Plan,
    /// Of jobs that the state did not have when it was planned.
    asked: BTreeMap<JobId, Asked>,
}

impl Overlay {
    pub fn add(&mut self, id: u64, plan: &Plan) {
        self.add_new(id, plan, BTreeMap::new());
    }

    /// A plan that follows from submits or reports of the same entry.
    pub fn add_new(&mut self, id: u64, plan: &Plan, asked: BTreeMap<JobId, Asked>) {
        self.version += 1;
        self.plans.insert(id, Planned { plan: plan.clone(), asked });
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
        let promises = state.queues().any(|queue| queue.policy.promises());
        let mut taken = Taken { promises, ..Taken::default() };
        for Planned { plan, asked } in self.plans.values() {
            plan.placements.iter().for_each(|placement| taken.add(placement, asked, state));
            let reservations = plan.reservations.iter();
            taken.reserved.extend(reservations.map(|r| (r.session, (r.job, r.task))));
            taken.compressed.extend(&plan.compressed);
            taken
                .switched
                .extend(plan.switches.iter().map(|switch| ((switch.session, switch.seq), switch.to)));
            taken.promised.extend(plan.promises.iter().map(|p| ((p.job, p.group), p.promise.clone())));
        }
        taken
    }
}

/// What the plans in flight take.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Whether any queue promises anything.
    pub promises: bool,
    /// Task numbers by job.
    pub tasks: BTreeMap<JobId, RunSet>,
    pub running: BTreeMap<QueueId, u64>,
    /// What is placed for each user of a queue that is shared by users.
    pub users: BTreeMap<(QueueId, UserId), Resources>,
    /// What is placed on each session.
    pub asked: BTreeMap<SessionId, Vec<Resources>>,
    /// Placements sent ahead to each session.
    pub held: BTreeMap<SessionId, u32>,
    pub reserved: BTreeMap<SessionId, (JobId, u32)>,
    pub compressed: BTreeSet<QueueId>,
    /// What stands still from then on, and what goes on.
    pub switched: BTreeMap<(SessionId, Seq), Pace>,
    pub promised: BTreeMap<(JobId, u32), Option<Promise>>,
    /// When what is placed should end, where that is known.
    pub ends: Vec<(SessionId, (Elapsed, Resources))>,
}

impl Taken {
    /// Whether nobody has it stand still.
    pub fn runs_on(&self, session: SessionId, seq: Seq) -> bool {
        self.switched.is_empty() || self.switched.get(&(session, seq)) != Some(&Pace::StandsStill)
    }

    fn add(&mut self, placement: &Placement, asked: &BTreeMap<JobId, Asked>, state: &State) {
        let Placement { job, tasks, session, held, alternative } = *placement;
        self.tasks.entry(job).or_default().insert(tasks);
        let known = state.job(job);
        let queue = known.map(|job| job.queue).or_else(|| asked.get(&job).map(|asked| asked.queue));
        let Some(queue) = queue else { return };
        *self.running.entry(queue).or_default() += u64::from(tasks.len);
        if held {
            *self.held.entry(session).or_default() += 1;
            return;
        }
        match known {
            Some(job) => {
                let Some((place, group)) = job.group_of(tasks.first) else { return };
                let Some(class) = state.class_as(group.class, alternative) else { return };
                self.asked.entry(session).or_default().push(class.key.resources.clone());
                if job.user != EVERYBODY {
                    self.users.entry((queue, job.user)).or_default().add(&class.key.resources);
                }
                self.promised.insert((job.id, place as u32), None);
                if self.promises
                    && let Some(estimate) = state.estimate_of(job, place)
                {
                    let end = state.stamp().elapsed.plus(estimate);
                    self.ends.push((session, (end, class.key.resources.clone())));
                }
            }
            None => {
                let resources = asked.get(&job).and_then(|asked| asked.of(tasks.first));
                self.asked.entry(session).or_default().extend(resources.cloned());
            }
        }
    }
}

/// What is left of the session beside what the plans in flight take.
pub(crate) fn room(state: &State, session: &Session, taken: &Taken) -> Room {
    let mut room = session.room();
    // What was sent ahead begins as soon as there is room.
    state.held(session.id).for_each(|allocation| room.free.subtract(&allocation.resources));
    if !taken.switched.is_empty() {
        slices::turn(session, taken, &mut room);
    }
    for resources in taken.asked.get(&session.id).into_iter().flatten() {
        if let Some(units) = room.fit(resources) {
            room.take(resources, &units);
        }
    }
    room
}
