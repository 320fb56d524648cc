//! Retry: a logged command opens the next round. What was skipped because of a task gets a new round with it.

use std::collections::BTreeSet;

use model::views::{JobState, TaskState};
use model::{JobId, RunSet};

use crate::apply::cancel::check;
use crate::apply::deps::{open_if_free, release_all, skip, tell};
use crate::apply::write::within;
use crate::chores::{Budget, Chore, Progress};
use crate::state::State;
use crate::state::jobs::{Cause, Group, Job, On};
use crate::{Rejection, Reply, Target};

pub(crate) fn apply(state: &mut State, targets: &[Target], failed_only: bool) -> Result<Reply, Rejection> {
    let mut tasks = 0;
    let reopened: BTreeSet<JobId> = targets.iter().map(|target| target.job).collect();
    let reopened = reopened.iter().filter(|id| state.job(**id).is_some_and(Job::is_finished)).count() as u64;
    for target in targets {
        check(state, target)?;
        let found = state.job(target.job).map_or(0, |job| retriable(job, target.tasks.as_ref(), failed_only));
        if found == 0 {
            return Err(Rejection::NothingToRetry { job: target.job });
        }
        tasks += found;
    }
    let unfinished = state.unfinished_jobs() + reopened;
    if reopened > 0 {
        within(unfinished, state.limits().unfinished_jobs_max, "unfinished_jobs_max", "unfinished jobs")?;
    }
    for target in targets {
        begin(state, target, failed_only);
    }
    Ok(Reply::Changed { tasks })
}

fn retriable(job: &Job, tasks: Option<&RunSet>, failed_only: bool) -> u64 {
    job.groups.iter().map(|group| u64::from(chosen(group, tasks, failed_only).len())).sum()
}

/// The positions of the group that get a new round.
fn chosen(group: &Group, tasks: Option<&RunSet>, failed_only: bool) -> RunSet {
    let mut final_ones = group.failed.clone();
    if !failed_only {
        final_ones.extend(group.cancelled.runs());
    }
    let Some(tasks) = tasks else { return final_ones };
    let mut wanted = RunSet::new();
    wanted.extend(tasks.overlap(group.numbers()).into_iter().filter_map(|run| group.positions_of(run)));
    final_ones.intersection(&wanted)
}

fn begin(state: &mut State, target: &Target, failed_only: bool) {
    let Some(job) = state.job(target.job) else { return };
    let was_finished = job.is_finished();
    let chore = Chore::Retry { job: target.job, next: 0, tasks: target.tasks.clone(), failed_only };
    state.chores.push_back(chore);
    if was_finished {
        state.chores.push_back(Chore::ReopenLaterJobs { job: target.job, next: 0 });
    }
}

/// A cancel that was asked for before is through by now, so its mark may go.
fn lift_cancel(state: &mut State, id: JobId) {
    if let Some(job) = state.jobs.get_mut(id.0) {
        job.cancelled = false;
        open_if_free(state, id);
    }
}

pub(crate) fn reopen_groups(
    state: &mut State,
    id: JobId,
    next: u32,
    tasks: Option<RunSet>,
    failed_only: bool,
    budget: &mut Budget,
) -> Progress {
    let Some(groups) = state.job(id).map(|job| job.groups.len()) else { return Progress::Done };
    if next == 0 {
        lift_cancel(state, id);
    }
    for place in next as usize..groups {
        if !budget.take() {
            return Progress::Rest(Chore::Retry { job: id, next: place as u32, tasks, failed_only });
        }
        let Some(job) = state.job(id) else { return Progress::Done };
        let positions = chosen(&job.groups[place], tasks.as_ref(), failed_only);
        reopen(state, id, place, &positions);
    }
    state.chores.push_back(Chore::SkipDoomed { job: id, next: 0 });
    Progress::Done
}

/// A new round for these positions; they wait again for what they waited for.
fn reopen(state: &mut State, id: JobId, place: usize, positions: &RunSet) {
    if positions.is_empty() {
        return;
    }
    state.change_group(id, place, |group| {
        for run in positions.runs() {
            group.next_round(run);
            group.begin_rows(run);
            for set in [&mut group.failed, &mut group.cancelled, &mut group.skipped] {
                set.remove(run);
            }
            group.blocked.insert(run);
            for row in group.rows.range_mut(run.first..run.end()).map(|(_, row)| row) {
                (row.failures, row.lost) = (0, 0);
            }
        }
    });
    tell(state, id, place, positions, TaskState::Blocked);
    state.chores.push_back(Chore::ReopenDependents { job: id, group: place as u32, next: 0 });
    // After the chore: what waits for this group is opened before the group can settle again.
    release_all(state, id, place);
}

pub(crate) fn reopen_dependents(
    state: &mut State,
    id: JobId,
    place: u32,
    next: u32,
    budget: &mut Budget,
) -> Progress {
    let Some(job) = state.job(id) else { return Progress::Done };
    let group = &job.groups[place as usize];
    let all: Vec<u32> = group.dependents.iter().chain(&group.each_dependents).copied().collect();
    for (nth, dependent) in all.iter().enumerate().skip(next as usize) {
        if !budget.take() {
            return Progress::Rest(Chore::ReopenDependents { job: id, group: place, next: nth as u32 });
        }
        let Some(job) = state.job(id) else { return Progress::Done };
        let positions = hopeful(state, job, *dependent as usize);
        reopen(state, id, *dependent as usize, &positions);
    }
    Progress::Done
}

/// The skipped positions of a group that could run now: nothing that they wait for has ended badly.
fn hopeful(state: &State, job: &Job, place: usize) -> RunSet {
    let mut positions = job.groups[place].skipped.clone();
    for (doomed, _) in doomed(state, job, place, &job.groups[place].skipped) {
        doomed.runs().for_each(|run| positions.remove(run));
    }
    positions
}

/// Those of `among` that wait for something that has ended badly, with what that is.
fn doomed(state: &State, job: &Job, place: usize, among: &RunSet) -> Vec<(RunSet, Cause)> {
    let group = &job.groups[place];
    let bad_group = |on: &On| match on {
        On::Group(other) => {
            let other = &job.groups[*other as usize];
            other.settled && !other.all_succeeded()
        }
        On::Job(other) => job_ended_badly(state, *other),
    };
    let whole = job.after.iter().copied().map(On::Job);
    let bad = group.after.iter().copied().chain(whole).find(bad_group);
    let bad = bad.or_else(|| forgotten_failure(state, job, place));
    match bad {
        Some(On::Group(other)) => return vec![(among.clone(), Cause::Group(other))],
        Some(On::Job(other)) => return vec![(among.clone(), Cause::Job(other))],
        None => {}
    }
    let bad_places = |upstream: &u32| {
        let row = &job.groups[*upstream as usize];
        let mut ended = row.failed.clone();
        ended.extend(row.cancelled.runs().chain(row.skipped.runs()));
        (ended.intersection(among), Cause::Group(*upstream))
    };
    group.each.iter().map(bad_places).filter(|(positions, _)| !positions.is_empty()).collect()
}

/// A job that is waited for, whose end nobody remembers, and which cannot have succeeded: else it would not be waited for.
fn forgotten_failure(state: &State, job: &Job, place: usize) -> Option<On> {
    let is_forgotten = |id: &JobId| state.job(*id).is_none() && state.tombstone(*id).is_none();
    let open = |on: &On| match on {
        On::Group(other) => !job.groups[*other as usize].all_succeeded(),
        On::Job(other) => state.job(*other).is_some_and(|other| other.state != JobState::Succeeded),
    };
    let group = &job.groups[place];
    let open_jobs = job.after.iter().filter(|id| open(&On::Job(**id))).count() as u32;
    if job.waiting > open_jobs {
        return job.after.iter().copied().find(is_forgotten).map(On::Job);
    }
    if group.waiting > group.after.iter().filter(|on| open(on)).count() as u32 {
        return group.after.iter().copied().find(|on| matches!(on, On::Job(id) if is_forgotten(id)));
    }
    None
}

pub(crate) fn skip_doomed(state: &mut State, id: JobId, next: u32, budget: &mut Budget) -> Progress {
    let Some(groups) = state.job(id).map(|job| job.groups.len()) else { return Progress::Done };
    for place in next as usize..groups {
        if !budget.take() {
            return Progress::Rest(Chore::SkipDoomed { job: id, next: place as u32 });
        }
        let Some(job) = state.job(id) else { return Progress::Done };
        for (positions, cause) in doomed(state, job, place, &job.groups[place].blocked) {
            let still = state.job(id).map(|job| job.groups[place].blocked.intersection(&positions));
            skip(state, id, place, &still.unwrap_or_default(), cause);
        }
    }
    Progress::Done
}

fn job_ended_badly(state: &State, id: JobId) -> bool {
    let ended = state.job(id).filter(|job| job.is_finished()).map(|job| job.state);
    let ended = ended.or_else(|| state.tombstone(id).map(|tombstone| tombstone.state));
    matches!(ended, Some(JobState::Failed | JobState::Cancelled))
}

/// Jobs that were skipped because this one had ended badly.
pub(crate) fn reopen_later_jobs(state: &mut State, id: JobId, next: u32, budget: &mut Budget) -> Progress {
    let Some(job) = state.job(id) else { return Progress::Done };
    for (nth, dependent) in job.dependents.clone().iter().enumerate().skip(next as usize) {
        if !budget.take() {
            return Progress::Rest(Chore::ReopenLaterJobs { job: id, next: nth as u32 });
        }
        let Some(later) = state.job(dependent.job) else { continue };
        let was_finished = later.is_finished();
        let places: Vec<usize> = match dependent.group {
            Some(group) => vec![group as usize],
            None => (0..later.groups.len()).collect(),
        };
        for place in places {
            let Some(later) = state.job(dependent.job) else { break };
            let positions = hopeful(state, later, place);
            reopen(state, dependent.job, place, &positions);
        }
        if was_finished && state.job(dependent.job).is_some_and(|later| !later.is_finished()) {
            state.chores.push_back(Chore::ReopenLaterJobs { job: dependent.job, next: 0 });
        }
    }
    Progress::Done
}
