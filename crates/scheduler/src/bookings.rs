//! Capacity that is kept for a queue, or from everybody, for a time. Who may still run when it begins leaves room for it.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::State;
use machine::state::bookings::{Booked, in_the_way, kept_free};
use machine::state::queues::QueueId;
use model::{Elapsed, JobId, Resources, SessionId};

use crate::backfill::Whose;
use crate::place::Round;

/// Of which anything is booked.
pub(crate) fn of_sessions(state: &State) -> BTreeMap<SessionId, Vec<Booked>> {
    if state.bookings().next().is_none() {
        return BTreeMap::new();
    }
    let live = state.sessions().filter(|session| !session.ended);
    live.map(|session| (session.id, state.booked(session))).filter(|(_, booked)| !booked.is_empty()).collect()
}

impl Round<'_> {
    /// Whether a task of the job that takes so long leaves what is booked on the session to those whom it is for.
    pub fn is_unbooked(
        &self,
        session: SessionId,
        job: JobId,
        asked: &Resources,
        length: Option<Duration>,
    ) -> bool {
        let free = self.rooms.get(&session).map(|room| &room.free);
        self.stands_off(session, free, job, asked, length)
    }

    /// Whether it would if nothing else ran there.
    pub fn is_unbooked_when_idle(
        &self,
        session: SessionId,
        job: JobId,
        asked: &Resources,
        length: Option<Duration>,
    ) -> bool {
        let total = self.state.session(session).map(|session| &session.capacity.total);
        self.stands_off(session, total, job, asked, length)
    }

    /// What a task that is begun now takes of the session, and what it must leave free there.
    pub fn asked_beside_bookings(&self, session: SessionId, whose: Whose, asked: &Resources) -> Resources {
        let booked = self.booked.get(&session).zip(self.state.job(whose.0));
        let mut all = asked.clone();
        if let Some((booked, job)) = booked {
            all.add(&kept_free(booked, job.queue, self.now(), self.estimate(whose.0, whose.1)));
        }
        all
    }

    fn stands_off(
        &self,
        session: SessionId,
        free: Option<&Resources>,
        job: JobId,
        asked: &Resources,
        length: Option<Duration>,
    ) -> bool {
        let Some(booked) = self.booked.get(&session) else { return true };
        let queue = self.state.job(job).map(|job| job.queue);
        let Some((free, queue)) = free.zip(queue) else { return false };
        in_the_way(booked, free, asked, queue, self.now(), length).is_none()
    }

    /// What one of its owner's tasks takes, or leaves, is used of what is booked for it.
    pub fn use_booked(&mut self, session: SessionId, job: JobId, change: impl Fn(&mut Resources)) {
        let Some(booked) = self.booked.get_mut(&session) else { return };
        let queue = self.state.job(job).map(|job| job.queue);
        let own = booked.iter_mut().filter(|booked| booked.queue.is_some() && booked.queue == queue);
        own.for_each(|booked| change(&mut booked.used));
    }

    /// A task of the job begins there: where it is of a booking's owner, others find more of that free by then.
    pub fn see_owner(&mut self, session: SessionId, whose: Whose) {
        if self.booked.contains_key(&session) && self.kept_for(session, whose).next().is_some() {
            self.look_anew(session);
        }
    }

    /// What of the session nobody else may have, from when on and for how long: for promises, which are made to all alike.
    pub fn kept(&self, session: SessionId) -> impl Iterator<Item = (&Booked, Resources)> {
        let booked = self.booked.get(&session).into_iter().flatten();
        booked.map(|booked| {
            let mut open = booked.resources.clone();
            open.subtract(&booked.used);
            (booked, open)
        })
    }

    /// The same of what is kept for its queue.
    pub fn kept_for(
        &self,
        session: SessionId,
        (job, _): Whose,
    ) -> impl Iterator<Item = (&Booked, Resources)> {
        let is_booked = self.booked.contains_key(&session);
        let queue = self.state.job(job).filter(|_| is_booked).map(|job| job.queue);
        self.kept(session).filter(move |(booked, _)| booked.queue.is_some() && booked.queue == queue)
    }

    /// When others may have what a task of the queue gives back by then: what it used of its queue's booking is kept until that is over.
    pub fn given_back(&self, session: SessionId, queue: QueueId, end: Elapsed) -> Elapsed {
        let booked = self.booked.get(&session).into_iter().flatten();
        let own = booked.filter(|of| of.queue == Some(queue) && of.from <= end);
        own.map(|of| of.to).fold(end, Elapsed::max)
    }
}

/// Whether anything of the session is booked. Tasks that the state does not know yet are left to a round there.
pub(crate) fn is_booked(state: &State, session: &machine::Session) -> bool {
    state.bookings().next().is_some() && !state.booked(session).is_empty()
}
