//! Dependencies: what becomes ready, or is skipped, because something else became final.

use model::views::{JobState, TaskState};
use model::{JobId, Run, RunSet};

use crate::Event;
use crate::apply::parts;
use crate::chores::{Budget, Change, Chore};
use crate::mutants::Mutant;
use crate::state::State;
use crate::state::jobs::{Cause, Dependent, Hold, Job, On};

/// Nothing of the whole job's holds it back any more.
pub(crate) fn open(state: &mut State, id: JobId) {
    let Some(places) = state.job(id).map(Job::places) else { return };
    state.rekeyed(id, places, |job| job.open = true);
    state.chores.push_back(Chore::Groups { job: id, next: 0, change: Change::Release });
}

pub(crate) fn open_if_free(state: &mut State, id: JobId) {
    let Some(job) = state.job(id) else { return };
    if !job.open && job.waiting == 0 && job.hold == Hold::None {
        open(state, id);
    }
}

/// Makes ready what of `positions` waits for nothing any more.
pub(crate) fn release(state: &mut State, id: JobId, place: usize, positions: Run) {
    let Some(job) = state.job(id) else { return };
    let free = releasable(state, job, place, positions);
    if free.is_empty() {
        return;
    }
    state.change_group(id, place, |group| {
        for run in free.runs() {
            group.blocked.remove(run);
            group.ready.insert(run);
        }
    });
    tell(state, id, place, &free, TaskState::Ready);
}

fn releasable(state: &State, job: &Job, place: usize, positions: Run) -> RunSet {
    let group = &job.groups[place];
    if !job.open || job.cancelled || group.waiting > 0 {
        return RunSet::new();
    }
    let mut free: RunSet = group.blocked.parts_of(positions).collect();
    if !state.has_bug(Mutant::NoFenceOnFinish) {
        group.stopping.parts_of(positions).for_each(|run| free.remove(run));
    }
    for upstream in &group.each {
        free = free.intersection(&job.groups[*upstream as usize].succeeded);
    }
    free
}

pub(crate) fn tell(state: &mut State, id: JobId, place: usize, positions: &RunSet, to: TaskState) {
    let Some(job) = state.job(id) else { return };
    let group = &job.groups[place];
    let numbers: Vec<(Run, u32)> =
        positions.runs().map(|run| (group.numbers_of(run), group.attempts(run.first))).collect();
    for (tasks, attempt) in numbers {
        state.event(Event::Tasks { job: id, tasks, state: to, attempt, worker: None });
    }
}

pub(crate) fn group_settled(
    state: &mut State,
    id: JobId,
    place: u32,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let group = &state.job(id)?.groups[place as usize];
    // A retry may have opened it again before the chore's turn came; it will settle again.
    if !group.settled {
        return None;
    }
    let (succeeded, len) = (group.all_succeeded(), group.dependents.len() as u32);
    let rest = |next| Chore::Settled { job: id, group: place, next };
    state.walk((next, len), budget, rest, |state, nth, budget| {
        let dependent = state.job(id)?.groups[place as usize].dependents[nth as usize] as usize;
        if succeeded {
            return recount_group(state, id, dependent, 1, budget);
        }
        let waits = waits_for(state, id, Some(dependent), On::Group(place));
        let skip = Change::Skip(Cause::Group(place));
        waits.then(|| parts::change_all(state, id, dependent, skip, budget)).flatten()
    })
}

/// Counts anew what the group waits for; `less` of it is known to count no longer.
pub(crate) fn recount_group(
    state: &mut State,
    id: JobId,
    place: usize,
    less: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let job = state.job(id)?;
    let group = &job.groups[place];
    let open = |on: &On| match on {
        On::Group(other) => Some(!job.groups[*other as usize].all_succeeded()),
        On::Job(other) => is_unsatisfied(state, *other),
    };
    let waiting = counted(group.after.iter().map(open), group.waiting.saturating_sub(less));
    budget.spend(group.after.len() / LOOKED_UP_PER_ROW);
    state.rekeyed(id, [place as u32], |job| job.groups[place].waiting = waiting);
    (waiting == 0).then(|| parts::change_all(state, id, place, Change::Release, budget)).flatten()
}

/// What is only looked up costs so much less than a change.
pub(crate) const LOOKED_UP_PER_ROW: usize = 16;

/// The same for the whole job.
pub(crate) fn recount_job(state: &mut State, id: JobId, less: u32, budget: &mut Budget) {
    let Some(job) = state.job(id) else { return };
    budget.spend(job.after.len() / LOOKED_UP_PER_ROW);
    let open = job.after.iter().map(|other| is_unsatisfied(state, *other));
    let waiting = counted(open, job.waiting.saturating_sub(less));
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    job.waiting = waiting;
    job.rare.tidy();
    open_if_free(state, id);
}

/// How many are open. Of those that nobody remembers, no more than were counted so far: what had succeeded before it was
/// forgotten was not.
fn counted(each: impl Iterator<Item = Option<bool>>, so_far: u32) -> u32 {
    let (mut open, mut forgotten) = (0, 0);
    for is_open in each {
        open += u32::from(is_open == Some(true));
        forgotten += u32::from(is_open.is_none());
    }
    open + forgotten.min(so_far.saturating_sub(open))
}

/// `None`: it is so old that nobody knows.
pub(crate) fn is_unsatisfied(state: &State, id: JobId) -> Option<bool> {
    let hot = state.job(id).map(|job| job.state);
    hot.or_else(|| state.tombstone(id).map(|row| row.state)).map(|state| state != JobState::Succeeded)
}

/// What of the part still waits is skipped.
pub(crate) fn skip_waiting(state: &mut State, id: JobId, place: usize, part: Run, cause: Cause) {
    let Some(job) = state.job(id) else { return };
    let positions: RunSet = job.groups[place].blocked.parts_of(part).collect();
    skip(state, id, place, &positions, cause);
}

pub(crate) fn skip(state: &mut State, id: JobId, place: usize, positions: &RunSet, cause: Cause) {
    if positions.is_empty() {
        return;
    }
    state.change_group(id, place, |group| {
        group.cause = Some(Box::new(cause));
        for run in positions.runs() {
            group.blocked.remove(run);
            group.skipped.insert(run);
        }
    });
    tell(state, id, place, positions, TaskState::Skipped);
    each_final(state, id, place, positions.clone(), false);
}

/// Element-wise dependents hear of every position as it becomes final.
pub(crate) fn each_final(state: &mut State, id: JobId, place: usize, positions: RunSet, succeeded: bool) {
    let Some(job) = state.job(id) else { return };
    if !job.groups[place].each_dependents.is_empty() && !positions.is_empty() {
        state.chores.push_back(Chore::Each { job: id, group: place as u32, positions, succeeded, next: 0 });
    }
}

pub(crate) fn positions_final(
    state: &mut State,
    id: JobId,
    place: u32,
    positions: RunSet,
    succeeded: bool,
    next: u32,
    budget: &mut Budget,
) -> Option<Chore> {
    let len = state.job(id)?.groups[place as usize].each_dependents.len() as u32;
    let change = if succeeded { Change::Release } else { Change::Skip(Cause::Group(place)) };
    let rest = |next| Chore::Each { job: id, group: place, positions: positions.clone(), succeeded, next };
    state.walk((next, len), budget, rest, |state, nth, budget| {
        let dependent = state.job(id)?.groups[place as usize].each_dependents[nth as usize] as usize;
        parts::change(state, id, dependent, positions.clone(), change, budget)
    })
}

pub(crate) fn job_finished(state: &mut State, id: JobId, next: u32, budget: &mut Budget) -> Option<Chore> {
    let job = state.job(id).filter(|job| job.is_finished())?;
    let (succeeded, len) = (job.state == JobState::Succeeded, job.dependents.len() as u32);
    let rest = |next| Chore::JobFinished { job: id, next };
    state.walk((next, len), budget, rest, |state, nth, budget| {
        let Dependent { job: later, group } = state.job(id)?.dependents[nth as usize];
        let place = group.map(|group| group as usize);
        if !succeeded && !waits_for(state, later, place, On::Job(id)) {
            return None;
        }
        let cause = Cause::Job(id);
        match (place, succeeded) {
            (Some(place), true) => recount_group(state, later, place, 1, budget),
            (Some(place), false) => parts::change_all(state, later, place, Change::Skip(cause), budget),
            (None, true) => {
                recount_job(state, later, 1, budget);
                None
            }
            (None, false) => Some(Chore::Groups { job: later, next: 0, change: Change::Skip(cause) }),
        }
    })
}

/// Whether the edge is still there. The one who waits may have let go of it after the other end was final.
fn waits_for(state: &State, id: JobId, group: Option<usize>, on: On) -> bool {
    let Some(job) = state.job(id) else { return false };
    match (group, on) {
        (Some(group), on) => job.groups[group].after.contains(&on),
        (None, On::Job(other)) => job.after.contains(&other),
        (None, On::Group(_)) => false,
    }
}
