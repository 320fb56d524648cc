//! Whether a replica takes more and more of its machine. Only a long run can say.

use crate::checks::{Evidence, Finding, not_asked};
use crate::observe::Sample;

/// Shorter runs warm up for all of their time. Seconds.
const LONG: u64 = 900;
/// The last quarter may have so much more than the second: figures wander, and a fixed amount is no growth.
const MORE: f64 = 1.5;
const MEMORY_MORE: u64 = 96 << 20;
const FILES_MORE: u64 = 64;
const DISK_MORE: u64 = 256 << 20;

type Figure = fn(&Sample) -> u64;

pub fn check(evidence: &Evidence) -> Finding {
    if evidence.asked.seconds < LONG {
        return not_asked("growth");
    }
    let samples = &evidence.kept.observed.samples;
    let mut problems = Vec::new();
    let replicas = samples.iter().map(|sample| sample.node + 1).max().unwrap_or(0);
    for node in 0..replicas {
        let own: Vec<&Sample> = samples.iter().filter(|sample| sample.node == node).collect();
        let figures: [(&str, Figure, u64); 3] = [
            ("bytes of memory", |sample| sample.memory, MEMORY_MORE),
            ("open files", |sample| sample.files, FILES_MORE),
            ("bytes on disk", |sample| sample.disk, DISK_MORE),
        ];
        for (what, figure, more) in figures {
            let (early, late) = (median(&own, 1, figure), median(&own, 3, figure));
            if late as f64 > early as f64 * MORE + more as f64 {
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
