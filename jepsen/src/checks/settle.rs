//! W14: after the heal the cluster is one again, and works through each of its replicas.

use model::views::ClusterView;

use crate::checks::{Evidence, Finding};

pub fn check(evidence: &Evidence) -> Finding {
    let end = &evidence.end;
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
    problems.extend(unlike(&end.views));
    let probes: Vec<_> =
        evidence.deeds.done.iter().filter_map(|done| Some((done.fault, done.probe.as_ref()?))).collect();
    for (fault, probe) in &probes {
        if let Err(why) = probe {
            problems.push(format!("the majority did not go on during {}: {why}", fault.name()));
        }
    }
    let looked_at = format!(
        "{} replicas, {} fresh jobs, {} jobs during partitions",
        end.views.len(),
        end.fresh.len(),
        probes.len()
    );
    Finding::new("W14", "after the heal it is one cluster and it works", looked_at, problems)
}

fn unlike(views: &[Option<ClusterView>]) -> Vec<String> {
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
