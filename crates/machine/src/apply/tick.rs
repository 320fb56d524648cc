//! What time brings: the end of holds, delays and waits, and the eviction of what is old.

use std::ops::Bound;
use std::time::Duration;

use model::views::TaskState;
use model::{JobId, Run, RunSet, SessionId};

use crate::Reply;
use crate::apply::change::subtract;
use crate::apply::deps::{open_if_free, tell};
use crate::apply::queues::drop_queue;
use crate::apply::{bookings, waits};
use crate::chores::Budget;
use crate::eligible::patience_ends;
use crate::state::State;
use crate::state::index::{Occasion, Timer};
use crate::state::jobs::{Hold, Tombstone};

/// Finished jobs, tombstones and request ids that one entry lets go.
const EVICTIONS_PER_APPLY_MAX: usize = 256;

pub(crate) fn apply(state: &mut State, budget: &mut Budget) -> Reply {
    let rows = state.limits().rows_per_apply_max as usize;
    let mut share = Budget::new(rows / 2);
    let mut last = Bound::Unbounded;
    // One that has to wait for a chore stays, and costs only the look at it: what it waits for needs the rows.
    for _ in 0..rows {
        let next = state.index.timers.range((last, Bound::Unbounded)).next().copied();
        let due = next.filter(|timer| timer.at <= state.now() && !share.is_spent());
        let Some(timer) = due else { break };
        last = Bound::Excluded(timer);
        fire(state, timer, &mut share);
    }
    while !share.is_spent() {
        let due = state.index.wall_timers.first().copied().filter(|(at, _)| *at <= state.stamp().wall);
        let Some((at, job)) = due else { break };
        state.index.wall_timers.remove(&(at, job));
        end_hold(state, job);
        share.spend(1);
    }
    budget.left += share.left;
    give_up_reservations(state);
    bookings::expire(state);
    Reply::Done
}

/// Workers that have drained in vain for long enough are open to others, and another one may drain.
fn give_up_reservations(state: &mut State) {
    let over =
        |id: &SessionId| state.session(*id).is_some_and(|row| patience_ends(state, row) <= state.now());
    let over: Vec<SessionId> = state.index.reserved.iter().copied().filter(over).collect();
    for id in over {
        state.index.reserved.remove(&id);
        if let Some(session) = state.sessions.get_mut(id.0) {
            session.in_vain = true;
        }
        state.wake();
    }
}

fn fire(state: &mut State, timer: Timer, share: &mut Budget) {
    match timer.what {
        Occasion::Hold => {
            state.index.timers.remove(&timer);
            share.spend(1);
            end_hold(state, timer.job);
        }
        Occasion::Delay { group, position } => {
            state.index.timers.remove(&timer);
            share.spend(1);
            end_delay(state, timer.job, group as usize, position);
        }
        // It goes with the last of those that wait.
        Occasion::Wait { group } => waits::end(state, timer.job, group as usize, share),
    }
}

fn end_hold(state: &mut State, id: JobId) {
    if let Some(job) = state.jobs.get_mut(id.0) {
        job.hold = Hold::None;
        job.rare.tidy();
        open_if_free(state, id);
    }
}

fn end_delay(state: &mut State, id: JobId, place: usize, position: u32) {
    if !state.job(id).is_some_and(|job| job.groups[place].delayed.contains_key(&position)) {
        return;
    }
    let run = Run::new(position, 1);
    state.change_group(id, place, |group| {
        group.delayed.remove(&position);
        group.ready.insert(run);
    });
    tell(state, id, place, &RunSet::of(run), TaskState::Ready);
}

/// Bounds what is kept: finished jobs by count and age, request ids by age and count, tombstones by count.
pub(crate) fn evict(state: &mut State, budget: &mut Budget) {
    let settings = state.meta.settings.clone();
    let (now, limits) = (state.now(), &settings.limits);
    state.requests.evict(state.meta.stamp, limits, EVICTIONS_PER_APPLY_MAX);
    let age = Duration::from_secs(limits.finished_age_max_s);
    for _ in 0..EVICTIONS_PER_APPLY_MAX {
        // A chore may still have to tell later jobs how this one ended.
        if !state.chores.is_empty() {
            return;
        }
        let Some((at, id)) = state.index.finished.first().copied() else { return };
        let many = state.index.finished.len() as u64 > limits.finished_jobs_max;
        if budget.is_spent() || (!many && at.plus(age) > now) {
            return;
        }
        budget.spend(state.job(id).map_or(1, |job| job.groups.len()));
        evict_job(state, id);
    }
}

fn evict_job(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.remove(id.0) else { return };
    state.index.reopening.remove(&id);
    if let Some(finished) = job.finished {
        state.index.finished.remove(&(finished.elapsed, id));
        state.tombstones.insert(id.0, Tombstone { state: job.state, finished });
    }
    // Skipped before its hold was over.
    state.index.set_hold(id, job.hold, false);
    job.groups.iter().for_each(|group| state.release_class(group.class));
    state.meta.results_bytes -= job.results_bytes;
    state.leave(job.queue, job.user);
    let queue = state.queues.get_mut(&job.queue).expect("a job's queue exists");
    queue.jobs -= 1;
    subtract(&mut queue.counts, &job.counts());
    if queue.deleted && queue.jobs == 0 {
        drop_queue(state, job.queue);
    }
    // One more than comes: they get fewer, and a limit that was lowered is reached by and by.
    for _ in 0..2 {
        if state.tombstones.len() <= state.limits().tombstones_max {
            return;
        }
        let Some(oldest) = state.tombstones.first() else { return };
        state.tombstones.remove(oldest);
        state.meta.forgotten = state.meta.forgotten.max(JobId(oldest));
    }
}
