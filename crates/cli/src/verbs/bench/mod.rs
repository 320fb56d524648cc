//! `baton bench`: measures, on a cluster of processes of its own or on one that is there. It warms up, measures in
//! rounds, and reports nothing if a task was lost on the way.

mod failover;
mod figure;
mod harness;
mod idle;
mod memory;
mod overload;
mod quota;
mod raft;
mod scrape;
mod submit;
mod tasks;
mod usage;
mod workers;

use std::path::PathBuf;

use model::settings::Failover;

use crate::app::App;
use crate::cluster::Plan;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Face;
use crate::output::progress::Rounds;
use crate::signals;
use figure::Figure;
use harness::Bench;

/// Measure submits, tasks, latency, failover and more
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Measured rounds of each, after one that is not
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Part of the usual amount of work in each round
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
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
    /// The log alone: entries per second with 64 and 1024 in flight
    Raft,
    /// Accepted jobs per second with 1, 64 and 1024 in flight
    Submit,
    /// One submit of an array of 1,000,000 tasks
    Array,
    /// Noop tasks per second of such an array, submit to end
    Noop,
    /// Noop jobs of one task each per second, submit to end
    Jobs,
    /// Tasks per second that run /bin/true
    Process,
    /// From submit to start on an idle cluster
    Latency,
    /// 10,000 tasks one after the other, 10,000 before one, and a grid of diamonds
    Chain,
    /// What a cluster costs that has nothing to do
    Idle,
    /// 1,000,000 waiting tasks: memory, placements, snapshot pauses, restarts (4 minutes)
    Memory,
    /// 5,000 workers and 1,000 request classes: heartbeats, failover, placements (3 minutes)
    Workers,
    /// 10,240 submits in flight for two minutes: goodput, recovery, waits of reports (4 minutes)
    Overload,
    /// From SIGKILL of the leader to the first start by the next
    Failover,
}

/// In the order in which `all` measures them. The last leaves nothing as it was.
const SCENARIOS: [What; 13] = [
    What::Raft,
    What::Submit,
    What::Array,
    What::Noop,
    What::Jobs,
    What::Process,
    What::Latency,
    What::Chain,
    What::Idle,
    What::Memory,
    What::Workers,
    What::Overload,
    What::Failover,
];

impl What {
    /// Whether it needs processes that are ours to look into or to kill.
    fn needs_own_cluster(self) -> bool {
        match self {
            What::Raft | What::Array | What::Idle | What::Failover => true,
            What::Memory | What::Workers | What::Overload => true,
            What::All | What::Submit | What::Noop | What::Jobs => false,
            What::Process | What::Latency | What::Chain => false,
        }
    }

    /// The cluster that it has to itself, where it needs one of another shape, or leaves one in no shape for others.
    fn own_plan(self, args: &Args) -> Option<Plan> {
        let temporary_in = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
        let plan = |name| Plan { temporary_in, failover: args.failover, ..Plan::new(name) };
        match self {
            What::Memory => Some(plan("bench-memory")),
            What::Workers => Some(Plan { workers: 0, ..plan("bench-workers") }),
            What::Overload => Some(plan("bench-overload")),
            What::All | What::Raft | What::Submit | What::Array | What::Noop | What::Jobs => None,
            What::Process | What::Latency | What::Chain | What::Idle | What::Failover => None,
        }
    }
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if scale.is_finite() && scale > 0.0 { Ok(scale) } else { Err("must be above 0".to_owned()) }
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    if args.existing && args.what.needs_own_cluster() {
        let text =
            "this looks into the cluster's processes or kills them, so it is measured on one of our own";
        return Err(Fault::usage(text).fix("leave out --existing"));
    }
    tokio::select! {
        measured = measure(args, app) => measured,
        () = signals::asked_to_end() => Ok(Exit::INTERRUPTED),
    }
}

async fn measure(args: &Args, app: &App) -> Result<Exit, Fault> {
    let face = &app.face;
    let chosen = |what: &What| args.what == What::All || args.what == *what;
    let possible = |what: &What| !args.existing || !what.needs_own_cluster();
    let mut figures = Vec::new();
    let progress = Shown(Rounds::new(face));
    let mut shared: Option<Bench> = None;
    for what in SCENARIOS.into_iter().filter(chosen).filter(possible) {
        for figure in scenario(what, args, app, &mut shared, &progress.0).await? {
            let figure = figure.set("version", env!("CARGO_PKG_VERSION")).set("build", build());
            let mut figure = figure.set("cores", cores());
            // How a cluster that is there was started nobody here knows.
            if !args.existing {
                figure = figure.set("failover", args.failover.to_string());
            }
            progress.0.aside(|| tell(face, &figure))?;
            figures.push(figure);
        }
    }
    drop(progress);
    if !face.format.is_machine() {
        face.print(&figure::table(face, &figures))?;
        face.print(&format!(
            "baton {} ({} build) · {} cores · 0 lost\n",
            env!("CARGO_PKG_VERSION"),
            build(),
            cores()
        ))?;
    }
    Ok(Exit::DONE)
}

/// Until it goes.
struct Shown(Rounds);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Measured on the cluster that most scenarios share, which is started for the first of them, or on one of its own.
async fn scenario<'a>(
    what: What,
    args: &Args,
    app: &'a App,
    shared: &mut Option<Bench<'a>>,
    progress: &Rounds,
) -> Result<Vec<Figure>, Fault> {
    if what == What::Raft {
        return raft::measure(args, progress).await;
    }
    if let Some(plan) = what.own_plan(args) {
        // Two clusters at once would be in each other's way.
        *shared = None;
        let mut bench = Bench::start(Some(plan), args, app, progress.clone()).await?;
        return one(what, args, &mut bench).await;
    }
    let bench = match shared {
        Some(bench) => bench,
        None => {
            let plan = (!args.existing).then(|| plan(args));
            shared.insert(Bench::start(plan, args, app, progress.clone()).await?)
        }
    };
    one(what, args, bench).await
}

fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Once its scenario is over: a line of JSON for machines, a remark for people.
fn tell(face: &Face, figure: &Figure) -> Result<(), Fault> {
    if face.format.is_machine() {
        let line = serde_json::to_string(figure);
        let line = line.map_err(|error| Fault::failed(format!("cannot write JSON: {error}")))?;
        return face.print(&format!("{line}\n"));
    }
    face.note(&figure.line());
    Ok(())
}

async fn one(what: What, args: &Args, bench: &mut Bench<'_>) -> Result<Vec<Figure>, Fault> {
    let found = match what {
        What::All | What::Raft => Vec::new(),
        What::Submit => bench.submits().await?,
        What::Array => vec![bench.array().await?],
        What::Noop => vec![bench.noop().await?],
        What::Jobs => vec![bench.jobs().await?],
        What::Process => vec![bench.process().await?],
        What::Latency => vec![bench.latency().await?],
        What::Chain => bench.chains().await?,
        What::Idle => bench.idle().await?,
        What::Memory => bench.memory().await?,
        What::Workers => bench.workers().await?,
        What::Overload => bench.overload().await?,
        What::Failover => bench.failovers(args.kills).await?,
    };
    let (replicas, workers) = bench.size().await?;
    let sized = |figure: Figure| figure.set_absent("replicas", replicas).set_absent("workers", workers);
    Ok(found.into_iter().map(sized).collect())
}

fn plan(args: &Args) -> Plan {
    Plan { data_dir: args.data_dir.clone(), failover: args.failover, ..Plan::new("bench") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_above_nothing() {
        assert_eq!(scale("0.5"), Ok(0.5));
        assert!(["0", "-1", "nan", "inf", "x"].iter().all(|text| scale(text).is_err()));
    }
}
