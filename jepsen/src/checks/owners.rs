//! W5 and W6, by the tasks' own ledger: one start per token, never two owners, nobody expired by an election.

use std::collections::{BTreeMap, BTreeSet};

use model::{JobId, TaskId};

use crate::checks::log::GaveWay;
use crate::checks::{Evidence, FinalJob, Finding, not_asked};
use crate::ledger::{Key, Stay};
use crate::nemesis::Outage;
use crate::workload::{Op, Shape};

/// W5.
pub fn check_starts(evidence: &Evidence) -> Finding {
    let last = evidence.last();
    let mut problems = Vec::new();
    for (key, stays) in &evidence.ledger {
        let Key { task, token, attempt } = key;
        if stays.len() > 1 {
            problems.push(format!("{task}#{attempt} with token {token} was started {} times", stays.len()));
        }
        if !last.contains_key(&task.job) {
            problems.push(format!("{task} ran, and there is no such job"));
        }
    }
    let starts: usize = evidence.ledger.values().map(Vec::len).sum();
    Finding::new("W5", "at most one start per token", format!("{starts} starts"), problems)
}

/// W6. Two processes of one task overlap only where the older one's host stood still or reached nobody, and then it is
/// fenced.
pub fn check_overlaps(evidence: &Evidence) -> Finding {
    let mut problems = Vec::new();
    let mut attempts: BTreeMap<TaskId, Vec<(Key, &Stay)>> = BTreeMap::new();
    // The ledger is ordered by task, then token.
    for (key, stays) in &evidence.ledger {
        attempts.entry(key.task).or_default().extend(stays.iter().map(|stay| (*key, stay)));
    }
    let mut excused = 0;
    for (task, stays) in &attempts {
        for pair in stays.windows(2) {
            let [(older, before), (newer, after)] = pair else { continue };
            let overlaps = after.start < before.end.unwrap_or(before.start);
            if overlaps && was_away(&evidence.kept.deeds.outages, before, after.start) {
                excused += 1;
            } else if overlaps {
                problems.push(format!("{task}: token {} began while {} ran", newer.token, older.token));
            }
            if newer.attempt <= older.attempt && newer.token != older.token {
                problems.push(format!(
                    "{task}: attempt {} has a newer token than {}",
                    newer.attempt, older.attempt
                ));
            }
        }
    }
    let looked_at = format!("{} tasks, {excused} overlaps with a host that was away", attempts.len());
    Finding::new("W6", "never two live owners", looked_at, problems)
}

/// Whether the host of a process was away at some time between its start and that of the other.
fn was_away(outages: &[Outage], stay: &Stay, other: u64) -> bool {
    outages.iter().any(|outage| outage.worker == stay.worker && outage.from < other && outage.to > stay.start)
}

/// Where workers reach a majority at all times, and tasks do not fail, every second attempt is one too many; but for those
/// that follow one of which the log says that it was preempted.
pub fn check_leases(evidence: &Evidence, gave_way: Option<GaveWay>) -> Finding {
    if evidence.installed().iter().any(|fault| fault.touches_workers()) {
        return not_asked("W6.leases");
    }
    let (last, retried) = (evidence.last(), evidence.retried());
    let workload = evidence.asked.workload;
    let is_judged = |job: &FinalJob| {
        // Without its log nobody can say who gave way.
        let may_give_way = job.key.is_some_and(|key| workload.queue_of(key).preempts());
        job.shape().is_some_and(|shape| !shape.fails())
            && !retried.contains_key(&job.id)
            && (gave_way.is_some() || !may_give_way)
    };
    let unjudged: BTreeSet<JobId> = last.values().filter(|job| !is_judged(job)).map(|job| job.id).collect();
    let gave_way = gave_way.unwrap_or_default();
    let is_excused = |key: &Key| {
        let attempts = gave_way.get(&(key.task.job.0, key.task.number.into()));
        let before = 1..key.attempt.into();
        attempts.is_some_and(|attempts| before.into_iter().all(|attempt| attempts.contains(&attempt)))
    };
    let again = evidence.ledger.keys().filter(|key| key.attempt > 1 && !unjudged.contains(&key.task.job));
    let (excused, again): (Vec<&Key>, Vec<&Key>) = again.partition(|key| is_excused(key));
    let problems: Vec<String> =
        again.iter().map(|key| format!("{} was begun again as attempt {}", key.task, key.attempt)).collect();
    let stall = std::time::Duration::from_nanos(evidence.kept.stall);
    let looked_at = format!(
        "{} attempts, {} after one that was preempted, the machine stood still for at most {stall:?}",
        evidence.ledger.len(),
        excused.len()
    );
    let stood_still = evidence.kept.stall > evidence.kept.lease / 4;
    let finding = Finding::new("W6.leases", "no attempt is lost to an election", looked_at, problems);
    if stood_still && !finding.problems.is_empty() {
        let doubt = "this machine stood still for too long to judge by leases".to_owned();
        return Finding { verdict: super::Verdict::Unknown, problems: vec![doubt], ..finding };
    }
    finding
}

/// W6 by the resource that checks tokens: those that it takes never go back, and it refuses older ones only.
pub fn check_fence(evidence: &Evidence) -> Finding {
    if !evidence.asked.workload.has(|op| op == Op::Submit(Shape::Fenced)) || evidence.fence.is_empty() {
        return not_asked("W6.fence");
    }
    let mut newest: BTreeMap<TaskId, u64> = BTreeMap::new();
    let (mut problems, mut refused) = (Vec::new(), 0);
    for fencing in &evidence.fence {
        let known = newest.entry(fencing.task).or_default();
        refused += usize::from(!fencing.accepted);
        if fencing.accepted && fencing.token < *known {
            problems.push(format!("{}: token {} was taken after {known}", fencing.task, fencing.token));
        } else if !fencing.accepted && fencing.token >= *known {
            problems.push(format!("{}: token {} was refused after {known}", fencing.task, fencing.token));
        }
        *known = (*known).max(if fencing.accepted { fencing.token } else { 0 });
    }
    // The task that succeeded is the one that holds the newest token.
    let looked_at = format!("{} writes, {refused} refused", evidence.fence.len());
    Finding::new("W6.fence", "what checks tokens sees them rise", looked_at, problems)
}
