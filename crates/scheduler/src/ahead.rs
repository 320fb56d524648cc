//! Places tasks that are not ready yet but will be once the entry that is being made is applied: those of jobs that it
//! submits, and those that wait for nothing but what it reports as succeeded (what waits element by element does not count). Submit or report and placement then share a
//! log entry, and a cluster with room starts a task after one commit. Apply checks every placement again; that of a submit
//! which was refused, or of a report that came too late, is dropped.
//!
//! Only for where nothing else waits: whoever calls it sees to that, so that nobody is overtaken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use machine::eligible::drains_for;
use machine::state::queues::{Queue, QueueId};
use machine::state::sessions::{ClassKey, Room};
use machine::{Placement, Plan, State};
use model::{JobId, JobSpec, QueuePolicy, Resources, Run, RunSet, Seq, SessionId, TaskSpec};

use crate::bookings;
use crate::overlay::room;
use crate::overlay::{Overlay, Taken};
use crate::place::longest_run;
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
    let ended = ended(over);
    let succeeded = succeeded(state, &ended);
    let followers = followers(state, &succeeded);
    // Most reports free nobody, and to look at every session for that would cost more than the report.
    if jobs.is_empty() && followers.is_empty() {
        return Ahead { is_whole: !frees_others(state, &succeeded), ..Ahead::default() };
    }
    let mut round = Round::new(state, overlay);
    round.ahead.is_whole = !frees_others(state, &succeeded);
    round.give_back(&ended);
    for (id, place) in followers {
        round.add_follower(id, place, placements_max);
    }
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

/// Whether anything becomes ready by these ends.
pub fn frees_anybody(state: &State, over: &[Over]) -> bool {
    let succeeded = succeeded(state, &ended(over));
    frees_others(state, &succeeded) || !followers(state, &succeeded).is_empty()
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
        let open = state.sessions().filter(|session| {
            // How long the new ones take is not asked here.
            !session.ended && !drains(session) && !bookings::is_booked(state, session)
        });
        let rooms = open.map(|session| (session.id, room(state, session, &taken))).collect();
        let ahead = Ahead { is_whole: true, ..Ahead::default() };
        Round { state, taken, rooms, takers: Takers::default(), full: BTreeSet::new(), ahead }
    }

    /// Allocations that are wholly over by then free what they took.
    fn give_back(&mut self, ended: &Ended) {
        let state = self.state;
        for ((session, seq), tasks) in ended {
            let row = state.session(*session);
            let Some(allocation) = row.and_then(|row| row.allocations.get(seq)) else { continue };
            let left = allocation.unreported(allocation.tasks);
            if left.intersection(tasks).len() == left.len() && allocation.takes_capacity() {
                let room = self.rooms.get_mut(session);
                room.into_iter().for_each(|room| room.give_back(&allocation.resources, &allocation.units));
            }
        }
    }

    fn add_follower(&mut self, id: JobId, place: u32, placements_max: usize) {
        let state = self.state;
        let Some(job) = state.job(id) else { return };
        let group = &job.groups[place as usize];
        let queue = state.queue(job.queue).filter(|queue| !queue.paused);
        let (Some(class), Some(queue)) = (state.class(group.class), queue) else { return };
        if !places_ahead(queue) || group.gang {
            self.ahead.is_whole = false;
            return;
        }
        for run in group.blocked.runs() {
            self.add_tasks(id, group.numbers_of(run), &class.key, queue.id, placements_max);
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
        if !places_ahead(queue) {
            self.ahead.is_whole = false;
            return;
        }
        self.ahead.asked.insert(id, Asked { queue: queue.id, groups: BTreeMap::new() });
        let mut first = 0;
        for task in &spec.tasks {
            let numbers = Run::new(first, task.count());
            first += numbers.len;
            if task.gang {
                self.ahead.is_whole = false;
            } else if task.after.is_empty() && task.after_each.is_empty() {
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
            let len = longest_run(class, room).min(numbers.end() - next);
            self.take(id, Run::new(next, len), session, &class.resources, queue);
            next += len;
        }
    }

    fn queue_room(&self, queue: QueueId) -> u64 {
        let room = self.state.queue(queue).map_or(0, |queue| self.state.room_in(queue));
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
        self.ahead.plan.placements.push(Placement { job, tasks, session, held: false, alternative: 0 });
    }
}

/// Only by priority, and where whatever fits may start: more is left to a round.
fn places_ahead(queue: &Queue) -> bool {
    queue.policy == QueuePolicy::default()
}

/// Tasks that are over, by allocation.
type Ended = BTreeMap<(SessionId, Seq), RunSet>;
/// How many more tasks of a group succeed.
type Succeeded = BTreeMap<(JobId, usize), u32>;

fn ended(over: &[Over]) -> Ended {
    let mut ended = Ended::new();
    over.iter().for_each(|over| ended.entry((over.session, over.seq)).or_default().insert(over.tasks));
    ended
}

fn succeeded(state: &State, ended: &Ended) -> Succeeded {
    let mut succeeded = Succeeded::new();
    for ((session, seq), tasks) in ended {
        let row = state.session(*session);
        let Some(allocation) = row.and_then(|row| row.allocations.get(seq)) else { continue };
        let group = state.job(allocation.job).and_then(|job| job.group_of(allocation.tasks.first));
        let Some((place, _)) = group else { continue };
        let now = allocation.unreported(allocation.tasks).intersection(tasks).len();
        *succeeded.entry((allocation.job, place)).or_default() += now;
    }
    succeeded
}

/// Groups that wait for nothing but what succeeds, and that nothing else holds back.
fn followers(state: &State, succeeded: &Succeeded) -> Vec<(JobId, u32)> {
    let mut waiting: BTreeMap<(JobId, u32), u32> = BTreeMap::new();
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
    let is_free = |(id, place): &(JobId, u32)| {
        state.job(*id).is_some_and(|job| {
            let group = &job.groups[*place as usize];
            group.each.is_empty() && !group.blocked.is_empty() && !job.holds_back(group)
        })
    };
    waiting.into_iter().filter(|(_, left)| *left == 0).map(|(group, _)| group).filter(is_free).collect()
}

/// Whether others may become ready by it that are not placed here: what waits element by element, and later jobs.
fn frees_others(state: &State, succeeded: &Succeeded) -> bool {
    succeeded.keys().any(|(id, place)| {
        let job = state.job(*id);
        job.is_some_and(|job| !job.groups[*place].each_dependents.is_empty() || !job.dependents.is_empty())
    })
}
