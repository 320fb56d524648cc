//! Judges a run by its evidence. Each checker answers for one claim: true, false, or unknown where it saw too little.

mod coverage;
mod jobs;
mod owners;
mod reads;
mod requests;
mod settle;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::JobId;
use model::views::{ClusterView, JobView};

use crate::history::Operation;
use crate::ledger::Ledger;
use crate::nemesis::Deeds;
use crate::watcher::Seen;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    True,
    Unknown,
    False,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::True => "true",
            Verdict::Unknown => "unknown",
            Verdict::False => "false",
        })
    }
}

/// What one checker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// As in the table of claims.
    pub id: &'static str,
    pub claim: &'static str,
    pub verdict: Verdict,
    /// What was looked at, in numbers.
    pub looked_at: String,
    /// Each thing that is wrong or missing.
    pub problems: Vec<String>,
}

impl Finding {
    /// True unless there are problems.
    fn new(id: &'static str, claim: &'static str, looked_at: String, problems: Vec<String>) -> Finding {
        let verdict = if problems.is_empty() { Verdict::True } else { Verdict::False };
        Finding { id, claim, verdict, looked_at, problems }
    }

    /// With reasons why this run cannot decide it, nothing is decided.
    fn unless(self, doubts: Vec<String>) -> Finding {
        if doubts.is_empty() {
            return self;
        }
        Finding { verdict: Verdict::Unknown, problems: [self.problems, doubts].concat(), ..self }
    }
}

/// Everything that a run left behind.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub operations: Vec<Operation>,
    /// All jobs at the end, as each replica tells them in a linearizable read.
    pub jobs: Vec<Vec<JobView>>,
    pub ledger: Ledger,
    pub seen: Seen,
    pub deeds: Deeds,
    pub end: End,
    /// The longest time for which this machine did not run the driver.
    pub stall: Duration,
    pub lease: Duration,
}

/// How the cluster stood after heal, quiet and drain.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Whether all replicas came to follow one leader in one term, with all workers there.
    pub settled: bool,
    pub drained: bool,
    pub views: Vec<Option<ClusterView>>,
    /// A fresh job through each replica.
    pub fresh: Vec<Result<(), String>>,
}

impl Evidence {
    /// The jobs at the end by their ids, in the words of the first replica.
    fn last(&self) -> BTreeMap<JobId, &JobView> {
        self.jobs.first().into_iter().flatten().map(|job| (job.id, job)).collect()
    }
}

/// The `key` that the workload gave a job.
fn key_of(job: &JobView) -> Option<u64> {
    job.labels.get("key")?.parse().ok()
}

pub fn all(evidence: &Evidence) -> Vec<Finding> {
    vec![
        coverage::check(evidence),
        reads::check_order(evidence),
        jobs::check_kept(evidence),
        jobs::check_final(evidence),
        owners::check_starts(evidence),
        owners::check_overlaps(evidence),
        owners::check_leases(evidence),
        requests::check(evidence),
        settle::check(evidence),
        reads::check_minority(evidence),
    ]
}

/// The worst of them.
pub fn overall(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown)
}
