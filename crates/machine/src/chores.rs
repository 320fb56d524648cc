//! Work that one entry begins and later ones may have to finish: no entry brings about more than the limit
//! `rows_per_apply_max` changes of rows, so that apply never stalls. What is left stays in the state, and `next_due` asks
//! for a `Tick`.

use model::{JobId, RunSet, SessionId};
use serde::{Deserialize, Serialize};

use crate::apply::{cancel, change, deps, parts, queues, retry, sessions};
use crate::state::State;
use crate::state::jobs::{Cause, On};
use crate::state::queues::QueueId;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// A group became final: tell its dependents from `next` on.
    Settled {
        job: JobId,
        group: u32,
        next: u32,
    },
    /// Positions of a group became final: tell the same positions of its element-wise dependents.
    Each {
        job: JobId,
        group: u32,
        positions: RunSet,
        succeeded: bool,
        next: u32,
    },
    JobFinished {
        job: JobId,
        next: u32,
    },
    /// Makes these tasks final, or all of the job; `next` counts through the groups that have any.
    Cancel {
        job: JobId,
        tasks: Option<RunSet>,
        next: u32,
    },
    /// Opens the next round of what failed; `next` counts through the groups that have any of the tasks.
    Retry {
        job: JobId,
        next: u32,
        tasks: Option<RunSet>,
        failed_only: bool,
    },
    /// A group has a new round: what was skipped because of it gets one too.
    ReopenDependents {
        job: JobId,
        group: u32,
        next: u32,
    },
    /// A job has a new round: the same for later jobs.
    ReopenLaterJobs {
        job: JobId,
        next: u32,
    },
    /// One of the later jobs, or one group of it.
    ReopenLater {
        job: JobId,
        group: Option<u32>,
        was_finished: bool,
        next: u32,
    },
    /// An edge was taken away, and by now whatever its other end had to say before has been heard: it is forgotten there
    /// too, and counts no longer. `had_succeeded`: it did not count any more when it was taken away.
    DropEdge {
        job: JobId,
        group: Option<u32>,
        on: On,
        had_succeeded: bool,
    },
    EndSession {
        session: SessionId,
    },
    /// The order of the queue has changed: its jobs below this one are ranked anew.
    Rank {
        queue: QueueId,
        below: JobId,
    },
    /// The change to all of the job, in groups from `next` on.
    Groups {
        job: JobId,
        next: u32,
        change: Change,
    },
    /// The change to one group, or what is left of it in any of these.
    Part {
        job: JobId,
        group: u32,
        positions: RunSet,
        change: Change,
    },
}

/// What becomes of positions of a group.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Ready, where nothing holds it back.
    Release,
    /// Skipped, where it waits.
    Skip(Cause),
    /// Skipped, where it waits for what has ended badly.
    SkipDoomed,
    Cancel,
    /// A new round for what failed or, unless `failed_only`, was cancelled.
    Reopen {
        failed_only: bool,
    },
    /// A new round for what was skipped and could run now.
    Revive,
    /// Ready no longer.
    HoldBack,
}

/// Rows that one entry may still change.
pub(crate) struct Budget {
    pub left: usize,
    max: usize,
}

impl Budget {
    pub fn new(max: usize) -> Budget {
        Budget { left: max, max }
    }

    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    pub fn spend(&mut self, rows: usize) {
        self.left = self.left.saturating_sub(rows);
    }

    /// Whether what cannot be cut may begin now. In the end it may: where little else was done before it.
    pub fn has(&self, rows: usize) -> bool {
        self.left >= rows.min(self.max / 2)
    }
}

impl State {
    pub(crate) fn run_chores(&mut self, budget: &mut Budget) {
        while !budget.is_spent() {
            let Some(chore) = self.chores.pop_front() else { return };
            budget.spend(1);
            if let Some(rest) = self.run_chore(chore, budget) {
                self.chores.push_front(rest);
            }
        }
    }

    /// Returns the rest, to go on with, and before any other.
    fn run_chore(&mut self, chore: Chore, budget: &mut Budget) -> Option<Chore> {
        match chore {
            Chore::Settled { job, group, next } => deps::group_settled(self, job, group, next, budget),
            Chore::Each { job, group, positions, succeeded, next } => {
                deps::positions_final(self, job, group, positions, succeeded, next, budget)
            }
            Chore::JobFinished { job, next } => deps::job_finished(self, job, next, budget),
            Chore::Cancel { job, tasks, next } => cancel::cancel_groups(self, job, tasks, next, budget),
            Chore::Retry { job, next, tasks, failed_only } => {
                retry::reopen_groups(self, job, next, tasks, failed_only, budget)
            }
            Chore::ReopenDependents { job, group, next } => {
                retry::reopen_dependents(self, job, group, next, budget)
            }
            Chore::ReopenLaterJobs { job, next } => retry::reopen_later_jobs(self, job, next, budget),
            Chore::ReopenLater { job, group, was_finished, next } => {
                retry::reopen_later(self, job, group, was_finished, next, budget)
            }
            Chore::DropEdge { job, group, on, had_succeeded } => {
                change::drop_edge(self, job, group, on, had_succeeded, budget)
            }
            Chore::EndSession { session } => sessions::take_back(self, session, budget),
            Chore::Rank { queue, below } => queues::rank(self, queue, below, budget),
            Chore::Groups { job, next, change } => parts::change_groups(self, job, next, change, budget),
            Chore::Part { job, group, positions, change } => {
                parts::change(self, job, group as usize, positions, change, budget)
            }
        }
    }

    /// Does `one` for each number from `next` to `len`, as far as the budget goes. `rest` names what is left from a number
    /// on. Where something is left of one, that comes before the others.
    pub(crate) fn walk(
        &mut self,
        (next, len): (u32, u32),
        budget: &mut Budget,
        rest: impl Fn(u32) -> Chore,
        mut one: impl FnMut(&mut State, u32, &mut Budget) -> Option<Chore>,
    ) -> Option<Chore> {
        for number in next..len {
            if budget.is_spent() {
                return Some(rest(number));
            }
            let before = budget.left;
            if let Some(left) = one(self, number, budget) {
                self.chores.push_front(rest(number + 1));
                return Some(left);
            }
            // Even looking at one costs something.
            if budget.left == before {
                budget.spend(1);
            }
        }
        None
    }
}
