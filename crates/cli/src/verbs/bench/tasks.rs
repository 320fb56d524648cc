//! Tasks from their submit to their end: noops, processes, and what waits for one another.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Client, Event, TaskFilter, Watched};
use futures::StreamExt;
use model::size::PARTS;
use model::views::JobState;
use model::{Dependency, JobId, JobSpec, TaskSpec, Work};

use super::figure::{Figure, Times};
use super::harness::{Bench, array_of, cannot, noop};
use super::submit::submit_all;
use crate::clock::{self, Stopwatch};
use crate::fault::Fault;

const NOOPS: u64 = 1_000_000;
const JOBS: u64 = 20_000;
const PROCESSES: u64 = 1_000;
const SAMPLES: u64 = 200;
/// Tasks one after the other, or before the last.
const CHAIN: u64 = 9_999;
const IN_FLIGHT: usize = 1_024;

/// So many beside each other that the wait for the log does not leave a core idle.
fn true_task() -> TaskSpec {
    let mut task = TaskSpec::new("true", Work::Run(vec!["/bin/true".to_owned()]));
    task.resources.cpu = PARTS / 8;
    task
}

impl Bench<'_> {
    pub async fn noop(&self) -> Result<Figure, Fault> {
        let round = async |client: &Client, count: u64| self.one_job(client, &array_of(noop(), count)).await;
        self.rates("noop", "noop tasks of one array", "tasks/s", self.scaled(NOOPS), round).await
    }

    pub async fn process(&self) -> Result<Figure, Fault> {
        let round =
            async |client: &Client, count: u64| self.one_job(client, &array_of(true_task(), count)).await;
        self.rates("process", "tasks that run /bin/true", "tasks/s", self.scaled(PROCESSES), round).await
    }

    /// Jobs of one noop each, from the first submit to the last end.
    pub async fn jobs(&self) -> Result<Figure, Fault> {
        let spec = JobSpec::of("bench", vec![noop()]);
        let round = async |client: &Client, count: u64| run_jobs(client, &spec, count, IN_FLIGHT).await;
        let figure = self.rates("jobs", "jobs of one noop task", "tasks/s", self.scaled(JOBS), round).await?;
        Ok(figure.set("in_flight", IN_FLIGHT))
    }

    /// From the call to the start, by the worker's clock: the same host's where the cluster is our own.
    pub async fn latency(&self) -> Result<Figure, Fault> {
        let client = self.nearest().await?;
        let app = self.quiet(&client);
        let spec = JobSpec::of("bench", vec![true_task()]);
        let mut times = Times::default();
        let samples = self.scaled(SAMPLES);
        self.progress.begin("submit to start, idle", samples);
        for sample in 0..samples + samples / 10 + 1 {
            let sent = clock::now();
            let job = client.submit(&spec).await.map_err(cannot)?.job;
            crate::verbs::wait::wait(&app, &[job]).await?;
            let tasks = client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)?;
            let started = tasks.first().and_then(|task| task.outcome.as_ref()?.started);
            let started = started.ok_or_else(|| Fault::failed(format!("{job} has no start")))?;
            // The first tenth warms up.
            if sample > samples / 10 {
                self.progress.next();
                times.record(started.since(sent));
            }
        }
        Ok(Figure::of_times("latency", "submit to start, idle", &times))
    }

    /// Milliseconds for each task of a chain, a fan-in and a grid of diamonds.
    pub async fn chains(&self) -> Result<Vec<Figure>, Fault> {
        let count = self.scaled(CHAIN).min(CHAIN);
        let shapes = [
            ("hop of a chain", chain(count)),
            ("task of a fan-in to one", fan_in(count)),
            ("task of a grid of diamonds", diamonds(count)),
        ];
        let mut figures = Vec::new();
        for (name, tasks) in shapes {
            let spec = JobSpec::of("bench", tasks);
            let tasks = spec.tasks_count();
            let round = async |client: &Client, _| self.one_job(client, &spec).await;
            let rates = self.rates("chain", name, "ms", tasks, round).await?;
            let each = rates.rounds.iter().map(|rate| 1_000.0 / rate).collect();
            figures.push(Figure::of_rounds("chain", format!("{name}, {tasks} tasks"), "ms", tasks, each));
        }
        Ok(figures)
    }
}

/// Submits jobs and waits for the last to succeed.
pub async fn run_jobs(
    client: &Client,
    spec: &JobSpec,
    count: u64,
    in_flight: usize,
) -> Result<Duration, Fault> {
    let mut events = client.watch(None, None);
    // The stream has begun before the first job is there, so that no end is missed.
    while !matches!(events.next().await.transpose().map_err(cannot)?, Some(Watched::Begin { .. })) {}
    let watch = Stopwatch::start();
    let submitting = submit_all(client, spec, count, in_flight);
    tokio::pin!(submitting);
    let mut ended = BTreeSet::new();
    let (jobs, _) = loop {
        tokio::select! {
            jobs = &mut submitting => break jobs?,
            event = events.next() => ended.extend(end(event)?),
        }
    };
    // A job that never ends hangs the round, which is reported instead of a figure.
    let mut missing: BTreeSet<JobId> = jobs.into_iter().filter(|job| !ended.contains(job)).collect();
    while !missing.is_empty() {
        if let Some(job) = end(events.next().await)? {
            missing.remove(&job);
        }
    }
    Ok(watch.elapsed())
}

fn numbered(n: u64, after: &[u64]) -> TaskSpec {
    let after = after.iter().map(|n| Dependency::Task(format!("t{n}"))).collect();
    noop().with(|task| {
        task.name = format!("t{n}");
        task.after = after;
    })
}

/// Each after the one before.
fn chain(count: u64) -> Vec<TaskSpec> {
    (0..count).map(|n| numbered(n, n.checked_sub(1).as_slice())).collect()
}

/// All before one last.
fn fan_in(count: u64) -> Vec<TaskSpec> {
    let all: Vec<u64> = (0..count).collect();
    let before = all.iter().map(|n| numbered(*n, &[]));
    before.chain([numbered(count, &all)]).collect()
}

/// Rows of 100, each task after the two above it: every four neighbours are a diamond.
fn diamonds(count: u64) -> Vec<TaskSpec> {
    const WIDTH: u64 = 100;
    let above = |n: u64| match n.checked_sub(WIDTH) {
        Some(above) if n % WIDTH + 1 < WIDTH => vec![above, above + 1],
        Some(above) => vec![above],
        None => Vec::new(),
    };
    (0..count).map(|n| numbered(n, &above(n))).collect()
}

/// The job that has succeeded by this event, if one has.
fn end(event: Option<Result<Watched, client::Error>>) -> Result<Option<JobId>, Fault> {
    match event.transpose().map_err(cannot)? {
        Some(Watched::Event { event: Event::Job { job, state: JobState::Succeeded }, .. }) => Ok(Some(job)),
        Some(Watched::Event { event: Event::Job { job, state }, .. }) if state.is_final() => {
            Err(Fault::failed(format!("{job} is {state}")))
        }
        Some(Watched::Event { .. } | Watched::Begin { .. }) => Ok(None),
        Some(Watched::Compacted { .. }) | None => {
            let text = "the ends of the jobs came faster than they could be read";
            Err(Fault::failed(text).fix("measure with a smaller --scale"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_the_edges_that_their_names_say() {
        let edges = |tasks: &[TaskSpec]| tasks.iter().map(|task| task.after.len()).sum::<usize>();
        assert_eq!((chain(5).len(), edges(&chain(5))), (5, 4));
        assert_eq!((fan_in(5).len(), edges(&fan_in(5))), (6, 5));
        let grid = diamonds(300);
        assert_eq!(*grid[100].after, [Dependency::Task("t0".to_owned()), Dependency::Task("t1".to_owned())]);
        assert_eq!(*grid[199].after, [Dependency::Task("t99".to_owned())]);
        assert_eq!(edges(&grid), 2 * (99 * 2 + 1));
    }
}
