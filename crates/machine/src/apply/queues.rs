//! Queues and settings.

use std::sync::Arc;
use std::time::Duration;

use model::policy::{Order, QUANTUM_DEFAULT, QueuePolicy};
use model::validate::{NAME_BYTES_MAX, is_name};
use model::{JobId, Settings};

use crate::apply::bookings;
use crate::apply::deps::LOOKED_UP_PER_ROW;
use crate::apply::periodic::refuse_owned;
use crate::apply::write::within;
use crate::chores::{Budget, Chore};
use crate::command::{WEIGHT_DEFAULT, weight_refusal};
use crate::state::State;
use crate::state::deficit::Deficit;
use crate::state::queues::{Queue, QueueId};
use crate::state::users::USERS_MAX;
use crate::{Event, QueueSpec, Rejection, Reply};

pub(crate) fn put(state: &mut State, spec: &QueueSpec) -> Result<Reply, Rejection> {
    // What it weighs against others is for people to say.
    if *spec != (QueueSpec { name: spec.name.clone(), weight: spec.weight, ..QueueSpec::default() }) {
        refuse_owned(state, &spec.name)?;
    }
    let known = state.index.queue_names.get(&spec.name).and_then(|id| state.queues.get(id));
    check(spec, known.filter(|queue| !queue.deleted))?;
    check_shares(spec, known)?;
    keeps_bookings(state, &spec.name, policy(spec, known.map(|queue| queue.policy).unwrap_or_default()))?;
    let id = match state.index.queue_names.get(&spec.name) {
        Some(id) => *id,
        None => {
            let count = state.queues.len() as u64 + 1;
            within(count, state.limits().queues_max.into(), "queues_max", "queues")?;
            add(state, &spec.name)
        }
    };
    let turn = state.turn();
    let queue = state.queues.get_mut(&id).expect("found or added above");
    let before = queue.policy;
    queue.settle_deficit(turn);
    let room = queue.room_beside(0);
    if std::mem::take(&mut queue.deleted) {
        // One that comes back is as a new one would be.
        (queue.paused, queue.weight, queue.running_max) = (false, WEIGHT_DEFAULT, None);
        (queue.auto, queue.adapted) = (false, None);
        queue.policy = QueuePolicy::default();
        queue.users.reset_weights();
        queue.deficit = Deficit::new(turn);
    }
    queue.weight = spec.weight.unwrap_or(queue.weight);
    queue.running_max = if spec.no_running_max { None } else { spec.running_max.or(queue.running_max) };
    if room == 0 && queue.room_beside(0) > 0 {
        queue.end_rest(turn);
    }
    queue.policy = policy(spec, queue.policy);
    queue.auto = spec.auto.unwrap_or(queue.auto);
    // By hand: there is nothing to go back to.
    queue.adapted = queue.adapted.take().filter(|adapted| adapted.to == queue.policy);
    for (user, weight) in &spec.shares {
        queue.users.set_weight(user, *weight, turn.now, turn.half_life);
    }
    heed(state, id, before);
    changed(state, &spec.name)
}

pub(crate) fn keeps_bookings(state: &State, name: &str, policy: QueuePolicy) -> Result<(), Rejection> {
    let booking = state.bookings().find(|booking| booking.queue.as_deref() == Some(name));
    match booking.filter(|_| policy.promises()) {
        Some(booking) => Err(bookings::no_promises("backfill", &booking.name)),
        None => Ok(()),
    }
}

/// What follows from another policy than `before`.
pub(crate) fn heed(state: &mut State, id: QueueId, before: QueuePolicy) {
    let now = state.queues[&id].policy;
    if (now.order, now.ageing) != (before.order, before.ageing) {
        state.chores.push_back(Chore::Rank { queue: id, below: JobId(u64::MAX) });
    }
    // What was promised by another rule is promised anew.
    if now.backfill != before.backfill {
        forget_promises(state, id);
    }
}

fn forget_promises(state: &mut State, id: QueueId) {
    let promised: Vec<_> = state.queues[&id].promises.keys().copied().collect();
    promised.into_iter().for_each(|whose| state.set_promise(id, whose, None, false));
    state.queues.get_mut(&id).into_iter().for_each(|queue| queue.loosened = false);
}

/// The queue's policy, with what is given of it changed.
fn policy(spec: &QueueSpec, before: QueuePolicy) -> QueuePolicy {
    let order = spec.order.unwrap_or(before.order);
    let by_priority = order == Order::Priority;
    let by_slices = order == Order::RoundRobin;
    let quantum = if by_slices && before.quantum.is_zero() { QUANTUM_DEFAULT } else { before.quantum };
    let kept = if by_priority { before.ageing } else { Duration::ZERO };
    QueuePolicy {
        order,
        ageing: spec.ageing.unwrap_or(kept),
        backfill: spec.backfill.unwrap_or(before.backfill),
        preempt: spec.preempt.unwrap_or(before.preempt && by_priority),
        quantum: spec.quantum.unwrap_or(if by_slices { quantum } else { Duration::ZERO }),
        mode: spec.mode.unwrap_or(before.mode),
        yields: before.yields,
    }
}

/// Ranks the jobs of a queue, whose order has changed, from the newest on.
pub(crate) fn rank(state: &mut State, queue: QueueId, below: JobId, budget: &mut Budget) -> Option<Chore> {
    let mut next = below;
    loop {
        if budget.is_spent() {
            return Some(Chore::Rank { queue, below: next });
        }
        // Even those of other queues are looked at.
        let mut looked_at = 0;
        let found = state.jobs.below(next.0).map(|(_, job)| job).take(LOOKED_UP_PER_ROW).inspect(|job| {
            looked_at += 1;
            next = job.id;
        });
        let found = found.filter(|job| job.queue == queue && !job.is_finished());
        let found = found.map(|job| (job.id, job.groups.len())).next();
        budget.spend(1);
        if looked_at == 0 {
            // There may be another first one now.
            state.wake();
            return None;
        }
        if let Some((id, groups)) = found {
            budget.spend(groups);
            state.rank_anew(id);
        }
    }
}

fn check_shares(spec: &QueueSpec, known: Option<&Queue>) -> Result<(), Rejection> {
    let invalid = |message: String| {
        let error = model::SpecError { path: "shares".to_owned(), message };
        Err(Rejection::Invalid { errors: vec![error] })
    };
    for (user, weight) in &spec.shares {
        if user.is_empty() || user.len() > NAME_BYTES_MAX {
            return invalid(format!(
                "the name of a user has 1 to {NAME_BYTES_MAX} bytes, not {}",
                user.len()
            ));
        }
        if let Some(why) = weight_refusal(*weight) {
            return invalid(format!("of user `{user}`: {why}"));
        }
    }
    match known {
        Some(queue) if !queue.users.has_room(&spec.shares) => too_many_users(),
        None if spec.shares.len() > USERS_MAX => too_many_users(),
        _ => Ok(()),
    }
}

fn too_many_users() -> Result<(), Rejection> {
    let message =
        format!("a queue tells {USERS_MAX} users apart; give some of them a share of {WEIGHT_DEFAULT}");
    let error = model::SpecError { path: "shares".to_owned(), message };
    Err(Rejection::Invalid { errors: vec![error] })
}

fn check(spec: &QueueSpec, before: Option<&Queue>) -> Result<(), Rejection> {
    let refuse = |path: &str, message: &str| {
        let error = model::SpecError { path: path.to_owned(), message: message.to_owned() };
        Err(Rejection::Invalid { errors: vec![error] })
    };
    if !is_name(&spec.name) {
        return refuse("name", "a queue name has letters, digits, -, _ and . only");
    }
    if let Some(why) = spec.weight.and_then(weight_refusal) {
        return refuse("weight", &why);
    }
    let wanted = policy(spec, before.map(|queue| queue.policy).unwrap_or_default());
    let auto = spec.auto.unwrap_or(before.is_some_and(|queue| queue.auto));
    let refusal = wanted.refusal().or_else(|| wanted.auto_refusal().filter(|_| auto));
    if let Some((path, message)) = refusal {
        return refuse(path, &message);
    }
    if spec.no_running_max && spec.running_max.is_some() {
        return refuse("running_max", "give either running_max or no_running_max");
    }
    Ok(())
}

pub(crate) fn add(state: &mut State, name: &str) -> u32 {
    let id = state.meta.next_queue;
    state.meta.next_queue += 1;
    let queue = Queue::new(id, name, WEIGHT_DEFAULT, state.turn());
    state.queues.insert(id, queue);
    state.index.queue_names.insert(name.to_owned(), id);
    id
}

pub(crate) fn changed(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    state.event(Event::Queue { queue: name.to_owned() });
    state.wake();
    Ok(Reply::Done)
}

pub(crate) fn named<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Queue, Rejection> {
    let id = state.queue_named(name).map(|queue| queue.id);
    let id = id.ok_or_else(|| Rejection::UnknownQueue { queue: name.to_owned() })?;
    Ok(state.queues.get_mut(&id).expect("looked up by name"))
}

pub(crate) fn pause(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let queue = named(state, name)?;
    queue.paused = true;
    // Nobody waits for what starts nobody knows when.
    let id = queue.id;
    forget_promises(state, id);
    changed(state, name)
}

pub(crate) fn resume(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let turn = state.turn();
    let queue = named(state, name)?;
    (queue.paused, queue.resumed) = (false, turn.now);
    queue.end_rest(turn);
    changed(state, name)
}

pub(crate) fn delete(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    if name == model::spec::QUEUE_DEFAULT {
        return Err(Rejection::QueueDefault);
    }
    refuse_owned(state, name)?;
    let queue = named(state, name)?;
    if queue.unfinished_jobs > 0 {
        return Err(Rejection::QueueInUse { queue: name.to_owned(), jobs: queue.unfinished_jobs });
    }
    queue.deleted = true;
    let (id, unused) = (queue.id, queue.jobs == 0);
    if unused {
        drop_queue(state, id);
    }
    changed(state, name)
}

/// A deleted queue leaves with the last job that names it.
pub(crate) fn drop_queue(state: &mut State, id: u32) {
    if let Some(queue) = state.queues.remove(&id) {
        state.index.queue_names.remove(&queue.name);
    }
}

pub(crate) fn put_setting(state: &mut State, path: &str, value: &str) -> Result<Reply, Rejection> {
    let mut settings = state.settings().clone();
    settings.set(path, value).map_err(|error| Rejection::Invalid { errors: vec![error] })?;
    put_settings(state, &settings)
}

pub(crate) fn put_settings(state: &mut State, settings: &Settings) -> Result<Reply, Rejection> {
    let mut errors = settings.validate();
    if settings.failover != state.settings().failover {
        let message = "the election timing is set when the replicas start; it cannot change while they run";
        errors.push(model::SpecError { path: "failover".to_owned(), message: message.to_owned() });
    }
    if !errors.is_empty() {
        return Err(Rejection::Invalid { errors });
    }
    state.meta.settings = Arc::new(settings.clone());
    state.wake();
    Ok(Reply::Done)
}
