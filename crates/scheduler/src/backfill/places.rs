//! Places in time: what is promised on one session, kept from round to round, and moved up where something became free.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use machine::eligible::{accepts, may_use};
use machine::state::index::ReadyKey;
use machine::state::queues::QueueId;
use machine::state::sessions::Class;
use machine::{Allocation, Promise};
use model::policy::Backfill;
use model::{ClassId, Elapsed, Resources, Run, SessionId};

use super::profile::Profile;
use super::{Book, Whose, end, gangs};
use crate::place::Round;
use crate::queues::Line;

/// By so much a place in time may slip without being lost: longer than an entry takes to be applied.
const SLIP_MAX: Duration = Duration::from_secs(1);

impl Round<'_> {
    /// Has `place` start it without regard to what is promised on these sessions, itself included. Whether it did; else everything is
    /// as it was.
    pub fn goes_before_promises(
        &mut self,
        whose: Whose,
        sessions: &[SessionId],
        place: impl FnOnce(&mut Self) -> bool,
    ) -> bool {
        let is_kept = self.backfill_of(whose.0) == Some(Backfill::Conservative);
        let own = self.book.place(whose).filter(|_| is_kept).cloned();
        if own.is_some()
            && let Some(row) = self.class_of(whose)
        {
            self.leave_place(whose, &row.key.resources, self.estimate(whose.0, whose.1));
        }
        let promises: Vec<_> = sessions.iter().map(|session| self.book.set_aside(*session)).collect();
        let has_placed = place(self);
        if has_placed {
            self.book.has_left |= own.is_some();
            self.stand_again(sessions);
            return true;
        }
        sessions.iter().zip(promises).for_each(|(session, promises)| self.book.put_back(*session, promises));
        if let Some(own) = own {
            self.keep_place(whose, &own);
        }
        false
    }

    /// All promises, where any would change with what runs on the session.
    pub fn book_of(&self, session: SessionId) -> Option<Book> {
        self.book.profiles.contains_key(&session).then(|| self.book.clone())
    }

    /// What runs on the session is another: what is promised there goes by that from now on.
    pub fn look_anew(&mut self, session: SessionId) {
        // Who has found no place yet may find one by what goes on.
        self.book.has_left |= self.taken.promises;
        if self.book.profiles.remove(&session).is_some() {
            self.stand_again(&[session]);
        }
    }

    /// Somebody was placed on the sessions without regard to what was promised there: what cannot be kept is promised anew.
    fn stand_again(&mut self, sessions: &[SessionId]) {
        let book = &self.book;
        let made = book.made.iter().filter_map(|(whose, promise)| Some((whose, promise.as_ref()?)));
        let kept = book.known.iter().filter(|(whose, _)| !book.made.contains_key(whose));
        let is_there = |promise: &Promise| promise.sessions().any(|session| sessions.contains(&session));
        let places = made.chain(kept).filter(|(_, promise)| is_there(promise));
        let mut places: Vec<(Whose, Promise)> =
            places.map(|(whose, promise)| (*whose, promise.clone())).collect();
        places.retain(|(whose, _)| self.backfill_of(whose.0) == Some(Backfill::Conservative));
        places.sort_by_key(|(whose, promise)| (promise.at, *whose));
        for (whose, promise) in &places {
            // What a gang has elsewhere stands.
            let elsewhere: Vec<SessionId> =
                promise.sessions().filter(|session| !sessions.contains(session)).collect();
            if let Some(row) = self.class_of(*whose).filter(|_| !elsewhere.is_empty()) {
                let estimate = self.estimate(whose.0, whose.1);
                self.release(&elsewhere, promise.at.max(self.now()), &row.key.resources, estimate);
            }
        }
        for (whose, promise) in places {
            if !self.keep_place(whose, &promise) {
                self.book.made.insert(whose, None);
            }
        }
    }

    /// Keeps the place in time, if it is there; of a gang all or none.
    pub(super) fn keep_place(&mut self, whose: Whose, promise: &Promise) -> bool {
        let (state, now) = (self.state, self.now());
        let Some(row) = self.class_of(whose) else { return false };
        // One that was made under another backfill has no place for each.
        if promise.sessions().count() != row.key.gang.max(1) as usize {
            return false;
        }
        let estimate = self.estimate(whose.0, whose.1);
        let (start, asked) = (promise.at.max(now), &row.key.resources);
        let mut kept = Vec::new();
        for id in promise.sessions() {
            let takes = state.session(id).is_some_and(|session| accepts(state, session, &row.key).is_ok());
            let profile = if takes { self.profile(id) } else { None };
            let Some(profile) = profile.filter(|profile| profile.fits(start, asked, estimate)) else {
                self.release(&kept, start, asked, estimate);
                return false;
            };
            profile.block(start, asked, estimate);
            kept.push(id);
        }
        true
    }

    /// The same place a little later. What a plan starts should end as long after it was made as its entry is applied after that:
    /// without this, whoever comes after that would lose its place, and go behind all who were promised theirs after it.
    pub(super) fn slip(&mut self, whose: Whose, promise: &Promise) -> Option<Promise> {
        let row = self.class_of(whose)?;
        let (mut at, estimate) = (promise.at.max(self.now()), self.estimate(whose.0, whose.1));
        let until = promise.at.plus(SLIP_MAX);
        let mut members: BTreeMap<SessionId, u32> = BTreeMap::new();
        promise.sessions().for_each(|session| *members.entry(session).or_default() += 1);
        let mut before = None;
        while before != Some(at) {
            before = Some(at);
            for (session, members) in &members {
                let asked = gangs::times(&row.key.resources, *members);
                at = self.profile(*session)?.earliest(at, &asked, estimate).filter(|at| *at <= until)?;
            }
        }
        // Nobody has put it off.
        let first = Some(promise.first().plus(at.since(promise.at)));
        let slipped = Promise { at, first, ..promise.clone() };
        self.keep_place(whose, &slipped).then_some(slipped)
    }

    pub(super) fn release(
        &mut self,
        sessions: &[SessionId],
        start: Elapsed,
        asked: &Resources,
        estimate: Option<Duration>,
    ) {
        for session in sessions {
            if let Some(profile) = self.book.profiles.get_mut(session) {
                profile.release(start, asked, estimate);
            }
        }
    }

    /// Starts the task now, or gives it the earliest place in time that leaves all others where they are.
    pub fn conserve(
        &mut self,
        line: &mut Line<'_>,
        class: ClassId,
        row: &Class,
        key: ReadyKey,
        tasks: Run,
    ) -> Option<SessionId> {
        let (now, whose, asked) = (self.now(), (key.job, key.group), &row.key.resources);
        let estimate = self.estimate(key.job, key.group);
        self.order_of(class, row);
        let place = self.book.place(whose).cloned();
        let may_move = self.may_move(line.queue, whose);
        let takers: Vec<SessionId> = match &place {
            // Nothing has become free that was not counted with: it stays where it is, and starts when it is time.
            Some(promise) if !may_move && promise.at > now => {
                line.skip(key);
                return None;
            }
            Some(promise) if !may_move => vec![promise.session],
            _ => self.takers_of(class, row).collect(),
        };
        self.leave_place(whose, asked, estimate);
        let mut best: Option<Promise> = None;
        for session in takers {
            let reserved =
                self.reserved.get(&session).is_some_and(|kept| !may_use(self.state, *kept, key.job, tasks));
            let earliest = self.earliest(now, session, whose, asked, estimate);
            let Some(mut at) = earliest.filter(|_| !reserved) else {
                continue;
            };
            if at <= now && self.is_open(session, row, whose, tasks, estimate) {
                self.book.has_left |= place.is_some_and(|place| place.at > now || place.session != session);
                return Some(session);
            }
            if at <= now {
                // There is enough, and not of single units: not before something else ends there.
                let next = self.profile(session).and_then(|profile| profile.next_after(now));
                let later = next.and_then(|next| self.earliest(next, session, whose, asked, estimate));
                let Some(later) = later else { continue };
                at = later;
            }
            if best.as_ref().is_none_or(|best| at < best.at) {
                best = Some(Promise::new(session, at));
            }
        }
        remember_first(&mut best, place.as_ref());
        if let Some(promise) = &best {
            let profile = self.profile(promise.session).expect("looked at above");
            profile.block(promise.at, asked, estimate);
        }
        self.book.has_left |=
            place.as_ref().is_some_and(|place| best.as_ref().is_none_or(|best| !best.is_at(place)));
        if best.is_some() {
            self.book.moved.insert(whose);
        }
        self.book.made.insert(whose, best);
        line.skip(key);
        None
    }

    /// The earliest start on the session, not before `from`, that leaves everybody where they are; what is promised to the first of another queue
    /// comes before.
    fn earliest(
        &mut self,
        from: Elapsed,
        session: SessionId,
        whose: Whose,
        asked: &Resources,
        estimate: Option<Duration>,
    ) -> Option<Elapsed> {
        if self.book.guards.is_empty() {
            return self.profile(session)?.earliest(from, asked, estimate);
        }
        self.profile(session)?;
        self.places_beside_firsts(session, whose)?.earliest(from, asked, estimate)
    }

    /// What is free beside those who have a place in time there, where it was looked at, and what the first of other queues are
    /// promised.
    pub(super) fn places_beside_firsts(&self, session: SessionId, whose: Whose) -> Option<Cow<'_, Profile>> {
        let mut profile = Cow::Borrowed(self.book.profiles.get(&session)?);
        for guard in self.book.guards_beside(session, whose) {
            profile.to_mut().block(guard.at, &guard.asked, guard.length());
        }
        Some(profile)
    }

    /// Whether something is free that was not counted with when it was promised its place.
    pub(super) fn may_move(&self, queue: QueueId, whose: Whose) -> bool {
        let is_loosened = self.state.queue(queue).is_some_and(|row| row.loosened);
        is_loosened && !self.taken.compressed.contains(&queue) && !self.book.moved.contains(&whose)
    }

    /// Whether whoever has a place in time on the session keeps it if this starts there instead of what leaves it.
    pub fn keeps_places<'r>(
        &self,
        session: SessionId,
        leaves: impl Iterator<Item = &'r Allocation>,
        whose: Whose,
        asked: &Resources,
        estimate: Option<Duration>,
    ) -> bool {
        let Some(profile) = self.places_for(session, whose) else { return true };
        let (mut profile, now) = (profile.into_owned(), self.now());
        for allocation in leaves {
            let left = allocation.expected_end(now).map(|end| end.since(now));
            profile.release(now, &allocation.resources, left);
        }
        profile.fits(now, asked, estimate)
    }

    /// Whether the task may start now on the session without delaying anybody else who was promised a start.
    pub fn keeps_promises(
        &self,
        session: SessionId,
        whose: Whose,
        asked: &Resources,
        estimate: Option<Duration>,
    ) -> bool {
        let now = self.now();
        self.book.allows_beside_firsts(session, whose, asked, end(now, estimate))
            && self.places_for(session, whose).is_none_or(|profile| profile.fits(now, asked, estimate))
    }

    /// What is free beside those who have a place in time there, where it was looked at, with what is booked for its queue.
    fn places_for(&self, session: SessionId, whose: Whose) -> Option<Cow<'_, Profile>> {
        let mut profile = Cow::Borrowed(self.book.profiles.get(&session)?);
        for (booked, open) in self.kept_for(session, whose) {
            profile.to_mut().release(booked.from, &open, Some(booked.to.since(booked.from)));
        }
        Some(profile)
    }

    /// Its old place is free for itself.
    pub(super) fn leave_place(&mut self, whose: Whose, asked: &Resources, estimate: Option<Duration>) {
        let Some(promise) = self.book.place(whose) else { return };
        let (start, sessions) = (promise.at.max(self.now()), promise.sessions().collect::<Vec<_>>());
        self.release(&sessions, start, asked, estimate);
    }
}

/// Whoever gets another place goes on from what it was promised before.
pub(super) fn remember_first(promise: &mut Option<Promise>, before: Option<&Promise>) {
    if let (Some(promise), Some(before)) = (promise, before) {
        promise.first = Some(before.first());
    }
}
