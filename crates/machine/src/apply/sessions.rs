//! Workers come, go, are cordoned and drained.

use model::validate::validate_offer;
use model::views::WorkerState;
use model::{Elapsed, Resources, SessionId};

use crate::apply::report;
use crate::apply::write::within;
use crate::chores::{Budget, Chore};
use crate::state::State;
use crate::state::sessions::{Session, Worker};
use crate::{Effect, Event, OpenSession, Opened, Rejection, Reply};

pub(crate) fn open(state: &mut State, open: &OpenSession) -> Result<Reply, Rejection> {
    if open.session <= state.meta.last_session {
        return Err(Rejection::StaleId);
    }
    // Units become numbers in the state and amounts are added up on every replica: neither may be anything.
    let errors = validate_offer(&open.worker, &open.capacity, &open.labels);
    if !errors.is_empty() {
        return Err(Rejection::Invalid { errors });
    }
    let known = state.workers.get(&open.worker);
    if known.and_then(|worker| worker.session).is_some() {
        return Err(Rejection::WorkerLive { worker: open.worker.clone() });
    }
    if known.is_none() {
        within(state.workers.len() as u64 + 1, state.limits().workers_max.into(), "workers_max", "workers")?;
    }
    state.meta.last_session = open.session;
    let lease = state.settings().lease;
    let session = Session {
        id: open.session,
        worker: open.worker.clone(),
        secret_hash: open.secret_hash,
        lease,
        ended: false,
        capacity: open.capacity.clone(),
        labels: open.labels.clone(),
        kinds: open.kinds.clone(),
        functions: open.functions.clone(),
        isolation: open.isolation.clone(),
        used: Resources::default(),
        units: Session::fresh_units(&open.capacity),
        last_seq: 0,
        allocations: Default::default(),
        reserved: None,
        in_vain: false,
        reserved_since: Elapsed::default(),
    };
    state.total.add(&session.capacity.total);
    state.loosen();
    state.sessions.insert(open.session.0, session);
    remember_worker(state, open);
    tell(state, &open.worker);
    state.effect(Effect::SessionOpened { session: open.session });
    state.wake();
    Ok(Reply::SessionOpened(Box::new(Opened { session: open.session, lease })))
}

fn remember_worker(state: &mut State, open: &OpenSession) {
    let before = state.workers.get(&open.worker);
    let worker = Worker {
        name: open.worker.clone(),
        // A cordon is the operator's and outlives the process; a drain ends with it.
        cordoned: before.is_some_and(|worker| worker.cordoned),
        draining: false,
        session: Some(open.session),
        capacity: open.capacity.clone(),
        labels: open.labels.clone(),
        kinds: open.kinds.clone(),
        functions: open.functions.clone(),
        isolation: open.isolation.clone(),
    };
    state.workers.insert(open.worker.clone(), worker);
}

pub fn worker_state(worker: &Worker) -> WorkerState {
    match (worker.session, worker.draining, worker.cordoned) {
        (None, _, _) => WorkerState::Gone,
        (Some(_), true, _) => WorkerState::Draining,
        (Some(_), false, true) => WorkerState::Cordoned,
        (Some(_), false, false) => WorkerState::Live,
    }
}

fn tell(state: &mut State, name: &str) {
    let Some(now) = state.workers.get(name).map(worker_state) else { return };
    state.event(Event::Worker { worker: name.to_owned(), state: now });
}

pub(crate) fn end(state: &mut State, id: SessionId) -> Result<Reply, Rejection> {
    let session = state.sessions.get_mut(id.0).filter(|session| !session.ended);
    let session = session.ok_or(Rejection::SessionEnded { session: id })?;
    session.ended = true;
    let (name, capacity) = (session.worker.clone(), session.capacity.total.clone());
    state.set_reserved(id, None);
    state.total.subtract(&capacity);
    if let Some(worker) = state.workers.get_mut(&name) {
        worker.session = None;
        worker.draining = false;
    }
    tell(state, &name);
    state.chores.push_back(Chore::EndSession { session: id });
    state.effect(Effect::SessionEnded { session: id });
    // What was reserved on it must be planned anew.
    state.wake();
    Ok(Reply::Done)
}

/// Declares lost what the session still held, and then forgets it.
pub(crate) fn take_back(state: &mut State, id: SessionId, budget: &mut Budget) -> Option<Chore> {
    loop {
        let session = state.sessions.get_mut(id.0)?;
        let Some(next) = session.allocations.first_entry() else { break };
        // An allocation is taken back whole: its tasks are few by TASKS_PER_PLACEMENT_MAX.
        let rows = next.get().tasks.len as usize;
        if !budget.has(rows) {
            return Some(Chore::EndSession { session: id });
        }
        budget.spend(rows);
        let allocation = next.remove();
        let worker = session.worker.clone();
        report::lose(state, id, &allocation, &worker);
    }
    state.sessions.remove(id.0);
    None
}

fn worker<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Worker, Rejection> {
    state.workers.get_mut(name).ok_or_else(|| Rejection::UnknownWorker { worker: name.to_owned() })
}

pub(crate) fn cordon(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    worker(state, name)?.cordoned = true;
    clear_reservation(state, name);
    tell(state, name);
    Ok(Reply::Done)
}

pub(crate) fn uncordon(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let worker = worker(state, name)?;
    (worker.cordoned, worker.draining) = (false, false);
    tell(state, name);
    state.wake();
    Ok(Reply::Done)
}

pub(crate) fn drain(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let worker = worker(state, name)?;
    worker.draining = worker.session.is_some();
    clear_reservation(state, name);
    tell(state, name);
    Ok(Reply::Done)
}

/// A worker that takes no more work cannot be kept free for a task: another one must be found for it.
fn clear_reservation(state: &mut State, name: &str) {
    let Some(id) = state.workers.get(name).and_then(|worker| worker.session) else { return };
    if state.session(id).is_some_and(|session| session.reserved.is_some()) {
        state.set_reserved(id, None);
        state.wake();
    }
}

pub(crate) fn forget(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    if worker(state, name)?.session.is_some() {
        return Err(Rejection::WorkerLive { worker: name.to_owned() });
    }
    state.workers.remove(name);
    Ok(Reply::Done)
}
