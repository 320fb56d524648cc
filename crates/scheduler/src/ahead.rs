//! Places tasks that are not ready yet but will be once the entry that is being made is applied: those of jobs that it
//! submits, and those that wait for nothing but what it reports as succeeded. Submit or report and placement then share a
//! log entry, and a cluster with room starts a task after one commit. Apply checks every placement again; that of a submit
//! which was refused, or of a report that came too late, is dropped.
//!
//! Only for where nothing else waits: whoever calls it sees to that, so that nobody is overtaken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use machine::eligible::drains_for;
use machine::state::queues::QueueId;
use machine::state::sessions::{ClassKey, Room};
use machine::{Placement, Plan, State};
use model::{JobId, JobSpec, Resources, Run, RunSet, Seq, SessionId, TaskSpec};

use crate::overlay::{Overlay, Taken};
use crate::place::{longest_run, room};
use crate::reserve;
use crate::takers::Takers;

/// What the placed tasks of a job ask for that the state does not have yet.
#[derive(Clone, Debug)]
pub struct Asked {
    pub queue: QueueId,
    /// By the first task number of each group.
    groups: BTreeMap<u32, Resources>,
}

impl Asked {
    /// Of the group that has this task.
    pub(crate) fn of(&self, task: u32) -> Option<&Resources> {
        self.groups.range(..=task).next_back().map(|(_, resources)| resources)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Ahead {
    pub plan: Plan,
    /// For the overlay.
    pub asked: BTreeMap<JobId, Asked>,
    /// Nothing that may run at once was left out.
    pub is_whole: bool,
}

/// Tasks of an allocation that the entry reports as succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    pub session: SessionId,
    pub seq: Seq,
    pub tasks: Run,
}

/// Places what can start at once, at most so many placements: first what follows on what is over, then the jobs that are
/// about to be submitted, by priority.
pub fn plan_new(
    state: &State,
    overlay: &Overlay,
    over: &[Over],
    jobs: &[(JobId, &JobSpec)],
    placements_max: usize,
) -> Ahead {
    let mut round = Round::new(state, overlay);
    round.add_followers(over, placements_max);
    let mut jobs = jobs.to_vec();
    jobs.sort_by_key(|(id, spec)| (Reverse(spec.priority), *id));
    for (id, spec) in jobs {
        if round.ahead.plan.placements.len() >= placements_max {
            round.ahead.is_whole = false;
            break;
        }
        round.add_job(id, spec, placements_max);
    }
    round.ahead
}

struct Round<'a> {
    state: &'a State,
    taken: Taken,
    /// Of sessions that drain for nobody.
    rooms: BTreeMap<SessionId, Room>,
    takers: Takers,
    /// Classes that find no room any more: rooms only shrink.
    full: BTreeSet<ClassKey>,
    ahead: Ahead,
}

impl<'a> Round<'a> {
    fn new(state: &'a State, overlay: &Overlay) -> Round<'a> {
        let taken = overlay.taken(state);
        let drains = |session: &machine::Session| {
            let known = drains_for(state, session).or(taken.reserved.get(&session.id).copied());
            known.is_some_and(|task| reserve::holds(state, session, task))
        };
        let open = state.sessions().filter(|session| !session.ended && !drains(session));
        let rooms = open.map(|session| (session.id, room(state, session, &taken))).collect();
        let ahead = Ahead { is_whole: true, ..Ahead::default() };
        Round { state, taken, rooms, takers: Takers::default(), full: BTreeSet::new(), ahead }
    }

    /// What waits for nothing but tasks that are over, on the room of these too.
    fn add_followers(&mut self, over: &[Over], placements_max: usize) {
        let state = self.state;
        let mut ended: BTreeMap<(SessionId, Seq), RunSet> = BTreeMap::new();
        over.iter().for_each(|over| ended.entry((over.session, over.seq)).or_default().insert(over.tasks));
        let mut succeeded: BTreeMap<(JobId, usize), u32> = BTreeMap::new();
        for ((session, seq), tasks) in &ended {
            let row = state.session(*session);
            let Some(allocation) = row.and_then(|row| row.allocations.get(seq)) else { continue };
            let left = allocation.unreported(allocation.tasks);
            let now = left.intersection(tasks).len();
            if now == left.len() && allocation.takes_capacity() {
                let room = self.rooms.get_mut(session);
                room.into_iter().for_each(|room| room.give_back(&allocation.resources, &allocation.units));
            }
            let group = state.job(allocation.job).and_then(|job| job.group_of(allocation.tasks.first));
            let Some((place, _)) = group else { continue };
            *succeeded.entry((allocation.job, place)).or_default() += now;
        }
        for ((id, place), left) in still_waiting(state, &succeeded) {
            let Some(job) = state.job(id).filter(|_| left == 0) else { continue };
            let group = &job.groups[place as usize];
            let queue = state.queue(job.queue).filter(|queue| !queue.paused);
            let held_back = job.paused || !job.open || job.reopening > 0 || job.is_cancelling(group);
            let class = state.class(group.class).filter(|_| !held_back && group.each.is_empty());
            let (Some(class), Some(queue)) = (class, queue) else { continue };
            for run in group.blocked.runs() {
                let numbers = group.numbers_of(run);
                self.add_tasks(id, numbers, &class.key, queue.id, placements_max);
            }
        }
    }

    fn add_job(&mut self, id: JobId, spec: &JobSpec, placements_max: usize) {
        if spec.delay.is_some_and(|delay| !delay.is_zero()) || spec.start_at.is_some() {
            return;
        }
        // Whether the earlier ones are done by then is not known here.
        if !spec.after.is_empty() {
            self.ahead.is_whole = false;
            return;
        }
        let Some(queue) = self.state.queue_named(&spec.queue).filter(|queue| !queue.paused) else { return };
        self.ahead.asked.insert(id, Asked { queue: queue.id, groups: BTreeMap::new() });
        let mut first = 0;
        for task in &spec.tasks {
            let numbers = Run::new(first, task.count());
            first += numbers.len;
            if task.after.is_empty() && task.after_each.is_empty() {
                self.add_group(id, spec, task, numbers, placements_max);
            }
        }
    }

    fn add_group(&mut self, id: JobId, spec: &JobSpec, task: &TaskSpec, numbers: Run, placements_max: usize) {
        let class = ClassKey::of(task, spec.placement);
        let asked = self.ahead.asked.get_mut(&id).expect("added above");
        asked.groups.insert(numbers.first, class.resources.clone());
        let queue = asked.queue;
        self.add_tasks(id, numbers, &class, queue, placements_max);
    }

    fn add_tasks(
        &mut self,
        id: JobId,
        numbers: Run,
        class: &ClassKey,
        queue: QueueId,
        placements_max: usize,
    ) {
        let mut next = numbers.first;
        while next < numbers.end() {
            let room = self.queue_room(queue);
            let has_budget = self.ahead.plan.placements.len() < placements_max;
            let chosen = if room > 0 && has_budget { self.choose(class) } else { None };
            let Some(session) = chosen else {
                self.ahead.is_whole = false;
                return;
            };
            let len = longest_run(class.kind, room).min(numbers.end() - next);
            self.take(id, Run::new(next, len), session, &class.resources, queue);
            next += len;
        }
    }

    fn queue_room(&self, queue: QueueId) -> u64 {
        let room = self.state.queue(queue).map_or(0, |queue| queue.room());
        room.saturating_sub(self.taken.running.get(&queue).copied().unwrap_or(0))
    }

    fn choose(&mut self, class: &ClassKey) -> Option<SessionId> {
        let state = self.state;
        if self.full.contains(class) {
            return None;
        }
        let order = self.takers.order_for(state, &self.rooms, class);
        let least = class.resources.dominant_share(state.total());
        let has_room = |id: SessionId| self.rooms[&id].fit(&class.resources).is_some();
        let chosen = self.takers.first_open(order, least, has_room);
        if chosen.is_none() {
            self.full.insert(class.clone());
        }
        chosen
    }

    fn take(&mut self, job: JobId, tasks: Run, session: SessionId, resources: &Resources, queue: QueueId) {
        if let Some(room) = self.rooms.get_mut(&session)
            && let Some(units) = room.fit(resources)
        {
            room.take(resources, &units);
            self.takers.changed(self.state, session, room);
        }
        *self.taken.running.entry(queue).or_default() += u64::from(tasks.len);
        self.ahead.plan.placements.push(Placement { job, tasks, session, held: false });
    }
}

/// Groups that wait for groups of which so many more tasks succeed, and how many they then still wait for.
fn still_waiting(state: &State, succeeded: &BTreeMap<(JobId, usize), u32>) -> BTreeMap<(JobId, u32), u32> {
    let mut waiting = BTreeMap::new();
    for ((id, place), more) in succeeded {
        let Some(job) = state.job(*id) else { continue };
        let group = &job.groups[*place];
        if group.succeeded.len() + more < group.len {
            continue;
        }
        for dependent in &group.dependents {
            let left = waiting.entry((*id, *dependent)).or_insert(job.groups[*dependent as usize].waiting);
            *left = left.saturating_sub(1);
        }
    }
    waiting
}
