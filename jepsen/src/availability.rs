//! For how long nobody could submit: the gaps between answers to a client that knows all replicas and asks all the time.

use serde::{Deserialize, Serialize};

use crate::history::{Call, Operation};
use crate::nemesis::{Done, Fault, Outcome};

/// A gap up to this is the pulse itself, not an outage. Nanoseconds.
const USUAL: u64 = 300_000_000;
/// How long after a fault was healed a gap still belongs to it.
const AFTER: u64 = 1_000_000_000;

/// Milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// Of the time in which clients asked, the part in which a submit was answered.
    pub fraction: f64,
    pub longest_gap_ms: f64,
    pub by_fault: Vec<ByFault>,
}

/// What one kind of fault did to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByFault {
    pub fault: Fault,
    pub times: usize,
    pub median_gap_ms: f64,
    pub p99_gap_ms: f64,
    pub longest_gap_ms: f64,
}

fn ms(nanoseconds: u64) -> f64 {
    (nanoseconds / 10_000) as f64 / 100.0
}

/// `anywhere`: the place of the pulse in the history.
pub fn measure(operations: &[Operation], anywhere: usize, done: &[Done]) -> Availability {
    let is_beat = |operation: &&Operation| {
        operation.node == anywhere && operation.is_ok() && matches!(operation.call, Call::Submit { .. })
    };
    // Whoever asks from the beginning and is not answered has waited from there, and whoever is not answered at the end
    // waits until then.
    let answered = operations.iter().filter(is_beat).map(|operation| operation.completed);
    let own = operations.iter().filter(|operation| operation.node == anywhere);
    let end = own.map(
        |operation| if operation.completed < u64::MAX { operation.completed } else { operation.invoked },
    );
    let beats: Vec<u64> = [0].into_iter().chain(answered).chain(end.max()).collect();
    let gaps: Vec<(u64, u64)> = beats.windows(2).map(|pair| (pair[0], pair[1])).collect();
    let (first, last) = (beats[0], beats[beats.len() - 1]);
    if gaps.is_empty() {
        return Availability::default();
    }
    let lost: u64 = gaps.iter().map(|(from, to)| (to - from).saturating_sub(USUAL)).sum();
    let whole = (last - first).max(1);
    let mut faults: Vec<Fault> = done.iter().map(|done| done.fault).collect();
    faults.sort_unstable();
    faults.dedup();
    let longest = gaps.iter().map(|(from, to)| to - from).max().unwrap_or(0);
    Availability {
        fraction: 1.0 - lost as f64 / whole as f64,
        longest_gap_ms: ms(longest),
        by_fault: faults.into_iter().filter_map(|fault| by_fault(fault, done, &gaps)).collect(),
    }
}

fn by_fault(fault: Fault, done: &[Done], gaps: &[(u64, u64)]) -> Option<ByFault> {
    let installed = done.iter().filter(|done| done.fault == fault && done.outcome == Outcome::Installed);
    let mut longest: Vec<u64> = installed
        .map(|done| {
            let touches = |gap: &&(u64, u64)| gap.0 < done.to + AFTER && gap.1 > done.from;
            gaps.iter().filter(touches).map(|(from, to)| to - from).max().unwrap_or(0)
        })
        .collect();
    longest.sort_unstable();
    let at = |share: f64| ms(longest[((longest.len() - 1) as f64 * share).round() as usize]);
    (!longest.is_empty()).then(|| ByFault {
        fault,
        times: longest.len(),
        median_gap_ms: at(0.5),
        p99_gap_ms: at(0.99),
        longest_gap_ms: at(1.0),
    })
}

#[cfg(test)]
mod tests {
    use model::{JobId, RequestId};

    use super::*;
    use crate::history::{Answer, Kind};
    use crate::workload::Shape;

    const MS: u64 = 1_000_000;

    fn beat(at: u64) -> Operation {
        Operation {
            process: 1,
            node: 3,
            call: Call::Submit { key: 0, id: RequestId(1), body: 0, shape: Shape::Noop },
            invoked: at * MS,
            completed: at * MS,
            kind: Kind::Ok,
            answer: Some(Answer::Submitted { job: JobId(1), index: 1 }),
        }
    }

    #[test]
    fn a_gap_belongs_to_the_faults_that_it_touches() {
        let beats: Vec<Operation> = [50, 100, 200, 1_800, 1_900, 5_000, 5_100].map(beat).to_vec();
        let done = |fault, from: u64, to: u64| Done {
            fault,
            node: String::new(),
            from: from * MS,
            to: to * MS,
            outcome: Outcome::Installed,
            probe: None,
        };
        let done = [done(Fault::KillLeader, 250, 400), done(Fault::Jam, 5_010, 5_020)];
        let seen = measure(&beats, 3, &done);
        assert_eq!(seen.longest_gap_ms, 3_100.0);
        assert!((seen.fraction - (1.0 - 4_100.0 / 5_100.0)).abs() < 1e-9, "{}", seen.fraction);
        let longest: Vec<_> = seen.by_fault.iter().map(|by| (by.fault, by.longest_gap_ms)).collect();
        assert_eq!(longest, [(Fault::KillLeader, 1_600.0), (Fault::Jam, 100.0)]);
        assert_eq!(measure(&beats, 0, &done), Availability::default(), "nobody asked");
    }
}
