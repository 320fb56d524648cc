//! Thousands of workers with a stream each, and as many kinds of requests as a large site has: what their heartbeats
//! cost, how soon they are back after a failover, what a placement costs among them.
//!
//! The workers are a fleet in this process. They run noops; the cluster cannot tell them from others.

use std::time::Duration;

use client::Client;
use model::size::PARTS;
use model::{Capacity, JobSpec, Resources, Term};
use worker::fleet::{Config, Fleet};

use super::figure::{Figure, Times};
use super::harness::{Bench, cannot, check_lost, noop};
use super::memory::placement_us;
use super::submit::submit_each;
use super::usage::Span;
use crate::clock::Stopwatch;
use crate::fault::Fault;

const WORKERS: u64 = 5_000;
const CLASSES: u64 = 1_000;
const TASKS: u64 = 100_000;
const WORKER_CORES: u64 = 4;
/// For all to attach, the first time or after a failover.
const ATTACHED_WITHIN: Duration = Duration::from_secs(120);
/// After whatever came before.
const SETTLE: Duration = Duration::from_secs(5);
const WATCHED: Duration = Duration::from_secs(20);
const IN_FLIGHT: usize = 1_024;
/// Paused while it is filled, so that every placement is the planner's.
const QUEUE: &str = "bench-classes";

impl Bench<'_> {
    pub async fn workers(&mut self) -> Result<Vec<Figure>, Fault> {
        self.progress.begin("workers: a cluster without any", 1);
        let alone = self.leader_share().await?;
        let fleet = self.scaled(WORKERS) as usize;
        let config = Config {
            workers: fleet,
            servers: self.own()?.addresses(),
            capacity: Capacity::of(Resources::cores(WORKER_CORES)),
        };
        self.progress.begin(&format!("workers: {fleet} attach"), 1);
        let watch = Stopwatch::start();
        let members = Fleet::start(&config)?;
        attached(&members, fleet, 1).await?;
        let first: Times = std::iter::once(watch.elapsed()).collect();
        let name = format!("{fleet} new workers to attached");
        let mut figures = vec![Figure::of_times("workers", name, &first)];
        figures.push(self.heartbeats(&members, alone).await?);
        figures.push(self.reattach(&members, fleet).await?);
        figures.push(self.class_placements().await?);
        let sized = |figure: Figure| figure.set("workers", fleet);
        Ok(figures.into_iter().map(sized).collect())
    }

    /// Of a core, in percent, with nothing to do but what is always done.
    async fn leader_share(&self) -> Result<f64, Fault> {
        tokio::time::sleep(SETTLE).await;
        let leader = self.leader().await?;
        let span = Span::begin(&self.own()?.replicas[leader])?;
        tokio::time::sleep(WATCHED).await;
        span.percent(&self.own()?.replicas[leader])
    }

    /// What the leader takes beyond what it takes without workers.
    async fn heartbeats(&self, fleet: &Fleet, alone: f64) -> Result<Figure, Fault> {
        self.progress.begin("workers: heartbeats", 1);
        let (watch, before) = (Stopwatch::start(), fleet.renewals());
        let share = self.leader_share().await?;
        let rate = (fleet.renewals() - before) as f64 / watch.elapsed().as_secs_f64();
        let name = "heartbeats: share of a core of the leader";
        let figure = Figure::of_rounds("workers", name, "%", 0, vec![(share - alone).max(0.0)]);
        let figure = figure.set("heartbeats_per_second", rate.round());
        Ok(figure.set("with_workers_percent", share).set("without_percent", alone))
    }

    /// Each kill is followed by a lease's time, in which no session may expire.
    async fn reattach(&mut self, fleet: &Fleet, workers: usize) -> Result<Figure, Fault> {
        self.progress.begin("workers: SIGKILLs of the leader", self.rounds.into());
        let lease = self.own()?.plan.failover.lease();
        let (mut times, mut connects) = (Times::default(), Vec::new());
        for _ in 0..self.rounds {
            self.progress.next();
            let before = fleet.connects();
            let term = self.client.cluster_status().await.map_err(cannot)?.term;
            let cluster =
                self.cluster.as_mut().ok_or_else(|| Fault::usage("this needs a cluster of our own"))?;
            let watch = Stopwatch::start();
            cluster.kill_leader().await?;
            attached(fleet, workers, term + 1).await?;
            times.record(watch.elapsed());
            connects.push((fleet.connects() - before) as f64 / workers as f64);
            tokio::time::sleep((lease.ttl + lease.margin + SETTLE).saturating_sub(watch.elapsed())).await;
            self.check_sessions(fleet).await?;
            let cluster =
                self.cluster.as_mut().ok_or_else(|| Fault::usage("this needs a cluster of our own"))?;
            cluster.revive()?;
            cluster.wait_ready().await?;
            cluster.wait_whole().await?;
        }
        let name = format!("SIGKILL of the leader to {workers} workers attached to the next");
        Ok(Figure::of_times("workers", name, &times)
            .set("sessions_expired", 0)
            .set("connects_per_worker", connects))
    }

    /// No worker was taken for dead: all of them lived.
    async fn check_sessions(&self, fleet: &Fleet) -> Result<(), Fault> {
        let leader = self.scrape(self.leader().await?).await?;
        let expired = leader.get("baton_sessions_expired_total");
        let (lost, refused) = (fleet.sessions_lost(), fleet.refused());
        if expired > 0.0 || lost > 0 || refused > 0 {
            let text =
                format!("{expired} sessions of living workers expired, {lost} ended, {refused} were refused");
            return Err(Fault::failed(text));
        }
        Ok(())
    }

    /// Microseconds of the planner for each task, all of which are there when it begins.
    async fn class_placements(&self) -> Result<Figure, Fault> {
        let client = self.nearest().await?;
        client.put_queue(QUEUE, None, None).await.map_err(cannot)?;
        let (tasks, classes) = (self.scaled(TASKS), self.scaled(CLASSES));
        let leader = self.leader().await?;
        let (mut costs, mut rates, mut leader_us) = (Vec::new(), Vec::new(), Vec::new());
        self.progress.begin(&format!("workers: placements in {classes} classes"), self.rounds.into());
        for round in 0..=self.rounds {
            self.fill_classes(&client, tasks, classes).await?;
            let before = self.scrape(leader).await?;
            let span = Span::begin(&self.own()?.replicas[leader])?;
            let watch = Stopwatch::start();
            client.resume_queue(QUEUE).await.map_err(cannot)?;
            self.all_done().await?;
            let took = watch.elapsed();
            let used = span.used(&self.own()?.replicas[leader])?;
            let after = self.scrape(leader).await?;
            check_lost(tasks, after.since(&before, SUCCEEDED) as u64)?;
            // The first warms up.
            if round > 0 {
                costs.push(placement_us(&before, &after));
                rates.push(tasks as f64 / took.as_secs_f64());
                leader_us.push(used.as_secs_f64() * 1e6 / tasks as f64);
            }
            self.progress.next();
        }
        let name = format!("placement of a task of {classes} request classes");
        let figure = Figure::of_rounds("workers", name, "us", tasks, costs).set("classes", classes);
        Ok(figure.set("tasks_per_second", rates).set("leader_cpu_us_per_task", leader_us))
    }

    async fn fill_classes(&self, client: &Client, tasks: u64, classes: u64) -> Result<(), Fault> {
        client.pause_queue(QUEUE).await.map_err(cannot)?;
        let specs = (0..tasks).map(move |number| class_job(number % classes));
        check_lost(tasks, submit_each(client, specs, IN_FLIGHT).await?)
    }
}

/// Counted by the leader.
const SUCCEEDED: &str = "baton_jobs_finished_total{state=\"succeeded\"}";

/// Differs from other classes by what it asks for.
fn class_job(class: u64) -> JobSpec {
    let mut task = noop();
    task.resources.cpu = PARTS / 100 + class;
    JobSpec::of("bench", vec![task]).with(|job| job.queue = QUEUE.to_owned())
}

/// Waits until so many are attached to a leader of this term or a later one.
async fn attached(fleet: &Fleet, workers: usize, term: Term) -> Result<(), Fault> {
    let watch = Stopwatch::start();
    while fleet.attached(term) < workers {
        if fleet.refused() > 0 {
            return Err(Fault::failed(format!("{} workers were refused", fleet.refused())));
        }
        if watch.elapsed() > ATTACHED_WITHIN {
            let text = format!("{} of {workers} workers are attached", fleet.attached(term));
            return Err(Fault::failed(text).fix("ulimit -n must allow two files for each worker"));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_asks_for_something_else_and_fits_a_worker() {
        let asks = |class| class_job(class).tasks[0].resources.clone();
        assert_ne!(asks(0), asks(1));
        assert_eq!(asks(7), asks(7));
        assert!(asks(CLASSES - 1).cpu < WORKER_CORES * PARTS);
    }
}
