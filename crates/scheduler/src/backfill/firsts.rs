//! Promises to the first tasks of queues with EASY, each beside those to the first tasks of other queues.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use machine::eligible::{accepts, still_waits};
use machine::state::queues::QueueId;
use machine::state::sessions::Class;
use machine::{Allocation, Preemption, Promise, Reservation};
use model::policy::Backfill;
use model::{ClassId, Elapsed, Resources, SessionId};

use super::profile::Profile;
use super::{Book, Whose, end, gangs};
use crate::place::Round;
use crate::queues::Line;

/// What is promised to the first task of a queue, or to members of a gang that is first, on one session.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Guard {
    pub whose: Whose,
    pub at: Elapsed,
    /// When it should have ended, as far as anybody knows.
    pub over: Elapsed,
    pub asked: Resources,
    /// What is free then beyond that, were nobody else promised anything.
    pub spare: Resources,
    /// Since when it is less, as long as this runs, and the least that it is: something is booked by then.
    pub later: Option<(Elapsed, Resources)>,
}

impl Guard {
    /// Whether it does not matter to this one, beside others of its session, who takes so much from now on until `end`.
    fn allows<'g>(
        &'g self,
        others: impl Iterator<Item = &'g Guard>,
        asked: &Resources,
        end: Elapsed,
    ) -> bool {
        if end <= self.at {
            return true;
        }
        let mut need = Cow::Borrowed(asked);
        let others = others.filter(|other| other.whose != self.whose && other.runs_at(self.at));
        others.for_each(|other| need.to_mut().add(&other.asked));
        let spare =
            self.later.as_ref().filter(|(from, _)| end > *from).map_or(&self.spare, |(_, least)| least);
        spare.covers(&need)
    }

    fn runs_at(&self, at: Elapsed) -> bool {
        (self.at..self.over).contains(&at)
    }

    pub fn length(&self) -> Option<Duration> {
        (self.over < Elapsed::MAX).then(|| self.over.since(self.at))
    }
}

/// One of the first tasks: when it is to start as far as it is known, its queue, whose it is, what it asks for.
type First = (Elapsed, Option<QueueId>, Whose, ClassId);

impl Book {
    /// Whether it would delay none of the first tasks of other queues, or of its own that it comes after, if there were room.
    pub fn allows_beside_firsts(
        &self,
        session: SessionId,
        whose: Whose,
        asked: &Resources,
        end: Elapsed,
    ) -> bool {
        let Some(guards) = self.guards.get(&session) else { return true };
        let counts = |guard: &&Guard| guard.whose != whose && Some(guard.whose) != self.ahead;
        let mut counted = guards.iter().filter(counts);
        counted.all(|guard| guard.allows(guards.iter().filter(counts), asked, end))
    }

    /// The first task of the queue is promised nothing where somebody who goes before it in its queue starts in its way.
    pub(super) fn leave_first_behind(
        &mut self,
        session: SessionId,
        whose: Whose,
        asked: &Resources,
        end: Elapsed,
    ) {
        let (Some(first), Some(guards)) = (self.ahead, self.guards.get(&session)) else { return };
        let others = || guards.iter().filter(|guard| guard.whose != whose);
        let mut own = guards.iter().filter(|guard| guard.whose == first && first != whose);
        if own.any(|guard| !guard.allows(others(), asked, end)) {
            self.withdraw_guard(first);
            self.left_behind = Some(first);
        }
    }

    /// When the first task of a queue is to start.
    pub(super) fn promised_at(&self, whose: Whose) -> Option<Elapsed> {
        self.guards.values().flatten().find(|guard| guard.whose == whose).map(|guard| guard.at)
    }

    /// On one session, beside those that are there.
    pub(super) fn guard(&mut self, session: SessionId, guard: Guard) {
        let guards = self.guards.entry(session).or_default();
        // In one order, whoever was promised something first.
        let place = guards.partition_point(|other| other.whose < guard.whose);
        guards.insert(place, guard);
    }

    /// What is held for it is for others in this round; what the state says that it was promised stands. Whether
    /// it is a first task.
    pub(super) fn hold_nothing(&mut self, whose: Whose) -> bool {
        let is_first = self.firsts.remove(&whose).is_some();
        if is_first {
            self.made.remove(&whose);
            self.refused.remove(&whose);
            self.withdraw_guard(whose);
        }
        is_first
    }

    pub(super) fn withdraw_guard(&mut self, whose: Whose) {
        self.guards.values_mut().for_each(|guards| guards.retain(|guard| guard.whose != whose));
    }

    /// What the others are promised on the session.
    pub(super) fn guards_beside(&self, session: SessionId, whose: Whose) -> impl Iterator<Item = &Guard> {
        let guards = self.guards.get(&session).into_iter().flatten();
        guards.filter(move |guard| guard.whose != whose)
    }

    /// So much less is left beyond what the first ones of queues need that start before `end`.
    pub fn leave_to_firsts(&mut self, session: SessionId, asked: &Resources, end: Elapsed) {
        let guards = self.guards.get_mut(&session).into_iter().flatten();
        for guard in guards.filter(|guard| guard.at < end) {
            guard.spare.subtract(asked);
            guard
                .later
                .iter_mut()
                .filter(|(from, _)| *from < end)
                .for_each(|(_, least)| least.subtract(asked));
        }
    }
}

impl Round<'_> {
    /// The first of what waits of a queue, if it was promised a start, or the one that was: what comes before it may start at
    /// once, and delay nobody.
    pub(super) fn promised_first(&self, line: &Line<'_>) -> Option<(Whose, ClassId)> {
        let state = self.state;
        let is_known = |whose: &Whose| self.book.known.contains_key(whose);
        let head =
            line.first_head(|class| self.is_within(line, class), |key| self.has_more((key.job, key.group)));
        let head =
            head.map(|(class, key)| ((key.job, key.group), class)).filter(|(whose, _)| is_known(whose));
        head.or_else(|| {
            let of_queue = state.queue(line.queue).into_iter().flat_map(|queue| queue.promises.keys());
            let all = of_queue.chain(self.taken.promised.keys()).copied();
            let waits = |whose: &Whose| {
                let group = state.job(whose.0).and_then(|job| job.groups.get(whose.1 as usize));
                let first = group.and_then(|group| Some(group.first + group.ready.first()?.first));
                is_known(whose)
                    && self.queue_of(*whose) == Some(line.queue)
                    && first.is_some_and(|task| still_waits(state, whose.0, task))
                    && self.has_more(*whose)
            };
            let classes = all.filter(waits).filter_map(|whose| Some((whose, self.class_id_of(whose)?)));
            let within = classes.filter(|(_, class)| self.is_within(line, *class));
            within.min_by_key(|(whose, _)| (self.book.place(*whose).map(|promise| promise.at), *whose))
        })
    }

    /// Whether any of the group waits that no plan starts.
    fn has_more(&self, (id, group): Whose) -> bool {
        let group = self.state.job(id).and_then(|job| job.groups.get(group as usize));
        group.is_some_and(|group| match self.taken.tasks.get(&id) {
            Some(taken) if group.gang => !taken.touches(group.numbers()),
            Some(_) => self.next_tasks(id, group, 1).is_some(),
            None => true,
        })
    }

    /// The head of the line is looked at from now on: as long as nothing of it waits, it goes before the first task of its own
    /// queue. Whom heads of another queue have delayed is promised another start before that, beside those of the other queues.
    pub fn look_before_first(&mut self, line: &Line<'_>) {
        let left = self.book.left_behind.filter(|first| self.queue_of(*first) != Some(line.queue));
        if let Some(first) = left {
            self.book.left_behind = None;
            let class = self.book.firsts.get(&first).copied();
            let row = class.and_then(|class| self.state.class(class));
            class.zip(row).into_iter().for_each(|(class, row)| self.promise_first(class, row, first));
        }
        let goes_before = line.backfill == Backfill::Easy && !line.is_waiting();
        let of_queue = |whose: &&Whose| self.queue_of(**whose) == Some(line.queue);
        self.book.ahead = self.book.firsts.keys().filter(|_| goes_before).find(of_queue).copied();
    }

    pub fn look_at_all_firsts(&mut self) {
        self.book.ahead = None;
    }

    /// Has what the first of a queue was promised before stand as it was.
    pub(super) fn guard_again(&mut self, row: &Class, whose: Whose, promise: &Promise) {
        let mut seats: BTreeMap<SessionId, u32> = BTreeMap::new();
        promise.sessions().for_each(|session| *seats.entry(session).or_default() += 1);
        // What an earlier version promised a gang is on one worker only.
        if seats.values().sum::<u32>() != row.key.gang.max(1) {
            return;
        }
        let (at, over) = (promise.at, end(promise.at, self.estimate(whose.0, whose.1)));
        for (session, members) in seats {
            let asked = gangs::times(&row.key.resources, members);
            let spare = Resources::default();
            self.book.guard(session, Guard { whose, at, over, asked, spare, later: None });
        }
    }

    /// Each of the first tasks is promised the earliest start that delays none of the others. What was promised moves, for who is
    /// to start first first, to when it can be had on the same workers by now, and is given up where it cannot. Then all look
    /// for an earlier one, and who has no promise last, in the order of the queues and not in that of their turns, which is
    /// another in the next round.
    pub(super) fn renew_firsts(&mut self, renew: impl Fn(&mut Self, ClassId, &Class, Whose)) {
        let (state, book) = (self.state, &self.book);
        let queue = |whose: Whose| state.job(whose.0).map(|job| job.queue);
        let firsts = book.firsts.iter().map(|(whose, class)| {
            let at = book.promised_at(*whose).or_else(|| book.place(*whose).map(|promise| promise.at));
            (at.unwrap_or(Elapsed::MAX), queue(*whose), *whose, *class)
        });
        let mut firsts: Vec<First> = firsts.collect();
        firsts.sort();
        if firsts.len() > 1 {
            self.keep_firsts(&firsts);
        } else {
            self.book.guards.clear();
        }
        for (_, _, whose, class) in firsts {
            if let Some(row) = state.class(class) {
                renew(self, class, row, whose);
            }
        }
    }

    fn keep_firsts(&mut self, firsts: &[First]) {
        let mut known: BTreeMap<Whose, Vec<(SessionId, Guard)>> = BTreeMap::new();
        for (session, guards) in std::mem::take(&mut self.book.guards) {
            guards.into_iter().for_each(|guard| known.entry(guard.whose).or_default().push((session, guard)));
        }
        for (_, _, whose, class) in firsts {
            let Some(places) = known.remove(whose) else { continue };
            let Some(row) = self.state.class(*class) else { continue };
            let length = self.estimate(whose.0, whose.1);
            let Some(at) = self.earliest_there(row, &places, length) else { continue };
            for (session, guard) in places {
                self.book.guard(session, Guard { at, over: end(at, length), ..guard });
            }
        }
    }

    /// When all of these places can be had, beside what is promised there, and not sooner than they were.
    fn earliest_there(
        &self,
        row: &Class,
        places: &[(SessionId, Guard)],
        length: Option<Duration>,
    ) -> Option<Elapsed> {
        let profile = |(session, guard): &(SessionId, Guard)| {
            let own = self.state.session(*session)?;
            accepts(self.state, own, &row.key).ok()?;
            self.profile_beside(*session, guard.whose)
        };
        let profiles: Option<Vec<Profile>> = places.iter().map(profile).collect();
        let (profiles, mut at) = (profiles?, places.first()?.1.at.max(self.now()));
        loop {
            let before = at;
            for (profile, (_, guard)) in profiles.iter().zip(places) {
                at = profile.earliest(at, &guard.asked, length)?;
            }
            if at == before {
                return Some(at);
            }
        }
    }

    /// What is free there beside what the first of other queues are promised. `None`: nothing, as far as anybody knows.
    pub(super) fn profile_beside(&self, session: SessionId, whose: Whose) -> Option<Profile> {
        let mut profile = self.fresh_profile(session, self.rooms.get(&session)?.free.clone());
        if self.drains_for_another(session, whose) {
            self.leave_to_drained(session, &mut profile)?;
        }
        for guard in self.book.guards_beside(session, whose) {
            profile.block(guard.at, &guard.asked, guard.length());
        }
        Some(profile)
    }

    /// Nobody else starts there before the task that it drains for has begun, which takes what it asks for.
    fn leave_to_drained(&self, session: SessionId, profile: &mut Profile) -> Option<()> {
        let (id, task) = self.reserved.get(&session)?;
        let (place, group) = self.state.job(*id)?.group_of(*task)?;
        // Members of a gang wait for other workers too.
        let row = self.state.class(group.class).filter(|row| row.key.gang == 0)?;
        let (asked, length, now) = (&row.key.resources, self.estimate(*id, place as u32), self.now());
        let gives_way = self.free_what_gives_way(session, profile);
        let mut at = profile.earliest(now, asked, length)?;
        let next = profile.next_after(now);
        if at <= now && !gives_way {
            at = profile.earliest(next?, asked, length)?;
        }
        // It has not begun yet: something ends first.
        profile.close_until(if at <= now { next? } else { at });
        profile.block(at, asked, length);
        Some(())
    }

    /// Whether anything gives way there: it ends soon, whatever was expected.
    fn free_what_gives_way(&self, session: SessionId, profile: &mut Profile) -> bool {
        let stops = |row: &&Allocation| {
            let in_plan = |of: &Preemption| (of.session, of.seq) == (session, row.seq);
            row.preempted || self.plan.preemptions.iter().any(in_plan)
        };
        let rows = self.state.session(session).into_iter().flat_map(|own| own.allocations.values());
        let leaving: Vec<&Allocation> = rows.filter(stops).collect();
        for row in &leaving {
            let left = row.expected_end(self.now()).map(|end| end.since(self.now()));
            profile.release(self.now(), &row.resources, left);
        }
        !leaving.is_empty()
    }

    /// What stands so for so long, where something is booked there, or promised to others.
    pub(super) fn guard_beside(
        &self,
        whose: Whose,
        (session, at): (SessionId, Elapsed),
        length: Option<Duration>,
        asked: Resources,
    ) -> Option<Guard> {
        // Whom the session drains for counts as nobody: only who goes before that one starts there before it.
        let profile = self.fresh_profile(session, self.rooms.get(&session)?.free.clone());
        let mut spare = profile.free_at(at).clone();
        let mut later = profile.less_after(at, length);
        spare.subtract(&asked);
        later.iter_mut().for_each(|(_, least)| least.subtract(&asked));
        Some(Guard { whose, at, over: end(at, length), asked, spare, later })
    }

    /// Whether others than those who run there have anything of it, now or later.
    pub(super) fn is_shared(&self, session: SessionId, whose: Whose) -> bool {
        self.book.guards_beside(session, whose).next().is_some()
            || self.booked.contains_key(&session)
            || self.drains_for_another(session, whose)
    }

    /// Whether it matters to anybody's promise that the session drains: there is one, or someone else whom the session takes has
    /// found none anywhere.
    pub fn puts_off(&self, of: &Reservation) -> bool {
        let (state, session) = (self.state, of.session);
        let takes = |class: ClassId| {
            let (own, row) = (state.session(session), state.class(class));
            own.zip(row).is_some_and(|(own, row)| accepts(state, own, &row.key).is_ok())
        };
        let waits = |(whose, class): (&Whose, &ClassId)| {
            whose.0 != of.job && self.book.promised_at(*whose).is_none() && takes(*class)
        };
        self.book.profiles.contains_key(&session)
            || self.book.guards.get(&session).is_some_and(|guards| !guards.is_empty())
            || self.book.firsts.iter().any(waits)
    }

    /// When the class will have room on the session without delaying others who were promised something there, and, where
    /// nothing is booked or promised there, what is free then beyond it.
    pub(super) fn shadow(
        &self,
        session: SessionId,
        row: &Class,
        whose: Whose,
    ) -> Option<(Elapsed, Option<Resources>)> {
        let (now, asked, room) = (self.now(), &row.key.resources, self.rooms.get(&session)?);
        // Where there is enough, but not of single units, it does not start before something ends.
        let (mut free, lacks_units) = (room.free.clone(), room.fit(asked).is_none());
        if self.is_shared(session, whose) {
            let (profile, length) = (self.profile_beside(session, whose)?, self.estimate(whose.0, whose.1));
            let mut at = profile.earliest(now, asked, length)?;
            // What is free now does not do where only what ends by then leaves what is booked.
            if at <= now && (lacks_units || !self.is_unbooked(session, whose.0, asked, length)) {
                at = profile.earliest(profile.next_after(now)?, asked, length)?;
            }
            return Some((at, None));
        }
        let mut at = now;
        let mut ends = Ends::of(self, session);
        while !free.covers(asked) || (at <= now && lacks_units) {
            at = ends.give_back(&mut free)?;
        }
        // All that ends at one time is free by then.
        while ends.next_at().is_some_and(|next| next <= at) {
            ends.give_back(&mut free);
        }
        free.subtract(asked);
        Some((at, Some(free)))
    }

    /// Promises the first task of a queue, or a gang that is first, the earliest start there is. `None`: by the estimates there
    /// is none.
    pub(super) fn guard(&mut self, class: ClassId, row: &Class, whose: Whose) -> Option<Promise> {
        if row.key.gang > 0 {
            return self.guard_gang(class, row, whose);
        }
        let shadows = self.takers_of(class, row).filter_map(|session| {
            let (at, spare) = self.shadow(session, row, whose)?;
            Some((at, session, spare))
        });
        // The first of equals: sessions come in the order in which they are chosen.
        let best = shadows.reduce(|best, other| if other.0 < best.0 { other } else { best });
        self.book.withdraw_guard(whose);
        let (at, session, spare) = best?;
        let (asked, length) = (row.key.resources.clone(), self.estimate(whose.0, whose.1));
        let guard = match spare {
            Some(spare) => Guard { whose, at, over: end(at, length), asked, spare, later: None },
            None => self.guard_beside(whose, (session, at), length, asked)?,
        };
        self.book.guard(session, guard);
        Some(Promise::new(session, at))
    }
}

/// What ends on a session, soonest first: overdue work, work in flight and the rest, of which mostly little is asked for.
struct Ends<'r, I: Iterator> {
    few: std::iter::Peekable<std::vec::IntoIter<(Elapsed, &'r Resources)>>,
    rest: std::iter::Peekable<I>,
}

impl<'r> Ends<'r, Box<dyn Iterator<Item = (Elapsed, &'r Resources)> + 'r>> {
    fn of(round: &'r Round<'_>, session: SessionId) -> Self {
        let now = round.now();
        let running = || round.state.ends(session).filter(move |row| round.taken.runs_on(session, row.seq));
        let overdue = running().take_while(|row| row.expected <= now);
        let overdue = overdue.filter_map(|row| Some((row.expected_end(now)?, &row.resources)));
        let placed = round.book.placed.get(&session).into_iter().flatten();
        let mut few: Vec<_> = overdue.chain(placed.map(|(at, resources)| (*at, resources))).collect();
        few.sort_by_key(|(at, _)| *at);
        let rest = running().skip_while(move |row| row.expected <= now);
        let rest: Box<dyn Iterator<Item = _>> = Box::new(rest.map(|row| (row.expected, &row.resources)));
        Ends { few: few.into_iter().peekable(), rest: rest.peekable() }
    }
}

impl<'r, I: Iterator<Item = (Elapsed, &'r Resources)>> Ends<'r, I> {
    fn next_at(&mut self) -> Option<Elapsed> {
        let (few, rest) = (self.few.peek().map(|end| end.0), self.rest.peek().map(|end| end.0));
        few.into_iter().chain(rest).min()
    }

    /// What ends next is free then.
    fn give_back(&mut self, free: &mut Resources) -> Option<Elapsed> {
        let at = self.next_at()?;
        let is_few = self.few.peek().is_some_and(|end| end.0 == at);
        let (_, resources) = if is_few { self.few.next() } else { self.rest.next() }?;
        free.add(resources);
        Some(at)
    }
}
