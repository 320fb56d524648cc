//! A task that was passed over for too long gets a worker that drains for it.
//!
//! Waiting alone is no reason: where everything waits its turn, a worker kept empty only makes it longer. So it is for
//! the first of a queue, or for one that something went before, and few workers drain at a time.

use std::cmp::Reverse;
use std::time::Duration;

use machine::eligible::{accepts, still_waits};
use machine::state::index::ReadyKey;
use machine::{Reservation, Session, State};
use model::{ClassId, Elapsed, JobId, SessionId};

use crate::gang;
use crate::place::Round;

/// One worker in so many may drain, and always one.
const WORKERS_PER_RESERVATION: usize = 4;

/// Reserves for those of the groups at these keys, whose classes have found no room, that have waited long enough.
pub(crate) fn for_starving(round: &mut Round<'_>, passed_over: Vec<(ReadyKey, ClassId)>) {
    let mut starving: Vec<(Elapsed, ReadyKey, ClassId)> =
        passed_over.into_iter().filter_map(|(key, class)| Some((since(round, key)?, key, class))).collect();
    starving.sort();
    let reservations_max = (round.rooms.len() / WORKERS_PER_RESERVATION).max(1);
    for (_, key, class) in starving {
        if let Some((job, row)) = round.state.job(key.job).zip(round.state.class(class))
            && row.key.gang > 0
        {
            gang::reserve(round, class, row, key, &job.groups[key.group as usize]);
            continue;
        }
        if round.reserved.len() >= reservations_max {
            continue;
        }
        reserve(round, key, class);
    }
}

pub(crate) fn is_starving(round: &Round<'_>, key: ReadyKey) -> bool {
    since(round, key).is_some()
}

/// Since when the group has been passed over, if that is too long.
fn since(round: &Round<'_>, key: ReadyKey) -> Option<Elapsed> {
    let state = round.state;
    let job = state.job(key.job)?;
    let group = &job.groups[key.group as usize];
    let taken = round.taken.tasks.get(&key.job);
    if taken.is_some_and(|taken| taken.touches(group.numbers())) {
        // Something of it is on its way.
        return None;
    }
    let since = group.passed_since.max(state.queue(job.queue)?.resumed);
    let patience = Duration::from_secs(state.limits().starve_after_s);
    (state.stamp().elapsed.since(since) >= patience).then_some(since)
}

fn reserve(round: &mut Round<'_>, key: ReadyKey, class: ClassId) {
    let state = round.state;
    let Some((job, row)) = state.job(key.job).zip(state.class(class)) else { return };
    let group = &job.groups[key.group as usize];
    let Some(run) = group.ready.first() else { return };
    let task = (key.job, group.first + run.first);
    if round.reserved.values().any(|other| *other == task) {
        return;
    }
    // Not again the one that has drained in vain; then the emptiest: it is the first to have room.
    let was_in_vain = |session: &SessionId| state.session(*session).is_some_and(|s| s.reserved == Some(task));
    let free = |session: &SessionId| round.rooms[session].free.dominant_share(state.total());
    // What would not take it even when idle need not drain.
    let estimate = round.estimate_if_asked(key.job, key.group);
    let open = round.takers_of(class, row).filter(|session| {
        !round.reserved.contains_key(session)
            && round.is_unbooked_when_idle(*session, key.job, &row.key.resources, estimate)
    });
    let best = open.min_by_key(|session| (was_in_vain(session), Reverse(free(session)), *session));
    let Some(session) = best else { return };
    round.reserved.insert(session, task);
    round.plan.reservations.push(Reservation { session, job: task.0, task: task.1 });
}

/// Whether the session, for which `task` is reserved, can still come to take it.
pub(crate) fn holds(state: &State, session: &Session, (id, task): (JobId, u32)) -> bool {
    let class =
        state.job(id).and_then(|job| job.group_of(task)).and_then(|(_, group)| state.class(group.class));
    class.is_some_and(|class| accepts(state, session, &class.key).is_ok()) && still_waits(state, id, task)
}
