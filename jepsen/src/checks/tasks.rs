//! W7 and W9 by the tasks' own ledger: who waits for whom, and how many run at once.

use std::collections::BTreeMap;

use model::{JobId, TaskId};

use crate::checks::{Evidence, FinalJob, Finding, not_asked};
use crate::ledger::Stay;
use crate::workload::{Op, Shape};

/// By how many nanoseconds a clock's grain may make ends and starts overlap: the userland of an image has hundredths of
/// seconds.
const GRAIN: u64 = 10_000_000;

/// W7. Every start of a task lies behind an end of each task that it waits for.
pub fn check_order(evidence: &Evidence) -> Finding {
    let is_ordered = |op: Op| matches!(op, Op::Submit(shape) if !shape.edges().is_empty());
    if !evidence.asked.workload.has(is_ordered) {
        return not_asked("W7");
    }
    let mut first_end: BTreeMap<TaskId, u64> = BTreeMap::new();
    let mut starts: BTreeMap<TaskId, Vec<u64>> = BTreeMap::new();
    for (key, stays) in &evidence.ledger {
        for stay in stays {
            starts.entry(key.task).or_default().push(stay.start);
            if let Some(end) = stay.end {
                let first = first_end.entry(key.task).or_insert(end);
                *first = (*first).min(end);
            }
        }
    }
    let last = evidence.last();
    let edges = |job: &&FinalJob| job.shape().map(Shape::edges).filter(|edges| !edges.is_empty());
    let graphs: Vec<(JobId, Vec<(u32, u32)>)> =
        last.values().filter_map(|job| Some((job.id, edges(job)?))).collect();
    let (mut problems, mut looked_at) = (Vec::new(), 0);
    for (job, edges) in &graphs {
        for (before, after) in edges.iter().copied() {
            let [before, after] = [before, after].map(|number| TaskId { job: *job, number });
            for start in starts.get(&after).into_iter().flatten() {
                looked_at += 1;
                match first_end.get(&before) {
                    None => problems.push(format!("{after} began, and {before} never ended")),
                    Some(end) if *end > start + GRAIN => {
                        problems.push(format!("{after} began {} ns before {before} ended", end - start));
                    }
                    Some(_) => {}
                }
            }
        }
    }
    let doubts = (looked_at == 0).then(|| "no task waited for another".to_owned());
    let looked_at = format!("{looked_at} starts of {} graphs", graphs.len());
    Finding::new("W7", "a task begins after the end of what it waits for", looked_at, problems)
        .unless(doubts.into_iter().collect())
}

/// W9. A sweep over the starts and ends of each worker's processes. What was killed counts at its start only: nobody knows
/// for how long it was there.
pub fn check_capacity(evidence: &Evidence) -> Finding {
    let mut changes: BTreeMap<&str, Vec<(u64, i64)>> = BTreeMap::new();
    // By a coarse clock another may have taken the room of one that ended, or was killed, in the moment in which it began.
    let is_told = |stay: &&Stay| stay.end.map_or(!stay.start.is_multiple_of(GRAIN), |end| end > stay.start);
    let stays: Vec<&Stay> = evidence.ledger.values().flatten().filter(is_told).collect();
    for stay in &stays {
        let end = stay.end.unwrap_or(stay.start + 1).saturating_sub(GRAIN).max(stay.start + 1);
        let own = changes.entry(&stay.worker).or_default();
        own.extend([(stay.start, stay.cpu as i64), (end, -(stay.cpu as i64))]);
    }
    let (mut problems, mut most) = (Vec::new(), 0);
    for (worker, changes) in &mut changes {
        // Ends before starts at one moment.
        changes.sort_unstable();
        let mut used = 0;
        for (at, change) in changes {
            used += *change;
            most = most.max(used);
            if used > evidence.asked.worker_cpu as i64 {
                problems.push(format!("{worker} ran {used} of {} at {at}", evidence.asked.worker_cpu));
            }
        }
    }
    problems.truncate(20);
    let looked_at = format!("{} processes on {} workers, at most {most} at once", stays.len(), changes.len());
    let doubts = stays.is_empty().then(|| "no process ran".to_owned());
    Finding::new("W9", "no worker runs more than it has", looked_at, problems)
        .unless(doubts.into_iter().collect())
}
