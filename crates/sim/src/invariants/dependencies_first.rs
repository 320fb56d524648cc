//! Nothing is placed before what it waits for has succeeded.

use machine::Event;
use machine::state::State;
use machine::state::jobs::{Job, On};
use model::views::{JobState, TaskState};
use model::{JobId, Run};

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct DependenciesFirst {
    looked: u64,
}

impl Invariant for DependenciesFirst {
    fn name(&self) -> &'static str {
        "dependencies come first"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for event in &step.applied.events {
            let Event::Tasks { job, tasks, state: TaskState::Placed, .. } = event else { continue };
            let Some(row) = step.state.job(*job) else { continue };
            self.looked += 1;
            if let Some(what) = unmet(step.state, row, *tasks) {
                found.push(format!("{job}.{} is placed before {what} has succeeded", tasks.first));
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

/// What the tasks should still be waiting for.
fn unmet(state: &State, job: &Job, tasks: Run) -> Option<String> {
    let (_, group) = job.group_of(tasks.first)?;
    let is_unmet = |on: &On| match on {
        On::Group(other) => !job.groups[*other as usize].all_succeeded(),
        On::Job(other) => !has_succeeded(state, *other),
    };
    let whole = job.after.iter().copied().map(On::Job);
    if let Some(on) = group.after.iter().copied().chain(whole).find(is_unmet) {
        return Some(format!("{on:?}"));
    }
    let positions = group.positions_of(tasks)?;
    let upstream = group
        .each
        .iter()
        .find(|other| job.groups[**other as usize].succeeded.overlap(positions) != [positions]);
    upstream.map(|other| format!("the same places of group {other}"))
}

/// A job that is forgotten altogether has been waited for by nobody since.
fn has_succeeded(state: &State, id: JobId) -> bool {
    let hot = state.job(id).map(|job| job.state);
    hot.or_else(|| state.tombstone(id).map(|row| row.state)).is_none_or(|state| state == JobState::Succeeded)
}
