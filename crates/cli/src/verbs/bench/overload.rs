//! Ten times as many submits in flight as the cluster is at its best with, for two minutes: what still gets through, what
//! it costs, and how soon it is over.
//!
//! Every job is a noop that runs, so that workers' reports come while it lasts.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::Client;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::{JobSpec, Term};

use super::figure::{Figure, Times};
use super::harness::{Bench, cannot, check_lost, noop};
use super::quota::Quota;
use super::scrape::Scrape;
use crate::clock::Stopwatch;
use crate::fault::Fault;

/// Submits in flight of one stream.
const IN_FLIGHT: usize = 1_024;
/// Streams at the best, and under overload.
const PEAK: usize = 1;
const OVERLOAD: usize = 10;
const PEAK_SECONDS: u64 = 20;
const OVERLOAD_SECONDS: u64 = 120;
/// More than are accepted in that time: what is measured is not how soon the cluster is full.
const UNFINISHED_MAX: &str = "10000000";
/// Of a core, in percent, for whoever makes the load.
const GENERATOR_PERCENT: u64 = 25;
/// Single submits on the idle cluster.
const PROBES: u32 = 100;
/// In which it should be as before.
const RECOVERED_WITHIN: Duration = Duration::from_secs(300);
const SAMPLED_EVERY: Duration = Duration::from_millis(500);
/// A report's wait that is too long, in seconds.
const REPORT_WAIT_MAX: f64 = 0.02;
const MIB: f64 = 1_048_576.0;

/// What a load came to.
struct Load {
    /// Acknowledged while it was made.
    in_time: u64,
    /// Acknowledged at all.
    accepted: u64,
    length: Duration,
    latencies: Times,
}

impl Load {
    /// Acknowledged per second.
    fn rate(&self) -> f64 {
        self.in_time as f64 / self.length.as_secs_f64()
    }
}

/// How the cluster stands.
struct Standing {
    term: Term,
    scrapes: Vec<Scrape>,
    resident: Vec<u64>,
}

impl Bench<'_> {
    pub async fn overload(&mut self) -> Result<Vec<Figure>, Fault> {
        self.progress.begin("overload: single submits", 1);
        let at_first = self.standing().await?;
        let client = self.nearest().await?;
        client.put_setting("limits.unfinished_jobs_max", UNFINISHED_MAX).await.map_err(cannot)?;
        let idle = idle_median(&client).await?;
        let quota = Quota::enter(GENERATOR_PERCENT);
        let generator = match &quota {
            Some(_) => format!("{GENERATOR_PERCENT} % of a core"),
            None => "unlimited".to_owned(),
        };
        self.progress.begin("overload: the best rate", 1);
        let warm = self.load(PEAK, PEAK_SECONDS / 4).await?;
        self.progress.next();
        let peak = self.load(PEAK, PEAK_SECONDS).await?;
        self.all_done().await?;

        self.progress.begin("overload", 1);
        let before = self.standing().await?;
        let overload = Stopwatch::start();
        let (load, highest) = self.sampled(self.load(OVERLOAD, OVERLOAD_SECONDS)).await?;
        drop(quota);
        let backlog = self.client.cluster_status().await.map_err(cannot)?.unfinished_jobs;
        self.progress.begin("overload: recovery", 1);
        let (recovery, probes) = recover(&client, idle, overload, load.length).await?;
        let after = self.standing().await?;
        self.all_done().await?;
        let at_last = self.standing().await?;

        let accepted = u64::from(PROBES) + warm.accepted + peak.accepted + load.accepted + probes;
        let succeeded = total_since(&at_first, &at_last, "baton_jobs_finished_total{state=\"succeeded\"}");
        check_lost(accepted, succeeded)?;
        let refused = total_since(&before, &after, "baton_calls_refused_total{code=\"overloaded\"}");
        let goodput =
            goodput_figure(&peak, &load).set("refused", refused).set("unfinished_at_the_end", backlog);
        let recovery: Times = std::iter::once(recovery).collect();
        let recovery =
            Figure::of_times("overload", "end of the overload to a submit in twice its idle time", &recovery);
        let elections = vec![(at_last.term - at_first.term) as f64];
        let figures = vec![
            goodput,
            recovery.set("idle_ms", idle.as_secs_f64() * 1_000.0),
            Figure::of_rounds("overload", "elections", "elections", 0, elections),
            memory_figure(&before.resident, &highest, &after.resident),
            self.reports_figure(&before, &after).await?,
        ];
        let made_by = |figure: Figure| figure.set("generator", generator.clone());
        Ok(figures.into_iter().map(made_by).collect())
    }

    async fn standing(&self) -> Result<Standing, Fault> {
        let term = self.client.cluster_status().await.map_err(cannot)?.term;
        Ok(Standing { term, scrapes: self.scrape_all().await?, resident: self.resident()? })
    }

    /// Keeps so many streams full, for so long, and waits for the last answers.
    async fn load(&self, streams: usize, seconds: u64) -> Result<Load, Fault> {
        let length = Duration::from_secs(self.scaled(seconds));
        let watch = Stopwatch::start();
        let mut all = FuturesUnordered::new();
        for _ in 0..streams {
            // Over a connection of its own.
            let client = self.nearest().await?;
            all.push(async move { stream(&client, watch, length).await });
        }
        let mut load = Load { in_time: 0, accepted: 0, length, latencies: Times::default() };
        while let Some(one) = all.next().await {
            let one = one?;
            load.in_time += one.in_time;
            load.accepted += one.accepted;
            load.latencies.add(&one.latencies);
        }
        Ok(load)
    }

    /// The highest memory of each replica while `work` went on.
    async fn sampled<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<(T, Vec<u64>), Fault> {
        let mut highest = self.resident()?;
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok((done?, highest)),
                () = tokio::time::sleep(SAMPLED_EVERY) => {
                    let now = self.resident()?;
                    highest.iter_mut().zip(now).for_each(|(highest, now)| *highest = now.max(*highest));
                }
            }
        }
    }

    async fn reports_figure(&self, before: &Standing, after: &Standing) -> Result<Figure, Fault> {
        let leader = self.leader().await?;
        let (before, after) = (&before.scrapes[leader], &after.scrapes[leader]);
        let waits = after.histogram_since(before, "baton_lane_wait_seconds", "lane=\"worker\"");
        let name = "workers' messages that waited above 20 ms";
        let late = waits.above(REPORT_WAIT_MAX) as f64;
        let figure = Figure::of_rounds("overload", name, "messages", waits.count(), vec![late]);
        Ok(figure.set("longest_ms", waits.longest() * 1_000.0))
    }
}

fn spec() -> JobSpec {
    JobSpec::of("bench", vec![noop()])
}

/// The middle of some submits, one after the other.
async fn idle_median(client: &Client) -> Result<Duration, Fault> {
    let mut times = Vec::new();
    for _ in 0..PROBES {
        times.push(probe(client).await?);
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// From the call to the acknowledgement of one submit.
async fn probe(client: &Client) -> Result<Duration, Fault> {
    let watch = Stopwatch::start();
    client.submit(&spec()).await.map_err(cannot)?;
    Ok(watch.elapsed())
}

/// One stream, from which nothing new goes out after `length`.
async fn stream(client: &Client, watch: Stopwatch, length: Duration) -> Result<Load, Fault> {
    let sent: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let note = sent.clone();
    let spec = spec();
    let specs = std::iter::from_fn(move || {
        let now = watch.elapsed();
        note.lock().unwrap_or_else(PoisonError::into_inner).push(now);
        (now < length).then(|| spec.clone())
    });
    let mut answers = client.submit_many(specs, IN_FLIGHT);
    let mut load = Load { in_time: 0, accepted: 0, length, latencies: Times::default() };
    while let Some((place, answer)) = answers.next().await {
        answer.map_err(cannot)?;
        let now = watch.elapsed();
        let began = sent.lock().unwrap_or_else(PoisonError::into_inner)[place];
        load.latencies.record(now - began);
        load.accepted += 1;
        load.in_time += u64::from(now <= length);
    }
    Ok(load)
}

/// Submits one after the other until one is as quick as before, twice its idle time at the most. Gives the time since the
/// load had its full length, and how many it took.
async fn recover(
    client: &Client,
    idle: Duration,
    overload: Stopwatch,
    length: Duration,
) -> Result<(Duration, u64), Fault> {
    let mut probes = 0;
    loop {
        let took = probe(client).await?;
        probes += 1;
        let since = overload.elapsed().saturating_sub(length);
        if took <= idle * 2 {
            return Ok((since, probes));
        }
        if since > RECOVERED_WITHIN {
            return Err(Fault::failed("submits are as slow as under the overload that is long over"));
        }
    }
}

/// Of all replicas: each counts while it leads.
fn total_since(before: &Standing, after: &Standing, name: &str) -> u64 {
    let pairs = after.scrapes.iter().zip(&before.scrapes);
    pairs.map(|(after, before)| after.since(before, name)).sum::<f64>() as u64
}

/// Percent of the best.
fn goodput_figure(peak: &Load, load: &Load) -> Figure {
    let percent = 100.0 * load.rate() / peak.rate().max(f64::MIN_POSITIVE);
    let name = format!("goodput of {} in flight against {}", OVERLOAD * IN_FLIGHT, PEAK * IN_FLIGHT);
    let figure = Figure::of_rounds("overload", name, "%", load.accepted, vec![percent]);
    let figure = figure.with_times(&load.latencies).set("seconds", load.length.as_secs());
    figure.set("peak_per_second", peak.rate()).set("goodput_per_second", load.rate())
}

/// The highest of each replica while it lasted.
fn memory_figure(before: &[u64], highest: &[u64], after: &[u64]) -> Figure {
    let mib = |bytes: &[u64]| -> Vec<f64> { bytes.iter().map(|bytes| *bytes as f64 / MIB).collect() };
    let name = "memory at the most, a value for each replica";
    let figure = Figure::of_rounds("overload", name, "MiB", 0, mib(highest));
    figure.set("before_mib", mib(before)).set("after_mib", mib(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goodput_is_what_came_in_time_against_the_best() {
        let load = |in_time, seconds| Load {
            in_time,
            accepted: in_time + 5,
            length: Duration::from_secs(seconds),
            latencies: Times::default(),
        };
        let figure = goodput_figure(&load(1_000, 1), &load(8_000, 10));
        assert_eq!((figure.median, figure.tasks), (80.0, 8_005));
        assert_eq!(figure.settings["peak_per_second"], 1_000.0);
    }
}
