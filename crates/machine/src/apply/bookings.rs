//! Makes and ends bookings. One is made only where the workers have what it asks for beside the others of its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::validate::is_name;
use model::{Resources, SpecError, Timestamp};

use crate::apply::write::within;
use crate::state::State;
use crate::state::bookings::{BOOKINGS_MAX, Booking};
use crate::state::sessions::Worker;
use crate::{BookingSpec, Rejection, Reply};

/// Shortest and longest booking.
pub const LENGTH_MIN: Duration = Duration::from_secs(1);
pub const LENGTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Of one booking.
const COUNT_MAX: u32 = 100_000;

fn invalid(path: &str, message: String) -> Rejection {
    Rejection::Invalid { errors: vec![SpecError { path: path.to_owned(), message }] }
}

/// Promised starts would have to be another queue's for the owner and for everybody else.
pub(crate) fn no_promises(path: &str, booking: &str) -> Rejection {
    invalid(
        path,
        format!(
            "a queue with a booking (`{booking}`) promises no start; give it the backfill first-fit or none"
        ),
    )
}

pub(crate) fn put(state: &mut State, spec: &BookingSpec) -> Result<Reply, Rejection> {
    check(state, spec)?;
    let wall = state.stamp().wall;
    let from = spec.from.unwrap_or(wall);
    let to = from.plus(spec.length);
    if to <= wall {
        return Err(invalid("from", format!("it would be over by {to}, and it is {wall} now")));
    }
    let parts =
        if spec.workers.is_empty() { spread(state, spec, from, to)? } else { whole(state, spec, from, to)? };
    let (name, queue) = (spec.name.clone(), spec.queue.clone());
    state.bookings.insert(name.clone(), Booking { name, queue, from, to, parts });
    changed(state)
}

fn check(state: &State, spec: &BookingSpec) -> Result<(), Rejection> {
    if !is_name(&spec.name) {
        return Err(invalid("name", "a booking's name has letters, digits, -, _ and . only".to_owned()));
    }
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&spec.length) {
        let nearest = if spec.length < LENGTH_MIN { "1s" } else { "366 days" };
        return Err(invalid("length", format!("a booking is for 1s to 366 days; the nearest is {nearest}")));
    }
    let is_whole = !spec.workers.is_empty();
    if is_whole == (spec.count > 0) || is_whole != spec.resources.is_empty() {
        let message = "name whole workers, or say how many times which resources";
        return Err(invalid("workers", message.to_owned()));
    }
    if !spec.resources.named.apart.is_empty() {
        return Err(invalid("resources", "an anti-affinity cannot be booked".to_owned()));
    }
    within(spec.count.into(), COUNT_MAX.into(), "count", "the booking's count")?;
    if let Some(name) = &spec.queue {
        let queue = state.queue_named(name).ok_or_else(|| Rejection::UnknownQueue { queue: name.clone() })?;
        if queue.policy.promises() {
            return Err(no_promises("queue", &spec.name));
        }
    }
    let others = state.bookings.keys().filter(|name| **name != spec.name).count() as u64 + 1;
    within(others, BOOKINGS_MAX as u64, "bookings", "bookings")
}

/// The most that other bookings take of the worker at a time between.
fn taken(state: &State, spec: &BookingSpec, worker: &str, from: Timestamp, to: Timestamp) -> Resources {
    let others = || {
        let others = state.bookings.values().filter(|other| other.name != spec.name);
        let others = others.filter(|other| other.from < to && other.to > from);
        others.filter_map(|other| Some((other, other.parts.get(worker)?)))
    };
    let mut most = Resources::default();
    for at in others().map(|(other, _)| other.from.max(from)) {
        let mut sum = Resources::default();
        let there = others().filter(|(other, _)| other.from <= at && other.to > at);
        there.for_each(|(_, part)| sum.add(part));
        most.raise(&sum);
    }
    most
}

/// All that the named workers offer.
fn whole(
    state: &State,
    spec: &BookingSpec,
    from: Timestamp,
    to: Timestamp,
) -> Result<BTreeMap<String, Resources>, Rejection> {
    let mut parts = BTreeMap::new();
    for (nth, name) in spec.workers.iter().enumerate() {
        let worker = state.worker(name).ok_or_else(|| Rejection::UnknownWorker { worker: name.clone() })?;
        let unmet = spec.constraints.iter().find(|constraint| !constraint.holds(&worker.labels));
        if let Some(unmet) = unmet {
            let message = format!("the labels of worker `{name}` do not satisfy `{unmet}`");
            return Err(invalid(&format!("workers[{nth}]"), message));
        }
        if !taken(state, spec, name, from, to).is_empty() {
            return Err(invalid(&format!("workers[{nth}]"), taken_then(state, spec, name, from, to)));
        }
        parts.insert(name.clone(), worker.capacity.total.clone());
    }
    Ok(parts)
}

/// Why `name` cannot be had whole, with the nearest time at which all named workers can, and another worker that can then.
fn taken_then(state: &State, spec: &BookingSpec, name: &str, from: Timestamp, to: Timestamp) -> String {
    let mut message = format!(
        "something of worker `{name}` is booked for a part of that time; the nearest from which all of it is free is {}",
        free_from(state, spec, from)
    );
    let others = state.bookings.values().filter(|other| other.name != spec.name);
    let then = others.filter(|other| other.from < to && other.to > from);
    let taken: BTreeSet<&String> = then.flat_map(|other| other.parts.keys()).collect();
    let mut free = suited(state, spec).filter(|worker| !taken.contains(&worker.name));
    if let Some(worker) = free.find(|worker| !spec.workers.contains(&worker.name)) {
        message += &format!(", and `{}` is free then", worker.name);
    }
    message
}

/// The first time from `from` on at which nothing of the named workers is booked for as long as the booking is to last.
fn free_from(state: &State, spec: &BookingSpec, from: Timestamp) -> Timestamp {
    let others = state.bookings.values().filter(|other| other.name != spec.name);
    let of_them = others.filter(|other| spec.workers.iter().any(|name| other.parts.contains_key(name)));
    let mut spans: Vec<(Timestamp, Timestamp)> = of_them.map(|other| (other.from, other.to)).collect();
    spans.sort_unstable();
    let mut start = from;
    // By their beginnings: whom the start has passed once, it never meets again.
    for (begins, ends) in spans {
        if begins < start.plus(spec.length) && ends > start {
            start = ends;
        }
    }
    start
}

/// Live workers that take work and have the labels.
fn suited<'s>(state: &'s State, spec: &'s BookingSpec) -> impl Iterator<Item = &'s Worker> {
    let live =
        state.workers().filter(|worker| worker.session.is_some() && !worker.draining && !worker.cordoned);
    live.filter(|worker| spec.constraints.iter().all(|constraint| constraint.holds(&worker.labels)))
}

/// From live workers in the order of their names, as much of each as it has beside other bookings.
fn spread(
    state: &State,
    spec: &BookingSpec,
    from: Timestamp,
    to: Timestamp,
) -> Result<BTreeMap<String, Resources>, Rejection> {
    let (mut parts, mut found) = (BTreeMap::new(), 0);
    let mut nearest = Nearest::default();
    for worker in suited(state, spec) {
        let taken = taken(state, spec, &worker.name, from, to);
        let left = |name: &str| worker.capacity.total.get(name).saturating_sub(taken.get(name));
        nearest.look_at(&worker.name, &spec.resources, left);
        let times = spec.resources.iter().map(|(name, asked)| left(name) / asked.max(1)).min().unwrap_or(0);
        let times = times.min(u64::from(spec.count - found)) as u32;
        if times > 0 {
            let part: &mut Resources = parts.entry(worker.name.clone()).or_default();
            for (name, asked) in spec.resources.iter() {
                part.set(name, asked * u64::from(times));
            }
            found += times;
        }
        if found == spec.count {
            return Ok(parts);
        }
    }
    let message = match found {
        0 => format!(
            "no live worker{} has ({}) beside what is booked for that time; {}",
            if spec.constraints.is_empty() { "" } else { " with these labels" },
            spec.resources,
            nearest.told(&spec.resources)
        ),
        found => format!(
            "the live workers have ({}) {found} times beside what is booked for that time, not {} times; the nearest is {found}",
            spec.resources, spec.count
        ),
    };
    Err(invalid("count", message))
}

/// The largest part of what is asked for that one worker has left.
#[derive(Default)]
struct Nearest {
    /// Left and asked of what there is least of, relative to what is asked for.
    part: (u64, u64),
    worker: String,
    left: Resources,
    /// Of these resources some worker has some left.
    known: BTreeSet<String>,
}

impl Nearest {
    fn look_at(&mut self, worker: &str, asked: &Resources, left: impl Fn(&str) -> u64) {
        let parts = asked.iter().map(|(name, asked)| (left(name).min(asked), asked.max(1)));
        let product = |part: (u64, u64), by: u64| u128::from(part.0) * u128::from(by);
        let least = parts.min_by(|one, other| product(*one, other.1).cmp(&product(*other, one.1)));
        let Some(least) = least else { return };
        let some = asked.iter().filter(|(name, _)| left(name) > 0);
        self.known.extend(some.map(|(name, _)| name.to_owned()));
        if product(least, self.part.1.max(1)) > product(self.part, least.1) {
            let mut room = Resources::default();
            asked.iter().for_each(|(name, asked)| room.set(name, left(name).min(asked)));
            *self = Nearest { part: least, worker: worker.to_owned(), left: room, ..std::mem::take(self) };
        }
    }

    fn told(&self, asked: &Resources) -> String {
        if self.part.0 > 0 {
            return format!("the nearest is ({}), which `{}` has", self.left, self.worker);
        }
        let absent = asked.iter().filter(|(name, _)| !self.known.contains(*name));
        let absent: Vec<&str> = absent.map(|(name, _)| name).collect();
        if absent.is_empty() {
            "none has some of each".to_owned()
        } else {
            format!("none has any {}", absent.join(" and no "))
        }
    }
}

pub(crate) fn delete(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    if state.bookings.remove(name).is_none() {
        return Err(Rejection::UnknownBooking { booking: name.to_owned() });
    }
    changed(state)
}

/// Those that are over.
pub(crate) fn expire(state: &mut State) {
    let wall = state.stamp().wall;
    let over = state.bookings.values().filter(|booking| booking.to <= wall);
    let over: Vec<String> = over.map(|booking| booking.name.clone()).collect();
    for name in &over {
        state.bookings.remove(name);
    }
    if !over.is_empty() {
        // What was kept free is not any more.
        state.loosen();
        state.wake();
    }
}

fn changed(state: &mut State) -> Result<Reply, Rejection> {
    // There may be more for some, and less for others.
    state.loosen();
    state.wake();
    Ok(Reply::Done)
}
