//! What a run comes to.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::run::{Ran, Run};
use crate::workload::Workload;

/// Shorter runs count as so long in a slowdown, in seconds (Feitelson et al. 1997).
pub const BOUND_S: f64 = 10.0;

/// Of all tasks. Times are seconds; a task waits from when its job is submitted and all it waits for has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub name: String,
    pub tasks: u64,
    pub mean_wait_s: f64,
    pub median_wait_s: f64,
    pub p95_wait_s: f64,
    pub max_wait_s: f64,
    /// The mean of max(1, (wait + run) / max(run, 10 s)).
    pub mean_bounded_slowdown: f64,
    /// From the first submit to the last end.
    pub makespan_s: f64,
    /// Of the cores, over the makespan; 0 to 1. What a task did before it gave way counts for nothing.
    pub utilisation: f64,
    pub deadlines: u64,
    pub deadline_misses: u64,
    /// Of the users' mean slowdowns (Jain, Chiu & Hawe 1984): 1 if all fare alike, 1 / n if one has it all.
    pub fairness: f64,
    /// Tasks that started while one of an earlier job waited.
    pub overtook: u64,
    /// Tasks that were promised a start, and those that started later than they were promised first.
    pub promised: u64,
    pub promises_broken: u64,
    /// Tasks that started in a round of the planner after which one waited that came before them by the order of the queue.
    pub backfilled: u64,
    /// Times that a running task gave way to one of a higher priority, to begin anew later.
    pub preemptions: u64,
    /// Times that a running task stood still for others.
    pub suspensions: u64,
}

pub fn figures(workload: &Workload, run: &Run) -> Figures {
    let mut waits: Vec<f64> = run.tasks.iter().map(|ran| ran.wait().as_secs_f64()).collect();
    let slowdowns: Vec<f64> = run.tasks.iter().map(slowdown).collect();
    let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len().max(1) as f64;
    let first = workload.jobs.iter().map(|job| job.submit).min().unwrap_or_default();
    let last = run.tasks.iter().map(|ran| ran.end).max().unwrap_or_default();
    let makespan = last.saturating_sub(first).as_secs_f64();
    let work: f64 = run.tasks.iter().map(|ran| ran.took().as_secs_f64() * ran.cores as f64).sum();
    let late = |ran: &&Ran| ran.deadline.is_some_and(|deadline| ran.end > deadline);
    let broken = |ran: &&Ran| ran.promised.is_some_and(|promised| ran.start > promised);
    let (mean_wait_s, mean_bounded_slowdown) = (mean(&waits), mean(&slowdowns));
    waits.sort_by(f64::total_cmp);
    let count = |of: &dyn Fn(&&Ran) -> bool| run.tasks.iter().filter(|ran| of(ran)).count() as u64;
    Figures {
        name: run.policy.clone(),
        tasks: run.tasks.len() as u64,
        mean_wait_s,
        median_wait_s: quantile(&waits, 0.5),
        p95_wait_s: quantile(&waits, 0.95),
        max_wait_s: waits.last().copied().unwrap_or(0.0),
        mean_bounded_slowdown,
        makespan_s: makespan,
        utilisation: if makespan > 0.0 { work / (makespan * run.cores as f64) } else { 0.0 },
        deadlines: count(&|ran| ran.deadline.is_some()),
        deadline_misses: count(&late),
        fairness: fairness(workload, run, &slowdowns),
        overtook: count(&|ran| ran.overtook),
        promised: count(&|ran| ran.promised.is_some()),
        promises_broken: count(&broken),
        backfilled: count(&|ran| ran.backfilled),
        preemptions: run.tasks.iter().map(|ran| ran.lost.len() as u64).sum(),
        suspensions: run.tasks.iter().map(|ran| ran.pauses.len() as u64).sum(),
    }
}

fn slowdown(ran: &Ran) -> f64 {
    let run = ran.took().as_secs_f64();
    ((ran.wait().as_secs_f64() + run) / run.max(BOUND_S)).max(1.0)
}

/// Of sorted values; the lower of two where it lies between.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = (part * sorted.len().saturating_sub(1) as f64).floor() as usize;
    sorted.get(place).copied().unwrap_or(0.0)
}

fn fairness(workload: &Workload, run: &Run, slowdowns: &[f64]) -> f64 {
    let mut users: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (ran, slowdown) in run.tasks.iter().zip(slowdowns) {
        let (sum, count) = users.entry(&workload.jobs[ran.job].user).or_default();
        (*sum, *count) = (*sum + slowdown, *count + 1.0);
    }
    let means = users.values().map(|(sum, count)| sum / count);
    let (sum, squares) = means.fold((0.0, 0.0), |(sum, squares), mean| (sum + mean, squares + mean * mean));
    if squares > 0.0 { sum * sum / (users.len() as f64 * squares) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::workload::{Job, Task};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn figures_are_those_of_the_definitions() {
        let task = |name: &str, run| Task { deadline: Some(at(20)), ..Task::new(name, 2, at(run)) };
        let job = |submit, user: &str, run| Job {
            submit: at(submit),
            user: user.to_owned(),
            priority: 0,
            tasks: vec![task("t", run)],
        };
        let workload = Workload { jobs: vec![job(10, "a", 5), job(10, "b", 20)], ..Workload::default() };
        let ran = |job, start, end, promised: Option<u64>| Ran {
            job,
            task: 0,
            cores: 2,
            ready: at(10),
            start: at(start),
            end: at(end),
            pauses: Vec::new(),
            deadline: Some(at(30)),
            promised: promised.map(at),
            lost: Vec::new(),
            overtook: job == 1,
            backfilled: job == 1,
        };
        let tasks = vec![ran(0, 30, 35, Some(29)), ran(1, 10, 30, None)];
        let found = figures(&workload, &Run { policy: "p".to_owned(), cores: 4, tasks, queue: Vec::new() });
        assert_eq!((found.mean_wait_s, found.max_wait_s, found.median_wait_s), (10.0, 20.0, 0.0));
        assert_eq!(found.mean_bounded_slowdown, (2.5 + 1.0) / 2.0);
        assert_eq!((found.makespan_s, found.utilisation), (25.0, 0.5));
        assert_eq!((found.deadlines, found.deadline_misses, found.overtook, found.backfilled), (2, 1, 1, 1));
        assert_eq!((found.promised, found.promises_broken), (1, 1));
        assert_eq!(found.fairness, 3.5 * 3.5 / (2.0 * (2.5 * 2.5 + 1.0)));
    }
}
