//! What a million waiting tasks cost: memory, placements beside them, a snapshot of them, a restart with them.
//!
//! Each is a job of its own with an argv of its own. They are ready in an open queue, and nothing can take them: each asks
//! for a whole worker, and on every worker a task runs that does not end.

use std::time::Duration;

use client::Client;
use model::size::PARTS;
use model::{EnvValue, JobSpec, LogIndex, TaskSpec, Work};

use super::figure::{Figure, Times};
use super::harness::{Bench, array_of, cannot, check_lost, noop};
use super::scrape::{Histogram, Scrape};
use super::submit::submit_each;
use super::tasks::run_jobs;
use crate::clock::Stopwatch;
use crate::fault::Fault;

const WAITING: u64 = 1_000_000;
/// What placements beside all of them are compared with.
const WAITING_FEW: u64 = 1_000;
const ARGV_BYTES: usize = 200;
const IN_FLIGHT: usize = 1_024;
/// Jobs of one round of placements.
const PLACED: u64 = 10_000;
/// For buffers to be given back, after the last submit.
const SETTLE: Duration = Duration::from_secs(5);
/// Of what fills the log until a snapshot is taken, and how many of that at once.
const BULK_BYTES: usize = 32 << 10;
const BULK_JOBS: u64 = 256;
/// Bytes of log after which a snapshot should have been taken.
const BULK_BYTES_MAX: u64 = 8 << 30;
/// A pause of apply that is too long, in seconds.
const PAUSE_MAX: f64 = 0.005;
const NO_TASK_WAITS_SO_LONG: &str = "31536000";

/// What must be exchanged between the parts: the tasks that wait so far.
struct Waiting {
    count: u64,
    /// Each as large as a worker.
    cpu: u64,
}

impl Bench<'_> {
    pub async fn memory(&mut self) -> Result<Vec<Figure>, Fault> {
        let client = self.nearest().await?;
        let worker_cpu = u64::from(self.own()?.plan.worker_cpu) * PARTS;
        // A worker would drain for those that wait, since they are passed over again and again.
        client.put_setting("limits.starve_after_s", NO_TASK_WAITS_SO_LONG).await.map_err(cannot)?;
        let occupants = self.occupy(&client, worker_cpu).await?;
        let mut waiting = Waiting { count: 0, cpu: worker_cpu };
        let all = self.scaled(WAITING);

        self.fill(&client, &mut waiting, WAITING_FEW.min(all)).await?;
        let beside_few = self.placements(&client, &waiting).await?;
        let before = self.resident()?;
        let few = waiting.count;
        self.fill(&client, &mut waiting, all).await?;
        tokio::time::sleep(SETTLE).await;
        let memory = memory_figure(waiting.count - few, &before, &self.resident()?);
        let beside_all = self.placements(&client, &waiting).await?;
        let ratio = vec![beside_all.median / beside_few.median.max(f64::MIN_POSITIVE)];
        let name = format!("placement beside {} waiting to one beside {few}", waiting.count);
        let ratio = Figure::of_rounds("memory", name, "x", PLACED, ratio);
        let pauses = self.snapshot_pauses(&client, &waiting).await?;
        let mut figures = vec![memory, beside_few, beside_all, ratio, pauses];
        figures.extend(self.restarts(&waiting).await?);
        let unfinished = self.client.cluster_status().await.map_err(cannot)?.unfinished_jobs;
        check_lost(waiting.count + occupants, unfinished)?;
        Ok(figures)
    }

    /// On each worker one task without end, so large that no two share one. Gives the number of its jobs.
    async fn occupy(&self, client: &Client, worker_cpu: u64) -> Result<u64, Fault> {
        let workers = self.own()?.workers.len() as u64;
        let mut task = TaskSpec::new("occupant", Work::Sleep(Duration::from_secs(365 * 24 * 3_600)));
        task.resources.cpu = worker_cpu * 6 / 10;
        let job = client.submit(&array_of(task, workers)).await.map_err(cannot)?.job;
        let watch = Stopwatch::start();
        while client.get_job(job).await.map_err(cannot)?.value.counts.running < workers {
            if watch.elapsed() > Duration::from_secs(30) {
                return Err(Fault::failed("the workers do not take the tasks that are to occupy them"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(1)
    }

    /// Submits until so many wait.
    async fn fill(&self, client: &Client, waiting: &mut Waiting, until: u64) -> Result<(), Fault> {
        self.progress.begin(&format!("memory: submits until {until} wait"), 1);
        let cpu = waiting.cpu;
        let specs = (waiting.count..until).map(move |number| waiting_job(number, cpu));
        waiting.count += submit_each(client, specs, IN_FLIGHT).await?;
        check_lost(until, waiting.count)
    }

    /// Microseconds of the planner for each task that goes before those that wait.
    async fn placements(&self, client: &Client, waiting: &Waiting) -> Result<Figure, Fault> {
        let name = format!("placement beside {} waiting", waiting.count);
        let first = JobSpec::of("bench", vec![noop()]).with(|job| job.priority = 1);
        let leader = self.leader().await?;
        self.progress.begin(&name, self.rounds.into());
        run_jobs(client, &first, PLACED / 4, IN_FLIGHT).await?;
        let mut costs = Vec::new();
        for _ in 0..self.rounds {
            self.progress.next();
            let before = self.scrape(leader).await?;
            run_jobs(client, &first, PLACED, IN_FLIGHT).await?;
            costs.push(placement_us(&before, &self.scrape(leader).await?));
        }
        Ok(Figure::of_rounds("memory", name, "us", PLACED, costs).set("waiting", waiting.count))
    }

    /// Fills the log with large jobs until every replica has taken a snapshot, and counts what held it up meanwhile. And
    /// what holds it up under half as much of the same load when none is taken: on shared cores that is not nothing.
    async fn snapshot_pauses(&self, client: &Client, waiting: &Waiting) -> Result<Figure, Fault> {
        // Otherwise the bulk would stay for long, and be what is measured.
        client.put_setting("limits.finished_jobs_max", "100").await.map_err(cannot)?;
        self.progress.begin(&format!("memory: a snapshot of {} waiting", waiting.count), 1);
        let snapshots = self.snapshots().await?;
        let before = self.rested_scrape().await?;
        let mut written = 0;
        while self.snapshots().await?.iter().zip(&snapshots).any(|(now, before)| now == before) {
            if written > BULK_BYTES_MAX {
                return Err(Fault::failed(format!("no snapshot after {written} bytes of log")));
            }
            written += write_bulk(client).await?;
        }
        let after = self.scrape_all().await?;
        let figure = pauses_figure(&before, &after);
        let sizes: Vec<f64> = after.iter().map(|now| now.get("baton_raft_snapshot_bytes")).collect();

        let (snapshots, before) = (self.snapshots().await?, self.rested_scrape().await?);
        let mut control = 0;
        while control < written / 2 {
            control += write_bulk(client).await?;
        }
        let alone = pauses_figure(&before, &self.scrape_all().await?);
        let is_alone = self.snapshots().await? == snapshots;
        let figure = figure.set("without_snapshot", is_alone.then_some(alone.rounds));
        let figure = figure.set("without_snapshot_log_bytes", control);
        Ok(figure.set("waiting", waiting.count).set("snapshot_bytes", sizes).set("log_bytes", written))
    }

    /// A scrape holds up apply too, but not the second within a moment.
    async fn rested_scrape(&self) -> Result<Vec<Scrape>, Fault> {
        self.scrape_all().await?;
        self.scrape_all().await
    }

    /// The last entry in the snapshot of each replica.
    async fn snapshots(&self) -> Result<Vec<LogIndex>, Fault> {
        let mut snapshots = Vec::new();
        for address in self.own()?.addresses() {
            let one = Client::connect([address]).stale();
            snapshots.push(one.cluster_status().await.map_err(cannot)?.snapshot);
        }
        Ok(snapshots)
    }

    /// A follower is killed and started again, and then the leader.
    async fn restarts(&mut self, waiting: &Waiting) -> Result<Vec<Figure>, Fault> {
        let mut figures = Vec::new();
        for (role, leads) in [("follower", false), ("leader", true)] {
            self.progress.begin(&format!("memory: restart of a {role}"), 1);
            let leader = self.leader().await?;
            let replicas = self.own()?.replicas.len();
            let place = if leads { leader } else { (leader + 1) % replicas };
            let took: Times = std::iter::once(self.restart(place).await?).collect();
            let name = format!("SIGKILL and restart of a {role} to serving, {} waiting", waiting.count);
            figures.push(Figure::of_times("memory", name, &took).set("waiting", waiting.count));
        }
        Ok(figures)
    }

    /// From the start of the process to its own answer.
    async fn restart(&mut self, place: usize) -> Result<Duration, Fault> {
        let cluster = self.cluster.as_mut().ok_or_else(|| Fault::usage("this needs a cluster of our own"))?;
        cluster.replicas[place].kill();
        let watch = Stopwatch::start();
        cluster.revive()?;
        cluster.wait_serving(place).await?;
        let took = watch.elapsed();
        cluster.wait_ready().await?;
        cluster.wait_whole().await?;
        Ok(took)
    }
}

/// Some large jobs, one after the other. Gives the bytes of log that they are.
async fn write_bulk(client: &Client) -> Result<u64, Fault> {
    let mut bulk = noop();
    bulk.env.insert("BULK".to_owned(), EnvValue::Plain("x".repeat(BULK_BYTES)));
    let bulk = JobSpec::of("bench", vec![bulk]).with(|job| job.priority = 1);
    run_jobs(client, &bulk, BULK_JOBS, BULK_JOBS as usize).await?;
    Ok(BULK_JOBS * BULK_BYTES as u64)
}

/// No two have the same argv.
fn waiting_job(number: u64, cpu: u64) -> JobSpec {
    let program = "/bin/true".to_owned();
    let argument = format!("{number:0width$}", width = ARGV_BYTES - program.len());
    let mut task = TaskSpec::new("waiting", Work::Run(vec![program, argument]));
    task.resources.cpu = cpu;
    JobSpec::of("bench", vec![task])
}

/// Bytes of memory for each task beside its argv, a value for each replica.
fn memory_figure(tasks: u64, before: &[u64], after: &[u64]) -> Figure {
    let grown = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    let each = grown.map(|grown| grown as f64 / tasks.max(1) as f64 - ARGV_BYTES as f64).collect();
    let name = "memory of a waiting task beside its argv, a value for each replica";
    let figure = Figure::of_rounds("memory", name, "B", tasks, each);
    let figure = figure.set("rss_before", before).set("rss_after", after);
    figure.set("argv_bytes", ARGV_BYTES).set("waiting", tasks)
}

/// Microseconds of the planner for each task that was placed between two scrapes.
pub fn placement_us(before: &Scrape, after: &Scrape) -> f64 {
    let seconds = after.since(before, "baton_placement_seconds_sum");
    let placed = after.since(before, "baton_tasks_placed_total");
    1e6 * seconds / placed.max(1.0)
}

/// How often each replica was held up too long between two scrapes.
fn pauses_figure(before: &[Scrape], after: &[Scrape]) -> Figure {
    let of = |name: &str| -> Vec<Histogram> {
        before.iter().zip(after).map(|(before, after)| after.histogram_since(before, name, "")).collect()
    };
    let applies = of("baton_apply_seconds");
    let waits = of("baton_apply_wait_seconds");
    let freezes = of("baton_snapshot_freeze_seconds");
    let above = |place: usize| {
        [&applies, &waits, &freezes].iter().map(|kind| kind[place].above(PAUSE_MAX)).sum::<u64>() as f64
    };
    let name = "pauses of apply above 5 ms around a snapshot, a value for each replica";
    let count = applies.iter().map(Histogram::count).sum();
    let figure = Figure::of_rounds("memory", name, "pauses", count, (0..after.len()).map(above).collect());
    // Upper bounds of the buckets that hold the longest; `null`: above all bounds.
    let longest = |kind: &[Histogram]| kind.iter().map(|held| held.longest() * 1_000.0).fold(0.0, f64::max);
    figure
        .set("longest_apply_ms", longest(&applies))
        .set("longest_wait_ms", longest(&waits))
        .set("longest_freeze_ms", longest(&freezes))
        .set("freezes", freezes.iter().map(Histogram::count).sum::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_jobs_have_an_argv_of_the_same_size_and_their_own() {
        let argv = |number| match &waiting_job(number, 40_000).tasks[0].work {
            Work::Run(argv) => argv.concat(),
            other => panic!("{other:?}"),
        };
        assert_eq!((argv(0).len(), argv(999_999).len()), (ARGV_BYTES, ARGV_BYTES));
        assert_ne!(argv(7), argv(8));
    }

    #[test]
    fn memory_is_counted_beside_the_argv() {
        let figure = memory_figure(1_000, &[1 << 20, 2 << 20], &[(1 << 20) + 900_000, 2 << 20]);
        assert_eq!(figure.rounds, [700.0, -200.0]);
    }
}
