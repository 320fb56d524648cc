//! Cancel: a task is final at once; what it took is freed when its worker says that it has ended.

use model::views::TaskState;
use model::{JobId, Run, RunSet, SessionId};

use crate::apply::deps::{each_final, tell};
use crate::apply::write::within;
use crate::chores::{Budget, Chore, Progress, ROWS_PER_APPLY_MAX};
use crate::state::State;
use crate::state::index::Timer;
use crate::state::jobs::{Group, Hold};
use crate::state::sessions::Phase;
use crate::{Effect, Rejection, Reply, Target};

pub(crate) fn apply(state: &mut State, targets: &[Target]) -> Result<Reply, Rejection> {
    // All or nothing: look before the first change.
    let mut rows = 0;
    for target in targets {
        check(state, target)?;
        rows += rows_of(state, target);
    }
    within(rows, ROWS_PER_APPLY_MAX as u64, "rows_per_apply_max", "groups named one by one in a cancel")?;
    let tasks = targets.iter().map(|target| cancel(state, target)).sum();
    // A worker that drained for one of them is open to others.
    state.wake();
    Ok(Reply::Changed { tasks })
}

/// Groups that are cancelled at once; a whole job is only marked.
fn rows_of(state: &State, target: &Target) -> u64 {
    let (Some(job), Some(tasks)) = (state.job(target.job), &target.tasks) else { return 0 };
    job.groups.iter().filter(|group| !tasks.overlap(group.numbers()).is_empty()).count() as u64
}

/// The job and all task numbers of the target exist.
pub(crate) fn check(state: &State, target: &Target) -> Result<(), Rejection> {
    let job = state.job(target.job).ok_or_else(|| unknown(state, target.job))?;
    let beyond = target.tasks.iter().flat_map(RunSet::runs).find(|run| run.end() > job.tasks_count());
    match beyond {
        None => Ok(()),
        Some(run) => Err(Rejection::UnknownTask { job: target.job, task: (run.end() - 1).to_string() }),
    }
}

pub(crate) fn unknown(state: &State, job: JobId) -> Rejection {
    match state.tombstone(job) {
        Some(tombstone) => Rejection::JobFinished { job, state: tombstone.state },
        None if job <= state.meta.forgotten => Rejection::JobTooOld { job },
        None => Rejection::UnknownJob { job },
    }
}

fn cancel(state: &mut State, target: &Target) -> u64 {
    match &target.tasks {
        None => cancel_job(state, target.job),
        Some(tasks) => {
            let groups = state.job(target.job).map_or(0, |job| job.groups.len());
            (0..groups).map(|place| cancel_tasks(state, target.job, place, tasks)).sum()
        }
    }
}

fn cancel_job(state: &mut State, id: JobId) -> u64 {
    let Some(job) = state.jobs.get_mut(id.0).filter(|job| !job.is_finished() && !job.cancelled) else {
        return 0;
    };
    let unfinished = job.counts.unfinished();
    let hold = std::mem::take(&mut job.hold);
    // Out of the ready index before the mark that keeps it out.
    for place in 0..job.groups.len() {
        if !job.groups[place].ready.is_empty() {
            state.index.set_ready(job, place, false);
        }
    }
    job.cancelled = true;
    if hold != Hold::None {
        state.index.set_hold(id, hold, false);
    }
    state.chores.push_back(Chore::CancelJob { job: id, next: 0 });
    unfinished
}

pub(crate) fn cancel_groups(state: &mut State, id: JobId, next: u32, budget: &mut Budget) -> Progress {
    let Some(groups) = state.job(id).map(|job| job.groups.len()) else { return Progress::Done };
    for place in next as usize..groups {
        if !budget.take() {
            return Progress::Rest(Chore::CancelJob { job: id, next: place as u32 });
        }
        let Some(job) = state.job(id) else { return Progress::Done };
        let positions = job.groups[place].positions();
        cancel_positions(state, id, place, positions);
    }
    Progress::Done
}

fn cancel_tasks(state: &mut State, id: JobId, place: usize, tasks: &RunSet) -> u64 {
    let Some(job) = state.job(id) else { return 0 };
    let group = &job.groups[place];
    let wanted: Vec<Run> =
        tasks.overlap(group.numbers()).into_iter().filter_map(|run| group.positions_of(run)).collect();
    wanted.into_iter().map(|run| cancel_positions(state, id, place, run)).sum()
}

pub(crate) fn cancel_positions(state: &mut State, id: JobId, place: usize, positions: Run) -> u64 {
    let mut gone = RunSet::new();
    let (live, timers) = state.change_group(id, place, |group| {
        gone.extend(group.blocked.take(positions));
        gone.extend(group.ready.take(positions));
        let timers = take_delayed(group, positions);
        gone.extend(timers.iter().map(|(position, _)| Run::new(*position, 1)));
        let live = group.take_live(positions, None);
        for (run, live) in &live {
            gone.insert(*run);
            group.note_stopping(*run, live.attempt);
        }
        group.cancelled.extend(gone.runs());
        (live, timers)
    });
    for (position, at) in timers {
        state.index.timers.remove(&Timer { at, job: id, task: Some((place as u32, position)) });
    }
    for (_, live) in live {
        stop_if_idle(state, id, place, live.session, live.seq);
    }
    tell(state, id, place, &gone, TaskState::Cancelled);
    let count = gone.len();
    each_final(state, id, place, gone, false);
    count.into()
}

fn take_delayed(group: &mut Group, positions: Run) -> Vec<(u32, model::Elapsed)> {
    let range = positions.first..positions.end();
    let taken: Vec<_> = group.delayed.range(range).map(|(position, at)| (*position, *at)).collect();
    for (position, _) in &taken {
        group.delayed.remove(position);
    }
    taken
}

/// An allocation none of whose tasks counts any more is stopped.
fn stop_if_idle(state: &mut State, id: JobId, place: usize, session: SessionId, seq: u64) {
    let Some(job) = state.job(id) else { return };
    let group = &job.groups[place];
    let tasks = state.session(session).and_then(|row| row.allocations.get(&seq)).map(|row| row.tasks);
    let positions = tasks.and_then(|tasks| group.positions_of(tasks));
    if positions.is_none_or(|positions| group.has_live(positions, (session, seq))) {
        return;
    }
    let Some(row) = state.sessions.get_mut(session.0) else { return };
    let Some(allocation) = row.allocations.get_mut(&seq).filter(|a| a.phase != Phase::Stopping) else {
        return;
    };
    let was_held = allocation.phase == Phase::Held;
    allocation.phase = Phase::Stopping;
    // Stopping takes capacity; held work did not yet.
    if was_held {
        let (resources, queue, share) = (allocation.resources.clone(), allocation.queue, allocation.share);
        row.take(&resources, &[]);
        crate::apply::place::charge(state, queue, share, 0);
    }
    state.effect(Effect::Stop { session, seq });
}
