//! W14: after the heal the cluster is one again, and works through each of its replicas. And what was to be seen of single
//! faults while they lasted.

use crate::checks::{Evidence, Finding, View, not_asked};
use crate::nemesis::Done;

pub fn check(evidence: &Evidence) -> Finding {
    let end = &evidence.kept.end;
    let mut problems = Vec::new();
    if !end.settled {
        problems.push("the replicas do not come to follow one leader with all workers there".to_owned());
    }
    if !end.drained {
        problems.push("the backlog does not fall to nothing".to_owned());
    }
    for (place, fresh) in end.fresh.iter().enumerate() {
        if let Err(why) = fresh {
            problems.push(format!("a fresh job through n{}: {why}", place + 1));
        }
    }
    problems.extend(end.unread.iter().map(|why| format!("the final reads fail through {why}")));
    problems.extend(unlike(&end.views));
    let probes = probes(evidence, |done| done.fault.family() != "disk");
    for (done, why) in probes.iter().filter_map(|(done, probe)| Some((done, probe.as_ref().err()?))) {
        problems.push(format!("during {} on {}: {why}", done.fault.name(), done.node));
    }
    let looked_at = format!(
        "{} replicas, {} fresh jobs, {} looks during faults",
        end.views.len(),
        end.fresh.len(),
        probes.len()
    );
    Finding::new("W14", "after the heal it is one cluster and it works", looked_at, problems)
}

/// What replicas did about disks that failed or were spoilt.
pub fn check_disks(evidence: &Evidence) -> Finding {
    let probes = probes(evidence, |done| done.fault.family() == "disk");
    if probes.is_empty() {
        return not_asked("W3.disk");
    }
    let problems = probes.iter().filter_map(|(_, probe)| probe.as_ref().err().cloned()).collect();
    let looked_at = format!("{} failed or spoilt disks", probes.len());
    Finding::new("W3.disk", "a failed disk stops its replica, a spoilt one is refused", looked_at, problems)
}

fn probes(evidence: &Evidence, is: fn(&Done) -> bool) -> Vec<(&Done, &Result<(), String>)> {
    let done = evidence.kept.deeds.done.iter().filter(|done| is(done));
    done.filter_map(|done| Some((done, done.probe.as_ref()?))).collect()
}

fn unlike(views: &[Option<View>]) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, view) in views.iter().enumerate() {
        let Some(view) = view else {
            problems.push(format!("n{} does not answer", place + 1));
            continue;
        };
        if !view.alarms.is_empty() {
            problems.push(format!("n{} raises alarms: {:?}", place + 1, view.alarms));
        }
        if let Some(first) = views.first().and_then(Option::as_ref)
            && (view.applied, &view.digest) != (first.applied, &first.digest)
        {
            problems.push(format!(
                "n{} is at {} {}, n1 at {} {}",
                place + 1,
                view.applied,
                view.digest,
                first.applied,
                first.digest
            ));
        }
    }
    problems
}
