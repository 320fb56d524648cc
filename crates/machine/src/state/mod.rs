//! The replicated state: one plain value. Rows are in tables that share pages with their copies; indexes are derived.

pub mod bookings;
pub mod deficit;
pub mod index;
pub mod jobs;
pub mod periodic;
pub mod queues;
pub mod rank;
pub mod requests;
pub mod sessions;
pub mod users;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use model::policy::{Backfill, Order};
use model::settings::Limits;
use model::views::{Counts, JobState};
use model::{Actor, ClassId, Elapsed, JobId, LogIndex, NodeId, Resources, SessionId, Settings, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chores::Chore;
use crate::eligible::patience_ends;
use crate::paged::Paged;
use crate::state::bookings::Booking;
use crate::state::deficit::Turn;
use crate::state::index::{Index, ReadyKey, ReadyList, is_ready};
use crate::state::jobs::{Group, Job, Tombstone};
use crate::state::periodic::PeriodicSet;
use crate::state::queues::{Promise, Queue, QueueId};
use crate::state::rank::Learnt;
use crate::state::requests::Requests;
use crate::state::sessions::{Allocation, Class, ClassKey, Session, Worker};
use crate::state::users::{EVERYBODY, Moment, UserId};
use crate::{Effect, Event, Stamp};

/// The behaviour version that this code implements; apply switches on `State::level`, never on this.
pub const LEVEL: u32 = 2;

/// From this level on queues take turns by what is due to them, and a gang that is larger than the cluster is refused.
pub const LEVEL_TURNS: u32 = 2;

/// The figures of the state that are not rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    pub index: LogIndex,
    pub stamp: Stamp,
    pub level: u32,
    pub epoch: u64,
    pub cluster: String,
    pub settings: Arc<Settings>,
    pub last_job: JobId,
    pub last_session: SessionId,
    pub next_node: NodeId,
    pub next_queue: QueueId,
    pub next_class: ClassId,
    pub unfinished_jobs: u64,
    pub results_bytes: u64,
    /// The newest job whose tombstone is gone.
    pub forgotten: JobId,
    pub requests_next: u64,
    pub requests_floor_ms: u64,
    pub digest: u64,
    /// Of deficit round robin between the queues.
    #[serde(default)]
    pub rounds: u64,
}

#[derive(Clone, Default)]
pub struct State {
    pub(crate) meta: Meta,
    pub(crate) jobs: Paged<Job>,
    pub(crate) tombstones: Paged<Tombstone>,
    pub(crate) sessions: Paged<Session>,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    pub(crate) classes: BTreeMap<ClassId, Class>,
    pub(crate) workers: BTreeMap<String, Worker>,
    pub(crate) requests: Requests,
    pub(crate) chores: VecDeque<Chore>,
    pub(crate) bookings: BTreeMap<String, Booking>,
    pub(crate) periodic: BTreeMap<String, PeriodicSet>,
    /// By job and task.
    pub(crate) learnt: BTreeMap<String, Learnt>,
    pub(crate) index: Index,
    /// What the live sessions offer together.
    pub(crate) total: Resources,
    pub(crate) out: Out,
    #[cfg(feature = "mutants")]
    pub(crate) mutant: Option<crate::Mutant>,
}

/// What the entry being applied has caused so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out {
    pub effects: Vec<Effect>,
    pub events: Vec<Event>,
    pub woken: bool,
}

/// When a `Tick` has something to fire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    pub elapsed: Option<Elapsed>,
    pub wall: Option<Timestamp>,
}

impl State {
    pub fn index(&self) -> LogIndex {
        self.meta.index
    }

    pub fn stamp(&self) -> Stamp {
        self.meta.stamp
    }

    pub fn settings(&self) -> &Settings {
        &self.meta.settings
    }

    pub fn limits(&self) -> &Limits {
        &self.meta.settings.limits
    }

    pub fn epoch(&self) -> u64 {
        self.meta.epoch
    }

    pub fn level(&self) -> u32 {
        self.meta.level
    }

    pub fn cluster(&self) -> &str {
        &self.meta.cluster
    }

    pub fn is_bootstrapped(&self) -> bool {
        self.meta.level > 0
    }

    /// A chain over everything that was applied: equal indexes have equal digests, or a replica has diverged.
    pub fn digest(&self) -> u64 {
        self.meta.digest
    }

    pub fn last_job(&self) -> JobId {
        self.meta.last_job
    }

    pub fn last_session(&self) -> SessionId {
        self.meta.last_session
    }

    pub fn unfinished_jobs(&self) -> u64 {
        self.meta.unfinished_jobs
    }

    /// With those that a retry was answered for and that are still to come back.
    pub(crate) fn promised_jobs(&self) -> u64 {
        self.meta.unfinished_jobs + self.index.reopening.len() as u64
    }

    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(id.0)
    }

    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.jobs.iter().map(|(_, job)| job)
    }

    pub fn tombstone(&self, id: JobId) -> Option<&Tombstone> {
        self.tombstones.get(id.0)
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(id.0)
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.iter().map(|(_, session)| session)
    }

    pub fn worker(&self, name: &str) -> Option<&Worker> {
        self.workers.get(name)
    }

    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    pub fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id)
    }

    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    pub fn queue_named(&self, name: &str) -> Option<&Queue> {
        let id = self.index.queue_names.get(name)?;
        self.queues.get(id).filter(|queue| !queue.deleted)
    }

    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id)
    }

    /// What a placement of the class asks for: 0: the first choice; from 1 on: its alternatives.
    pub fn class_as(&self, id: ClassId, alternative: u8) -> Option<&Class> {
        let class = self.class(id)?;
        match usize::from(alternative).checked_sub(1) {
            None => Some(class),
            Some(place) => self.class(*class.alternatives.get(place)?),
        }
    }

    /// What the live sessions offer together.
    pub fn total(&self) -> &Resources {
        &self.total
    }

    /// Ready work by queue, user and class, each in order.
    pub fn ready(&self) -> &BTreeMap<ReadyList, BTreeSet<ReadyKey>> {
        &self.index.ready
    }

    /// That of one queue.
    pub fn ready_in(&self, queue: QueueId) -> impl Iterator<Item = (&ReadyList, &BTreeSet<ReadyKey>)> {
        self.index.ready.range(ReadyList::of(queue))
    }

    /// By which users' shares are told now.
    pub fn moment(&self) -> Moment<'_> {
        Moment { total: &self.total, now: self.now(), half_life: self.half_life() }
    }

    /// One more job of this user's counts in the queue, where its users share it.
    pub(crate) fn join(&mut self, queue: QueueId, user: &str) -> UserId {
        let (now, half_life) = (self.now(), self.half_life());
        let shared = self.queues.get_mut(&queue).filter(|queue| queue.policy.order == Order::Fair);
        shared.map_or(EVERYBODY, |queue| queue.users.join(user, now, half_life))
    }

    pub(crate) fn leave(&mut self, queue: QueueId, user: UserId) {
        let (now, half_life) = (self.now(), self.half_life());
        if user != EVERYBODY {
            self.queues.get_mut(&queue).into_iter().for_each(|queue| queue.users.leave(user, now, half_life));
        }
    }

    /// What takes capacity of the session, by when it was expected to end; what nobody knows the end of is left out.
    pub fn ends(&self, session: SessionId) -> impl Iterator<Item = &Allocation> {
        let rows = self.session(session);
        let from = (session, Elapsed(0), 0);
        let ends = self.index.ends.range(from..=(session, Elapsed::MAX, u64::MAX));
        ends.filter_map(move |(_, _, seq)| rows.and_then(|row| row.allocations.get(seq)))
    }

    /// What was sent ahead to the session and has not begun.
    pub fn held(&self, session: SessionId) -> impl DoubleEndedIterator<Item = &Allocation> {
        let rows = self.session(session);
        let held = self.index.held.range((session, 0)..=(session, u64::MAX));
        held.filter_map(move |(_, seq)| rows.and_then(|row| row.allocations.get(seq)))
    }

    pub fn learnt(&self) -> impl Iterator<Item = (&str, &Learnt)> {
        self.learnt.iter().map(|(name, learnt)| (name.as_str(), learnt))
    }

    pub fn requests_len(&self) -> u64 {
        self.requests.len()
    }

    /// Tasks of all jobs in the hot state.
    pub fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.queues.values().for_each(|queue| all.add(&queue.counts));
        all
    }

    pub fn half_life(&self) -> Duration {
        Duration::from_secs(self.limits().usage_half_life_s.max(1))
    }

    /// As of which the queues take their turns.
    pub fn turn(&self) -> Turn {
        Turn { now: self.now(), round: self.meta.rounds, half_life: self.half_life() }
    }

    pub fn next_due(&self) -> Option<Due> {
        if !self.chores.is_empty() {
            return Some(Due { elapsed: Some(Elapsed(0)), wall: None });
        }
        let age = Duration::from_secs(self.limits().finished_age_max_s);
        let timer = self.index.timers.first().map(|timer| timer.at);
        let many = self.index.finished.len() as u64 > self.limits().finished_jobs_max;
        let eviction =
            self.index.finished.first().map(|(at, _)| if many { Elapsed(0) } else { at.plus(age) });
        let reserved = self.index.reserved.iter().filter_map(|id| self.session(*id));
        let patience = reserved.map(|session| patience_ends(self, session));
        // Those before have had their turn.
        let after = Bound::Excluded((self.now(), JobId(u64::MAX), u32::MAX));
        let start = self.index.starts.range((after, Bound::Unbounded)).next().map(|(at, ..)| *at);
        let due = Due {
            elapsed: timer
                .into_iter()
                .chain(eviction)
                .chain(patience)
                .chain(start)
                .chain(self.next_slice_end())
                .chain(self.next_release())
                .min(),
            wall: self
                .index
                .wall_timers
                .first()
                .map(|(at, _)| *at)
                .into_iter()
                .chain(self.booking_end())
                .min(),
        };
        (due != Due::default()).then_some(due)
    }

    pub(crate) fn now(&self) -> Elapsed {
        self.meta.stamp.elapsed
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.out.effects.push(effect);
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.out.events.push(event);
    }

    /// There may be something to place that there was not before. Said once per entry.
    pub(crate) fn wake(&mut self) {
        if !std::mem::replace(&mut self.out.woken, true) {
            self.out.effects.push(Effect::Wake);
        }
    }

    /// Keeps the session free for the task from now on, or for nobody.
    pub(crate) fn set_reserved(&mut self, id: SessionId, task: Option<(JobId, u32)>) {
        let now = self.now();
        let Some(session) = self.sessions.get_mut(id.0) else { return };
        (session.reserved, session.in_vain) = (task, false);
        if task.is_some() {
            session.reserved_since = now;
            self.index.reserved.insert(id);
        } else {
            self.index.reserved.remove(&id);
        }
    }

    /// Promises the next task of the group something, or nothing any more; `leaves`: what it was promised is free for others.
    pub(crate) fn set_promise(
        &mut self,
        queue: QueueId,
        whose: (JobId, u32),
        promise: Option<Promise>,
        leaves: bool,
    ) {
        let Some(queue) = self.queues.get_mut(&queue) else { return };
        let before = match promise {
            Some(promise) => queue.promises.insert(whose, promise),
            None => queue.promises.remove(&whose),
        };
        if let Some(before) = before {
            self.index.starts.remove(&(before.at, whose.0, whose.1));
            queue.loosened |= leaves && queue.policy.backfill == Backfill::Conservative;
        }
        if let Some(promise) = promise {
            self.index.starts.insert((promise.at, whose.0, whose.1));
        }
    }

    /// There is more than anybody counted with.
    pub(crate) fn loosen(&mut self) {
        for queue in self.queues.values_mut().filter(|queue| !queue.promises.is_empty()) {
            queue.loosened |= queue.policy.backfill == Backfill::Conservative;
        }
    }

    /// Mostly the same submits again: then one is kept for both jobs.
    pub(crate) fn shared(&self, actor: &Actor) -> Arc<Actor> {
        let newest = self.jobs().next_back().map(|job| &job.actor);
        newest.filter(|newest| ***newest == *actor).cloned().unwrap_or_else(|| Arc::new(actor.clone()))
    }

    /// The class of this key, made if it is new. Counts one more group.
    pub(crate) fn intern(&mut self, key: ClassKey) -> ClassId {
        if let Some(id) = self.index.class_keys.get(&key) {
            let class = self.classes.get_mut(id).expect("an indexed class exists");
            class.refs += 1;
            return *id;
        }
        let others: Vec<ClassKey> = key.others().collect();
        let alternatives = others.into_iter().map(|other| self.intern(other)).collect();
        let id = self.meta.next_class;
        self.meta.next_class += 1;
        self.index.class_keys.insert(key.clone(), id);
        self.classes.insert(id, Class { key, refs: 1, alternatives });
        id
    }

    pub(crate) fn release_class(&mut self, id: ClassId) {
        let Some(class) = self.classes.get_mut(&id) else { return };
        class.refs -= 1;
        if class.refs == 0 {
            self.index.class_keys.remove(&class.key);
            let gone = self.classes.remove(&id);
            gone.into_iter().flat_map(|gone| gone.alternatives).for_each(|other| self.release_class(other));
        }
    }

    /// Changes of a job what the ready index is keyed by, or what keeps these groups out of it; never what is ready. The
    /// index is not a row: it moves at once.
    pub(crate) fn rekeyed<R>(
        &mut self,
        id: JobId,
        places: impl IntoIterator<Item = u32>,
        change: impl FnOnce(&mut Job) -> R,
    ) -> R {
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        let places = places.into_iter().map(|place| place as usize);
        let before: Vec<(usize, bool)> = places
            .filter(|place| !job.groups[*place].ready.is_empty())
            .map(|place| (place, is_ready(job, &job.groups[place])))
            .collect();
        let listed = before.iter().filter(|(_, was_ready)| *was_ready);
        let mut were_listed = false;
        for (place, _) in listed {
            self.index.set_ready(job, *place, false);
            were_listed = true;
        }
        let queue = job.queue;
        let result = change(job);
        were_listed &= job.queue == queue;
        let (mut turned, mut leaving, mut begun) = (false, Vec::new(), None);
        for (place, was_ready) in before {
            // Whatever it was promised was for what it was.
            if was_ready {
                leaving.push(place);
            }
            if is_ready(job, &job.groups[place]) {
                if self.index.set_ready(job, place, true) && !were_listed {
                    begun = Some(job.queue);
                }
                turned |= !was_ready;
            }
        }
        for place in leaving {
            self.set_promise(queue, (id, place as u32), None, true);
        }
        if let Some(queue) = begun {
            self.end_rest(queue);
        }
        // What has happened to it meanwhile was told to nobody.
        if turned {
            self.wake();
        }
        result
    }

    /// The one way to change a group: keeps counts, ready index and the job's own state true to it.
    pub(crate) fn change_group<R>(
        &mut self,
        id: JobId,
        place: usize,
        change: impl FnOnce(&mut Group) -> R,
    ) -> R {
        let now = self.meta.stamp.elapsed;
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        let was_ready = is_ready(job, &job.groups[place]);
        let before_due = job.start_by(place);
        let before = job.groups[place].counts();
        let result = change(&mut job.groups[place]);
        let after = job.groups[place].counts();
        if after.ready > before.ready {
            more_ready(job, place, before.ready == 0, now);
        }
        let due = job.start_by(place);
        if due != before_due {
            self.index.set_wait(id, place, before_due, false);
            self.index.set_wait(id, place, due, true);
        }
        let group = &mut job.groups[place];
        let ended = (after.succeeded + after.failed).saturating_sub(before.succeeded + before.failed);
        let settled = after.unfinished() == 0;
        let turned = std::mem::replace(&mut group.settled, settled) != settled;
        move_counts(&mut job.counts, &before, &after);
        let ready = is_ready(job, &job.groups[place]);
        let begun = ready != was_ready && self.index.set_ready(job, place, ready);
        let of = job.queue;
        let mut late = None;
        let queue = self.queues.get_mut(&of).expect("a job's queue exists");
        let was_full = queue.room() == 0;
        move_counts(&mut queue.counts, &before, &after);
        let begun = begun || (was_full && queue.room() > 0);
        if ended > 0
            && let Some(deadline) = job.task_spec(place).timing.as_ref().and_then(|timing| timing.deadline)
        {
            let is_late = now > job.submitted.elapsed.plus(deadline);
            let count = if is_late { &mut queue.deadlines_missed } else { &mut queue.deadlines_met };
            *count += ended;
            late = queue.owner.clone().map(|set| (set, is_late));
        }
        let promised = was_ready && !ready && !queue.promises.is_empty();
        let has_room = queue.running_max.is_some() && after.running < before.running;
        if has_room || (ready && after.ready > before.ready) {
            self.wake();
        }
        if promised {
            self.set_promise(of, (id, place as u32), None, true);
        }
        if begun {
            self.end_rest(of);
        }
        if let Some((set, is_late)) = late {
            crate::apply::periodic::count(self, &set, id, is_late);
        }
        if turned {
            self.settle(id, place, settled);
        }
        self.refresh_job(id);
        result
    }

    /// From now on the queue takes turns again.
    pub(crate) fn end_rest(&mut self, id: QueueId) {
        let turn = self.turn();
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.end_rest(turn);
        }
    }

    fn settle(&mut self, id: JobId, place: usize, settled: bool) {
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        if settled {
            job.settled += 1;
            if !job.groups[place].dependents.is_empty() || !job.groups[place].each_dependents.is_empty() {
                self.chores.push_back(Chore::Settled { job: id, group: place as u32, next: 0 });
            }
        } else {
            job.settled -= 1;
        }
    }

    /// Brings the job's own state up to its tasks', and says so.
    pub(crate) fn refresh_job(&mut self, id: JobId) {
        let stamp = self.meta.stamp;
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        let state = job_state(job);
        if state == job.state {
            return;
        }
        let (was_final, is_final) = (job.state.is_final(), state.is_final());
        job.state = state;
        let queue = self.queues.get_mut(&job.queue).expect("a job's queue exists");
        match (was_final, is_final) {
            (false, true) => {
                job.finished = Some(stamp);
                queue.unfinished_jobs -= 1;
                self.meta.unfinished_jobs -= 1;
                self.index.finished.insert((stamp.elapsed, id));
                if !job.dependents.is_empty() {
                    self.chores.push_back(Chore::JobFinished { job: id, next: 0 });
                }
            }
            (true, false) => {
                if let Some(finished) = job.finished.take() {
                    self.index.finished.remove(&(finished.elapsed, id));
                }
                queue.unfinished_jobs += 1;
                self.meta.unfinished_jobs += 1;
            }
            (true, true) | (false, false) => {}
        }
        self.index.set_reopening(job);
        self.event(Event::Job { job: id, state });
    }
}

/// A limit on waiting ends nothing that has not waited for so long itself: it counts from the last to come.
fn more_ready(job: &mut Job, place: usize, is_first: bool, now: Elapsed) {
    let counts_anew = is_first || job.start_within(place).is_some();
    let group = &mut job.groups[place];
    if counts_anew {
        group.ready_since = now;
    }
    if is_first {
        group.passed_since = now;
    }
}

fn move_counts(counts: &mut Counts, before: &Counts, after: &Counts) {
    let change = |total: &mut u64, before: u64, after: u64| *total = *total + after - before;
    change(&mut counts.blocked, before.blocked, after.blocked);
    change(&mut counts.delayed, before.delayed, after.delayed);
    change(&mut counts.ready, before.ready, after.ready);
    change(&mut counts.running, before.running, after.running);
    change(&mut counts.succeeded, before.succeeded, after.succeeded);
    change(&mut counts.failed, before.failed, after.failed);
    change(&mut counts.cancelled, before.cancelled, after.cancelled);
    change(&mut counts.skipped, before.skipped, after.skipped);
}

/// The state of a job as its tasks have it.
fn job_state(job: &Job) -> JobState {
    let counts = &job.counts;
    if counts.unfinished() == 0 {
        return match (counts.failed + counts.skipped > 0, counts.cancelled > 0) {
            // A job that was cancelled as a whole is that, whatever had failed before.
            (_, true) if job.cancelled || counts.failed == 0 => JobState::Cancelled,
            (true, _) => JobState::Failed,
            (false, _) => JobState::Succeeded,
        };
    }
    let begun = counts.running + counts.finished() > 0;
    match (job.paused, begun) {
        (true, _) => JobState::Paused,
        (false, true) => JobState::Running,
        (false, false) => JobState::Waiting,
    }
}
