//! W3 and W4: what was acknowledged is there, and what is final stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use model::JobId;
use model::views::{JobState, TaskState};

use crate::checks::{Evidence, FinalJob, Finding};
use crate::history::{Answer, Call, Kind};
use crate::watcher::Finals;

/// W3. Acknowledged and not there: lost. There and never asked for: unexpected. Refused and there: a refusal that lied.
pub fn check_kept(evidence: &Evidence) -> Finding {
    let last = evidence.last();
    let mut acknowledged: Vec<(u64, JobId)> = Vec::new();
    let (mut attempted, mut open) = (BTreeSet::new(), BTreeSet::new());
    for operation in &evidence.operations {
        let Call::Submit { key, .. } = operation.call else { continue };
        attempted.insert(key);
        if operation.kind != Kind::Fail {
            open.insert(key);
        }
        if let Some(Answer::Submitted { job, .. }) = operation.answer {
            acknowledged.push((operation.completed, job));
        }
    }
    acknowledged.sort_unstable();
    let mut problems = lost(&acknowledged, &last);
    for job in last.values() {
        match job.key {
            Some(key) if !attempted.contains(&key) => {
                problems.push(format!("unexpected: {} of key {key}", job.id))
            }
            Some(key) if !open.contains(&key) => {
                problems
                    .push(format!("{} of key {key} is there, though every submit of it was refused", job.id));
            }
            Some(_) | None => {}
        }
    }
    let looked_at = format!(
        "{} acknowledgements, {} keys, {} jobs at the end",
        acknowledged.len(),
        attempted.len(),
        last.len()
    );
    Finding::new("W3", "no acknowledged job is lost", looked_at, problems)
}

/// In the order of their acknowledgements; where in the whole they lie tells what kind of loss it is.
fn lost(acknowledged: &[(u64, JobId)], last: &BTreeMap<JobId, &FinalJob>) -> Vec<String> {
    let is_there = |(_, job): &(u64, JobId)| last.contains_key(job);
    let (first, end) = (acknowledged.iter().position(is_there), acknowledged.iter().rposition(is_there));
    let place = |at: usize| match (first, end) {
        (Some(first), Some(_)) if at < first => "prefix",
        (Some(_), Some(end)) if at > end => "postfix",
        (Some(_), Some(_)) => "middle",
        _ => "all",
    };
    let gone = acknowledged.iter().enumerate().filter(|(_, entry)| !is_there(entry));
    gone.map(|(at, (_, job))| format!("lost ({}): {job}", place(at))).collect()
}

/// W4. One final state per task, job and round, the same wherever and whenever it is looked at.
pub fn check_final(evidence: &Evidence) -> Finding {
    let last = evidence.last();
    let mut problems = unlike_replicas(evidence);
    for job in last.values().filter(|job| !job.state.is_final()) {
        problems.push(format!("{} is still {} after the drain", job.id, job.state));
    }
    problems.extend(changed_finals(evidence, &last));
    let finals = evidence.finals();
    problems.extend(second_finals(evidence, &finals, &last));
    problems.extend(unrun(evidence, &finals, &last));
    let finals: usize = finals.tasks.values().map(Vec::len).sum();
    let looked_at =
        format!("{} jobs through {} replicas, {finals} final events", last.len(), evidence.kept.jobs.len());
    Finding::new("W4", "one final state per round, and it never changes", looked_at, problems)
}

fn unlike_replicas(evidence: &Evidence) -> Vec<String> {
    let told = |jobs: &Vec<FinalJob>| -> BTreeMap<JobId, (JobState, u64, u64)> {
        jobs.iter().map(|job| (job.id, (job.state, job.succeeded, job.finished))).collect()
    };
    let all: Vec<_> = evidence.kept.jobs.iter().map(told).collect();
    let unlike = all.iter().enumerate().filter(|(_, jobs)| **jobs != all[0]);
    unlike.map(|(place, _)| format!("n{} tells other jobs at the end than n1", place + 1)).collect()
}

/// What a read or a cancel said on the way, against the end, of jobs that had one round only.
fn changed_finals(evidence: &Evidence, last: &BTreeMap<JobId, &FinalJob>) -> Vec<String> {
    let mut problems = Vec::new();
    let retried = evidence.retried();
    let operations = evidence.operations.iter().filter(|operation| match operation.call {
        Call::Read { job } | Call::Cancel { job } => !retried.contains_key(&job),
        _ => false,
    });
    for operation in operations {
        match (&operation.call, &operation.answer) {
            (Call::Read { job }, Some(Answer::Read { state, .. })) if state.is_final() => {
                let end = last.get(job).map(|job| job.state);
                if end != Some(*state) {
                    problems.push(format!("{job} was {state} in a read and is {end:?} at the end"));
                }
            }
            (Call::Cancel { job }, Some(Answer::Changed { changed, .. }))
                if *changed > 0 && last.get(job).is_some_and(|job| job.state == JobState::Succeeded) =>
            {
                problems.push(format!("{job} was cancelled, and then it succeeded"));
            }
            _ => {}
        }
    }
    problems
}

fn second_finals(evidence: &Evidence, finals: &Finals, last: &BTreeMap<JobId, &FinalJob>) -> Vec<String> {
    let mut problems = Vec::new();
    let retried = evidence.retried();
    let rounds = |job: &JobId| 1 + retried.get(job).copied().unwrap_or(0) as usize;
    for (task, states) in finals.tasks.iter().filter(|(task, states)| states.len() > rounds(&task.job)) {
        problems.push(format!("{task} became final more often than it had rounds: {states:?}"));
    }
    for (job, states) in &finals.jobs {
        let end = last.get(job).map(|job| job.state);
        if states.len() > rounds(job) || states.last().copied() != end {
            problems.push(format!("{job} became {states:?} by its events and is {end:?} at the end"));
        }
    }
    problems
}

/// A task that succeeded says itself that it came to its end.
fn unrun(evidence: &Evidence, finals: &Finals, last: &BTreeMap<JobId, &FinalJob>) -> Vec<String> {
    let mut ended: BTreeMap<JobId, BTreeSet<u32>> = BTreeMap::new();
    for (key, stays) in &evidence.ledger {
        if stays.iter().any(|stay| stay.end.is_some()) {
            ended.entry(key.task.job).or_default().insert(key.task.number);
        }
    }
    let is_written = |job: &&&FinalJob| job.shape().is_some_and(|shape| shape.is_written());
    let short = last.values().filter(is_written).filter_map(|job| {
        let count = ended.get(&job.id).map_or(0, BTreeSet::len) as u64;
        let told = job.succeeded;
        (count < told).then(|| format!("{}: {told} tasks succeeded, {count} came to their end", job.id))
    });
    let succeeded = finals.tasks.iter().filter(|(_, states)| states.contains(&TaskState::Succeeded));
    let unended = succeeded.filter(|(task, _)| last.get(&task.job).is_some_and(|job| is_written(&job)));
    let unended =
        unended.filter(|(task, _)| !ended.get(&task.job).is_some_and(|tasks| tasks.contains(&task.number)));
    short.chain(unended.map(|(task, _)| format!("{task} succeeded and never came to its end"))).collect()
}
