//! The replicated state: one plain value. Rows are in tables that share pages with their copies; indexes are derived.

pub mod bookings;
pub mod deficit;
mod form;
mod groups;
pub mod index;
pub mod jobs;
pub mod periodic;
pub mod queues;
pub mod rank;
pub mod rare;
pub mod requests;
pub mod sessions;
pub mod users;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use model::policy::{Backfill, Order};
use model::settings::Limits;
use model::views::Counts;
use model::{Actor, ClassId, Elapsed, JobId, LogIndex, NodeId, Resources, SessionId, Settings, Timestamp};
use serde::{Deserialize, Serialize};

use crate::chores::Chore;
use crate::eligible::patience_ends;
use crate::paged::{Inline, Paged};
use crate::state::bookings::Booking;
use crate::state::deficit::Turn;
use crate::state::index::{Index, ReadyKey, ReadyList};
use crate::state::jobs::{Job, Tombstone};
use crate::state::periodic::PeriodicSet;
use crate::state::queues::{Promise, Queue, QueueId};
use crate::state::rank::Learnt;
use crate::state::requests::Requests;
use crate::state::sessions::{Allocation, Class, ClassKey, Session, Worker};
use crate::state::users::{EVERYBODY, Moment, UserId};
use crate::{Effect, Event, Stamp};

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
    pub(crate) tombstones: Paged<Tombstone, Inline<Tombstone>>,
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

    /// Tasks of the queue that give way and have not ended.
    pub fn leaving(&self, queue: QueueId) -> u64 {
        let all = self.index.leaving.range((queue, SessionId(0), 0)..=(queue, SessionId(u64::MAX), u64::MAX));
        let rows = all.filter_map(|(_, session, seq)| self.session(*session)?.allocations.get(seq));
        rows.map(|row| u64::from(row.tasks.len)).sum()
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
        let at = promise.as_ref().map(|promise| promise.at);
        let before = match promise {
            Some(promise) => queue.promises.insert(whose, promise),
            None => queue.promises.remove(&whose),
        };
        if let Some(before) = before {
            self.index.starts.remove(&(before.at, whose.0, whose.1));
            queue.loosened |= leaves && queue.policy.backfill == Backfill::Conservative;
        }
        if let Some(at) = at {
            self.index.starts.insert((at, whose.0, whose.1));
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
}
