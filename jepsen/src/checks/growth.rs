//! Whether a replica takes more and more of its machine. Only a long run can say.

use std::collections::BTreeMap;

use crate::checks::{Evidence, Finding, not_asked};
use crate::history::Answer;
use crate::observe::Sample;

/// Shorter runs warm up for all of their time. Seconds.
const LONG: u64 = 900;
/// The last quarter may have so much more than the second: figures wander, and a fixed amount is no growth.
const MORE: f64 = 1.5;
const MEMORY_MORE: u64 = 96 << 20;
const FILES_MORE: u64 = 64;
const DISK_MORE: u64 = 256 << 20;

type Figure = fn(&Sample) -> u64;

/// How many jobs had been accepted by a time; all of them are kept for the final reads, and in memory.
fn jobs_at(evidence: &Evidence) -> impl Fn(u64) -> usize {
    let accepted = evidence.operations.iter().filter_map(|operation| match &operation.answer {
        Some(Answer::Submitted { job, .. }) => Some((job.0, operation.completed)),
        _ => None,
    });
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for (job, at) in accepted {
        let known = first.entry(job).or_insert(at);
        *known = (*known).min(at);
    }
    let mut times: Vec<u64> = first.into_values().collect();
    times.sort_unstable();
    move |at| times.partition_point(|time| *time <= at)
}

pub fn check(evidence: &Evidence) -> Finding {
    if evidence.asked.seconds < LONG {
        return not_asked("growth");
    }
    let samples = &evidence.kept.observed.samples;
    let mut problems = Vec::new();
    let jobs_at = jobs_at(evidence);
    let replicas = samples.iter().map(|sample| sample.node + 1).max().unwrap_or(0);
    for node in 0..replicas {
        let own: Vec<&Sample> = samples.iter().filter(|sample| sample.node == node).collect();
        // What jobs take that are kept grows with them; nothing else may.
        let jobs = |quarter| jobs_at(median(&own, quarter, |sample| sample.at)).max(1) as f64;
        let least = own.iter().map(|sample| sample.memory).min().unwrap_or(0);
        let of_jobs = median(&own, 1, |sample| sample.memory).saturating_sub(least) as f64;
        let more_jobs = of_jobs * (jobs(3) / jobs(1) - 1.0);
        let figures: [(&str, Figure, f64, u64); 3] = [
            ("bytes of memory", |sample| sample.memory, more_jobs, MEMORY_MORE),
            ("open files", |sample| sample.files, 0.0, FILES_MORE),
            ("bytes on disk", |sample| sample.disk, 0.0, DISK_MORE),
        ];
        for (what, figure, of_jobs, more) in figures {
            let (early, late) = (median(&own, 1, figure), median(&own, 3, figure));
            if late as f64 > (early as f64 + of_jobs) * MORE + more as f64 {
                problems.push(format!(
                    "n{} has {late} {what} in the last quarter, {early} in the second",
                    node + 1
                ));
            }
        }
    }
    let doubts = samples.is_empty().then(|| "nothing was measured".to_owned());
    let looked_at = format!("{} samples of {replicas} replicas", samples.len());
    Finding::new("growth", "memory, files and disk do not grow without bound", looked_at, problems)
        .unless(doubts.into_iter().collect())
}

/// Of one quarter of the samples.
fn median(samples: &[&Sample], quarter: usize, figure: Figure) -> u64 {
    let len = samples.len();
    let mut part: Vec<u64> =
        samples[len * quarter / 4..len * (quarter + 1) / 4].iter().map(|sample| figure(sample)).collect();
    part.sort_unstable();
    part.get(part.len() / 2).copied().unwrap_or(0)
}
