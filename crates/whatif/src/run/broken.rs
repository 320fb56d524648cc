//! What no run may do, whatever the workload and the policy. Each would be a bug, and the figures of such a run would say nothing,
//! so that there are none.

use std::fmt;
use std::time::Duration;

use model::policy::{Backfill, Order, QueuePolicy};

use crate::workload::{Task, Workload};

/// Times count from the begin of the workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// More cores were in use than there are.
    Capacity { at: Duration, busy: u64, cores: u64 },
    /// The state did not take what was planned from that very state.
    Dropped { at: Duration, placements: u32 },
    /// Planning once more added something when all should have been placed.
    Unsettled { at: Duration },
    /// A task of the workload, by its places, started later than it was promised, though nothing took longer than expected.
    Promise { at: Duration, job: usize, task: usize, promised: Duration },
    /// The state refused a command.
    Refused { at: Duration, why: String },
    /// So many tasks had not ended when nothing was left to happen.
    Unfinished { tasks: usize },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Capacity { at, busy, cores } => {
                write!(f, "after {at:?} {busy} of {cores} cores were in use")
            }
            Broken::Dropped { at, placements } => {
                write!(f, "after {at:?} {placements} placements of a plan were not taken")
            }
            Broken::Unsettled { at } => {
                write!(f, "after {at:?} planning once more added something when all should have been placed")
            }
            Broken::Promise { at, job, task, promised } => write!(
                f,
                "task {task} of job {job} of the workload started after {at:?}, and was promised a start after {promised:?}"
            ),
            Broken::Refused { at, why } => write!(f, "after {at:?} a command was refused: {why}"),
            Broken::Unfinished { tasks } => write!(f, "{tasks} tasks never ended"),
        }
    }
}

impl std::error::Error for Broken {}

/// Whether whoever is promised a start must have begun by then: nothing takes longer than expected, and nobody goes before those
/// who were promised theirs. With `conservative` that is so whatever the order; with `easy` only where the first that waits stays
/// the first, which an order by anything but submits, or an earlier job of which more becomes ready, does not grant.
pub(super) fn holds_promises(workload: &Workload, policy: &QueuePolicy) -> bool {
    let by_policy = match policy.backfill {
        Backfill::Conservative => !policy.preempt,
        Backfill::Easy => {
            policy.order == Order::Fifo
                && workload.tasks().all(|task| task.after.is_empty() && task.after_jobs.is_empty())
        }
        Backfill::FirstFit | Backfill::None => false,
    };
    // The state counts in microseconds: what is cut off would add up.
    let is_whole = |time: Duration| time.subsec_nanos().is_multiple_of(1_000);
    let is_kept_to =
        |task: &Task| task.estimate.is_some_and(|estimate| estimate >= task.run && is_whole(task.run));
    by_policy
        && !workload.learns
        && workload.tasks().all(is_kept_to)
        && workload.jobs.iter().all(|job| is_whole(job.submit))
}
