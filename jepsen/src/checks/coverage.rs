//! W0: whether enough happened for the other verdicts to mean anything.

use crate::checks::{Evidence, Finding};
use crate::history::{Call, Kind, Operation};
use crate::nemesis::{Fault, Outcome};

const SUBMITS_MIN: usize = 20;
const READS_MIN: usize = 20;
const CANCELS_MIN: usize = 2;

pub fn check(evidence: &Evidence) -> Finding {
    let count = |is: fn(&Call) -> bool| {
        let counts = |operation: &&Operation| operation.kind == Kind::Ok && is(&operation.call);
        evidence.operations.iter().filter(counts).count()
    };
    let submits = count(|call| matches!(call, Call::Submit { .. }));
    let reads = count(|call| matches!(call, Call::Read { .. }));
    let cancels = count(|call| matches!(call, Call::Cancel { .. }));
    let changes = evidence.deeds.leader_changes;
    let mut missing = Vec::new();
    for (what, count, min) in
        [("submits", submits, SUBMITS_MIN), ("reads", reads, READS_MIN), ("cancels", cancels, CANCELS_MIN)]
    {
        if count < min {
            missing.push(format!("{count} {what} were answered, {min} are needed"));
        }
    }
    if changes == 0 {
        missing.push("the leader never changed".to_owned());
    }
    missing.extend(faults_missing(evidence));
    let looked_at =
        format!("{submits} submits, {reads} reads, {cancels} cancels ok; {changes} leader changes");
    Finding::new("W0", "enough happened to judge by", looked_at, Vec::new()).unless(missing)
}

/// A fault that was skipped, or of which it is not known whether it took place, counts for nothing.
fn faults_missing(evidence: &Evidence) -> Vec<String> {
    let mut missing = Vec::new();
    for fault in Fault::ALL {
        let mut tried = evidence.deeds.done.iter().filter(|done| done.fault == fault).peekable();
        if tried.peek().is_some() && !tried.clone().any(|done| done.outcome == Outcome::Installed) {
            let why: Vec<String> = tried.map(|done| format!("{:?}", done.outcome)).collect();
            missing.push(format!("{} never took place: {}", fault.name(), why.join(", ")));
        } else if tried.peek().is_none() {
            missing.push(format!("{} was never tried", fault.name()));
        }
    }
    missing
}
