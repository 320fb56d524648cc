//! Work sent ahead: a busy worker gets a little more than it has room for, so that it need not wait for the leader
//! between two short tasks. It takes no capacity before it starts, and goes back if another worker has room first.

use std::time::Duration;

use machine::eligible::{accepts, drains_for, has_credit, has_room};
use machine::state::sessions::Class;
use machine::{Allocation, Group, Session, State};
use model::{ClassId, Seq, SessionId, Verdict};

use crate::overlay::Overlay;
use crate::overlay::room;
use crate::place::Round;

/// Only what has shown to be shorter is sent ahead: somebody more urgent may come meanwhile, and then waits for it.
pub const HELD_RUN_TIME_MAX: Duration = Duration::from_secs(1);

/// The session that holds least among those that take the class and have credit left.
pub(crate) fn choose(round: &Round<'_>, class: ClassId, row: &Class, group: &Group) -> Option<SessionId> {
    let state = round.state;
    if !is_short(group) {
        return None;
    }
    let busy_for_long = |id: &SessionId| round.ahead.as_ref().is_some_and(|busy| busy.contains(id));
    let held = |id: SessionId| {
        let session = state.session(id).filter(|session| has_credit(state, session, &row.key).is_ok())?;
        // Behind something long it would wait as long.
        if !session.allocations.values().all(|allocation| is_short_work(state, allocation)) {
            return None;
        }
        let count = state.held(id).count() as u32 + round.taken.held.get(&id).copied().unwrap_or(0);
        (count < state.limits().credit_per_session_max).then_some((count, id))
    };
    let takers = round.takers_of(class, row).filter(|id| !busy_for_long(id));
    takers.filter_map(held).min().map(|(_, id)| id)
}

fn is_short_work(state: &State, allocation: &Allocation) -> bool {
    let group = state.job(allocation.job).and_then(|job| job.group_of(allocation.tasks.first));
    group.is_some_and(|(_, group)| is_short(group))
}

/// Outcomes looked at, from the end of the group.
const OUTCOMES_MAX: usize = 8;

/// Whether the last member of the group that is known to have succeeded took little time.
pub(crate) fn is_short(group: &Group) -> bool {
    let mut last = group.outcomes.values().rev().take(OUTCOMES_MAX).map(|run| &run.outcome);
    let succeeded = last.find(|outcome| outcome.verdict == Verdict::Succeeded);
    let took = succeeded.and_then(|outcome| Some(outcome.ended.since(outcome.started?)));
    took.is_some_and(|took| took <= HELD_RUN_TIME_MAX)
}

/// What should be given back, because another worker has room for it now. To be asked after a plan that found nothing
/// to do: what waits then has no use for that room.
pub fn recalls(state: &State, overlay: &Overlay) -> Vec<(SessionId, Seq)> {
    let mut out = Vec::new();
    let holders: Vec<&Session> = state
        .sessions()
        .filter(|session| !session.ended && state.held(session.id).next().is_some())
        .collect();
    if holders.is_empty() {
        return out;
    }
    let taken = overlay.taken(state);
    let mut idle: Vec<_> = state
        .sessions()
        .filter(|session| !session.ended && drains_for(state, session).is_none())
        .filter(|session| state.held(session.id).next().is_none())
        .map(|session| (session, room(state, session, &taken)))
        .collect();
    for session in holders {
        // The last one first: it would wait longest.
        for allocation in state.held(session.id).rev() {
            let group = state.job(allocation.job).and_then(|job| job.group_of(allocation.tasks.first));
            let Some(class) = group.and_then(|(_, group)| state.class(group.class)) else { continue };
            let fits = |(other, room): &&mut (&Session, _)| {
                accepts(state, other, &class.key).is_ok() && has_room(room, &class.key).is_ok()
            };
            let Some((_, room)) = idle.iter_mut().find(fits) else { continue };
            if let Some(units) = room.fit(&class.key.resources) {
                room.take(&class.key.resources, &units);
            }
            out.push((session.id, allocation.seq));
        }
    }
    out
}
