//! W1 as far as it shows in indexes, and W15: a later answer knows at least what an earlier one knew, and a minority
//! answers nothing.

use crate::checks::{Evidence, Finding, not_asked};
use crate::history::{Answer, Operation};

/// W1. A sweep in order of time: no read is of an older state than an answer that was complete before it was asked.
pub fn check_order(evidence: &Evidence) -> Finding {
    let mut ends: Vec<(u64, u64)> =
        evidence.operations.iter().filter_map(|op| Some((op.completed, op.index()?))).collect();
    ends.sort_unstable();
    let is_read = |op: &&Operation| matches!(op.answer, Some(Answer::Read { .. } | Answer::Got { .. }));
    let mut reads: Vec<&Operation> = evidence.operations.iter().filter(is_read).collect();
    reads.sort_by_key(|op| op.invoked);
    let (mut known, mut place, mut problems) = (0, 0, Vec::new());
    for read in &reads {
        while place < ends.len() && ends[place].0 < read.invoked {
            known = known.max(ends[place].1);
            place += 1;
        }
        let index = read.index().unwrap_or_default();
        if index < known {
            problems
                .push(format!("n{} answered as of {index} when {known} was known: {read:?}", read.node + 1));
        }
    }
    let looked_at = format!("{} reads against {} answers", reads.len(), ends.len());
    Finding::new("W1.index", "a read is never older than an answer before it", looked_at, problems)
}

/// W15.
pub fn check_minority(evidence: &Evidence) -> Finding {
    let (mut problems, mut tried) = (Vec::new(), 0);
    let isolations = &evidence.kept.deeds.isolations;
    if isolations.is_empty() {
        return not_asked("W15");
    }
    for isolation in isolations {
        let inside = |op: &&Operation| {
            op.node == isolation.node && op.invoked > isolation.from && op.completed < isolation.to
        };
        for operation in evidence.operations.iter().filter(inside) {
            tried += 1;
            if operation.is_ok() {
                problems.push(format!("n{} answered while it was alone: {operation:?}", operation.node + 1));
            }
        }
    }
    let doubts =
        (tried == 0 && problems.is_empty()).then(|| "nobody asked a replica that was alone".to_owned());
    let looked_at = format!("{tried} operations at a lonely replica in {} partitions", isolations.len());
    Finding::new("W15", "a minority answers nothing", looked_at, problems)
        .unless(doubts.into_iter().collect())
}
