//! Bookings: capacity that only one queue may use for a time, or nobody (advance reservations).
//!
//! Whoever may still run when a booking begins must leave room for it from the start: a task of another queue that is expected
//! to end later, or of which nobody knows, finds on a booked worker only what is free beyond what is booked and not
//! used by its owner. What ends before may use all.

use std::collections::BTreeMap;
use std::time::Duration;

use model::views::{BookingPartView, BookingView};
use model::{Elapsed, Resources, Timestamp};
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::queues::QueueId;
use crate::state::sessions::Session;

/// Bookings that a cluster may have at a time.
pub const BOOKINGS_MAX: usize = 256;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Booking {
    pub name: String,
    /// By name: a queue that is made anew is the same. `None`: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    pub from: Timestamp,
    pub to: Timestamp,
    /// By worker.
    pub parts: BTreeMap<String, Resources>,
}

/// What is booked of one session, with what of it its owner uses.
#[derive(Clone, Debug, PartialEq)]
pub struct Booked {
    pub name: String,
    pub queue: Option<QueueId>,
    pub from: Elapsed,
    pub to: Elapsed,
    pub resources: Resources,
    /// What its queue uses on the session now.
    pub used: Resources,
}

impl State {
    pub fn bookings(&self) -> impl Iterator<Item = &Booking> {
        self.bookings.values()
    }

    pub(crate) fn booking_end(&self) -> Option<Timestamp> {
        self.bookings.values().map(|booking| booking.to).min()
    }

    /// What of the session is booked, now or later.
    pub fn booked(&self, session: &Session) -> Vec<Booked> {
        let stamp = self.stamp();
        let at = |time: Timestamp| stamp.elapsed.plus(time.since(stamp.wall));
        let of = |booking: &Booking| {
            let resources = booking.parts.get(&session.worker).filter(|_| booking.to > stamp.wall)?.clone();
            let queue = booking.queue.as_ref().and_then(|name| self.queue_named(name)).map(|queue| queue.id);
            let mut used = Resources::default();
            let allocations = session.allocations.values().filter(|allocation| allocation.takes_capacity());
            let own = allocations.filter(|allocation| Some(allocation.queue) == queue);
            own.for_each(|allocation| used.add(&allocation.takes()));
            let (from, to) = (at(booking.from), at(booking.to));
            Some(Booked { name: booking.name.clone(), queue, from, to, resources, used })
        };
        self.bookings.values().filter_map(of).collect()
    }
}

impl State {
    pub fn booking_views(&self) -> Vec<BookingView> {
        let view = |booking: &Booking| BookingView {
            name: booking.name.clone(),
            queue: booking.queue.clone(),
            from: booking.from,
            to: booking.to,
            has_begun: booking.from <= self.stamp().wall,
            parts: booking.parts.iter().map(|(worker, part)| self.part_view(booking, worker, part)).collect(),
        };
        self.bookings.values().map(view).collect()
    }

    fn part_view(&self, booking: &Booking, worker: &str, part: &Resources) -> BookingPartView {
        let session = self.worker(worker).and_then(|row| row.session).and_then(|id| self.session(id));
        let booked = session.into_iter().flat_map(|session| self.booked(session));
        let used = booked.filter(|booked| booked.name == booking.name).map(|booked| booked.used).next();
        let used = used.unwrap_or_default();
        let is_free = session.is_some_and(|session| {
            let mut there = session.room().free;
            there.add(&used);
            there.covers(part)
        });
        BookingPartView { worker: worker.to_owned(), resources: part.clone(), used, is_free }
    }
}

/// What a task of the queue, from now on for so long, must leave free for others.
pub fn kept_free(booked: &[Booked], queue: QueueId, now: Elapsed, length: Option<Duration>) -> Resources {
    let end = length.map_or(Elapsed::MAX, |length| now.plus(length));
    let others = || booked.iter().filter(|booking| booking.queue != Some(queue) && booking.from < end);
    let mut most = Resources::default();
    // As much is kept as at the worst time, which is when one of them begins.
    for at in others().map(|booking| booking.from.max(now)) {
        let mut sum = Resources::default();
        for booking in others().filter(|booking| booking.from <= at && booking.to > at) {
            let mut open = booking.resources.clone();
            open.subtract(&booking.used);
            sum.add(&open);
        }
        most.raise(&sum);
    }
    most
}

/// The first of those that the task would not leave room for.
pub fn in_the_way<'a>(
    booked: &'a [Booked],
    free: &Resources,
    asked: &Resources,
    queue: QueueId,
    now: Elapsed,
    length: Option<Duration>,
) -> Option<&'a Booked> {
    if booked.is_empty() {
        return None;
    }
    let mut needed = kept_free(booked, queue, now, length);
    needed.add(asked);
    // Anti-affinities are nothing that can be booked.
    let exceeds = |needed: &Resources| needed.iter().any(|(name, amount)| amount > free.get(name));
    if !exceeds(&needed) {
        return None;
    }
    let end = length.map_or(Elapsed::MAX, |length| now.plus(length));
    let others = || booked.iter().filter(|booking| booking.queue != Some(queue) && booking.from < end);
    // One that would do by itself, where there is one.
    let is_enough = |booking: &&Booked| {
        let mut needed = booking.resources.clone();
        needed.subtract(&booking.used);
        needed.add(asked);
        exceeds(&needed)
    };
    others().find(is_enough).or_else(|| others().next())
}
