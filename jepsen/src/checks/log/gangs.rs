//! W16 by the log: a gang is placed, begun anew and ended as a whole.

use std::collections::BTreeSet;

use super::allocations::Allocations;
use super::job::{Group, Job};
use super::task::Task;

/// What is wrong with a gang of the job as an entry has left it.
pub fn objection(job: &Job, group: &Group, allocations: &Allocations) -> Option<String> {
    let members = job.tasks_of(group);
    let count = |is: fn(&Task) -> bool| members.iter().filter(|task| is(task)).count();
    let is_part = |count: usize| count > 0 && count < members.len();
    // One that has ended well still counts: no event tells of it before the others have.
    let run = count(|task| task.state.is_owned());
    if is_part(run) {
        return Some(format!("{run} of {} members run: {}", members.len(), states(members)));
    }
    if is_part(count(|task| task.state.is_final())) || is_part(count(|task| task.state.is_good())) {
        return Some(format!("its {} members have not ended alike: {}", members.len(), states(members)));
    }
    if run == 0 {
        return None;
    }
    let entries: BTreeSet<u64> =
        members.iter().filter_map(|task| Some(allocations.get(task.owner?)?.entry)).collect();
    let attempts: BTreeSet<u64> = members.iter().map(|task| task.attempt).collect();
    if entries.len() > 1 || attempts.len() > 1 {
        return Some(format!("its members were placed by entries {entries:?}, as attempts {attempts:?}"));
    }
    None
}

fn states(members: &[Task]) -> String {
    let all: Vec<String> = members.iter().map(|task| format!("{:?}", task.state)).collect();
    all.join(" ")
}
