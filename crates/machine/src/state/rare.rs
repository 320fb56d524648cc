//! What few jobs and groups have. It costs the others a pointer, and is read and changed as their own: the first mutable
//! borrow makes room for it, so nothing asks for one on the way of every job.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use model::lean::Collection;
use model::views::Counts;
use model::{Elapsed, JobId, Lean, RunSet};

use crate::state::jobs::{Cause, Dependent, Group, Hold, Job, On, TaskRow};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobRare {
    /// Tasks that cancels were answered for whose chores are not through yet, by number.
    pub cancelling: RunSet,
    /// Those chores. Only after the last of them is nothing marked any more: a retry between two of them lifts nothing.
    pub cancels: u32,
    /// Chores of retries that are not through yet. Nothing is placed before they are, so that nothing that has a new round
    /// already ends, and settles, before the rest has one too.
    pub reopening: u32,
    /// Earlier jobs that this one waits for as a whole.
    pub after: Lean<Vec<JobId>>,
    /// How many of them have not succeeded yet.
    pub waiting: u32,
    pub hold: Hold,
    /// Later jobs that wait for this one.
    pub dependents: Lean<Vec<Dependent>>,
    /// Bytes of results kept.
    pub results_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRare {
    pub after: Lean<Vec<On>>,
    pub each: Lean<Vec<u32>>,
    pub dependents: Lean<Vec<u32>>,
    pub each_dependents: Lean<Vec<u32>>,
    pub delayed: Lean<BTreeMap<u32, Elapsed>>,
    /// Cancelled while their attempt ran, and its worker has not said yet that it is over: whatever became of the task
    /// since, it is not placed anew before. Beside the sets of positions, not one of them.
    pub stopping: Lean<RunSet>,
    /// Members of a gang that have ended well, while others have not ended yet. They count as running.
    pub arrived: Lean<RunSet>,
    pub failed: RunSet,
    pub cancelled: RunSet,
    pub skipped: RunSet,
    pub cause: Option<Box<Cause>>,
    /// `later[r]`: positions whose round is above r + 1.
    pub later: Lean<Vec<RunSet>>,
    /// Without a row, but their first attempt began: it was cancelled.
    pub began: Lean<RunSet>,
    /// Of tasks that did not simply succeed at once.
    pub rows: Lean<BTreeMap<u32, TaskRow>>,
    /// How many earlier outcomes its rows hold together.
    pub earlier_len: u32,
}

impl Collection for JobRare {
    const EMPTY: &'static JobRare = &JobRare {
        cancelling: RunSet::new(),
        cancels: 0,
        reopening: 0,
        after: Lean::EMPTY,
        waiting: 0,
        hold: Hold::None,
        dependents: Lean::EMPTY,
        results_bytes: 0,
    };

    fn is_empty(&self) -> bool {
        self == JobRare::EMPTY
    }
}

impl Collection for GroupRare {
    const EMPTY: &'static GroupRare = &GroupRare {
        after: Lean::EMPTY,
        each: Lean::EMPTY,
        dependents: Lean::EMPTY,
        each_dependents: Lean::EMPTY,
        delayed: Lean::EMPTY,
        stopping: Lean::EMPTY,
        arrived: Lean::EMPTY,
        failed: RunSet::new(),
        cancelled: RunSet::new(),
        skipped: RunSet::new(),
        cause: None,
        later: Lean::EMPTY,
        began: Lean::EMPTY,
        rows: Lean::EMPTY,
        earlier_len: 0,
    };

    fn is_empty(&self) -> bool {
        self == GroupRare::EMPTY
    }
}

impl Deref for Job {
    type Target = JobRare;

    fn deref(&self) -> &JobRare {
        &self.rare
    }
}

impl DerefMut for Job {
    fn deref_mut(&mut self) -> &mut JobRare {
        &mut self.rare
    }
}

impl Deref for Group {
    type Target = GroupRare;

    fn deref(&self) -> &GroupRare {
        &self.rare
    }
}

impl DerefMut for Group {
    fn deref_mut(&mut self) -> &mut GroupRare {
        &mut self.rare
    }
}

/// Counts of one job. Its tasks have numbers of 32 bits, so that these have enough with half of what [`Counts`] takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobCounts([u32; 8]);

impl From<Counts> for JobCounts {
    fn from(counts: Counts) -> JobCounts {
        let Counts { blocked, delayed, ready, running, succeeded, failed, cancelled, skipped } = counts;
        let all = [blocked, delayed, ready, running, succeeded, failed, cancelled, skipped];
        JobCounts(all.map(|count| count as u32))
    }
}

impl From<JobCounts> for Counts {
    fn from(counts: JobCounts) -> Counts {
        let [blocked, delayed, ready, running, succeeded, failed, cancelled, skipped] =
            counts.0.map(u64::from);
        Counts { blocked, delayed, ready, running, succeeded, failed, cancelled, skipped }
    }
}
