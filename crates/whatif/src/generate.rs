//! Workloads that are made up, for when there is no trace.

use std::time::Duration;

use crate::random::Random;
use crate::workload::{Job, Task, Workload};

/// Jobs of one task that come as a Poisson process, with the marks of parallel workloads (Lublin & Feitelson 2003): a share of
/// jobs on one core, powers of two among the others, run times spread over some orders of magnitude, wide jobs longer, estimates
/// that are multiples of the truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generator {
    pub jobs: usize,
    /// Of the cluster.
    pub cores: u64,
    /// Work that comes, as a part of what the cluster can do; 0.05 to 2.
    pub load: f64,
    pub seed: u64,
}

/// The share of jobs on one core, and of powers of two among the others.
const SERIAL: f64 = 0.24;
const POWERS: f64 = 0.75;
/// Median seconds of a job, and the deviation of their logarithm.
const MEDIAN_S: f64 = 300.0;
const DEVIATION: f64 = 1.6;
const LONGEST_S: f64 = 172_800.0;
const USERS: u64 = 64;

pub fn generate(how: &Generator) -> Workload {
    let mut random = Random::new(how.seed);
    let mut tasks: Vec<Task> =
        (0..how.jobs).map(|number| task(&mut random, number, how.cores.max(1))).collect();
    let work: f64 = tasks.iter().map(|task| task.run.as_secs_f64() * task.cores as f64).sum();
    let span = work / (how.cores.max(1) as f64 * how.load.clamp(0.05, 2.0));
    let between = span / how.jobs.max(1) as f64;
    let mut at = 0.0;
    let jobs = tasks.drain(..).map(|task| {
        at += random.exponential(between);
        let user = (random.unit() * random.unit() * USERS as f64) as u64;
        // Whole seconds, as traces have them.
        let submit = Duration::from_secs(at as u64);
        Job { submit, user: format!("u{user}"), priority: 0, tasks: vec![task] }
    });
    Workload { jobs: jobs.collect(), ..Workload::default() }
}

fn task(random: &mut Random, number: usize, cluster: u64) -> Task {
    let cores = cores(random, cluster);
    let wide = 1.0 + (cores as f64).log2() / 8.0;
    let seconds = (MEDIAN_S * wide * (random.normal() * DEVIATION).exp()).clamp(1.0, LONGEST_S) as u64;
    let run = Duration::from_secs(seconds);
    // Half of the estimates are good, the others generous.
    let factor = if random.unit() < 0.5 { 1.0 } else { 1.0 + random.exponential(2.0) };
    let estimate = Some(Duration::from_secs((seconds as f64 * factor).ceil() as u64).max(run));
    Task { estimate, ..Task::new((number + 1).to_string(), cores, run) }
}

/// Mostly narrow: at most a quarter of the cluster, and 1,024.
fn cores(random: &mut Random, cluster: u64) -> u64 {
    if random.unit() < SERIAL {
        return 1;
    }
    let most = (cluster / 4).clamp(1, 1_024);
    let exponent = random.unit() * random.unit() * (most as f64).log2();
    let cores = if random.unit() < POWERS { exponent.round().exp2() } else { exponent.exp2() };
    (cores as u64).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_make_equal_workloads_of_the_asked_load() {
        let how = Generator { jobs: 5_000, cores: 512, load: 0.8, seed: 3 };
        let made = generate(&how);
        assert_eq!(made, generate(&how));
        assert_ne!(made, generate(&Generator { seed: 4, ..how }));
        let work: f64 = made.tasks().map(|task| task.run.as_secs_f64() * task.cores as f64).sum();
        let span = made.jobs.last().unwrap().submit.as_secs_f64();
        let load = work / span / 512.0;
        assert!((0.75..0.85).contains(&load), "{load}");
        assert!(made.widest() <= 128 && made.tasks().all(|task| task.estimate >= Some(task.run)));
        assert!(made.jobs.windows(2).all(|pair| pair[0].submit <= pair[1].submit));
    }
}
