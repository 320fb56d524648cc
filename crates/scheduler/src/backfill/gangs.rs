//! Starts promised to gangs: the earliest time at which all members have room at once, on whichever workers.
//!
//! EASY holds so much on each of those workers from that time on, and looks for earlier ones in every round. Conservative gives each
//! member a place in time on a worker, which it keeps until something that was not counted with becomes free.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use machine::eligible::members_when_idle;
use machine::state::index::ReadyKey;
use machine::state::sessions::{Class, ClassKey};
use machine::{Group, Promise};
use model::validate::GANG_MEMBERS_MAX;
use model::{ClassId, Elapsed, Resources, SessionId};

use super::firsts::Guard;
use super::places::remember_first;
use super::profile::Profile;
use super::{Whose, end};
use crate::place::Round;
use crate::queues::Line;

/// With so much room left of a queue's ceiling no gang can come to want more.
const CEILING_IN_REACH: u64 = 2 * GANG_MEMBERS_MAX as u64;

/// So many members on the session.
type Seats = Vec<(SessionId, u32)>;

impl Round<'_> {
    /// Promises a gang that is the first of its queue the earliest start there is. `None`: by the estimates there is none.
    pub(super) fn guard_gang(&mut self, class: ClassId, row: &Class, whose: Whose) -> Option<Promise> {
        self.book.withdraw_guard(whose);
        let sessions = self.sessions_for(class, row);
        let profile = |session: &SessionId| Some((*session, self.profile_beside(*session, whose)?));
        let profiles: Vec<(SessionId, Profile)> = sessions.iter().filter_map(profile).collect();
        let length = self.estimate(whose.0, whose.1);
        let (at, seats) = self.start_beside(&profiles, self.now(), row, length)?;
        let promise = promise_of(&seats, at);
        for (session, members) in seats {
            let asked = times(&row.key.resources, members);
            let guard = if self.is_shared(session, whose) {
                self.guard_beside(whose, (session, at), length, asked)?
            } else {
                let place = profiles.binary_search_by_key(&session, |(id, _)| *id).expect("seated there");
                let mut spare = profiles[place].1.free_at(at).clone();
                spare.subtract(&asked);
                Guard { whose, at, over: end(at, length), asked, spare, later: None }
            };
            self.book.guard(session, guard);
        }
        Some(promise)
    }

    /// Starts all members now, or gives each the earliest place in time, the same for all, that leaves all others where they are.
    /// Whether they start.
    pub fn conserve_gang(
        &mut self,
        line: &mut Line<'_>,
        class: ClassId,
        row: &Class,
        key: ReadyKey,
        group: &Group,
    ) -> bool {
        let (now, whose) = (self.now(), (key.job, key.group));
        let estimate = self.estimate(key.job, key.group);
        self.order_of(class, row);
        let place = self.book.place(whose).cloned();
        if !self.is_within(line, class) {
            if !self.waits_for_ends(line, whose) {
                // It waits for its queue: what is kept for it would be kept in vain.
                self.give_place_up(whose);
            }
            line.pass_over(key);
            return false;
        }
        if place.as_ref().is_some_and(|place| place.at > now) && !self.may_move(line.queue, whose) {
            line.skip(key);
            return false;
        }
        self.leave_place(whose, &row.key.resources, estimate);
        let sessions = self.open_sessions(class, row, whose);
        let mut start = self.start_of(&sessions, now, row, whose);
        if start.as_ref().is_some_and(|(at, _)| *at <= now) {
            if self.start_gang(class, row, key, group) {
                self.book.has_left |= place.is_some();
                return true;
            }
            // It would delay somebody: not before something else ends.
            let next =
                sessions.iter().filter_map(|session| self.book.profiles.get(session)?.next_after(now)).min();
            start = next.and_then(|next| self.start_of(&sessions, next, row, whose));
        }
        let mut best = start.map(|(at, seats)| self.take_places(at, seats, row, estimate));
        remember_first(&mut best, place.as_ref());
        self.book.has_left |=
            place.as_ref().is_some_and(|place| best.as_ref().is_none_or(|best| !best.is_at(place)));
        let is_known = best.is_some();
        if is_known {
            self.book.moved.insert(whose);
        }
        self.book.made.insert(whose, best);
        if is_known || self.finds_room(class, row, key, group) {
            line.skip(key)
        } else {
            line.pass_over(key)
        }
        false
    }

    /// Those that take the class and drain for nobody else, each with its profile.
    fn open_sessions(&mut self, class: ClassId, row: &Class, whose: Whose) -> Vec<SessionId> {
        let all = self.sessions_for(class, row);
        let is_open = |session: &SessionId| !self.drains_for_another(*session, whose);
        let mut sessions: Vec<SessionId> = all.iter().copied().filter(is_open).collect();
        sessions.retain(|session| self.profile(*session).is_some());
        sessions
    }

    /// The earliest start, not before `from`, beside what was promised to the first of other queues.
    fn start_of(
        &self,
        sessions: &[SessionId],
        from: Elapsed,
        row: &Class,
        whose: Whose,
    ) -> Option<(Elapsed, Seats)> {
        let beside = |session: &SessionId| Some((*session, self.places_beside_firsts(*session, whose)?));
        let profiles: Vec<(SessionId, Cow<'_, Profile>)> = sessions.iter().filter_map(beside).collect();
        self.start_beside(&profiles, from, row, self.estimate(whose.0, whose.1))
    }

    /// The earliest time, not before `from`, at which all members have room for so long, and with whom. Where there is enough now, but
    /// not of single units, something has to end first.
    fn start_beside<P: Borrow<Profile>>(
        &self,
        profiles: &[(SessionId, P)],
        from: Elapsed,
        row: &Class,
        length: Option<Duration>,
    ) -> Option<(Elapsed, Seats)> {
        let most = |session| if from > self.now() { u32::MAX } else { self.members_now(session, row) };
        start_together(profiles, from, &row.key, length, most)
    }

    /// How many members have room on the session now, by the units that each would have; all, where they ask for none.
    fn members_now(&self, session: SessionId, row: &Class) -> u32 {
        let Some(room) = self.rooms.get(&session) else { return 0 };
        let (mut room, mut members) = (room.clone(), 0);
        while members < row.key.gang
            && let Some(units) = room.fit(&row.key.resources)
        {
            if units.is_empty() {
                return u32::MAX;
            }
            room.take(&row.key.resources, &units);
            members += 1;
        }
        members
    }

    fn take_places(&mut self, at: Elapsed, seats: Seats, row: &Class, estimate: Option<Duration>) -> Promise {
        for (session, count) in &seats {
            let asked = times(&row.key.resources, *count);
            self.profile(*session).expect("looked at above").block(at, &asked, estimate);
        }
        promise_of(&seats, at)
    }

    /// Whatever it was promised, it is nobody's now. Whether it was anything.
    fn give_place_up(&mut self, whose: Whose) -> bool {
        let had_place = self.book.place(whose).is_some();
        if had_place && let Some(row) = self.class_of(whose) {
            self.leave_place(whose, &row.key.resources, self.estimate(whose.0, whose.1));
            self.book.has_left = true;
        }
        let was_first = self.book.firsts.remove(&whose).is_some();
        self.book.made.insert(whose, None);
        self.book.withdraw_guard(whose);
        had_place || was_first
    }

    /// Whether the ceiling of a queue with EASY leaves room for so many more tasks and the gang that is its first and waits.
    pub fn leaves_room_for_first(&self, line: &Line<'_>, whose: Whose, tasks: u32) -> bool {
        if line.room >= CEILING_IN_REACH {
            return true;
        }
        let of_queue = |other: &&Whose| self.queue_of(**other) == Some(line.queue) && **other != whose;
        let mut first = self.book.firsts.keys().find(of_queue);
        if first.is_none() && line.kept > 0 {
            let waits = |other: &&Whose| self.waits_for_ends(line, **other);
            first = self.book.known.keys().filter(waits).find(of_queue);
        }
        let members = first.and_then(|first| self.class_of(*first)).map_or(0, |row| row.key.gang);
        members == 0 || line.room + line.kept >= u64::from(members) + u64::from(tasks)
    }

    /// Takes back what was promised to gangs of which their queue may not run all members by now; of those that it may run once
    /// what gives way has ended the promise stands, and nothing is held for them. Whether there was any.
    pub fn follow_ceilings(&mut self, lines: &[Line<'_>]) -> bool {
        let (mut late, mut later) = (BTreeSet::new(), BTreeSet::new());
        for line in lines.iter().filter(|line| line.backfill.promises() && line.room < CEILING_IN_REACH) {
            let of_queue = |whose: &Whose| self.state.job(whose.0).is_some_and(|job| job.queue == line.queue);
            let is_over = |whose: &Whose| {
                self.class_of(*whose).is_some_and(|row| u64::from(row.key.gang) > line.room)
                    && (self.book.firsts.contains_key(whose) || self.book.place(*whose).is_some())
            };
            let all = self.book.firsts.keys().chain(self.book.known.keys()).chain(self.book.made.keys());
            let over = all.filter(|whose| of_queue(whose) && is_over(whose)).copied();
            let (of_later, of_late): (Vec<Whose>, Vec<Whose>) =
                over.partition(|whose| self.waits_for_ends(line, *whose));
            later.extend(of_later);
            late.extend(of_late);
        }
        let mut has_any = false;
        for whose in later {
            has_any |= self.book.hold_nothing(whose);
        }
        for whose in late {
            has_any |= self.give_place_up(whose);
        }
        has_any
    }

    /// Those that take the class, by id: another order would move members from worker to worker between rounds. They are the
    /// same for all gangs of the class.
    fn sessions_for(&mut self, class: ClassId, row: &Class) -> Arc<[SessionId]> {
        if let Some(known) = self.seats_of.get(&class) {
            return known.clone();
        }
        self.order_of(class, row);
        let mut sessions: Vec<SessionId> = self.takers_of(class, row).collect();
        sessions.sort_unstable();
        self.seats_of.entry(class).or_insert(sessions.into()).clone()
    }

    /// Whether it is a gang for which the ceiling leaves room, once what gives way has ended, and not before.
    pub(super) fn waits_for_ends(&self, line: &Line<'_>, whose: Whose) -> bool {
        let members = self.class_of(whose).map_or(0, |row| u64::from(row.key.gang));
        line.room < members && members <= line.room + line.kept
    }

    /// Whether the line's ceiling leaves room for all members, where it is of a gang.
    pub(super) fn is_within(&self, line: &Line<'_>, class: ClassId) -> bool {
        self.state.class(class).is_some_and(|row| u64::from(row.key.gang) <= line.room)
    }
}

/// What all members are promised; there is one at least.
fn promise_of(seats: &Seats, at: Elapsed) -> Promise {
    let of_seat = |(session, count): &(SessionId, u32)| std::iter::repeat_n(*session, *count as usize);
    let mut members: Vec<SessionId> = seats.iter().flat_map(of_seat).collect();
    Promise { others: members.split_off(1), ..Promise::new(members[0], at) }
}

pub(super) fn times(asked: &Resources, members: u32) -> Resources {
    let mut all = Resources::default();
    (0..members).for_each(|_| all.add(asked));
    all
}

/// The earliest time, not before `from`, at which all members have room for so long, and with whom. `profiles`: by session. `most`:
/// how many at `from` itself.
fn start_together<P: Borrow<Profile>>(
    profiles: &[(SessionId, P)],
    from: Elapsed,
    class: &ClassKey,
    length: Option<Duration>,
    most: impl Fn(SessionId) -> u32,
) -> Option<(Elapsed, Seats)> {
    let members = |free: &Resources| match free.covers(&class.resources) {
        true => u32::try_from(members_when_idle(free, class)).unwrap_or(u32::MAX),
        false => 0,
    };
    let mut changes: Vec<(Elapsed, usize, u32)> = Vec::new();
    for (place, (session, profile)) in profiles.iter().enumerate() {
        let (profile, most) = (profile.borrow(), most(*session));
        let mut starts = profile.starts(from, length, members);
        if starts.first().is_some_and(|(at, members)| *at <= from && *members > most) {
            let next = profile.next_after(from).map(|next| profile.starts(next, length, members));
            starts = std::iter::once((from, most)).chain(next.unwrap_or_default()).collect();
        }
        changes.extend(starts.into_iter().map(|(at, members)| (at, place, members)));
    }
    changes.sort_unstable();
    let (mut room, mut all) = (vec![0u32; profiles.len()], 0u64);
    let mut changes = changes.into_iter().peekable();
    while let Some((at, place, members)) = changes.next() {
        let before = std::mem::replace(&mut room[place], members);
        all = all - u64::from(before) + u64::from(members);
        let is_last = changes.peek().is_none_or(|(next, _, _)| *next > at);
        if is_last && all >= u64::from(class.gang) {
            return Some((at, seats(profiles, &room, class.gang)));
        }
    }
    None
}

/// As many as have room, on one session after the other.
fn seats<P>(profiles: &[(SessionId, P)], room: &[u32], mut missing: u32) -> Seats {
    let mut seats = Seats::new();
    for ((session, _), room) in profiles.iter().zip(room).filter(|(_, room)| **room > 0) {
        let members = missing.min(*room);
        missing -= members;
        if members > 0 {
            seats.push((*session, members));
        }
    }
    seats
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: fn(SessionId) -> u32 = |_| u32::MAX;

    const fn at(seconds: u64) -> Elapsed {
        Elapsed(seconds * 1_000_000)
    }

    fn class(members: u32, cores: u64) -> ClassKey {
        let task = model::TaskSpec::new("t", model::Work::Noop);
        let key = ClassKey::of(&task, model::Placement::Pack);
        ClassKey { resources: Resources::cores(cores), gang: members, ..key }
    }

    #[test]
    fn all_have_room_from_one_time_on_for_as_long_as_they_take() {
        let cores = Resources::cores;
        // One has four cores for ten seconds and none for the next twenty, the other two from second five on.
        let mut one = Profile::new(at(0), cores(4), []);
        one.block(at(10), &cores(4), Some(Duration::from_secs(20)));
        let two = Profile::new(at(0), cores(0), [(at(5), &cores(2))]);
        let profiles = [(SessionId(1), one), (SessionId(2), two)];
        let start = |members, seconds| {
            start_together(&profiles, at(0), &class(members, 2), Some(Duration::from_secs(seconds)), ALL)
        };
        assert_eq!(start(2, 10), Some((at(0), vec![(SessionId(1), 2)])));
        assert_eq!(start(3, 5), Some((at(5), vec![(SessionId(1), 2), (SessionId(2), 1)])));
        assert_eq!(start(3, 6), Some((at(30), vec![(SessionId(1), 2), (SessionId(2), 1)])));
        assert_eq!(start(4, 1), None);
        // Where none has its units at once, each waits for what changes next.
        let none = |_| 0;
        let later = start_together(&profiles, at(0), &class(2, 2), Some(Duration::from_secs(1)), none);
        assert_eq!(later, Some((at(30), vec![(SessionId(1), 2)])));
        assert_eq!(start_together(&profiles, at(0), &class(3, 2), None, ALL).unwrap().0, at(30));
    }

    type Step = (u64, u64, u64);

    /// Blocks of so many cores, from then on for so long, where they fit.
    fn profile(cores: u64, blocks: &[Step]) -> Profile {
        let mut profile = Profile::new(at(0), Resources::cores(cores), []);
        for (start, cores, seconds) in blocks {
            let (asked, length) = (Resources::cores(*cores), Some(Duration::from_secs(*seconds)));
            if profile.fits(at(*start), &asked, length) {
                profile.block(at(*start), &asked, length);
            }
        }
        profile
    }

    proptest! {
        /// The same as trying one second after the other.
        #[test]
        fn nothing_earlier_would_do(
            workers in prop::collection::vec((1u64..6, prop::collection::vec((0u64..12, 1u64..4, 1u64..8), 0..6)), 1..4),
            members in 1u32..7,
            cores in 1u64..4,
            seconds in prop::option::of(1u64..9),
            from in 0u64..6,
        ) {
            let profiles: Vec<(SessionId, Profile)> = (1..)
                .zip(&workers)
                .map(|(id, (cores, blocks))| (SessionId(id), profile(*cores, blocks)))
                .collect();
            let (class, length) = (class(members, cores), seconds.map(Duration::from_secs));
            let room = |profile: &Profile, start| {
                let fits = |count: &u32| profile.fits(start, &times(&class.resources, *count), length);
                (1..=members).take_while(fits).last().unwrap_or(0)
            };
            let all = |start| profiles.iter().map(|(_, profile)| room(profile, start)).sum::<u32>();
            let first = (from..40).map(at).find(|start| all(*start) >= members);
            let found = start_together(&profiles, at(from), &class, length, ALL);
            prop_assert_eq!(found.as_ref().map(|(at, _)| *at), first);
            for (session, seated) in found.iter().flat_map(|(_, seats)| seats) {
                let profile = &profiles[session.0 as usize - 1].1;
                prop_assert!(*seated <= room(profile, first.unwrap()));
            }
            let seated: u32 = found.iter().flat_map(|(_, seats)| seats).map(|(_, seated)| seated).sum();
            prop_assert!(found.is_none() || seated == members);
        }
    }
}
