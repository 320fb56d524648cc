//! What a run begins with: one queue of the policy, one worker with all cores; and how jobs are submitted to it.

use std::time::Duration;

use machine::{Bootstrap, Command, OpenSession, QueueSpec};
use model::settings::Limits;
use model::{
    Capacity, Dependency, JobId, JobSpec, Kind, QueuePolicy, Resources, Settings, TaskSpec, Timing, Work,
};

use super::SESSION;
use crate::workload::{Job, Task, Workload};

pub(super) fn open(job: &Job) -> Vec<u32> {
    job.tasks.iter().map(|task| (task.after.len() + task.after_jobs.len()) as u32).collect()
}

pub(super) fn dependents(workload: &Workload) -> Vec<Vec<(usize, usize)>> {
    let mut dependents = vec![Vec::new(); workload.jobs.len()];
    for (place, job) in workload.jobs.iter().enumerate() {
        for (task, of) in job.tasks.iter().enumerate() {
            of.after_jobs.iter().for_each(|earlier| dependents[*earlier].push((place, task)));
        }
    }
    dependents
}

pub(super) fn bootstrap() -> Command {
    let settings = Settings { limits: limits(), ..Settings::default() };
    Command::Bootstrap(Bootstrap {
        cluster: "what-if".to_owned(),
        settings,
        epoch: 0,
        next_node: 1,
        level: machine::LEVEL,
    })
}

pub(super) fn queue(policy: &QueuePolicy) -> QueueSpec {
    QueueSpec {
        name: model::spec::QUEUE_DEFAULT.to_owned(),
        order: Some(policy.order),
        ageing: Some(policy.ageing),
        backfill: Some(policy.backfill),
        preempt: Some(policy.preempt),
        quantum: Some(policy.quantum).filter(|quantum| !quantum.is_zero()),
        ..QueueSpec::default()
    }
}

pub(super) fn worker(cores: u64) -> Command {
    Command::OpenSession(OpenSession {
        session: SESSION,
        worker: "w".to_owned(),
        secret_hash: 0,
        capacity: Capacity::of(Resources::cores(cores)),
        labels: Default::default(),
        kinds: vec![Kind::Process],
        functions: Vec::new(),
        isolation: String::new(),
    })
}

/// `left` tells which of the earlier jobs have not ended: the others are forgotten already. What is learnt is remembered by the
/// name of the job, which is its user's: `user` is a number of it, where anything is to be learnt.
pub(super) fn spec(job: &Job, left: &[usize], user: Option<usize>) -> JobSpec {
    let name = |place: usize| format!("t{place}");
    let task = |(place, task): (usize, &Task)| {
        let mut spec = TaskSpec::new(&name(place), Work::Run(vec!["true".to_owned()]));
        spec.resources = Resources::cores(task.cores);
        let estimate = task.estimate.map(|estimate| estimate.max(Duration::from_millis(1)));
        let (estimate, timeout) = if user.is_some() { (None, estimate) } else { (estimate, None) };
        spec.timeout = timeout;
        spec.timing =
            Timing { estimate, deadline: task.deadline, period: task.period, ..Timing::default() }.boxed();
        let jobs = task.after_jobs.iter().filter(|earlier| left[**earlier] > 0);
        let jobs = jobs.map(|earlier| Dependency::Job(JobId(*earlier as u64 + 1)));
        let tasks = task.after.iter().map(|other| Dependency::Task(name(*other)));
        spec.after = tasks.chain(jobs).collect();
        spec
    };
    let tasks = job.tasks.iter().enumerate().map(task).collect();
    let name = user.map_or_else(String::new, |number| format!("u{number}"));
    JobSpec::of(&name, tasks).with(|new| new.priority = job.priority)
}

/// What is kept of the past serves nobody here; and nothing is to stand in the way of a policy.
fn limits() -> Limits {
    Limits {
        finished_jobs_max: 0,
        tombstones_max: 0,
        request_window_s: 1,
        unfinished_jobs_max: u64::MAX,
        groups_per_job_max: 100_000,
        dependencies_per_task_max: 100_000,
        spec_bytes_max: 64 << 20,
        starve_after_s: 10 * 366 * 24 * 3600,
        credit_per_session_max: 0,
        rows_per_apply_max: 65_536,
        ..Limits::default()
    }
}
