//! Changes of a group's positions, cut into parts that an entry can afford: an array of a million tasks whose history has
//! broken it into as many runs is gone through by many entries.

use model::{JobId, Run, RunSet};

use crate::apply::deps::LOOKED_UP_PER_ROW;
use crate::apply::{cancel, change, deps, retry};
use crate::chores::{Budget, Change, Chore};
use crate::state::State;
use crate::state::jobs::{Group, Job};

/// Makes the change to these positions, as far as the budget goes. Returns what is left.
pub(crate) fn change(
    state: &mut State,
    id: JobId,
    place: usize,
    mut positions: RunSet,
    change: Change,
    budget: &mut Budget,
) -> Option<Chore> {
    while let Some(run) = positions.first() {
        if budget.is_spent() {
            return Some(Chore::Part { job: id, group: place as u32, positions, change });
        }
        let job = state.job(id)?;
        let (part, rows) = affordable(job, place, run, change, budget.left);
        budget.spend(rows + looked_up(job, place, change) / LOOKED_UP_PER_ROW);
        positions.remove(part);
        make(state, id, place, part, change);
    }
    None
}

/// The same for all of the job, from this group on.
pub(crate) fn change_groups(
    state: &mut State,
    id: JobId,
    next: u32,
    change: Change,
    budget: &mut Budget,
) -> Option<Chore> {
    let groups = state.job(id)?.groups.len() as u32;
    let rest = |next| Chore::Groups { job: id, next, change };
    state.walk((next, groups), budget, rest, |state, place, budget| {
        change_all(state, id, place as usize, change, budget)
    })
}

/// The chore that makes the change to all of the job, or to one group.
pub(crate) fn chore(job: &Job, group: Option<usize>, change: Change) -> Chore {
    match group {
        None => Chore::Groups { job: job.id, next: 0, change },
        Some(place) => {
            let positions = RunSet::of(job.groups[place].positions());
            Chore::Part { job: job.id, group: place as u32, positions, change }
        }
    }
}

/// The same for all positions of the group.
pub(crate) fn change_all(
    state: &mut State,
    id: JobId,
    place: usize,
    change_to: Change,
    budget: &mut Budget,
) -> Option<Chore> {
    let positions = RunSet::of(state.job(id)?.groups[place].positions());
    change(state, id, place, positions, change_to, budget)
}

/// Dependencies that have to be looked at for a part, however small.
fn looked_up(job: &Job, place: usize, change: Change) -> usize {
    let group = &job.groups[place];
    match change {
        Change::SkipDoomed | Change::Revive => job.after.len() + group.after.len() + group.each.len(),
        Change::Release | Change::Reopen { .. } => group.each.len(),
        Change::Skip(_) | Change::Cancel | Change::HoldBack => 0,
    }
}

fn make(state: &mut State, id: JobId, place: usize, part: Run, change: Change) {
    match change {
        Change::Release => deps::release(state, id, place, part),
        Change::Skip(cause) => deps::skip_waiting(state, id, place, part, cause),
        Change::SkipDoomed => retry::skip_doomed_part(state, id, place, part),
        Change::Cancel => cancel::cancel_positions(state, id, place, part),
        Change::Reopen { failed_only } => retry::reopen_ended(state, id, place, part, failed_only),
        Change::Revive => retry::revive(state, id, place, part),
        Change::HoldBack => change::take_ready_back(state, id, place, part),
    }
}

/// The beginning of `run` in which no more than `max` rows change, and how many those are at most.
fn affordable(job: &Job, place: usize, run: Run, change: Change, max: usize) -> (Run, usize) {
    if run.len == 1 {
        return (run, 1);
    }
    let group = &job.groups[place];
    let mut cut = Cut { run, max, starts: Vec::new() };
    let upstream = || group.each.iter().map(|other| &job.groups[*other as usize]);
    let ended_badly = |cut: &mut Cut| {
        let sets = upstream().flat_map(|other| [&other.failed, &other.cancelled, &other.skipped]);
        sets.for_each(|set| cut.runs(set));
    };
    let holds_back = |cut: &mut Cut| {
        cut.runs(&group.stopping);
        upstream().for_each(|other| cut.runs(&other.succeeded));
    };
    match change {
        Change::Release => {
            cut.runs(&group.blocked);
            holds_back(&mut cut);
        }
        Change::Skip(_) => cut.runs(&group.blocked),
        Change::SkipDoomed => {
            cut.runs(&group.blocked);
            ended_badly(&mut cut);
        }
        Change::Cancel => {
            cut.runs(&group.blocked);
            cut.runs(&group.ready);
            cut.numbers(group.delayed.range(run.first..run.end()).map(|(position, _)| *position));
            cut.numbers(group.live.range(run.first..run.end()).map(|(first, _)| *first));
        }
        Change::Reopen { .. } => {
            cut.runs(&group.failed);
            cut.runs(&group.cancelled);
            cut.history(group);
            holds_back(&mut cut);
        }
        Change::Revive => {
            cut.runs(&group.skipped);
            ended_badly(&mut cut);
            cut.history(group);
            holds_back(&mut cut);
        }
        Change::HoldBack => cut.runs(&group.ready),
    }
    cut.made()
}

/// Finds where to cut a run of positions, from the numbers at which rows begin in it.
struct Cut {
    run: Run,
    max: usize,
    starts: Vec<u32>,
}

impl Cut {
    /// More than `max + 1` of a kind cannot matter: the cut lies before them.
    fn numbers(&mut self, numbers: impl Iterator<Item = u32>) {
        let first = self.run.first;
        self.starts.extend(numbers.filter(|number| *number > first).take(self.max + 1));
        // Nor can more of all kinds: the lowest are enough.
        if self.starts.len() > 8 * (self.max + 1) {
            self.starts.select_nth_unstable(self.max);
            self.starts.truncate(self.max + 1);
        }
    }

    fn runs(&mut self, set: &RunSet) {
        self.numbers(set.parts_of(self.run).map(|run| run.first));
    }

    /// Earlier attempts and rounds.
    fn history(&mut self, group: &Group) {
        group.later.iter().for_each(|set| self.runs(set));
        self.numbers(group.rows.range(self.run.first..self.run.end()).map(|(position, _)| *position));
        // Each of these gets a row.
        self.numbers(group.began.parts_of(self.run).flat_map(|run| run.first..run.end()));
    }

    fn made(mut self) -> (Run, usize) {
        if self.starts.len() < self.max {
            return (self.run, 1 + self.starts.len());
        }
        // What begins at the first position counts as one.
        let (_, end, _) = self.starts.select_nth_unstable(self.max - 1);
        (Run::new(self.run.first, *end - self.run.first), self.max)
    }
}
