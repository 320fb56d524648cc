//! W10: who waits, in order, and whether somebody better was passed over.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::job::Job;
use super::task::State;
use crate::trace::Applied;

/// A plan was made before it was applied: who has become ready since then may have been passed over. Microseconds.
const PLANNED_BEFORE: u64 = 3_000_000;
/// Time alone does not say it: while a majority stands still, so do the entries in flight, and behind them those that were
/// made without knowing them. A leader has at most 8 in flight, and a plan in hand that was made when 8 others were.
pub const PLANNED_BEFORE_ENTRIES: u64 = 20;
/// How many of those that wait longest are looked at for each placement.
const LOOKED_AT_MAX: usize = 64;

/// Ready tasks in lines, each in the order in which they have to be served.
#[derive(Default)]
pub struct Waiting(BTreeMap<Line, BTreeSet<Place>>);

/// Those of one queue that ask for the same; of one user, where users take turns.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    queue: String,
    user: String,
    cpu: u64,
    /// Members that start together.
    gang: u64,
}

type Place = (Reverse<i64>, u64, u64);

fn line(job: &Job, task: u64) -> Line {
    let gang = job.gang_of(task).map_or(0, |group| group.len);
    Line { queue: job.queue.clone(), user: job.user.clone(), cpu: job.cpu_of(task), gang }
}

impl Waiting {
    pub fn note(&mut self, job: &Job, (id, task): (u64, u64), is_ready: bool) {
        let place = (Reverse(job.priority), id, task);
        let line = self.0.entry(line(job, task)).or_default();
        if is_ready {
            line.insert(place)
        } else {
            line.remove(&place)
        };
    }

    /// A better one that asks for the same and has waited for long.
    pub fn passed_over(
        &self,
        jobs: &BTreeMap<u64, Job>,
        (id, task): (u64, u64),
        entry: &Applied,
    ) -> Option<String> {
        let job = jobs.get(&id)?;
        let own = (Reverse(job.priority), id, task);
        let better = self.0.get(&line(job, task))?.range(..own).take(LOOKED_AT_MAX);
        let mut waits = better.filter(|(_, id, task)| {
            jobs.get(id).is_some_and(|job| !job.is_held_back && waits_for_long(job, *task, entry))
        });
        waits.next().map(|(_, id, task)| format!("j{id}.{task}"))
    }
}

/// Whether whoever made the plan has to have known that it waits. A gang waits when all its members do.
fn waits_for_long(job: &Job, task: u64, entry: &Applied) -> bool {
    let tasks = match job.gang_of(task) {
        Some(group) => job.tasks_of(group),
        None => std::slice::from_ref(&job.tasks[task as usize]),
    };
    tasks.iter().all(|task| {
        task.state == State::Ready
            && task.since + PLANNED_BEFORE < entry.elapsed
            && task.since_entry + PLANNED_BEFORE_ENTRIES < entry.index
    })
}
