//! A task that has reached a final state keeps it for that round.

use std::collections::BTreeMap;

use machine::state::State;
use machine::state::jobs::{Group, Job};
use model::JobId;
use model::views::TaskState;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct FinalIsFinal {
    /// By task: its round, and how that ended.
    ended: BTreeMap<(JobId, u32), (u32, TaskState)>,
    looked: u64,
}

/// Entries between two looks at everything.
const ALL_EVERY: u64 = 64;

impl Invariant for FinalIsFinal {
    fn name(&self) -> &'static str {
        "final is final"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        if step.index.is_multiple_of(ALL_EVERY) {
            return self.look_at_all(step.state, found);
        }
        for id in step.jobs() {
            if let Some(job) = step.state.job(id) {
                self.look(job, found);
            }
        }
    }

    fn at_end(&mut self, state: &State, found: &mut Found) {
        self.look_at_all(state, found);
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

impl FinalIsFinal {
    fn look_at_all(&mut self, state: &State, found: &mut Found) {
        state.jobs().for_each(|job| self.look(job, found));
    }

    fn look(&mut self, job: &Job, found: &mut Found) {
        for group in &job.groups {
            for position in 0..group.len {
                let (task, round) = ((job.id, group.first + position), group.round(position));
                let now = final_state(group, position);
                if let Some((before_round, before)) = self.ended.get(&task)
                    && (round < *before_round || (round == *before_round && now != Some(*before)))
                {
                    let (job, number) = task;
                    found.push(format!(
                        "{job}.{number} was {before} in round {before_round} and is {now:?} in round {round}"
                    ));
                }
                if let Some(state) = now {
                    self.looked += u64::from(self.ended.insert(task, (round, state)).is_none());
                }
            }
        }
    }
}

fn final_state(group: &Group, position: u32) -> Option<TaskState> {
    let sets = [
        (&group.succeeded, TaskState::Succeeded),
        (&group.failed, TaskState::Failed),
        (&group.cancelled, TaskState::Cancelled),
        (&group.skipped, TaskState::Skipped),
    ];
    sets.into_iter().find(|(set, _)| set.contains(position)).map(|(_, state)| state)
}
