//! Retry: a logged command opens the next round. What was skipped because of a task gets a new round with it.

use model::views::{JobState, TaskState};
use model::{JobId, Run, RunSet};

use crate::apply::cancel::merged;
use crate::apply::deps::{open_if_free, release, skip, tell};
use crate::apply::gang;
use crate::apply::parts;
use crate::apply::write::within;
use crate::chores::{Budget, Change, Chore};
use crate::state::State;
use crate::state::jobs::{Cause, Dependent, Group, Job, On};
use crate::{Rejection, Reply, Target};

pub(crate) fn apply(state: &mut State, targets: &[Target], failed_only: bool) -> Result<Reply, Rejection> {
    let targets = merged(state, targets)?;
    let (mut tasks, mut reopened) = (0, 0);
    for (id, named) in &targets {
        let Some(job) = state.job(*id) else { continue };
        let found: u64 =
            job.groups.iter().map(|group| retriable(job, group, named.as_ref(), failed_only)).sum();
        if found == 0 {
            return Err(Rejection::NothingToRetry { job: *id });
        }
        tasks += found;
        // One that was promised a round before is counted already.
        reopened += u64::from(job.is_finished() && job.reopening == 0);
    }
    if reopened > 0 {
        let unfinished = state.promised_jobs() + reopened;
        within(unfinished, state.limits().unfinished_jobs_max, "unfinished_jobs_max", "unfinished jobs")?;
    }
    targets.into_iter().for_each(|(job, named)| begin(state, job, named, failed_only));
    Ok(Reply::Changed { tasks })
}

/// How many tasks of the group get a new round.
fn retriable(job: &Job, group: &Group, tasks: Option<&RunSet>, failed_only: bool) -> u64 {
    let all = |positions: Run| {
        let of = |set: &RunSet| set.parts_of(positions).map(|run| u64::from(run.len)).sum::<u64>();
        if failed_only {
            return of(&group.failed);
        }
        // A cancel before this command was answered, and is through before this one begins.
        let marked = group.named(&job.cancelling, positions).map(|run| u64::from(group.unfinished(run)));
        of(&group.failed) + of(&group.cancelled) + marked.sum::<u64>()
    };
    match tasks {
        None => all(group.positions()),
        Some(tasks) => group.named(tasks, group.positions()).map(all).sum(),
    }
}

fn begin(state: &mut State, id: JobId, tasks: Option<RunSet>, failed_only: bool) {
    let Some(job) = state.job(id) else { return };
    let was_finished = job.is_finished();
    push(state, id, Chore::Retry { job: id, next: 0, tasks, failed_only });
    if was_finished {
        state.chores.push_back(Chore::ReopenLaterJobs { job: id, next: 0 });
    }
}

/// Queues what opens tasks of the job anew: until it is through, nothing of the job is placed.
fn push(state: &mut State, id: JobId, chore: Chore) {
    reopening(state, id, |count| count + 1);
    state.chores.push_back(chore);
}

/// It is through.
fn through(state: &mut State, id: JobId) {
    reopening(state, id, |count| count - 1);
}

fn reopening(state: &mut State, id: JobId, change: impl FnOnce(u32) -> u32) {
    let Some(job) = state.job(id) else { return };
    let (before, after) = (job.reopening, change(job.reopening));
    // Only the first and the last make a difference to the index.
    let places = if before == 0 || after == 0 { job.places() } else { 0..0 };
    state.rekeyed(id, places, |job| job.reopening = after);
    if let Some(job) = state.jobs.get(id.0) {
        state.index.set_reopening(job);
    }
}

/// A cancel that was asked for before is through by now, so its mark may go.
fn lift_cancel(state: &mut State, id: JobId) {
    let Some(job) = state.job(id).filter(|job| job.cancelled) else { return };
    let places = job.places();
    state.rekeyed(id, places, |job| job.cancelled = false);
    open_if_free(state, id);
    // What it was skipped for may have been retried meanwhile, which a cancelled job does not follow.
    push(state, id, Chore::ReopenLater { job: id, group: None, was_finished: false, next: 0 });
}

pub(crate) fn reopen_groups(
    state: &mut State,
    id: JobId,
    next: u32,
    tasks: Option<RunSet>,
    failed_only: bool,
    budget: &mut Budget,
) -> Option<Chore> {
    if next == 0 {
        lift_cancel(state, id);
    }
    let places = state.job(id)?.groups_of(tasks.as_ref());
    let rest = |next| Chore::Retry { job: id, next, tasks: tasks.clone(), failed_only };
    let left = state.walk((next, places.len() as u32), budget, rest, |state, nth, budget| {
        let place = places[nth as usize];
        let positions = state.job(id)?.positions_in(place, tasks.as_ref());
        parts::change(state, id, place as usize, positions, Change::Reopen { failed_only }, budget)
    });
    if left.is_none() {
        state.chores.push_back(Chore::Groups { job: id, next: 0, change: Change::SkipDoomed });
        through(state, id);
    }
    left
}

/// A new round for what of the part has ended otherwise than well.
pub(crate) fn reopen_ended(state: &mut State, id: JobId, place: usize, part: Run, failed_only: bool) {
    let part = gang::whole(state, id, place, part);
    let Some(job) = state.job(id) else { return };
    let group = &job.groups[place];
    let mut positions: RunSet = group.failed.parts_of(part).collect();
    // A gang failed as a whole, though only those that were the cause say so.
    if !failed_only || (group.gang && !group.failed.is_empty()) {
        positions.extend(group.cancelled.parts_of(part));
    }
    reopen(state, id, place, &positions);
}

/// A new round for what of the part was skipped and could run now: nothing that it waits for has ended badly.
pub(crate) fn revive(state: &mut State, id: JobId, place: usize, part: Run) {
    // A cancelled job stays so, until it is retried itself.
    let Some(job) = state.job(id).filter(|job| !job.cancelled) else { return };
    let mut positions: RunSet = job.groups[place].skipped.parts_of(part).collect();
    for (doomed, _) in doomed(state, job, place, &positions.clone()) {
        doomed.runs().for_each(|run| positions.remove(run));
    }
    reopen(state, id, place, &positions);
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
            let rare = &mut *group.rare;
            for set in [&mut rare.failed, &mut rare.cancelled, &mut rare.skipped] {
                set.remove(run);
            }
            group.blocked.insert(run);
            for row in group.rows.range_mut(run.first..run.end()).map(|(_, row)| row) {
                (row.failures, row.lost) = (0, 0);
            }
        }
    });
    tell(state, id, place, positions, TaskState::Blocked);
    tell_dependents(state, id, place as u32);
    // After the chore: what waits for this group is opened before the group can settle again.
    positions.runs().for_each(|run| release(state, id, place, run));
}

fn tell_dependents(state: &mut State, id: JobId, group: u32) {
    let row = state.job(id).map(|job| &job.groups[group as usize]);
    if row.is_none_or(|row| row.dependents.is_empty() && row.each_dependents.is_empty()) {
        return;
    }
    let chore = Chore::ReopenDependents { job: id, group, next: 0 };
    // One part after the other may have said so already.
    if state.chores.back() != Some(&chore) {
        push(state, id, chore);
    }
}

pub(crate) fn reopen_dependents(
    state: &mut State,
    id: JobId,
    place: u32,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let group = &state.job(id)?.groups[place as usize];
    let len = (group.dependents.len() + group.each_dependents.len()) as u32;
    let rest = |next| Chore::ReopenDependents { job: id, group: place, next };
    let left = state.walk((next, len), budget, rest, |state, nth, budget| {
        let group = &state.job(id)?.groups[place as usize];
        let mut all = group.dependents.iter().chain(&group.each_dependents);
        let dependent = *all.nth(nth as usize)? as usize;
        parts::change_all(state, id, dependent, Change::Revive, budget)
    });
    if left.is_none() {
        through(state, id);
    }
    left
}

/// Those of `among` that wait for something that has ended badly, with what that is.
fn doomed(state: &State, job: &Job, place: usize, among: &RunSet) -> Vec<(RunSet, Cause)> {
    let group = &job.groups[place];
    if among.is_empty() {
        return Vec::new();
    }
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
        let mut ended = RunSet::new();
        for set in [&row.failed, &row.cancelled, &row.skipped] {
            ended.extend(among.runs().flat_map(|run| set.parts_of(run)));
        }
        (ended, Cause::Group(*upstream))
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

pub(crate) fn skip_doomed_part(state: &mut State, id: JobId, place: usize, part: Run) {
    let Some(job) = state.job(id) else { return };
    let waiting: RunSet = job.groups[place].blocked.parts_of(part).collect();
    for (positions, cause) in doomed(state, job, place, &waiting) {
        let still = state.job(id).map(|job| job.groups[place].blocked.intersection(&positions));
        skip(state, id, place, &still.unwrap_or_default(), cause);
    }
}

fn job_ended_badly(state: &State, id: JobId) -> bool {
    let ended = state.job(id).filter(|job| job.is_finished()).map(|job| job.state);
    let ended = ended.or_else(|| state.tombstone(id).map(|tombstone| tombstone.state));
    matches!(ended, Some(JobState::Failed | JobState::Cancelled))
}

/// Jobs that were skipped because this one had ended badly.
pub(crate) fn reopen_later_jobs(
    state: &mut State,
    id: JobId,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let len = state.job(id)?.dependents.len() as u32;
    let rest = |next| Chore::ReopenLaterJobs { job: id, next };
    state.walk((next, len), budget, rest, |state, nth, _| {
        let Dependent { job, group } = state.job(id)?.dependents[nth as usize];
        let was_finished = state.job(job)?.is_finished();
        reopening(state, job, |count| count + 1);
        Some(Chore::ReopenLater { job, group, was_finished, next: 0 })
    })
}

pub(crate) fn reopen_later(
    state: &mut State,
    id: JobId,
    group: Option<u32>,
    was_finished: bool,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let groups = state.job(id)?.groups.len() as u32;
    let (next, len) = group.map_or((next, groups), |group| (next.max(group), group + 1));
    let rest = |next| Chore::ReopenLater { job: id, group, was_finished, next };
    let left = state.walk((next, len), budget, rest, |state, place, budget| {
        parts::change_all(state, id, place as usize, Change::Revive, budget)
    });
    if left.is_none() {
        if was_finished && !state.job(id)?.is_finished() {
            state.chores.push_back(Chore::ReopenLaterJobs { job: id, next: 0 });
        }
        through(state, id);
    }
    left
}
