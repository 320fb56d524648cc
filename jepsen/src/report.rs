//! What a run says in the end: to people, and to machines.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::{Evidence, Finding, overall};
use crate::history::{Kind, Operation};
use crate::nemesis::Outcome;
use crate::run::Plan;

const PROBLEMS_SHOWN: usize = 10;

pub struct Report<'a> {
    pub plan: &'a Plan,
    pub commit: String,
    pub took: Duration,
    pub evidence: &'a Evidence,
    pub findings: &'a [Finding],
}

impl Report<'_> {
    fn count(&self, kind: Kind) -> usize {
        let is = |operation: &&Operation| operation.kind == kind;
        self.evidence.operations.iter().filter(is).count()
    }

    pub fn text(&self) -> String {
        let (plan, took) = (self.plan, self.took.as_secs());
        let mut text = format!(
            "seed {} · commit {} · {} replicas, {} workers, failover {} · {took} s\n",
            plan.seed, self.commit, plan.shape.replicas, plan.shape.workers, plan.shape.failover
        );
        let (ok, fail, info) = (self.count(Kind::Ok), self.count(Kind::Fail), self.count(Kind::Info));
        let _ = writeln!(text, "operations: {ok} ok, {fail} fail, {info} info");
        for done in &self.evidence.deeds.done {
            let _ = writeln!(text, "fault: {} {}", done.fault.name(), told(&done.outcome));
        }
        let gaps = self.evidence.seen.gaps;
        if gaps > 0 {
            let _ = writeln!(text, "events: {gaps} gaps, each told as one");
        }
        for finding in self.findings {
            let Finding { id, claim, verdict, looked_at, problems } = finding;
            let _ = writeln!(text, "{id:<10} {verdict:<8} {claim} ({looked_at})");
            for problem in problems.iter().take(PROBLEMS_SHOWN) {
                let _ = writeln!(text, "           - {problem}");
            }
            if problems.len() > PROBLEMS_SHOWN {
                let _ = writeln!(text, "           - and {} more", problems.len() - PROBLEMS_SHOWN);
            }
        }
        let _ = writeln!(text, "verdict: {}", overall(self.findings));
        text
    }

    pub fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .findings
            .iter()
            .map(|finding| {
                json!({"id": finding.id, "claim": finding.claim, "verdict": finding.verdict.to_string(),
                       "looked_at": finding.looked_at, "problems": finding.problems})
            })
            .collect();
        let deeds = self.evidence.deeds.done.iter();
        let faults: Vec<Value> =
            deeds.map(|done| json!({"fault": done.fault.name(), "outcome": told(&done.outcome)})).collect();
        json!({
            "seed": self.plan.seed, "commit": self.commit, "seconds": self.took.as_secs(),
            "replicas": self.plan.shape.replicas, "workers": self.plan.shape.workers,
            "operations": {"ok": self.count(Kind::Ok), "fail": self.count(Kind::Fail), "info": self.count(Kind::Info)},
            "faults": faults, "findings": findings, "verdict": overall(self.findings).to_string(),
        })
    }
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Installed => "installed".to_owned(),
        Outcome::Skipped(why) => format!("skipped: {why}"),
        Outcome::Indeterminate(why) => format!("indeterminate: {why}"),
    }
}

/// Of the working tree, as far as it is known.
pub fn commit() -> String {
    let mut git = std::process::Command::new("git");
    git.args(["describe", "--always", "--dirty", "--exclude", "*"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = git.output().ok().filter(|output| output.status.success());
    output.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
