//! Cancel: a task is final at once; what it took is freed when its worker says that it has ended.

use std::collections::BTreeMap;

use model::views::TaskState;
use model::{JobId, Run, RunSet, SessionId};

use crate::apply::deps::{each_final, tell};
use crate::apply::gang;
use crate::apply::parts;
use crate::apply::place::Uses;
use crate::apply::write::within;
use crate::chores::{Budget, Change, Chore};
use crate::state::State;
use crate::state::index::{Occasion, Timer};
use crate::state::jobs::{Group, Hold, Job};
use crate::state::sessions::Phase;
use crate::{Effect, Rejection, Reply, Target};

/// Jobs that one command may name.
pub const TARGETS_MAX: u64 = 4_096;

pub(crate) fn apply(state: &mut State, targets: &[Target]) -> Result<Reply, Rejection> {
    // All or nothing: look before the first change.
    let targets = merged(state, targets)?;
    let tasks = targets.iter().map(|(job, tasks)| cancel(state, *job, tasks.as_ref())).sum();
    // A worker that drained for one of them is open to others.
    state.wake();
    Ok(Reply::Changed { tasks })
}

/// What is named of each job; `None` is all of it. All that is named exists.
pub(crate) fn merged(
    state: &State,
    targets: &[Target],
) -> Result<BTreeMap<JobId, Option<RunSet>>, Rejection> {
    within(targets.len() as u64, TARGETS_MAX, "targets_max", "jobs named in one command")?;
    let mut all = BTreeMap::new();
    for target in targets {
        check(state, target)?;
        match &target.tasks {
            None => drop(all.insert(target.job, None)),
            Some(tasks) => {
                let known = all.entry(target.job).or_insert_with(|| Some(RunSet::new()));
                known
                    .iter_mut()
                    .for_each(|known| known.extend(with_whole_gangs(state, target.job, tasks).runs()));
            }
        }
    }
    Ok(all)
}

/// What happens to a member of a gang happens to all.
fn with_whole_gangs(state: &State, id: JobId, tasks: &RunSet) -> RunSet {
    let mut all = tasks.clone();
    let gangs = state.job(id).into_iter().flat_map(|job| job.groups.iter().filter(|group| group.gang));
    gangs.filter(|group| tasks.touches(group.numbers())).for_each(|group| all.insert(group.numbers()));
    all
}

/// The job and all task numbers of the target exist.
fn check(state: &State, target: &Target) -> Result<(), Rejection> {
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

/// Marks at once what is cancelled; a chore makes it final. Returns how many tasks were not final.
fn cancel(state: &mut State, id: JobId, tasks: Option<&RunSet>) -> u64 {
    let Some(job) = state.job(id) else { return 0 };
    let places = job.groups_of(tasks);
    let unfinished = places.iter().map(|place| unfinished(job, *place, tasks)).sum();
    let all = tasks.is_none() && !job.cancelled && !job.is_finished();
    // A retry may be about to open anew what is final now.
    if unfinished == 0 && job.reopening == 0 && !all {
        return 0;
    }
    let mut hold = Hold::None;
    state.rekeyed(id, places, |job| {
        job.cancels += 1;
        match tasks {
            Some(tasks) => job.cancelling.extend(tasks.runs()),
            None => {
                let all = Run::new(0, job.tasks_count());
                job.cancelling.insert(all);
                job.cancelled = true;
                hold = std::mem::take(&mut job.hold);
            }
        }
    });
    state.index.set_hold(id, hold, false);
    state.chores.push_back(Chore::Cancel { job: id, tasks: tasks.cloned(), next: 0 });
    unfinished
}

/// Tasks of the group that are named, are not final, and that no earlier cancel has marked.
fn unfinished(job: &Job, place: u32, tasks: Option<&RunSet>) -> u64 {
    let group = &job.groups[place as usize];
    if tasks.is_none() && job.cancelling.is_empty() {
        return group.counts().unfinished();
    }
    let mut fresh = job.positions_in(place, tasks);
    group.named(&job.cancelling, group.positions()).for_each(|run| fresh.remove(run));
    fresh.runs().map(|run| u64::from(group.unfinished(run))).sum()
}

pub(crate) fn cancel_groups(
    state: &mut State,
    id: JobId,
    tasks: Option<RunSet>,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let job = state.job(id)?;
    if tasks.is_none() && !job.cancelled {
        // A retry that was asked for before has lifted it.
        state.jobs.get_mut(id.0)?.cancelled = true;
    }
    let places = state.job(id)?.groups_of(tasks.as_ref());
    let rest = |next| Chore::Cancel { job: id, tasks: tasks.clone(), next };
    let left = state.walk((next, places.len() as u32), budget, rest, |state, nth, budget| {
        let place = places[nth as usize];
        let positions = state.job(id)?.positions_in(place, tasks.as_ref());
        parts::change(state, id, place as usize, positions, Change::Cancel, budget)
    });
    if left.is_none() {
        unmark(state, id);
    }
    left
}

/// A cancel is through.
fn unmark(state: &mut State, id: JobId) {
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    job.cancels -= 1;
    if job.cancels > 0 {
        return;
    }
    let marked = std::mem::take(&mut job.cancelling);
    let places = job.groups_of(Some(&marked));
    job.cancelling = marked;
    state.rekeyed(id, places, |job| job.cancelling = RunSet::new());
}

pub(crate) fn cancel_positions(state: &mut State, id: JobId, place: usize, positions: Run) {
    let positions = gang::whole(state, id, place, positions);
    let mut gone = RunSet::new();
    let (live, timers) = state.change_group(id, place, |group| {
        gone.extend(group.blocked.take(positions));
        gone.extend(group.ready.take(positions));
        let timers = take_delayed(group, positions);
        gone.extend(timers.iter().map(|(position, _)| Run::new(*position, 1)));
        gone.extend(gang::depart(group).runs());
        let live = group.take_live(positions, None);
        for (run, live) in &live {
            gone.insert(*run);
            group.note_stopping(*run, live.attempt);
        }
        if !gone.is_empty() {
            group.cancelled.extend(gone.runs());
        }
        (live, timers)
    });
    for (position, at) in timers {
        let what = Occasion::Delay { group: place as u32, position };
        state.index.timers.remove(&Timer { at, job: id, what });
    }
    for (_, live) in live {
        stop_if_idle(state, id, place, live.session, live.seq);
    }
    tell(state, id, place, &gone, TaskState::Cancelled);
    each_final(state, id, place, gone, false);
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
pub(crate) fn stop_if_idle(state: &mut State, id: JobId, place: usize, session: SessionId, seq: u64) {
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
    state.index.set_slice(session, allocation, false);
    allocation.phase = Phase::Stopping;
    // Stopping takes capacity; held work did not yet.
    if was_held {
        let (resources, uses) = (allocation.resources.clone(), Uses::of(allocation));
        state.index.set_end(session, allocation, true);
        state.index.set_held(session, seq, false);
        row.take(&resources, &[]);
        uses.begin(state);
    }
    state.effect(Effect::Stop { session, seq });
}
