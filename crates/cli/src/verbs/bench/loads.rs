//! The loads that are measured. After each, what was accepted is compared with what has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Client, Event, Options, Target, TaskFilter, Watched};
use futures::StreamExt;
use model::size::PARTS;
use model::views::JobState;
use model::{ArrayRange, JobId, JobSpec, TaskSpec, Work};

use super::Figure;
use crate::app::App;
use crate::clock::{self, Stopwatch};
use crate::cluster::{Cluster, failover, send_probe};
use crate::fault::Fault;

const SUBMITS: [(usize, u64); 3] = [(1, 500), (64, 5_000), (1_024, 20_000)];
const ARRAY: u64 = 100_000;
const JOBS: u64 = 20_000;
const PROCESSES: u64 = 1_000;
const SAMPLES: u64 = 200;
/// Tasks of one failover round: some seconds of work.
const UNDER_FAILOVER: u64 = 400;
/// For a round; what takes longer has hung.
const ROUND_MAX: Duration = Duration::from_secs(300);
/// Jobs cancelled by one call.
const CANCELLED_AT_ONCE: usize = 1_000;

pub struct Bench<'a> {
    cluster: Option<Cluster>,
    app: &'a App,
    client: Client,
    rounds: u32,
    scale: f64,
}

/// It needs no core to speak of, so that what is measured is the scheduler and not the number of places.
fn noop() -> TaskSpec {
    small(TaskSpec::new("noop", Work::Noop))
}

fn small(mut task: TaskSpec) -> TaskSpec {
    task.resources.cpu = PARTS / 100;
    task
}

fn array_of(mut task: TaskSpec, count: u64) -> JobSpec {
    let last = u32::try_from(count.max(1) - 1).unwrap_or(u32::MAX - 1);
    task.array = Some(ArrayRange { first: 0, last, step: 1 });
    JobSpec::of("bench", vec![task])
}

fn true_task() -> TaskSpec {
    let mut task = TaskSpec::new("true", Work::Run(vec!["/bin/true".to_owned()]));
    // So many beside each other that the wait for the log does not leave a core idle.
    task.resources.cpu = PARTS / 8;
    task
}

fn cannot(error: client::Error) -> Fault {
    Fault::reading("cannot measure", error)
}

impl<'a> Bench<'a> {
    pub fn new(cluster: Option<Cluster>, app: &'a App, rounds: u32, scale: f64) -> Bench<'a> {
        let addresses = cluster.as_ref().map_or_else(|| app.config.servers.clone(), Cluster::addresses);
        let mut options = Options::new(addresses);
        options.user.clone_from(&app.config.user);
        options.via = "cli".to_owned();
        options.deadline = Duration::from_secs(60);
        Bench { cluster, app, client: Client::with(options), rounds, scale }
    }

    pub async fn size(&self) -> Result<(usize, usize), Fault> {
        let status = self.client.cluster_status().await.map_err(cannot)?;
        Ok((status.members.len(), status.workers_live as usize))
    }

    fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }

    /// A client that asks the leader first: what is measured is not a hop more.
    async fn nearest(&self) -> Result<Client, Fault> {
        let status = self.client.cluster_status().await.map_err(cannot)?;
        let leader = status.members.iter().find(|member| Some(&member.name) == status.leader.as_ref());
        let mut options = self.client.options().clone();
        if let Some(leader) = leader {
            options.addresses.retain(|address| *address != leader.api_address);
            options.addresses.insert(0, leader.api_address.clone());
        }
        Ok(Client::with(options))
    }

    /// Runs one round to warm up and then those that count; each gives how long it took for `count`.
    async fn rates(
        &self,
        name: &str,
        unit: &str,
        count: u64,
        mut round: impl AsyncFnMut(&Client, u64) -> Result<Duration, Fault>,
    ) -> Result<Figure, Fault> {
        let client = self.nearest().await?;
        round(&client, (count / 4).max(1)).await?;
        let mut rates = Vec::new();
        for _ in 0..self.rounds {
            let took = tokio::time::timeout(ROUND_MAX, round(&client, count)).await;
            let took = took.map_err(|_| Fault::failed(format!("{name}: a round has hung")))??;
            rates.push(count as f64 / took.as_secs_f64().max(1e-9));
        }
        Ok(Figure::of_rounds(name, unit, count, rates))
    }

    /// Accepted jobs per second. They are delayed, so that nothing of them runs, and cancelled afterwards.
    pub async fn submit(&self, in_flight: usize) -> Result<Figure, Fault> {
        let count =
            SUBMITS.iter().find(|(flight, _)| *flight == in_flight).map_or(1_000, |(_, count)| *count);
        let name = format!("submit, {in_flight} in flight");
        let round = async |client: &Client, count: u64| {
            let spec =
                JobSpec { delay: Some(Duration::from_secs(3_600)), ..JobSpec::of("bench", vec![noop()]) };
            let watch = Stopwatch::start();
            let jobs = submit_all(client, &spec, count, in_flight).await?;
            let took = watch.elapsed();
            for some in jobs.chunks(CANCELLED_AT_ONCE) {
                let targets: Vec<Target> = some.iter().map(|job| Target::job(*job)).collect();
                client.cancel(&targets).await.map_err(cannot)?;
            }
            Ok(took)
        };
        self.rates(&name, "jobs/s", self.scaled(count), round).await
    }

    pub async fn array(&self) -> Result<Figure, Fault> {
        let round = async |client: &Client, count: u64| self.one_job(client, &array_of(noop(), count)).await;
        self.rates("noop tasks of one array", "tasks/s", self.scaled(ARRAY), round).await
    }

    pub async fn process(&self) -> Result<Figure, Fault> {
        let round =
            async |client: &Client, count: u64| self.one_job(client, &array_of(true_task(), count)).await;
        self.rates("tasks that run /bin/true", "tasks/s", self.scaled(PROCESSES), round).await
    }

    /// From the submit to the end of the job.
    async fn one_job(&self, client: &Client, spec: &JobSpec) -> Result<Duration, Fault> {
        let watch = Stopwatch::start();
        let job = client.submit(spec).await.map_err(cannot)?.job;
        let ended = crate::verbs::wait::wait(&self.quiet(client), &[job]).await?;
        let took = watch.elapsed();
        let succeeded: u64 = ended.iter().map(|job| job.counts.succeeded).sum();
        check_lost(spec.tasks_count(), succeeded)?;
        Ok(took)
    }

    /// The same, without a progress bar and over this client.
    fn quiet(&self, client: &Client) -> App {
        let face = crate::output::Face { is_terminal_err: false, ..self.app.face };
        App { face, config: self.app.config.clone(), client: client.clone() }
    }

    /// Jobs of one noop each, from the first submit to the last end.
    pub async fn jobs(&self) -> Result<Figure, Fault> {
        let round = async |client: &Client, count: u64| {
            let mut events = client.watch(None, None);
            // The stream has begun before the first job is there, so that no end is missed.
            while !matches!(events.next().await.transpose().map_err(cannot)?, Some(Watched::Begin { .. })) {}
            let spec = JobSpec::of("bench", vec![noop()]);
            let watch = Stopwatch::start();
            let submitting = submit_all(client, &spec, count, 1_024);
            tokio::pin!(submitting);
            let mut ended = BTreeSet::new();
            let jobs = loop {
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
        };
        self.rates("jobs of one noop task", "tasks/s", self.scaled(JOBS), round).await
    }

    /// From the call to the start, by the worker's clock: the same host's where the cluster is our own.
    pub async fn latency(&self) -> Result<Figure, Fault> {
        let client = self.nearest().await?;
        let app = self.quiet(&client);
        let spec = JobSpec::of("bench", vec![true_task()]);
        let mut times = Vec::new();
        let samples = self.scaled(SAMPLES);
        for sample in 0..samples + samples / 10 + 1 {
            let sent = clock::now();
            let job = client.submit(&spec).await.map_err(cannot)?.job;
            crate::verbs::wait::wait(&app, &[job]).await?;
            let tasks = client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)?;
            let started = tasks.first().and_then(|task| task.outcome.as_ref()?.started);
            let started = started.ok_or_else(|| Fault::failed(format!("{job} has no start")))?;
            // The first tenth warms up.
            if sample > samples / 10 {
                times.push(started.since(sent));
            }
        }
        Ok(Figure::of_times("submit to start, idle", &times))
    }

    /// Each round has a load of its own; the leader is killed in the middle of it.
    pub async fn failover(&mut self, kills: u32) -> Result<Figure, Fault> {
        let mut times = Vec::new();
        for _ in 0..kills {
            times.push(self.one_failover().await?);
        }
        Ok(Figure::of_times("failover: kill to first start by the next leader", &times))
    }

    async fn one_failover(&mut self) -> Result<Duration, Fault> {
        let mut task = TaskSpec::new("sleep", Work::Sleep(Duration::from_millis(50)));
        task.resources.cpu = PARTS * 95 / 100;
        let spec = array_of(task, UNDER_FAILOVER);
        let job = self.client.submit(&spec).await.map_err(cannot)?.job;
        while self.client.get_job(job).await.map_err(cannot)?.value.counts.succeeded < UNDER_FAILOVER / 8 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let client = self.client.clone();
        let app = self.quiet(&client);
        let cluster =
            self.cluster.as_mut().ok_or_else(|| Fault::usage("failover needs a cluster of our own"))?;
        let kill = cluster.kill_leader().await?;
        let (takeover, mut tasks) = futures::try_join!(cluster.takeover(&kill), send_probe(&client))?;
        let ended = crate::verbs::wait::wait(&app, &[job]).await?;
        check_lost(UNDER_FAILOVER, ended.iter().map(|job| job.counts.succeeded).sum())?;
        tasks.extend(client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)?);
        cluster.revive()?;
        cluster.wait_ready().await?;
        cluster.wait_whole().await?;
        let none = || Fault::failed(format!("{} started nothing of {job}", takeover.leader));
        failover(&kill, &takeover, &tasks).ok_or_else(none)
    }
}

async fn submit_all(
    client: &Client,
    spec: &JobSpec,
    count: u64,
    in_flight: usize,
) -> Result<Vec<JobId>, Fault> {
    let mut jobs = Vec::with_capacity(count as usize);
    if in_flight == 1 {
        for _ in 0..count {
            jobs.push(client.submit(spec).await.map_err(cannot)?.job);
        }
        return Ok(jobs);
    }
    let specs = std::iter::repeat_n(spec.clone(), count as usize);
    let mut answers = client.submit_many(specs, in_flight);
    while let Some((_, answer)) = answers.next().await {
        jobs.push(answer.map_err(cannot)?.job);
    }
    Ok(jobs)
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

fn check_lost(accepted: u64, succeeded: u64) -> Result<(), Fault> {
    if accepted == succeeded {
        return Ok(());
    }
    let text = format!("{accepted} tasks were accepted and {succeeded} succeeded: nothing is reported");
    Err(Fault::new("lost", crate::exit::Exit::FAILED, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_task_is_no_figure() {
        assert!(check_lost(10, 10).is_ok());
        assert_eq!(check_lost(10, 9).unwrap_err().code, "lost");
        assert_eq!(array_of(noop(), 100_000).tasks_count(), 100_000);
    }
}
