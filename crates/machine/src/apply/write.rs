//! A client's write: done once per request id, but for claims.

use crate::apply::{adapt, bookings, cancel, change, claim, periodic, queues, retry, sessions, submit};
use crate::state::State;
use crate::{Op, Rejection, Reply, Write, level};

pub(crate) fn apply(state: &mut State, write: &Write) -> Reply {
    // A repeated claim is another one, and loses what the first has won: it takes no room from what has to be known.
    if matches!(write.op, Op::Claim { .. }) {
        return done(state, write).unwrap_or_else(Reply::from);
    }
    let wall = state.stamp().wall;
    let settings = state.meta.settings.clone();
    if let Some(reply) = state.requests.known(write.request, write.body_hash, wall, &settings.limits) {
        return reply;
    }
    let reply = done(state, write).unwrap_or_else(Reply::from);
    // The proposer's number was at fault, not the client's write: with another number it may be done yet.
    if reply.rejection() == Some(&Rejection::StaleId) {
        return reply;
    }
    let now = state.now();
    state.requests.remember(write.request, write.body_hash, reply.clone(), now);
    reply
}

fn done(state: &mut State, write: &Write) -> Result<Reply, Rejection> {
    if write.actor.tenant != model::actor::TENANT_DEFAULT {
        return Err(Rejection::Tenant { tenant: write.actor.tenant.clone() });
    }
    match &write.op {
        Op::Submit { job, spec } => {
            periodic::refuse_owned(state, &spec.queue)?;
            submit::apply(state, *job, spec, &write.actor)
        }
        Op::Cancel { targets } => cancel::apply(state, targets),
        Op::Pause { jobs } => change::pause(state, jobs),
        Op::Resume { jobs } => change::resume(state, jobs),
        Op::Retry { targets, failed_only } => retry::apply(state, targets, *failed_only),
        Op::SetJob { job, change } => change::set_job(state, *job, change),
        Op::PutQueue(spec) => queues::put(state, spec),
        Op::PauseQueue { name } => queues::pause(state, name),
        Op::ResumeQueue { name } => queues::resume(state, name),
        Op::DeleteQueue { name } => queues::delete(state, name),
        Op::Adapt { queue, adaptation } => adapt::apply(state, queue, adaptation),
        Op::UndoAdapt { queue } => adapt::undo(state, queue),
        Op::Cordon { worker } => sessions::cordon(state, worker),
        Op::Uncordon { worker } => sessions::uncordon(state, worker),
        Op::Drain { worker } => sessions::drain(state, worker),
        Op::ForgetWorker { worker } => sessions::forget(state, worker),
        Op::PutSettings(settings) => queues::put_settings(state, settings),
        Op::PutSetting { path, value } => queues::put_setting(state, path, value),
        Op::Upgrade { level } => level::upgrade(state, *level),
        Op::PutBooking(spec) => bookings::put(state, spec),
        Op::DeleteBooking { name } => bookings::delete(state, name),
        Op::PutPeriodic(spec) => periodic::put(state, spec, &write.actor),
        Op::DeletePeriodic { name } => periodic::delete(state, name),
        Op::Claim { session, placements } => claim::apply(state, *session, placements),
    }
}

/// Refuses what would go above a limit, by its name.
pub(crate) fn within(value: u64, max: u64, limit: &str, what: &str) -> Result<(), Rejection> {
    if value <= max {
        return Ok(());
    }
    Err(Rejection::Limit { limit: limit.to_owned(), max, what: what.to_owned() })
}
