//! What policies go by and a workload does not have, so that nobody takes one for another: it is said, not guessed.

use std::collections::BTreeMap;

use model::policy::{Order, QueuePolicy};

use crate::policy::Policy;
use crate::workload::Workload;

/// A sentence for all policies that miss the same, with their names, in the order of the policies.
pub fn notes(policies: &[Policy], workload: &Workload) -> Vec<String> {
    let mut names: BTreeMap<&'static str, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for policy in policies {
        for missing in missing(&policy.queue, workload) {
            let named = names.entry(missing).or_default();
            if named.is_empty() {
                order.push(missing);
            }
            named.push(&policy.name);
        }
    }
    order.into_iter().map(|missing| format!("{}: {missing}", names[missing].join(", "))).collect()
}

fn missing(queue: &QueuePolicy, workload: &Workload) -> impl Iterator<Item = &'static str> {
    let of_order = match queue.order {
        Order::Fifo | Order::RoundRobin => None,
        Order::Priority => (!workload.has_priorities())
            .then_some("all jobs have the same priority, so that tasks come in the order of their submits"),
        Order::Sjf | Order::Hrrn => (!workload.has_estimates())
            .then_some("no task has an estimate, so that tasks come in the order of their submits"),
        // Without estimates ways are as long as they have steps.
        Order::CriticalPath => (!workload.has_estimates() && !workload.has_chains()).then_some(
            "no task has an estimate or waits for another, so that tasks come in the order of their submits",
        ),
        Order::Edf | Order::Dms => (!workload.has_deadlines())
            .then_some("no task has a deadline, so that tasks come in the order of their submits"),
        Order::Rms => (!workload.has_periods())
            .then_some("no task has a period, so that tasks come in the order of their submits"),
        Order::Fair => (!workload.has_users()).then_some("all jobs are of one user, so that nobody shares"),
    };
    let is_blind = queue.promises() && !workload.has_estimates();
    of_order.into_iter().chain(is_blind.then_some("no task has an estimate, so that no start is promised"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::workload::{Job, Task};

    fn told(workload: &Workload, policies: &[&str]) -> Vec<String> {
        let policies: Vec<Policy> = policies.iter().map(|name| name.parse().unwrap()).collect();
        notes(&policies, workload)
    }

    #[test]
    fn what_a_workload_does_not_have_is_told_once_for_all_who_go_by_it() {
        let task = Task::new("t", 1, Duration::from_secs(1));
        let job = Job { submit: Duration::ZERO, user: String::new(), priority: 0, tasks: vec![task] };
        let mut workload = Workload { jobs: vec![job.clone(), job], ..Workload::default() };
        let blind = ["fcfs", "rms", "edf", "easy-priority", "dms", "fair", "priority"];
        assert_eq!(
            told(&workload, &blind),
            [
                "rms: no task has a period, so that tasks come in the order of their submits",
                "edf, dms: no task has a deadline, so that tasks come in the order of their submits",
                "easy-priority, priority: all jobs have the same priority, so that tasks come in the order of their submits",
                "easy-priority: no task has an estimate, so that no start is promised",
                "fair: all jobs are of one user, so that nobody shares",
            ]
        );
        workload.jobs[1].priority = 1;
        workload.jobs[1].user = "ann".to_owned();
        let task = &mut workload.jobs[0].tasks[0];
        task.deadline = Some(Duration::from_secs(9));
        (task.period, task.estimate) = (task.deadline, task.deadline);
        assert_eq!(told(&workload, &crate::policy::NAMES), [""; 0]);
    }
}
