//! A task that was passed over for too long gets a worker that drains for it.

use std::cmp::Reverse;
use std::time::Duration;

use machine::eligible::{accepts, still_waits};
use machine::state::index::ReadyKey;
use machine::{Reservation, Session, State};
use model::{ClassId, JobId, SessionId};

use crate::place::{Round, takers};

/// Reserves for the group at `key`, whose class has found no room, if it has waited long enough.
pub(crate) fn for_starving(round: &mut Round<'_>, key: ReadyKey, class: ClassId) {
    let state = round.state;
    let Some((job, row)) = state.job(key.job).zip(state.class(class)) else { return };
    let group = &job.groups[key.group as usize];
    let patience = Duration::from_secs(state.limits().starve_after_s);
    let Some(run) = group.ready.first() else { return };
    let task = group.first + run.first;
    let has_one = round.reserved.values().any(|(other, number)| *other == key.job && *number == task);
    if has_one || state.stamp().elapsed.since(group.passed_since) < patience {
        return;
    }
    // The emptiest that takes the class at all: it is the first to have room.
    let free = |session: &SessionId| round.rooms[session].free.dominant_share(state.total());
    let open = takers(state, row).into_iter().filter(|session| !round.reserved.contains_key(session));
    let Some(session) = open.min_by_key(|session| (Reverse(free(session)), *session)) else { return };
    round.reserved.insert(session, (key.job, task));
    round.plan.reservations.push(Reservation { session, job: key.job, task });
}

/// Whether the session, for which `task` is reserved, can still come to take it.
pub(crate) fn holds(state: &State, session: &Session, (id, task): (JobId, u32)) -> bool {
    let class =
        state.job(id).and_then(|job| job.group_of(task)).and_then(|(_, group)| state.class(group.class));
    class.is_some_and(|class| accepts(state, session, &class.key).is_ok()) && still_waits(state, id, task)
}
