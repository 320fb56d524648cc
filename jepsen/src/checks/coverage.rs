//! W0: whether enough happened for the other verdicts to mean anything.

use std::collections::BTreeMap;

use crate::checks::{Evidence, Finding};
use crate::nemesis::{Fault, Outcome, counted};
use crate::workload::Op;

/// Answered operations of a kind, for each minute that the run lasted.
const PER_MINUTE: u64 = 20;

pub fn check(evidence: &Evidence) -> Finding {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for operation in evidence.operations.iter().filter(|operation| operation.is_ok()) {
        *counts.entry(operation.call.f()).or_default() += 1;
    }
    let asked = &evidence.asked;
    let least = (PER_MINUTE * asked.seconds / 60).clamp(3, 1_000);
    let mut missing = Vec::new();
    let mut need = |f: &str, least: u64, is: fn(Op) -> bool| {
        let count = counts.get(f).copied().unwrap_or(0);
        if asked.workload.has(is) && count < least {
            missing.push(format!("{count} of {f} were answered, {least} are needed"));
        }
    };
    need("submit", least, |op| matches!(op, Op::Submit(_)));
    need("read", least, |op| op == Op::Read);
    need("set", least, |op| op == Op::Set);
    need("get", least, |op| op == Op::Get);
    need("cancel", 1, |op| op == Op::Cancel);
    need("retry", 1, |op| op == Op::Retry);
    missing.extend(faults_missing(evidence));
    let told: Vec<String> = counts.iter().map(|(f, count)| format!("{count} {f}")).collect();
    let snapshots = evidence.trace.as_ref().map_or(0, |trace| trace.snapshots_installed);
    let looked_at = format!(
        "ok: {}; {} leader changes, {} faults installed, {snapshots} snapshots taken over",
        told.join(", "),
        evidence.kept.observed.leader_changes(),
        evidence.kept.deeds.done.iter().filter(|done| done.outcome == Outcome::Installed).count()
    );
    Finding::new("W0", "enough happened to judge by", looked_at, Vec::new()).unless(missing)
}

/// A fault that was skipped, or of which it is not known whether it took place, counts for nothing.
fn faults_missing(evidence: &Evidence) -> Vec<String> {
    if evidence.asked.faults.is_empty() {
        return Vec::new();
    }
    let counts = counted(&evidence.kept.deeds.done);
    let mut missing = Vec::new();
    if counts.values().all(|[installed, ..]| *installed == 0) {
        missing.push("no fault took place".to_owned());
    }
    for (fault, [installed, _, in_doubt]) in &counts {
        if *installed == 0 && *in_doubt > 0 {
            let why = evidence.kept.deeds.done.iter().find(|done| done.fault == *fault);
            let why = why.map_or("", |done| done.outcome.why());
            missing.push(format!("{} never took place for certain: {why}", fault.name()));
        }
    }
    let deposed = counts.iter().any(|(fault, [installed, ..])| *installed > 0 && Fault::deposes(*fault));
    if deposed && evidence.kept.observed.leader_changes() == 0 {
        missing.push("the leader never changed".to_owned());
    }
    missing
}
