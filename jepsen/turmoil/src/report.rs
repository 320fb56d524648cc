//! What came of a run, and how it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Stack;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    True,
    False,
    /// Nothing was wrong, but too little happened to say so.
    Unknown,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Verdict::True => "true",
            Verdict::False => "false",
            Verdict::Unknown => "unknown",
        }
    }

    pub fn exit_status(self) -> u8 {
        match self {
            Verdict::True => 0,
            Verdict::False => 1,
            Verdict::Unknown => 2,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub verdict: Verdict,
    pub stack: Stack,
    pub replicas: usize,
    pub virtual_time: Duration,
    /// The highest that anybody was in.
    pub terms: u64,
    /// Terms in which somebody led.
    pub leaders: usize,
    /// Writes.
    pub acknowledged: u64,
    pub reads: u64,
    /// By workers, where there are any, or cancelled.
    pub jobs_finished: u64,
    pub snapshots_built: u64,
    pub snapshots_installed: u64,
    pub faults: BTreeMap<&'static str, u64>,
    /// In words. None: a sound run.
    pub broken: Vec<String>,
    /// Equal runs have equal ones.
    pub trace: u64,
}

impl Report {
    pub fn json(&self) -> Value {
        json!({
            "seed": self.seed,
            "verdict": self.verdict.word(),
            "stack": self.stack.word(),
            "replicas": self.replicas,
            "virtual_s": self.virtual_time.as_millis() as f64 / 1e3,
            "terms": self.terms,
            "leaders": self.leaders,
            "acknowledged": self.acknowledged,
            "reads": self.reads,
            "jobs_finished": self.jobs_finished,
            "snapshots_built": self.snapshots_built,
            "snapshots_installed": self.snapshots_installed,
            "faults": self.faults,
            "broken": self.broken,
            "trace": format!("{:016x}", self.trace),
        })
    }
}
