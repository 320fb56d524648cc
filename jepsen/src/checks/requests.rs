//! W11: one job per request id, and no second body under it.

use std::collections::{BTreeMap, BTreeSet};

use model::{JobId, RequestId};

use crate::checks::{Evidence, Finding};
use crate::history::{Answer, Call};
use crate::workload::Op;

pub fn check(evidence: &Evidence) -> Finding {
    let mut jobs: BTreeMap<RequestId, BTreeSet<JobId>> = BTreeMap::new();
    let (mut problems, mut repeats, mut conflicts) = (Vec::new(), 0, 0);
    for operation in &evidence.operations {
        let Call::Submit { id, body, .. } = operation.call else { continue };
        match &operation.answer {
            Some(Answer::Submitted { job, .. }) if body == 0 => {
                repeats += usize::from(!jobs.entry(id).or_default().insert(*job));
            }
            Some(Answer::Submitted { job, .. }) => {
                problems.push(format!("another body under {id} was accepted as {job}"));
            }
            Some(Answer::Failed { code, .. }) if code == client::code::CONFLICT => {
                conflicts += usize::from(body > 0);
                if body == 0 {
                    problems.push(format!("the same body under {id} was called a conflict"));
                }
            }
            _ => {}
        }
    }
    for (id, jobs) in jobs.iter().filter(|(_, jobs)| jobs.len() > 1) {
        problems.push(format!("{id} was answered with {jobs:?}"));
    }
    problems.extend(twice_at_the_end(evidence));
    let looked_at = format!("{} request ids, {repeats} repeats, {conflicts} conflicts", jobs.len());
    let tries = evidence.asked.workload.has(|op| op == Op::Again);
    let doubts = (tries && (repeats == 0 || conflicts == 0))
        .then(|| "no repeat or no conflict was answered".to_owned());
    Finding::new("W11", "a request id is done once and refuses another body", looked_at, problems)
        .unless(doubts.into_iter().collect())
}

fn twice_at_the_end(evidence: &Evidence) -> Vec<String> {
    let mut keys: BTreeMap<u64, Vec<JobId>> = BTreeMap::new();
    for job in evidence.last().values() {
        if let Some(key) = job.key {
            keys.entry(key).or_default().push(job.id);
        }
    }
    let twice = keys.iter().filter(|(_, jobs)| jobs.len() > 1);
    twice.map(|(key, jobs)| format!("key {key} has the jobs {jobs:?}")).collect()
}
