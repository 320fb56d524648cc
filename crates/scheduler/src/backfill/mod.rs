//! Queues that let a task go before those that came earlier only where that delays nobody who was promised a start.
//!
//! EASY: the first task that finds no room is promised the earliest time at which, by the estimates of what runs, enough is free
//! (its shadow). What comes after it starts if it ends before that, or fits in what is free then beyond the first one's need.
//! Conservative: every task is promised a start when it is first seen; when something ends early, each in order is moved to
//! the earliest time that leaves the others where they are, so never to a later one while estimates hold.
//!
//! Promises are kept in the state, by a plan like placements, so that they outlive the leader. Units that can be told apart are
//! counted as amounts here: whether single ones are free is seen when the time has come.

mod firsts;
mod gangs;
mod places;
mod profile;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use firsts::Guard;

use machine::eligible::may_use;
use machine::level::LEVEL_CUT;
use machine::state::index::ReadyKey;
use machine::state::queues::QueueId;
use machine::state::sessions::Class;
use machine::{Group, Promise, Promised, State};
use model::policy::Backfill;
use model::{ClassId, Elapsed, JobId, Resources, SessionId};
use profile::Profile;

use crate::place::Round;
use crate::queues::Line;

/// Whose promise.
pub(crate) type Whose = (JobId, u32);

/// What is promised on one session.
pub(crate) struct Promises(Option<Vec<Guard>>, Option<Profile>);

/// The promises of one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    /// As the state has them, with what plans in flight change.
    known: BTreeMap<Whose, Promise>,
    /// As this round makes them anew.
    made: BTreeMap<Whose, Option<Promise>>,
    /// First tasks that wait, each of a queue, whether or not there is a time by which they start.
    firsts: BTreeMap<Whose, ClassId>,
    /// Of those, whoever was refused a start since it was seen that its time has come, or that it has none.
    refused: BTreeSet<Whose>,
    /// Whoever comes before this one in its own queue may delay it: the first task of the queue whose head is looked at, while
    /// nothing of it waits.
    ahead: Option<Whose>,
    /// A first task that somebody of its own queue has delayed, and that is promised nothing since.
    left_behind: Option<Whose>,
    /// Of those for which there is, by session.
    guards: BTreeMap<SessionId, Vec<Guard>>,
    /// The same, as they were before all were looked at the last time.
    seen: BTreeMap<SessionId, Vec<Guard>>,
    /// Of sessions where somebody has a place in time.
    profiles: BTreeMap<SessionId, Profile>,
    /// Those who have got a place in time in this round, and keep it until the next.
    moved: BTreeSet<Whose>,
    /// A place in time is free that others may have wanted.
    has_left: bool,
    /// Whether promises remember what was promised first.
    keeps_first: bool,
    /// When what was placed and not applied yet should end.
    placed: BTreeMap<SessionId, Vec<(Elapsed, Resources)>>,
}

pub(crate) fn end(now: Elapsed, estimate: Option<Duration>) -> Elapsed {
    estimate.map_or(Elapsed::MAX, |estimate| now.plus(estimate))
}

impl Book {
    /// Empty where no queue promises anything.
    pub fn of(state: &State, in_flight: &BTreeMap<Whose, Option<Promise>>) -> Book {
        let mut book = Book { keeps_first: state.level() >= LEVEL_CUT, ..Book::default() };
        for queue in state.queues().filter(|queue| queue.policy.promises() && !queue.paused) {
            book.known.extend(queue.promises.iter().map(|(whose, promise)| (*whose, promise.clone())));
        }
        for (whose, promise) in in_flight {
            match promise {
                Some(promise) => book.known.insert(*whose, promise.clone()),
                None => book.known.remove(whose),
            };
        }
        book
    }

    /// What a plan in flight, or this one, starts or has go on should end then, and give this back.
    pub fn note_end(&mut self, session: SessionId, end: Elapsed, resources: Resources) {
        self.placed.entry(session).or_default().push((end, resources));
    }

    /// What is promised on the session, taken away for now.
    pub fn set_aside(&mut self, session: SessionId) -> Promises {
        Promises(self.guards.remove(&session), self.profiles.remove(&session))
    }

    pub fn put_back(&mut self, session: SessionId, Promises(guards, profile): Promises) {
        self.guards.extend(guards.map(|guards| (session, guards)));
        self.profiles.extend(profile.map(|profile| (session, profile)));
    }

    /// Whether it is promised a start, and none that it was promised before has come in vain: it could be put off again and
    /// again, by other queues or by what takes longer than it should.
    pub fn awaits_start(&self, whose: Whose, now: Elapsed) -> bool {
        let Some(place) = self.place(whose).filter(|place| place.at > now) else { return false };
        if self.keeps_first {
            return self.first(whose, place) > now;
        }
        let may_be_put_off = self.firsts.len() > 1;
        let is_ahead = |known: &Promise| known.at > now && (place.at <= known.at || !may_be_put_off);
        self.known.get(&whose).is_none_or(is_ahead)
    }

    /// Whether anybody has a promise by now.
    pub fn has_promised(&self) -> bool {
        let mut kept = self.known.keys().filter(|whose| !self.made.contains_key(whose));
        kept.next().is_some() || !self.guards.is_empty() || self.made.values().any(Option::is_some)
    }

    /// Whether nobody was looked at who was, or could be, promised anything on any session.
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty() && self.profiles.is_empty()
    }

    /// The task starts now on the session.
    fn take(
        &mut self,
        session: SessionId,
        whose: Whose,
        asked: &Resources,
        now: Elapsed,
        estimate: Option<Duration>,
    ) {
        let end = end(now, estimate);
        self.leave_to_firsts(session, asked, end);
        self.withdraw_guard(whose);
        if let Some(profile) = self.profiles.get_mut(&session) {
            profile.block(now, asked, estimate);
        }
        self.firsts.remove(&whose);
        self.refused.remove(&whose);
        // Applying the placement forgets it.
        self.known.remove(&whose);
        self.made.remove(&whose);
    }

    /// Where it has its place in time now. One that could not be kept has none.
    fn place(&self, whose: Whose) -> Option<&Promise> {
        self.made.get(&whose).map_or_else(|| self.known.get(&whose), Option::as_ref)
    }

    /// The soonest start that it was promised and that was not kept, or that of this promise.
    fn first(&self, whose: Whose, promise: &Promise) -> Elapsed {
        let known = self.known.get(&whose).map(Promise::first);
        promise.first.or(known).map_or(promise.at, |first| first.min(promise.at))
    }

    /// What of the promises is new.
    pub fn changes(mut self) -> Vec<Promised> {
        let mut made = std::mem::take(&mut self.made);
        for (whose, promise) in &mut made {
            let Some(promise) = promise else { continue };
            let first = self.first(*whose, promise);
            promise.first = (self.keeps_first && first < promise.at).then_some(first);
        }
        let changed = made.into_iter().filter(|(whose, promise)| self.known.get(whose) != promise.as_ref());
        changed.map(|((job, group), promise)| Promised { job, group, promise }).collect()
    }
}

impl<'a> Round<'a> {
    /// The task starts now on the session.
    pub fn take_promised(&mut self, session: SessionId, whose: Whose, asked: &Resources) {
        let (now, estimate) = (self.now(), self.estimate(whose.0, whose.1));
        self.book.leave_first_behind(session, whose, asked, end(now, estimate));
        self.book.take(session, whose, asked, now, estimate);
        if let Some(queue) = self.queue_of(whose).filter(|_| estimate.is_some()) {
            let back = self.given_back(session, queue, end(now, estimate));
            self.book.note_end(session, back, asked.clone());
        }
    }

    pub fn now(&self) -> Elapsed {
        self.state.stamp().elapsed
    }

    pub fn estimate(&self, job: JobId, group: u32) -> Option<Duration> {
        self.state.job(job).and_then(|job| self.state.estimate_of(job, group as usize))
    }

    /// Has what was promised before, and still can be kept, stand before anything is placed.
    pub fn stand_by_promises(&mut self, lines: &[Line<'_>]) {
        if self.book.known.is_empty() {
            return;
        }
        let is_kept = |whose: &Whose| self.backfill_of(whose.0) == Some(Backfill::Conservative);
        let kept = self.book.known.iter().filter(|(whose, _)| is_kept(whose));
        let mut kept: Vec<(Elapsed, Whose, Promise)> =
            kept.map(|(whose, promise)| (promise.at, *whose, promise.clone())).collect();
        kept.sort_by_key(|(at, whose, _)| (*at, *whose));
        for (_, whose, promise) in kept {
            if !self.keep_place(whose, &promise) {
                // Where it cannot be kept for long its turn brings another.
                let slipped = self.slip(whose, &promise);
                self.book.made.insert(whose, slipped);
            }
        }
        for line in lines.iter().filter(|line| line.backfill == Backfill::Easy && line.room > 0) {
            if let Some((whose, class)) = self.promised_first(line)
                && let Some(promise) = self.book.known.get(&whose).cloned()
                && let Some(row) = self.state.class(class)
            {
                self.order_of(class, row);
                self.book.firsts.insert(whose, class);
                self.guard_again(row, whose, &promise);
            }
        }
        // Whose time has come has its room held.
        self.renew_firsts(|round, class, row, whose| drop(round.guard(class, row, whose)));
    }

    /// Whether others than these tasks have what becomes free there.
    pub(super) fn drains_for_another(&self, session: SessionId, (id, group): Whose) -> bool {
        let Some(kept) = self.reserved.get(&session) else { return false };
        let tasks = self.state.job(id).and_then(|job| job.groups.get(group as usize)).map(Group::numbers);
        tasks.is_some_and(|tasks| !may_use(self.state, *kept, id, tasks))
    }

    pub(super) fn queue_of(&self, (job, _): Whose) -> Option<QueueId> {
        self.state.job(job).map(|job| job.queue)
    }

    fn class_of(&self, whose: Whose) -> Option<&'a Class> {
        self.class_id_of(whose).and_then(|class| self.state.class(class))
    }

    fn class_id_of(&self, (job, group): Whose) -> Option<ClassId> {
        self.state.job(job)?.groups.get(group as usize).map(|group| group.class)
    }

    fn backfill_of(&self, job: JobId) -> Option<Backfill> {
        let job = self.state.job(job)?;
        self.state.queue(job.queue).map(|queue| queue.policy.backfill)
    }

    /// Made at its first use; none of a session that takes nothing.
    fn profile(&mut self, session: SessionId) -> Option<&mut Profile> {
        if !self.book.profiles.contains_key(&session) {
            let free = self.rooms.get(&session)?.free.clone();
            let profile = self.fresh_profile(session, free);
            self.book.profiles.insert(session, profile);
        }
        self.book.profiles.get_mut(&session)
    }

    /// What will be free there. What is booked is not: a queue that promises has no booking.
    fn fresh_profile(&self, session: SessionId, free: Resources) -> Profile {
        let mut profile = Profile::new(self.now(), free, self.ends(session));
        for (booked, open) in self.kept(session) {
            profile.block(booked.from, &open, Some(booked.to.since(booked.from)));
        }
        profile
    }

    /// What the session gets back, by time.
    fn ends(&self, session: SessionId) -> Vec<(Elapsed, &Resources)> {
        let now = self.now();
        let running = self.state.ends(session).filter(|row| self.taken.runs_on(session, row.seq));
        let running = running.filter_map(|row| {
            let end = row.expected_end(now)?;
            Some((self.given_back(session, row.queue, end), &row.resources))
        });
        let placed = self.book.placed.get(&session).into_iter().flatten();
        let mut ends: Vec<_> = running.chain(placed.map(|(at, resources)| (*at, resources))).collect();
        ends.sort_by_key(|(at, _)| *at);
        ends
    }

    /// A task finds no room, or would delay somebody. Says what of its queue may still start.
    pub fn wait(&mut self, line: &mut Line<'_>, class: ClassId, row: &Class, key: ReadyKey, delays: bool) {
        match line.backfill {
            Backfill::FirstFit if delays => line.skip(key),
            Backfill::FirstFit => line.pass_over(key),
            Backfill::None => line.close(delays),
            Backfill::Easy | Backfill::Conservative => {
                if line.waits_first() {
                    self.wait_first(line, class, row, (key.job, key.group));
                }
                // Of those that ask for the same others may be short enough; but where there is no room at all, none is.
                if delays { line.skip(key) } else { line.pass_over(key) }
            }
        }
    }

    fn wait_first(&mut self, line: &Line<'_>, class: ClassId, row: &Class, whose: Whose) {
        self.withdraw_others(line, whose);
        self.book.firsts.insert(whose, class);
        let promised = self.book.promised_at(whose);
        if promised.is_none_or(|at| at <= self.now()) {
            self.book.refused.insert(whose);
        }
        if promised.is_none() {
            self.promise_first(class, row, whose);
        }
    }

    fn promise_first(&mut self, class: ClassId, row: &Class, whose: Whose) {
        let promise = self.guard(class, row, whose);
        let is_due = promise.as_ref().is_some_and(|promise| promise.at <= self.now());
        if is_due && !self.book.refused.contains(&whose) {
            // It starts when it is its turn, be it in another round: what it was promised stands until then.
            self.book.made.remove(&whose);
            return;
        }
        if !is_due {
            self.book.refused.remove(&whose);
        } else {
            // One that could start now, but for what others were promised, is promised nothing: nothing is held for it.
            self.book.withdraw_guard(whose);
        }
        self.book.made.insert(whose, promise.filter(|_| !is_due));
    }

    /// Promises the first tasks of all queues once more. Whether that has changed anything.
    pub fn settle_promises(&mut self) -> bool {
        self.renew_firsts(Self::promise_first);
        self.book.guards.retain(|_, guards| !guards.is_empty());
        self.book.guards != self.book.seen
    }

    /// All are looked at from now on with what is promised by now.
    pub fn see_promises(&mut self) {
        if self.taken.promises {
            self.book.guards.retain(|_, guards| !guards.is_empty());
            self.book.seen = self.book.guards.clone();
        }
    }

    /// The queue runs as many as it may: what its first task was promised is free for others until that changes. Whether there
    /// was anything.
    pub fn withdraw_all(&mut self, queue: QueueId) -> bool {
        let firsts = self.let_go(queue);
        self.book.made.extend(firsts.iter().map(|whose| (*whose, None)));
        !firsts.is_empty()
    }

    /// The queue runs as many as it may until what gives way has ended: nothing is held for its first task, whose promise stands.
    /// Whether anything was.
    pub fn hold_nothing(&mut self, queue: QueueId) -> bool {
        !self.let_go(queue).is_empty()
    }

    /// What is held for first tasks of the queue is for others now. Returns whose it was.
    fn let_go(&mut self, queue: QueueId) -> Vec<Whose> {
        let of_queue = |whose: &Whose| self.queue_of(*whose) == Some(queue);
        let mut firsts: Vec<Whose> = self.book.firsts.keys().copied().filter(of_queue).collect();
        firsts.retain(|whose| self.book.hold_nothing(*whose));
        firsts
    }

    /// Somebody else is the first of the queue now.
    fn withdraw_others(&mut self, line: &Line<'_>, whose: Whose) {
        let is_other = |other: &Whose| {
            *other != whose && self.queue_of(*other) == Some(line.queue) && !self.waits_for_ends(line, *other)
        };
        let book = &self.book;
        let others = book.known.keys().chain(book.firsts.keys()).copied();
        let others: BTreeSet<Whose> = others.filter(is_other).collect();
        for other in others {
            self.book.hold_nothing(other);
            self.book.made.insert(other, None);
        }
    }

    /// Promises the first tasks of queues that users share, where by what was given meanwhile they are others. Whether any is.
    pub fn follow_shares(&mut self, lines: &[Line<'_>]) -> bool {
        let mut has_moved = false;
        for line in lines.iter().filter(|line| line.backfill == Backfill::Easy && line.room > 0) {
            let first = line.first_by_share(|class| self.is_within(line, class));
            let Some((key, class)) = first.filter(|_| !line.is_claimed) else { continue };
            let whose = (key.job, key.group);
            if !self.book.firsts.contains_key(&whose)
                && let Some(row) = self.state.class(class)
            {
                self.order_of(class, row);
                self.withdraw_others(line, whose);
                self.book.firsts.insert(whose, class);
                self.promise_first(class, row, whose);
                has_moved = true;
            }
        }
        has_moved
    }

    /// Whether anybody has left a place in time since this was asked last.
    pub fn has_left(&mut self) -> bool {
        std::mem::take(&mut self.book.has_left)
    }
}
