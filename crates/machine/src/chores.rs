//! Work that one entry begins and later ones may have to finish: no entry changes more rows than
//! `ROWS_PER_APPLY_MAX`, so that apply never stalls. What is left stays in the state, and `next_due` asks for a `Tick`.

use model::{JobId, RunSet, SessionId};
use serde::{Deserialize, Serialize};

use crate::apply::{cancel, change, deps, retry, sessions};
use crate::state::State;
use crate::state::jobs::{Cause, On};

/// How many rows the chores of one entry may change.
pub const ROWS_PER_APPLY_MAX: usize = 4_096;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Nothing holds the job back any more: its groups from `next` on may become ready.
    OpenJob {
        job: JobId,
        next: u32,
    },
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
    CancelJob {
        job: JobId,
        next: u32,
    },
    SkipJob {
        job: JobId,
        next: u32,
        cause: Cause,
    },
    /// Opens the next round of what failed in groups from `next` on.
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
    ReopenLaterJobs {
        job: JobId,
        next: u32,
    },
    /// After a retry: what was opened although something it waits for has ended badly.
    SkipDoomed {
        job: JobId,
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
}

/// How far a chore came.
pub(crate) enum Progress {
    Done,
    /// The rest, to go on with, and before any other.
    Rest(Chore),
}

/// Rows that may still be changed.
pub(crate) struct Budget(pub usize);

impl Budget {
    /// Takes one row; false when there is none left.
    pub fn take(&mut self) -> bool {
        let some = self.0 > 0;
        self.0 = self.0.saturating_sub(1);
        some
    }
}

impl State {
    pub(crate) fn run_chores(&mut self, budget: &mut Budget) {
        while budget.0 > 0 {
            let Some(chore) = self.chores.pop_front() else { return };
            budget.take();
            if let Progress::Rest(rest) = self.run_chore(chore, budget) {
                self.chores.push_front(rest);
                return;
            }
        }
    }

    fn run_chore(&mut self, chore: Chore, budget: &mut Budget) -> Progress {
        match chore {
            Chore::OpenJob { job, next } => deps::open_job(self, job, next, budget),
            Chore::Settled { job, group, next } => deps::group_settled(self, job, group, next, budget),
            Chore::Each { job, group, positions, succeeded, next } => {
                deps::positions_final(self, job, group, positions, succeeded, next, budget)
            }
            Chore::JobFinished { job, next } => deps::job_finished(self, job, next, budget),
            Chore::CancelJob { job, next } => cancel::cancel_groups(self, job, next, budget),
            Chore::SkipJob { job, next, cause } => deps::skip_job(self, job, next, cause, budget),
            Chore::Retry { job, next, tasks, failed_only } => {
                retry::reopen_groups(self, job, next, tasks, failed_only, budget)
            }
            Chore::ReopenDependents { job, group, next } => {
                retry::reopen_dependents(self, job, group, next, budget)
            }
            Chore::ReopenLaterJobs { job, next } => retry::reopen_later_jobs(self, job, next, budget),
            Chore::SkipDoomed { job, next } => retry::skip_doomed(self, job, next, budget),
            Chore::DropEdge { job, group, on, had_succeeded } => {
                change::drop_edge(self, job, group, on, had_succeeded);
                Progress::Done
            }
            Chore::EndSession { session } => sessions::take_back(self, session, budget),
        }
    }
}
