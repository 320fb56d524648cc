//! Whether a task may go to a session now. The same code decides when a plan is made, when it is applied, and when
//! somebody asks why nothing happens.

use std::collections::BTreeMap;
use std::time::Duration;

use model::resources::{choose_units, format_amount};
use model::{Constraint, Elapsed, JobId, Kind, Resources, Run};

use crate::apply::preempt::outranks;
use crate::state::State;
use crate::state::bookings::in_the_way;
use crate::state::index::is_ready;
use crate::state::jobs::{Group, Job};
use crate::state::sessions::{ClassKey, Room, Session, Worker};

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ineligible {
    UnknownJob,
    /// Of a gang all members are placed together, or none is.
    NotWhole {
        members: u32,
    },
    /// It waits for something, or it is placed or final already.
    NotReady,
    JobPaused,
    JobCancelled,
    QueuePaused,
    QueueFull {
        running_max: u32,
    },
    SessionEnded,
    Cordoned,
    Draining,
    /// The worker drains for another task.
    Reserved {
        job: JobId,
        task: u32,
    },
    Kind {
        kind: Kind,
    },
    Function {
        function: String,
    },
    Label {
        constraint: Constraint,
    },
    /// More than the worker has in all.
    TooLarge {
        resource: String,
        asked: u64,
        total: u64,
    },
    /// More than the worker has free now.
    NoRoom {
        resource: String,
        asked: u64,
        free: u64,
    },
    /// A task of the same anti-affinity is there.
    Apart {
        name: String,
    },
    /// The worker was sent as much ahead as `credit_per_session_max` allows, or the task takes units that can be told
    /// apart, which are chosen only when they are free, or keeps away from others.
    NoCredit,
    /// Its queue is not one that workers claim from.
    NotClaimed,
    /// The worker is booked for others, and the task may still run by then.
    Booked {
        booking: String,
    },
}

impl std::fmt::Display for Ineligible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ineligible::NotWhole { members } => {
                write!(f, "all {members} members of a gang are placed together, each on its own")
            }
            Ineligible::UnknownJob => f.write_str("the job is unknown"),
            Ineligible::NotReady => f.write_str("the task is not ready"),
            Ineligible::JobPaused => f.write_str("the job is paused"),
            Ineligible::JobCancelled => f.write_str("the job, or this part of it, is being cancelled"),
            Ineligible::QueuePaused => f.write_str("the queue is paused"),
            Ineligible::QueueFull { running_max } => {
                write!(f, "the queue runs its running_max of {running_max} tasks")
            }
            Ineligible::SessionEnded => f.write_str("the worker is gone"),
            Ineligible::Cordoned => f.write_str("the worker is cordoned"),
            Ineligible::Draining => f.write_str("the worker is draining"),
            Ineligible::Reserved { job, task } => {
                write!(f, "the worker drains for {job}.{task}, which has waited long")
            }
            Ineligible::Kind { kind } => write!(f, "the worker does not run tasks of kind {kind}"),
            Ineligible::Function { function } => write!(f, "the worker has no function `{function}`"),
            Ineligible::Label { constraint } => {
                write!(f, "the worker's labels do not satisfy `{constraint}`")
            }
            Ineligible::TooLarge { resource, asked, total } => write!(
                f,
                "asks for {resource} {}, the worker has {} in all",
                format_amount(resource, *asked),
                format_amount(resource, *total)
            ),
            Ineligible::NoRoom { resource, asked, free } if free >= asked => write!(
                f,
                "asks for {resource} {}, the worker has {} free now, but in pieces of several units",
                format_amount(resource, *asked),
                format_amount(resource, *free)
            ),
            Ineligible::NoRoom { resource, asked, free } => write!(
                f,
                "asks for {resource} {}, the worker has {} free now",
                format_amount(resource, *asked),
                format_amount(resource, *free)
            ),
            Ineligible::Apart { name } => {
                write!(f, "the worker has a task of the same anti-affinity `{name}`")
            }
            Ineligible::Booked { booking } => {
                write!(f, "the worker is booked for others (`{booking}`) before it is sure to have ended")
            }
            Ineligible::NotClaimed => f.write_str("workers do not claim from its queue"),
            Ineligible::NoCredit => f.write_str(
                "the worker was sent as much ahead as it may be, or the task asks for units that can be told apart, or has an anti-affinity",
            ),
        }
    }
}

/// What of job and queue keeps the group from being placed.
pub fn gate(state: &State, job: &Job, group: &Group) -> Result<(), Ineligible> {
    if job.is_cancelling(group) {
        return Err(Ineligible::JobCancelled);
    }
    if job.paused {
        return Err(Ineligible::JobPaused);
    }
    if !is_ready(job, group) {
        return Err(Ineligible::NotReady);
    }
    let queue = state.queue(job.queue).ok_or(Ineligible::QueuePaused)?;
    if queue.paused {
        return Err(Ineligible::QueuePaused);
    }
    if state.room_in(queue) == 0 {
        return Err(Ineligible::QueueFull { running_max: queue.running_max.unwrap_or(0) });
    }
    Ok(())
}

/// What of the worker keeps tasks of the class from it for good, or until somebody changes the worker.
pub fn accepts(state: &State, session: &Session, class: &ClassKey) -> Result<(), Ineligible> {
    if let Some(refusal) = standing(state, session) {
        return Err(refusal);
    }
    misfits(Offered::from(session), class).next().map_or(Ok(()), Err)
}

/// What an operator or its end keeps the worker from.
pub fn standing(state: &State, session: &Session) -> Option<Ineligible> {
    match state.worker(&session.worker).filter(|_| !session.ended) {
        None => Some(Ineligible::SessionEnded),
        Some(worker) if worker.draining => Some(Ineligible::Draining),
        Some(worker) if worker.cordoned => Some(Ineligible::Cordoned),
        Some(_) => None,
    }
}

/// What a worker offers, live or gone.
#[derive(Clone, Copy)]
pub struct Offered<'a> {
    kinds: &'a [Kind],
    functions: &'a [String],
    labels: &'a BTreeMap<String, String>,
    total: &'a Resources,
}

impl<'a> From<&'a Session> for Offered<'a> {
    fn from(session: &'a Session) -> Offered<'a> {
        let Session { kinds, functions, labels, capacity, .. } = session;
        Offered { kinds, functions, labels, total: &capacity.total }
    }
}

impl<'a> From<&'a Worker> for Offered<'a> {
    fn from(worker: &'a Worker) -> Offered<'a> {
        let Worker { kinds, functions, labels, capacity, .. } = worker;
        Offered { kinds, functions, labels, total: &capacity.total }
    }
}

/// Everything for which the worker could never take tasks of the class, however idle.
pub fn misfits<'a>(offered: Offered<'a>, class: &'a ClassKey) -> impl Iterator<Item = Ineligible> + 'a {
    let Offered { kinds, functions, labels, total } = offered;
    let kind = (!kinds.contains(&class.kind)).then_some(Ineligible::Kind { kind: class.kind });
    let function = class.function.as_ref().filter(|name| !functions.contains(name));
    let function = function.map(|function| Ineligible::Function { function: function.clone() });
    let unmet = class.constraints.iter().filter(|constraint| !constraint.holds(labels));
    let unmet = unmet.map(|constraint| Ineligible::Label { constraint: constraint.clone() });
    let large = class.resources.iter().filter(|(name, asked)| *asked > total.get(name));
    let large = large.map(|(name, asked)| Ineligible::TooLarge {
        resource: name.to_owned(),
        asked,
        total: total.get(name),
    });
    kind.into_iter().chain(function).chain(unmet).chain(large)
}

/// How many members of a gang a worker with these resources could have at once, were it idle.
pub fn members_when_idle(total: &Resources, class: &ClassKey) -> u64 {
    let fits = class.resources.iter().map(|(name, asked)| total.get(name) / asked.max(1));
    let most = if class.resources.named.apart.is_empty() { class.gang } else { 1 };
    fits.min().unwrap_or(u64::MAX).min(most.into())
}

/// The same of all workers that are known, here or not, as far as it takes to have all; `None`: there is none.
pub fn members_when_all_idle(state: &State, class: &ClassKey) -> Option<u64> {
    let live =
        state.sessions().filter(|session| !session.ended).map(|row| (Offered::from(row), &row.capacity));
    let gone = state.workers().filter(|worker| worker.session.is_none());
    let gone = gone.map(|worker| (Offered::from(worker), &worker.capacity));
    let members = live.chain(gone).map(|(offered, capacity)| {
        let suits = misfits(offered, class).next().is_none();
        if suits { members_when_idle(&capacity.total, class) } else { 0 }
    });
    let mut all = None;
    for room in members {
        all = Some(all.unwrap_or(0) + room);
        // More of them could not make a difference.
        if all >= Some(class.gang.into()) {
            break;
        }
    }
    all
}

/// Whether the worker drains for another task than this.
pub fn unreserved(state: &State, session: &Session, job: JobId, tasks: Run) -> Result<(), Ineligible> {
    match drains_for(state, session) {
        Some((other, task)) if !may_use(state, (other, task), job, tasks) => {
            Err(Ineligible::Reserved { job: other, task })
        }
        _ => Ok(()),
    }
}

/// Whether what drains for `kept` is open to these tasks of the job: it is one of them, or has to give way to them.
pub fn may_use(state: &State, kept: (JobId, u32), job: JobId, tasks: Run) -> bool {
    (kept.0 == job && tasks.contains(kept.1)) || goes_before(state, job, kept)
}

/// Whether tasks of the job may use what drains for that one: it would have to give way to them once it is there.
pub fn goes_before(state: &State, job: JobId, (other, task): (JobId, u32)) -> bool {
    let is_gang = || state.job(other).and_then(|job| job.group_of(task)).is_some_and(|(_, group)| group.gang);
    outranks(state, job, other) && !is_gang()
}

/// Times `starve_after` for which a worker drains without anything ending on it: then it may be held for ever, and
/// another one is to drain.
const DRAIN_PATIENCE: u32 = 8;

/// When the session has drained in vain for long enough.
pub(crate) fn patience_ends(state: &State, session: &Session) -> Elapsed {
    let patience = Duration::from_secs(state.limits().starve_after_s.max(1)) * DRAIN_PATIENCE;
    session.reserved_since.plus(patience)
}

/// The task that the session drains for, while it waits and there is hope.
pub fn drains_for(state: &State, session: &Session) -> Option<(JobId, u32)> {
    session.reserved.filter(|(job, task)| !session.in_vain && still_waits(state, *job, *task))
}

/// Whether the task of a reservation could still use it.
pub fn still_waits(state: &State, job: JobId, task: u32) -> bool {
    let Some(job) = state.job(job) else { return false };
    let Some((_, group)) = job.group_of(task) else { return false };
    group.ready.contains(task - group.first) && gate(state, job, group).is_ok()
}

/// Whether a task of the job's group leaves room for what is booked on the worker.
pub fn unbooked(
    state: &State,
    session: &Session,
    free: &Resources,
    class: &ClassKey,
    (job, place): (&Job, usize),
) -> Result<(), Ineligible> {
    if state.bookings.is_empty() {
        return Ok(());
    }
    let (booked, length) = (state.booked(session), state.estimate_of(job, place));
    match in_the_way(&booked, free, &class.resources, job.queue, state.now(), length) {
        Some(booking) => Err(Ineligible::Booked { booking: booking.name.clone() }),
        None => Ok(()),
    }
}

/// Whether work of the class may be sent ahead, beyond what the worker has free.
pub fn has_credit(state: &State, session: &Session, class: &ClassKey) -> Result<(), Ineligible> {
    let names_units = class.resources.iter().any(|(name, _)| session.capacity.indexed.contains_key(name));
    let held = state.held(session.id).count();
    let stands_apart = !class.resources.named.apart.is_empty();
    let is_booked = !state.bookings.is_empty() && !state.booked(session).is_empty();
    if names_units || stands_apart || is_booked || held >= state.limits().credit_per_session_max as usize {
        return Err(Ineligible::NoCredit);
    }
    Ok(())
}

/// What the worker has too little of now.
pub fn has_room(room: &Room, class: &ClassKey) -> Result<(), Ineligible> {
    match room.fit(&class.resources) {
        Some(_) => Ok(()),
        None => shortages(room, class).next().map_or(Ok(()), Err),
    }
}

/// Everything that the worker has too little of now, or enough of only in pieces of several units, and whom it has that the
/// tasks keep away from.
pub fn shortages<'a>(room: &'a Room, class: &'a ClassKey) -> impl Iterator<Item = Ineligible> + 'a {
    let is_short = |name: &str, asked: u64| {
        let units = room.units.get(name);
        asked > room.free.get(name) || units.is_some_and(|free| choose_units(name, free, asked).is_none())
    };
    let short = class.resources.iter().filter(move |(name, asked)| is_short(name, *asked));
    let short = short.map(|(name, asked)| Ineligible::NoRoom {
        resource: name.to_owned(),
        asked,
        free: room.free.get(name),
    });
    let apart = room.free.apart_from(&class.resources);
    short.chain(apart.map(|name| Ineligible::Apart { name: name.to_owned() }))
}
