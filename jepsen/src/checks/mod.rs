//! Judges a run by its evidence. Each checker answers for one claim: true, false, or unknown where it saw too little.

mod coverage;
mod gangs;
mod growth;
mod jobs;
pub mod log;
mod owners;
mod reads;
mod registers;
mod requests;
mod settle;
mod streams;
mod tasks;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::JobId;
use model::views::JobState;
use serde::{Deserialize, Serialize};

use crate::history::{Call, Kind, Operation};
use crate::ledger::{Fencing, Ledger};
use crate::nemesis::{Deeds, Fault};
use crate::observe::Observed;
use crate::trace::Trace;
use crate::watcher::{Finals, Stream};
use crate::workload::{Shape, Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    pub fn new(id: &'static str, claim: &'static str, looked_at: String, problems: Vec<String>) -> Finding {
        let verdict = if problems.is_empty() { Verdict::True } else { Verdict::False };
        Finding { id, claim, verdict, looked_at, problems }
    }

    /// With reasons why this run cannot say that it is true, it does not; what it found wrong stays wrong.
    pub fn unless(self, doubts: Vec<String>) -> Finding {
        if doubts.is_empty() || self.verdict == Verdict::False {
            return self;
        }
        Finding { verdict: Verdict::Unknown, problems: doubts, ..self }
    }
}

/// Everything that a run left behind.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub asked: Asked,
    pub operations: Vec<Operation>,
    pub ledger: Ledger,
    pub fence: Vec<Fencing>,
    /// One per watcher.
    pub streams: Vec<Stream>,
    pub trace: Option<Trace>,
    pub kept: Kept,
}

/// What the run was to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub workload: Workload,
    pub faults: Vec<Fault>,
    pub seconds: u64,
    /// Thousandths of a core that a worker has.
    pub worker_cpu: u64,
    /// Whether the binary under test writes down what it applies.
    pub traced: bool,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked { workload: Workload::Mixed, faults: Vec::new(), seconds: 60, worker_cpu: 4_000, traced: false }
    }
}

/// What is kept of a run beside histories, ledgers and logs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// All jobs at the end, as each replica tells them in a linearizable read.
    pub jobs: Vec<Vec<FinalJob>>,
    pub deeds: Deeds,
    pub observed: Observed,
    pub end: End,
    /// The longest time for which this machine did not run the driver, in nanoseconds.
    pub stall: u64,
    /// Nanoseconds of a lease.
    pub lease: u64,
    /// Nanoseconds from the start of the clients to their end.
    pub took: u64,
}

/// A job at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalJob {
    pub id: JobId,
    /// What the workload called it; absent for jobs of the suite's own.
    pub key: Option<u64>,
    pub shape: Option<String>,
    pub state: JobState,
    pub succeeded: u64,
    pub finished: u64,
}

impl FinalJob {
    pub fn shape(&self) -> Option<Shape> {
        Shape::named(self.shape.as_deref()?)
    }
}

/// How the cluster stood after heal, quiet and drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Whether all replicas came to follow one leader in one term, with all workers there.
    pub settled: bool,
    pub drained: bool,
    /// `None`: that replica does not answer.
    pub views: Vec<Option<View>>,
    /// A fresh job through each replica.
    pub fresh: Vec<Result<(), String>>,
    /// Replicas through which the jobs could not be read at the end, and why.
    #[serde(default)]
    pub unread: Vec<String>,
}

/// What a replica says of itself at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub applied: u64,
    pub digest: String,
    pub alarms: Vec<String>,
}

impl Evidence {
    /// The jobs at the end by their ids, in the words of the first replica.
    pub fn last(&self) -> BTreeMap<JobId, &FinalJob> {
        self.kept.jobs.first().into_iter().flatten().map(|job| (job.id, job)).collect()
    }

    /// Jobs of which a retry may have opened another round.
    fn retried(&self) -> BTreeMap<JobId, u64> {
        let mut retried = BTreeMap::new();
        for operation in &self.operations {
            if let (Call::Retry { job }, Kind::Ok | Kind::Info) = (&operation.call, operation.kind) {
                *retried.entry(*job).or_default() += 1;
            }
        }
        retried
    }

    fn finals(&self) -> Finals {
        self.streams.first().map(Finals::of).unwrap_or_default()
    }

    /// Faults that were installed.
    fn installed(&self) -> BTreeSet<Fault> {
        let done = self.kept.deeds.done.iter();
        done.filter(|done| done.outcome == crate::nemesis::Outcome::Installed)
            .map(|done| done.fault)
            .collect()
    }
}

/// Every checker: its id, and what it claims.
pub const ALL: &[(&str, &str)] = &[
    ("W0", "enough happened to judge by"),
    ("W1.index", "a read is never older than an answer before it"),
    ("W1.register", "registers are linearizable through all replicas"),
    ("W2", "the log, replayed through another model, gives the same answers everywhere"),
    ("W3", "no acknowledged job is lost"),
    ("W3.disk", "a failed disk stops its replica, a spoilt one is refused"),
    ("W4", "one final state per round, and it never changes"),
    ("W4.log", "in the log each task ends once per round"),
    ("W5", "at most one start per token"),
    ("W6", "never two live owners"),
    ("W6.log", "in the log a task has one owner, and only the owner ends it"),
    ("W6.leases", "no attempt is lost to an election"),
    ("W6.fence", "what checks tokens sees them rise"),
    ("W7", "a task begins after the end of what it waits for"),
    ("W7.log", "in the log nothing begins before what it waits for"),
    ("W9", "no worker runs more than it has"),
    ("W9.log", "in the log no worker is given more than it has"),
    ("W10", "what is better and waits is not passed over"),
    ("W11", "a request id is done once and refuses another body"),
    ("W12", "watchers see every event once, in order"),
    ("W14", "after the heal it is one cluster and it works"),
    ("W15", "a minority answers nothing"),
    ("W16", "a gang runs whole or not at all"),
    ("W16.log", "in the log a gang is placed, begun anew and ended as a whole"),
    ("W17", "what gives way has a lower priority than what it makes way for"),
    ("W18", "what workers take themselves they may take"),
    ("growth", "memory, files and disk do not grow without bound"),
];

pub fn all(evidence: &Evidence) -> Vec<Finding> {
    let mut findings =
        vec![coverage::check(evidence), reads::check_order(evidence), registers::check(evidence)];
    let replayed = log::replay(evidence);
    findings.extend(log::check(evidence, replayed.as_ref()));
    // Of a log with holes nobody knows what else it would say.
    let is_whole = evidence.trace.as_ref().is_some_and(|trace| trace.missing == 0);
    let gave_way = replayed.filter(|_| is_whole).map(|world| world.gave_way);
    findings.extend([
        jobs::check_kept(evidence),
        settle::check_disks(evidence),
        jobs::check_final(evidence),
        owners::check_starts(evidence),
        owners::check_overlaps(evidence),
        owners::check_leases(evidence, gave_way),
        owners::check_fence(evidence),
        tasks::check_order(evidence),
        tasks::check_capacity(evidence),
        gangs::check(evidence),
        requests::check(evidence),
        streams::check(evidence),
        settle::check(evidence),
        reads::check_minority(evidence),
        growth::check(evidence),
    ]);
    findings.retain(|finding| !finding.claim.is_empty());
    let place = |finding: &Finding| ALL.iter().position(|(id, _)| *id == finding.id);
    findings.sort_by_key(place);
    findings
}

/// Of a claim that this run was not to try: it is left out of the verdict.
fn not_asked(id: &'static str) -> Finding {
    Finding { id, claim: "", verdict: Verdict::True, looked_at: String::new(), problems: Vec::new() }
}

/// The worst of them.
pub fn overall(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown)
}
