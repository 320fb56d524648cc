//! Submits: how many are acknowledged per second, and what an array of a million costs. Nothing of them runs, since their
//! queue is paused; they are cancelled afterwards.

use std::sync::{Arc, Mutex, PoisonError};

use client::{Client, Target};
use futures::StreamExt;
use model::{JobId, JobSpec};

use super::figure::{Figure, Times};
use super::harness::{Bench, array_of, cannot, noop};
use crate::clock::Stopwatch;
use crate::fault::Fault;

const SUBMITS: [(usize, u64); 3] = [(1, 500), (64, 10_000), (1_024, 40_000)];
const ARRAY: u64 = 1_000_000;
/// Jobs cancelled by one call.
const CANCELLED_AT_ONCE: usize = 1_000;
/// Where nothing runs.
const QUEUE: &str = "bench-paused";

impl Bench<'_> {
    /// A client near the leader, and the paused queue.
    async fn paused(&self) -> Result<Client, Fault> {
        let client = self.nearest().await?;
        client.put_queue(QUEUE, None, None).await.map_err(cannot)?;
        client.pause_queue(QUEUE).await.map_err(cannot)?;
        Ok(client)
    }

    pub async fn submits(&self) -> Result<Vec<Figure>, Fault> {
        self.paused().await?;
        let mut figures = Vec::new();
        for (in_flight, count) in SUBMITS {
            figures.push(self.submit(in_flight, self.scaled(count)).await?);
        }
        Ok(figures)
    }

    /// Accepted jobs per second.
    async fn submit(&self, in_flight: usize, count: u64) -> Result<Figure, Fault> {
        let spec = JobSpec::of("bench", vec![noop()]).with(|job| job.queue = QUEUE.to_owned());
        let mut times = Times::default();
        let round = async |client: &Client, count: u64| {
            let watch = Stopwatch::start();
            let (jobs, latencies) = submit_all(client, &spec, count, in_flight).await?;
            let took = watch.elapsed();
            times.add(&latencies);
            cancel(client, &jobs).await?;
            Ok(took)
        };
        let name = format!("submits acknowledged, {in_flight} in flight");
        let figure = self.rates("submit", &name, "jobs/s", count, round).await?;
        Ok(figure.with_times(&times).set("in_flight", in_flight))
    }

    /// From the call to the acknowledgement of one array.
    pub async fn array(&self) -> Result<Figure, Fault> {
        let client = self.paused().await?;
        let count = self.scaled(ARRAY);
        let spec = array_of(noop(), count).with(|job| job.queue = QUEUE.to_owned());
        let (mut times, mut entries, mut bytes) = (Times::default(), u64::MAX, f64::MAX);
        self.progress.begin("submits of an array", u64::from(self.rounds) * 10);
        for round in 0..=self.rounds * 10 {
            let before = self.log().await?;
            let watch = Stopwatch::start();
            let job = client.submit(&spec).await.map_err(cannot)?.job;
            let took = watch.elapsed();
            let after = self.log().await?;
            // The first warms up. Other entries may fall between, so the least is what it takes.
            self.progress.next();
            if round > 0 {
                times.record(took);
                entries = entries.min(after.0 - before.0);
                bytes = bytes.min(after.1 - before.1);
            }
            cancel(&client, &[job]).await?;
        }
        let figure = Figure::of_times("array", format!("submit of an array of {count}"), &times);
        Ok(figure.set("array", count).set("entries", entries).set("entry_bytes", bytes))
    }

    /// The leader's last index and the bytes of its log.
    async fn log(&self) -> Result<(u64, f64), Fault> {
        let figures = self.scrape(self.leader().await?).await?;
        Ok((figures.get("baton_raft_last_log_index") as u64, figures.get("baton_raft_log_bytes")))
    }
}

async fn cancel(client: &Client, jobs: &[JobId]) -> Result<(), Fault> {
    for some in jobs.chunks(CANCELLED_AT_ONCE) {
        let targets: Vec<Target> = some.iter().map(|job| Target::job(*job)).collect();
        client.cancel(&targets).await.map_err(cannot)?;
    }
    Ok(())
}

/// Submits each over one stream; gives how many were accepted.
pub async fn submit_each(
    client: &Client,
    specs: impl Iterator<Item = JobSpec> + Send,
    in_flight: usize,
) -> Result<u64, Fault> {
    let mut accepted = 0;
    let mut answers = client.submit_many(specs, in_flight);
    while let Some((_, answer)) = answers.next().await {
        answer.map_err(cannot)?;
        accepted += 1;
    }
    Ok(accepted)
}

/// Submits `count` jobs over one stream, and how long each took to be acknowledged.
pub async fn submit_all(
    client: &Client,
    spec: &JobSpec,
    count: u64,
    in_flight: usize,
) -> Result<(Vec<JobId>, Times), Fault> {
    let (mut jobs, mut times) = (Vec::with_capacity(count as usize), Times::default());
    if in_flight == 1 {
        for _ in 0..count {
            let watch = Stopwatch::start();
            jobs.push(client.submit(spec).await.map_err(cannot)?.job);
            times.record(watch.elapsed());
        }
        return Ok((jobs, times));
    }
    let sent: Arc<Mutex<Vec<Stopwatch>>> = Arc::default();
    let note = sent.clone();
    let spec = spec.clone();
    let specs = (0..count).map(move |_| {
        note.lock().unwrap_or_else(PoisonError::into_inner).push(Stopwatch::start());
        spec.clone()
    });
    let mut answers = client.submit_many(specs, in_flight);
    while let Some((place, answer)) = answers.next().await {
        jobs.push(answer.map_err(cannot)?.job);
        let took = sent.lock().unwrap_or_else(PoisonError::into_inner)[place].elapsed();
        times.record(took);
    }
    Ok((jobs, times))
}
