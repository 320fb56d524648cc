//! Time slices: a task that has run for a quantum stands still while others of its queue wait, and goes on at the same worker
//! later. It keeps all that it has but the processor time. On a slot of a preemptive periodic set it does so for whoever comes
//! before it, at once.

use std::ops::Bound;

use model::{Elapsed, Kind, Pace, Seq, SessionId};

use crate::apply::place::Uses;
use crate::state::State;
use crate::state::index::ReadyKey;
use crate::state::jobs::Job;
use crate::state::queues::{Queue, QueueId};
use crate::state::sessions::{Allocation, Phase, Session, Slice};
use crate::{Effect, Switch};

/// Whether tasks of the group are to run by slices: only processes can be made to stand still, and members of a gang would
/// wait for each other. Who asks for no processor time has none to give.
pub(crate) fn is_sliced(state: &State, job: &Job, place: usize) -> bool {
    let slices = state.queue(job.queue).is_some_and(|queue| queue.policy.slices() || queue.policy.yields);
    let task = job.task_spec(place);
    slices && !job.groups[place].gang && task.work.kind() == Kind::Process && task.resources.cpu > 0
}

/// Returns whether it was done.
pub(crate) fn apply(state: &mut State, switch: &Switch) -> bool {
    let Switch { session, seq, to } = *switch;
    let Some(row) = state.session(session).filter(|row| !row.ended) else { return false };
    let Some(allocation) = row.allocations.get(&seq) else { return false };
    let is_due = match to {
        Pace::StandsStill => may_suspend(state, allocation),
        Pace::Runs => may_resume(row, allocation) && has_slot(state, allocation),
    };
    if is_due {
        turn(state, session, seq, to);
    }
    is_due
}

/// Whether its slice is over, where others wait; on a slot, whether somebody waits there who comes before it.
pub fn may_suspend(state: &State, allocation: &Allocation) -> bool {
    let Some(Slice { since, behind: None }) = allocation.slice else { return false };
    let Some(queue) = state.queue(allocation.queue).filter(|queue| !queue.paused) else { return false };
    let is_over = match queue.policy.yields {
        true => {
            let first = state.first_ready(queue.id).zip(key_of(state, allocation));
            let is_there = state.job(allocation.job).is_some_and(|job| job.queue == queue.id);
            is_there && first.is_some_and(|(first, own)| first < own)
        }
        false => queue.policy.slices() && since.plus(queue.policy.quantum) <= state.now(),
    };
    allocation.phase == Phase::Running && is_over && !is_cancelling(state, allocation)
}

/// On a slot, whether nobody runs there; elsewhere always.
fn has_slot(state: &State, allocation: &Allocation) -> bool {
    state.queue(allocation.queue).is_none_or(|queue| !queue.is_slot() || state.room_in(queue) > 0)
}

/// Its place among those that wait, were it one of them.
pub fn key_of(state: &State, allocation: &Allocation) -> Option<ReadyKey> {
    let (place, group) = state.job(allocation.job)?.group_of(allocation.tasks.first)?;
    Some(ReadyKey { rank: group.rank, job: allocation.job, group: place as u32 })
}

/// It is on its way out already.
fn is_cancelling(state: &State, allocation: &Allocation) -> bool {
    let job = state.job(allocation.job);
    let group = job.and_then(|job| Some((job, job.group_of(allocation.tasks.first)?.1)));
    group.is_none_or(|(job, group)| job.is_cancelling(group))
}

/// Whether it stands still, and its worker has the processor time for it.
pub fn may_resume(session: &Session, allocation: &Allocation) -> bool {
    allocation.phase == Phase::Running
        && allocation.is_suspended()
        && session.room().free.covers(&allocation.processor())
}

fn turn(state: &mut State, session: SessionId, seq: Seq, to: Pace) {
    let (now, last) = (state.now(), state.meta.last_job);
    let Some(row) = state.sessions.get_mut(session.0) else { return };
    let Some(allocation) = row.allocations.get_mut(&seq) else { return };
    let Some(before) = allocation.slice else { return };
    let (uses, processor, queue) = (Uses::of(allocation), allocation.processor(), allocation.queue);
    state.index.set_slice(session, allocation, false);
    match to {
        Pace::StandsStill => {
            state.index.set_end(session, allocation, false);
            allocation.slice = Some(Slice { since: now, behind: Some(last) });
            state.index.set_slice(session, allocation, true);
            row.give_back(&processor, &[]);
            uses.end(state);
            state.queues.get_mut(&queue).into_iter().for_each(|queue| queue.suspensions += 1);
        }
        Pace::Runs => {
            if allocation.expected != Elapsed::MAX {
                allocation.expected = allocation.expected.plus(now.since(before.since));
            }
            allocation.slice = Some(Slice { since: now, behind: None });
            state.index.set_slice(session, allocation, true);
            state.index.set_end(session, allocation, true);
            row.take(&processor, &[]);
            uses.begin(state);
        }
    }
    state.effect(Effect::Switch { session, seq });
    state.wake();
}

impl State {
    /// For how many more tasks the queue's ceiling leaves room. On a slot whoever stands still is in nobody's place; a task that was
    /// moved to another queue counts there.
    pub fn room_in(&self, queue: &Queue) -> u64 {
        if !queue.is_slot() {
            return queue.room_beside(0);
        }
        let is_own = |row: &Allocation| self.job(row.job).is_some_and(|job| job.queue == queue.id);
        queue.room_beside(self.suspended(queue.id).filter(|(_, row)| is_own(row)).count() as u64)
    }

    fn first_ready(&self, queue: QueueId) -> Option<ReadyKey> {
        self.ready_in(queue).filter_map(|(_, keys)| keys.first()).min().copied()
    }

    /// Tasks of the queue that run by slices, or may give way.
    pub fn running_slices(&self, queue: QueueId) -> impl Iterator<Item = (SessionId, &Allocation)> {
        let running = self.index.slices.get(&queue).into_iter().flat_map(|slices| &slices.running);
        running
            .filter_map(|(_, session, seq)| Some((*session, self.session(*session)?.allocations.get(seq)?)))
    }

    /// Running tasks of the queue whose slices are over, those first whose slices began first.
    pub fn over_slices(&self, queue: QueueId) -> impl Iterator<Item = (SessionId, &Allocation)> {
        let until = self.slice_began(queue, self.now()).map(|at| (at, SessionId(u64::MAX), Seq::MAX));
        let running = self.index.slices.get(&queue).zip(until);
        let over = running.into_iter().flat_map(|(slices, until)| slices.running.range(..=until));
        over.filter_map(|(_, session, seq)| Some((*session, self.session(*session)?.allocations.get(seq)?)))
    }

    /// Tasks of the queue that stand still, in their order.
    pub fn suspended(&self, queue: QueueId) -> impl Iterator<Item = (SessionId, &Allocation)> {
        let slices = self.index.slices.get(&queue);
        let all = slices.into_iter().flat_map(|slices| &slices.suspended);
        all.filter_map(|(_, _, session, seq)| Some((*session, self.session(*session)?.allocations.get(seq)?)))
    }

    /// Queues of which something stands still.
    pub fn with_suspended(&self) -> impl Iterator<Item = QueueId> {
        self.index.slices.iter().filter(|(_, slices)| !slices.suspended.is_empty()).map(|(queue, _)| *queue)
    }

    /// When the first slice is over that is not yet, or somebody has stood still for as long, where somebody waits for that.
    pub(crate) fn next_slice_end(&self) -> Option<Elapsed> {
        let next = |queue: &QueueId| {
            let quantum = self.queue(*queue).filter(|queue| queue.policy.slices())?.policy.quantum;
            let over = self.slice_began(*queue, self.now());
            let after =
                over.map_or(Bound::Unbounded, |at| Bound::Excluded((at, SessionId(u64::MAX), Seq::MAX)));
            let slices = self.index.slices.get(queue)?;
            let times = [&slices.running, &slices.standing];
            let next = times.iter().filter_map(|times| times.range((after, Bound::Unbounded)).next());
            next.map(|(since, ..)| since.plus(quantum)).min()
        };
        self.index.slices.keys().filter(|queue| self.awaits_slices(**queue)).filter_map(next).min()
    }

    /// Whether such a time has come since `before`.
    pub(crate) fn slices_ended(&self, before: Elapsed) -> bool {
        let ended = |queue: &QueueId| {
            let Some(until) = self.slice_began(*queue, self.now()) else { return false };
            let from = self.slice_began(*queue, before).map_or(Elapsed(0), |at| Elapsed(at.0 + 1));
            let range = (from, SessionId(0), 0)..=(until, SessionId(u64::MAX), Seq::MAX);
            let slices = &self.index.slices[queue];
            let mut times = [&slices.running, &slices.standing].into_iter();
            from <= until && times.any(|times| times.range(range.clone()).next().is_some())
        };
        self.index.slices.keys().any(|queue| self.awaits_slices(*queue) && ended(queue))
    }

    /// When slices began that are over at `now`.
    fn slice_began(&self, queue: QueueId, now: Elapsed) -> Option<Elapsed> {
        let quantum = self.queue(queue).filter(|queue| queue.policy.slices())?.policy.quantum;
        now.0.checked_sub(model::time::micros(quantum)).map(Elapsed)
    }

    /// Whether something runs there, and something else waits.
    fn awaits_slices(&self, queue: QueueId) -> bool {
        let Some(slices) = self.index.slices.get(&queue).filter(|slices| !slices.running.is_empty()) else {
            return false;
        };
        !slices.suspended.is_empty() || self.ready_in(queue).next().is_some()
    }
}
