//! `baton bench`: measures, on a cluster of processes of its own or on one that is there. It warms up, measures in
//! rounds, and reports nothing if a task was lost on the way.

mod loads;

use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use model::settings::Failover;
use serde::Serialize;

use crate::app::App;
use crate::cluster::{Cluster, Plan};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Face;
use crate::output::table::{Cell, render};
use crate::signals;
use loads::Bench;

/// Measure submits, tasks, latency and failover
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Measured rounds of each, after one that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Part of the usual amount of work in each round
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Leaders killed for the failover figure
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: u32,
    /// Where the cluster keeps its data; the disk under it is what is measured
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Election settings of the cluster: fast, default or wan
    #[arg(long, default_value = "default")]
    failover: Failover,
    /// Measure the cluster that --servers or --context names instead of one of our own
    #[arg(long)]
    existing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum What {
    All,
    /// Accepted jobs per second with 1, 64 and 1024 in flight
    Submit,
    /// Noop tasks per second of one array
    Array,
    /// Noop jobs of one task each per second
    Jobs,
    /// Tasks per second that run /bin/true
    Process,
    /// From submit to start on an idle cluster
    Latency,
    /// From SIGKILL of the leader to the first start by the next
    Failover,
}

/// Rates come as rounds, times as percentiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub name: String,
    pub unit: String,
    /// What one round does, or how many samples there are.
    pub count: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<f64>,
    pub min: f64,
    pub median: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    pub max: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    version: String,
    cores: usize,
    replicas: usize,
    workers: usize,
    failover: Failover,
    build: &'static str,
    lost: u64,
    figures: Vec<Figure>,
}

impl Figure {
    /// From so many per second in each round.
    pub fn of_rounds(name: &str, unit: &str, count: u64, rounds: Vec<f64>) -> Figure {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0.0);
        let (min, max) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        Figure { name: name.to_owned(), unit: unit.to_owned(), count, rounds, min, median, p99: None, max }
    }

    /// Percentiles in milliseconds.
    pub fn of_times(name: &str, times: &[Duration]) -> Figure {
        // Up to an hour in microseconds; a histogram without bounds would cut at its first size.
        let mut histogram =
            Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order");
        for time in times {
            histogram.saturating_record(time.as_micros() as u64);
        }
        let ms = |micros: u64| micros as f64 / 1_000.0;
        Figure {
            name: name.to_owned(),
            unit: "ms".to_owned(),
            count: times.len() as u64,
            rounds: Vec::new(),
            min: ms(histogram.min()),
            median: ms(histogram.value_at_quantile(0.5)),
            p99: Some(ms(histogram.value_at_quantile(0.99))),
            max: ms(histogram.max()),
        }
    }
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let face = &app.face;
    if args.existing && args.what == What::Failover {
        return Err(Fault::usage("failover kills leaders, so it is measured on a cluster of our own only"));
    }
    let cluster = if args.existing { None } else { Some(Cluster::start(plan(args)).await?) };
    let mut bench = Bench::new(cluster, app, args.rounds, args.scale);
    let measured = tokio::select! {
        measured = measure(args, &mut bench, face) => measured?,
        () = signals::asked_to_end() => return Ok(Exit::INTERRUPTED),
    };
    let (replicas, workers) = bench.size().await?;
    let report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        replicas,
        workers,
        failover: args.failover,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        lost: 0,
        figures: measured,
    };
    face.one(&report, "bench", || picture(face, &report))?;
    Ok(Exit::DONE)
}

fn plan(args: &Args) -> Plan {
    Plan { data_dir: args.data_dir.clone(), failover: args.failover, ..Plan::new("bench") }
}

async fn measure(args: &Args, bench: &mut Bench<'_>, face: &Face) -> Result<Vec<Figure>, Fault> {
    let mut figures = Vec::new();
    let wants = |what: What| args.what == What::All || args.what == what;
    let told = |figure: &Figure| face.note(&line(figure));
    if wants(What::Submit) {
        for in_flight in [1, 64, 1024] {
            figures.push(bench.submit(in_flight).await?);
            figures.last().iter().for_each(|figure| told(figure));
        }
    }
    if wants(What::Array) {
        figures.push(bench.array().await?);
        figures.last().iter().for_each(|figure| told(figure));
    }
    if wants(What::Jobs) {
        figures.push(bench.jobs().await?);
        figures.last().iter().for_each(|figure| told(figure));
    }
    if wants(What::Process) {
        figures.push(bench.process().await?);
        figures.last().iter().for_each(|figure| told(figure));
    }
    if wants(What::Latency) {
        figures.push(bench.latency().await?);
        figures.last().iter().for_each(|figure| told(figure));
    }
    // Last: it leaves nothing as it was. On a cluster that is not ours nothing is killed.
    if wants(What::Failover) && !args.existing {
        figures.push(bench.failover(args.kills).await?);
        figures.last().iter().for_each(|figure| told(figure));
    }
    Ok(figures)
}

fn line(figure: &Figure) -> String {
    let p99 = figure.p99.map(|p99| format!("  p99 {p99:.1}")).unwrap_or_default();
    format!("{}: median {:.1} {}{p99}", figure.name, figure.median, figure.unit)
}

fn picture(face: &Face, report: &Report) -> String {
    let row = |figure: &Figure| -> Vec<Cell> {
        let number = |value: f64| if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        let p99 = figure.p99.map_or_else(|| "-".to_owned(), number);
        let cells = [number(figure.median), p99, number(figure.min), number(figure.max)];
        let head = [figure.name.clone(), figure.count.to_string()];
        let cells = head.into_iter().chain(cells).chain([figure.unit.clone()]);
        cells.map(Cell::from).collect()
    };
    let rows: Vec<Vec<Cell>> = report.figures.iter().map(row).collect();
    let table = render(&["figure", "count", "median", "p99", "min", "max", "unit"], &rows, face.paint);
    let Report { version, cores, replicas, workers, build, .. } = report;
    format!(
        "{table}baton {version} ({build} build) · {replicas} replicas · {workers} workers · {cores} cores · 0 lost\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_sum_up_their_rounds_and_samples() {
        let figure = Figure::of_rounds("x", "jobs/s", 5, vec![3.0, 1.0, 2.0]);
        assert_eq!((figure.min, figure.median, figure.max), (1.0, 2.0, 3.0));
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let figure = Figure::of_times("y", &times);
        assert_eq!(figure.count, 100);
        assert!((figure.median - 50.0).abs() < 0.1 && (figure.p99.unwrap() - 99.0).abs() < 0.1, "{figure:?}");
    }
}
