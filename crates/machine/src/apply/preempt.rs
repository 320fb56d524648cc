//! Preemption: a running task gives its room to a waiting one of a higher priority, and waits again. It costs an attempt and
//! none of its retries.

use model::views::TaskState;
use model::{JobId, RunSet, SessionId};

use crate::Preemption;
use crate::apply::cancel::stop_if_idle;
use crate::apply::deps::tell;
use crate::eligible::still_waits;
use crate::state::State;
use crate::state::jobs::Job;
use crate::state::sessions::{Allocation, Phase};

pub(crate) fn apply(state: &mut State, preemption: &Preemption) {
    let Preemption { session, seq, job, task } = *preemption;
    let row = state.session(session).filter(|row| !row.ended);
    let Some(victim) = row.and_then(|row| row.allocations.get(&seq)).cloned() else { return };
    if still_waits(state, job, task) && may_give_way(state, &victim, job) {
        give_way(state, session, &victim);
    }
}

/// Whether the allocation may be stopped for a task of that job: one that the job comes before, and no part of a gang.
pub fn may_give_way(state: &State, victim: &Allocation, to: JobId) -> bool {
    let Some(theirs) = state.job(victim.job) else { return false };
    let Some((_, group)) = theirs.group_of(victim.tasks.first) else { return false };
    victim.phase == Phase::Running
        && !group.gang
        && outranks(state, to, victim.job)
        // It is on its way out already.
        && !theirs.is_cancelling(group)
}

/// Whether tasks of the one job have those of the other give way: they are of one queue, which wants it so, of a higher
/// priority, and come first in spite of what waiting has added to the others.
pub(crate) fn outranks(state: &State, one: JobId, other: JobId) -> bool {
    let (Some(ours), Some(theirs)) = (state.job(one), state.job(other)) else { return false };
    let rank = |job: &Job| job.groups.first().map_or(i64::MAX, |group| group.rank);
    ours.queue == theirs.queue
        && ours.priority > theirs.priority
        && rank(ours) < rank(theirs)
        && state.queue(ours.queue).is_some_and(|queue| queue.policy.preempt && !queue.paused)
}

fn give_way(state: &mut State, session: SessionId, victim: &Allocation) {
    let id = victim.job;
    let Some((place, group)) = state.job(id).and_then(|job| job.group_of(victim.tasks.first)) else { return };
    let Some(positions) = group.positions_of(victim.tasks) else { return };
    if let Some(row) = state.sessions.get_mut(session.0)
        && let Some(allocation) = row.allocations.get_mut(&victim.seq)
    {
        allocation.preempted = true;
        state.index.set_leaving(session, allocation, true);
    }
    let taken: RunSet = state.change_group(id, place, |group| {
        let live = group.take_live(positions, Some((session, victim.seq)));
        for (run, live) in &live {
            group.note_stopping(*run, live.attempt);
            group.begin_rows(*run);
            group.blocked.insert(*run);
        }
        live.into_iter().map(|(run, _)| run).collect()
    });
    stop_if_idle(state, id, place, session, victim.seq);
    tell(state, id, place, &taken, TaskState::Blocked);
    if let Some(queue) = state.queues.get_mut(&victim.queue) {
        queue.preempted += u64::from(taken.len());
    }
}
