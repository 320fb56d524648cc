//! Queues and settings.

use std::sync::Arc;

use model::Settings;
use model::validate::is_name;

use crate::apply::write::within;
use crate::command::WEIGHT_MAX;
use crate::state::State;
use crate::state::queues::Queue;
use crate::{Event, QueueSpec, Rejection, Reply};

pub(crate) fn put(state: &mut State, spec: &QueueSpec) -> Result<Reply, Rejection> {
    if !is_name(&spec.name) {
        let message = "a queue name has letters, digits, -, _ and . only".to_owned();
        return Err(Rejection::Invalid {
            errors: vec![model::SpecError { path: "name".to_owned(), message }],
        });
    }
    within(spec.weight.into(), WEIGHT_MAX.into(), "weight", "the queue's weight")?;
    if spec.weight == 0 {
        let message = "a weight is 1 to 10,000".to_owned();
        return Err(Rejection::Invalid {
            errors: vec![model::SpecError { path: "weight".to_owned(), message }],
        });
    }
    let id = match state.index.queue_names.get(&spec.name) {
        Some(id) => *id,
        None => {
            let count = state.queues.len() as u64 + 1;
            within(count, state.limits().queues_max.into(), "queues_max", "queues")?;
            add(state, &spec.name, spec.weight)
        }
    };
    let queue = state.queues.get_mut(&id).expect("found or added above");
    // One that comes back is as a new one would be.
    queue.paused &= !queue.deleted;
    (queue.weight, queue.running_max, queue.deleted) = (spec.weight, spec.running_max, false);
    changed(state, &spec.name)
}

fn add(state: &mut State, name: &str, weight: u32) -> u32 {
    let id = state.meta.next_queue;
    state.meta.next_queue += 1;
    let queue = Queue::new(id, name, weight, state.now());
    state.queues.insert(id, queue);
    state.index.queue_names.insert(name.to_owned(), id);
    id
}

fn changed(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    state.event(Event::Queue { queue: name.to_owned() });
    state.wake();
    Ok(Reply::Done)
}

fn named<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Queue, Rejection> {
    let id = state.queue_named(name).map(|queue| queue.id);
    let id = id.ok_or_else(|| Rejection::UnknownQueue { queue: name.to_owned() })?;
    Ok(state.queues.get_mut(&id).expect("looked up by name"))
}

pub(crate) fn pause(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    named(state, name)?.paused = true;
    changed(state, name)
}

pub(crate) fn resume(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let now = state.now();
    let queue = named(state, name)?;
    (queue.paused, queue.resumed) = (false, now);
    changed(state, name)
}

pub(crate) fn delete(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    if name == model::spec::QUEUE_DEFAULT {
        return Err(Rejection::QueueDefault);
    }
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
