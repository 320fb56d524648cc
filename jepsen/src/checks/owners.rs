//! W5 and W6, by the tasks' own ledger: one start per token, never two owners, nobody expired by an election.

use std::collections::BTreeMap;

use model::TaskId;

use crate::checks::{Evidence, Finding};
use crate::ledger::{Key, Stay};

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

/// W6. No fault here cuts a worker off from the majority, so that no overlap at all can be excused.
pub fn check_overlaps(evidence: &Evidence) -> Finding {
    let mut problems = Vec::new();
    let mut attempts: BTreeMap<TaskId, Vec<(Key, &Stay)>> = BTreeMap::new();
    // The ledger is ordered by task, then token.
    for (key, stays) in &evidence.ledger {
        attempts.entry(key.task).or_default().extend(stays.iter().map(|stay| (*key, stay)));
    }
    for (task, stays) in &attempts {
        for pair in stays.windows(2) {
            let [(older, before), (newer, after)] = pair else { continue };
            if after.start < before.end.unwrap_or(before.start) {
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
    Finding::new("W6", "never two live owners", format!("{} tasks", attempts.len()), problems)
}

/// Workers reach a majority at all times, and tasks do not fail: every second attempt is one too many.
pub fn check_leases(evidence: &Evidence) -> Finding {
    let again = evidence.ledger.keys().filter(|key| key.attempt > 1);
    let problems: Vec<String> =
        again.map(|key| format!("{} was begun again as attempt {}", key.task, key.attempt)).collect();
    let looked_at = format!(
        "{} attempts, the machine stood still for at most {:?}",
        evidence.ledger.len(),
        evidence.stall
    );
    let stood_still = evidence.stall > evidence.lease / 4;
    let doubts = (stood_still && !problems.is_empty())
        .then(|| "this machine stood still for too long to judge by leases".to_owned());
    Finding::new("W6.leases", "no attempt is lost to an election", looked_at, problems)
        .unless(doubts.into_iter().collect())
}
