//! What a run says in the end: to people, to machines, and as a page.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::availability::{Availability, measure};
use crate::checks::{Evidence, Finding, Verdict, overall};
use crate::history::{Kind, Operation};
use crate::nemesis::{Outcome, counted};
use crate::page;
use crate::store::Test;

const PROBLEMS_SHOWN: usize = 10;

pub struct Report<'a> {
    pub test: &'a Test,
    pub evidence: &'a Evidence,
    pub findings: &'a [Finding],
    availability: Availability,
}

impl Report<'_> {
    pub fn new<'a>(test: &'a Test, evidence: &'a Evidence, findings: &'a [Finding]) -> Report<'a> {
        let availability = measure(&evidence.operations, test.nodes, &evidence.kept.deeds.done);
        Report { test, evidence, findings, availability }
    }

    pub fn verdict(&self) -> Verdict {
        overall(self.findings)
    }

    fn count(&self, kind: Kind) -> usize {
        self.evidence.operations.iter().filter(|operation| operation.kind == kind).count()
    }

    /// Why something was not tried, by its name.
    fn skipped(&self) -> BTreeMap<&'static str, String> {
        let done = self.evidence.kept.deeds.done.iter();
        let skipped = done.filter(|done| matches!(done.outcome, Outcome::Skipped(_)));
        let mut why: BTreeMap<_, _> =
            skipped.map(|done| (done.fault.name(), done.outcome.why().to_owned())).collect();
        if !self.test.traced {
            why.insert(
                "checker W2",
                "the binary under test has no hooks, so that nobody writes down the log".to_owned(),
            );
        }
        why
    }

    pub fn text(&self) -> String {
        let test = self.test;
        let mut text = format!(
            "{} · workload {} · {} replicas, {} workers, failover {} · seed {} · commit {} · {} s\n",
            test.driver,
            test.workload,
            test.nodes,
            test.workers,
            test.failover,
            test.seed,
            test.commit,
            self.evidence.kept.took / 1_000_000_000
        );
        let (ok, fail, info) = (self.count(Kind::Ok), self.count(Kind::Fail), self.count(Kind::Info));
        let _ = writeln!(text, "operations: {ok} ok, {fail} fail, {info} info");
        for (fault, [installed, _, in_doubt]) in counted(&self.evidence.kept.deeds.done) {
            if installed + in_doubt > 0 {
                let gap = self.availability.by_fault.iter().find(|by| by.fault == fault);
                let gap = gap.map_or(0.0, |by| by.longest_gap_ms);
                let _ = writeln!(
                    text,
                    "fault {:<22} {installed} installed, {in_doubt} in doubt, longest gap {gap} ms",
                    fault.name()
                );
            }
        }
        for (fault, why) in self.skipped() {
            let _ = writeln!(text, "{fault:<28} SKIPPED: {why}");
        }
        let _ = writeln!(
            text,
            "a submit was answered in {:.2} % of the time, the longest gap was {} ms; {} leader changes",
            self.availability.fraction * 100.0,
            self.availability.longest_gap_ms,
            self.evidence.kept.observed.leader_changes()
        );
        for finding in self.findings {
            told(finding, &mut text);
        }
        let _ = writeln!(text, "verdict: {}", self.verdict());
        text
    }

    pub fn json(&self) -> Value {
        let counts = counted(&self.evidence.kept.deeds.done);
        let why = self.skipped();
        let faults: Vec<Value> = counts
            .iter()
            .map(|(fault, [installed, skipped, in_doubt])| {
                json!({"fault": fault.name(), "installed": installed, "skipped": skipped, "indeterminate": in_doubt,
                       "why": why.get(fault.name())})
            })
            .collect();
        let trace = self.evidence.trace.as_ref();
        json!({
            "verdict": self.verdict(),
            "test": self.test,
            "seconds": self.evidence.kept.took as f64 / 1e9,
            "operations": {"ok": self.count(Kind::Ok), "fail": self.count(Kind::Fail), "info": self.count(Kind::Info)},
            "leader_changes": self.evidence.kept.observed.leader_changes(),
            "entries": trace.map(|trace| trace.entries.len()),
            "snapshots_built": trace.map(|trace| trace.snapshots_built),
            "snapshots_installed": trace.map(|trace| trace.snapshots_installed),
            "availability": self.availability,
            "faults": faults,
            "findings": self.findings,
        })
    }

    pub fn page(&self) -> String {
        page::render(&self.picture())
    }

    fn picture(&self) -> page::Page {
        let test = self.test;
        let seconds = self.evidence.kept.took as f64 / 1e9;
        let facts = [
            ("driver", test.driver.clone()),
            ("workload", test.workload.clone()),
            ("replicas", test.nodes.to_string()),
            ("workers", test.workers.to_string()),
            ("failover", test.failover.clone()),
            ("seed", test.seed.to_string()),
            ("commit", test.commit.clone()),
            ("binary", format!("{} {}", test.binary, test.version)),
            ("machine", test.machine.clone()),
            ("started", test.started.clone()),
            (
                "operations",
                format!(
                    "{} ok, {} fail, {} info",
                    self.count(Kind::Ok),
                    self.count(Kind::Fail),
                    self.count(Kind::Info)
                ),
            ),
            ("submits answered", format!("{:.2} % of the time", self.availability.fraction * 100.0)),
            ("longest gap", format!("{} ms", self.availability.longest_gap_ms)),
        ];
        let skipped = self.skipped().into_iter().map(|(fault, why)| (fault.to_owned(), why)).collect();
        page::Page {
            title: format!("Baton under faults: {}", test.name),
            facts: facts.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            verdict: self.verdict().to_string(),
            seconds,
            nodes: test.node_names(),
            operations: self
                .evidence
                .operations
                .iter()
                .filter_map(|operation| dot(operation, test))
                .collect(),
            windows: self.windows(),
            reigns: self.reigns(),
            series: self.series(),
            findings: self.findings.iter().map(row).collect(),
            skipped,
        }
    }

    fn windows(&self) -> Vec<page::Window> {
        let done = self.evidence.kept.deeds.done.iter();
        let shown = done.filter(|done| !matches!(done.outcome, Outcome::Skipped(_)));
        let window = |done: &crate::nemesis::Done| page::Window {
            from_s: done.from as f64 / 1e9,
            to_s: done.to as f64 / 1e9,
            what: done.fault.name().to_owned(),
            node: done.node.clone(),
            outcome: done.outcome.word().to_owned(),
        };
        shown.map(window).collect()
    }

    fn reigns(&self) -> Vec<page::Reign> {
        let reign = |reign: &crate::observe::Reign| page::Reign {
            node: reign.node.clone(),
            term: reign.term,
            from_s: reign.from as f64 / 1e9,
            to_s: reign.to as f64 / 1e9,
        };
        self.evidence.kept.observed.reigns.iter().map(reign).collect()
    }

    fn series(&self) -> Vec<page::Series> {
        type Figure = fn(&crate::observe::Sample) -> u64;
        let figures: [(&str, &str, Figure); 3] = [
            ("resident memory", "bytes", |sample| sample.memory),
            ("open files", "count", |sample| sample.files),
            ("data on disk", "bytes", |sample| sample.disk),
        ];
        let samples = &self.evidence.kept.observed.samples;
        let mut series = Vec::new();
        for (title, unit, figure) in figures {
            for (node, name) in self.test.node_names().into_iter().enumerate().take(self.test.nodes) {
                let own = samples.iter().filter(|sample| sample.node == node);
                let points: Vec<(f64, f64)> =
                    own.map(|sample| (sample.at as f64 / 1e9, figure(sample) as f64)).collect();
                if !points.is_empty() {
                    series.push(page::Series {
                        title: title.to_owned(),
                        unit: unit.to_owned(),
                        node: name,
                        points,
                    });
                }
            }
        }
        series
    }
}

fn told(finding: &Finding, text: &mut String) {
    let Finding { id, claim, verdict, looked_at, problems } = finding;
    let _ = writeln!(text, "{id:<11} {verdict:<8} {claim} ({looked_at})");
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        let _ = writeln!(text, "            - {problem}");
    }
    if problems.len() > PROBLEMS_SHOWN {
        let _ = writeln!(text, "            - and {} more", problems.len() - PROBLEMS_SHOWN);
    }
}

/// An operation as a dot of the picture.
fn dot(operation: &Operation, test: &Test) -> Option<page::Dot> {
    // The page's word for what was never answered.
    const UNANSWERED: f64 = -1.0;
    let is_answered = operation.completed != u64::MAX;
    let latency = operation.completed.saturating_sub(operation.invoked) as f64 / 1e6;
    let kind = match operation.kind {
        Kind::Ok => page::Kind::Ok,
        Kind::Fail => page::Kind::Fail,
        Kind::Info | Kind::Invoke => page::Kind::Info,
    };
    Some(page::Dot {
        at_s: operation.invoked as f64 / 1e9,
        latency_ms: if is_answered { latency } else { UNANSWERED },
        kind,
        f: operation.call.f().to_owned(),
        node: test.node_names().get(operation.node)?.clone(),
    })
}

fn row(finding: &Finding) -> page::Row {
    page::Row {
        id: finding.id.to_owned(),
        claim: finding.claim.to_owned(),
        verdict: finding.verdict.to_string(),
        looked_at: finding.looked_at.clone(),
        problems: finding.problems.clone(),
    }
}
