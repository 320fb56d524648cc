//! `cargo run --release -p jepsen -- test`: exit status 0 if everything held, 1 if something did not, 2 if the run cannot
//! say.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use jepsen::checks::{self, Verdict};
use jepsen::drivers::real::{self, Request};
use jepsen::drivers::virtually::{self, Seeds};
use jepsen::drivers::{Driver, Ended};
use jepsen::mutants::{self, MUTANTS};
use jepsen::nemesis::{FAMILIES, Fault, Needs, chosen};
use jepsen::run::{PATIENCE, Plan};
use jepsen::store;
use jepsen::workload::Workload;

/// Breaks a Baton cluster in every way that it can, and judges what the cluster did meanwhile.
///
/// Exit status: 0 everything held, 1 something did not, 2 the run cannot say.
#[derive(Debug, Parser)]
#[command(name = "jepsen")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a test and judge it
    Test(TestArgs),
    /// Show drivers, workloads, faults, checkers and seeded bugs, and what this machine can carry
    List,
    /// Judge a run that is kept, once more
    Check {
        /// As in store/NAME/TIME
        store: PathBuf,
    },
    /// Write the page of a run that is kept: one HTML file with pictures
    Report {
        /// As in store/NAME/TIME
        store: PathBuf,
        /// Where the page goes instead of into the run's folder
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Run the product with seeded bugs and show that the suite finds each
    Mutants {
        /// Names, as in `list`; none: all
        names: Vec<String>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value = "store", value_name = "DIR")]
        store: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct TestArgs {
    /// Where: netns, compose, sim or turmoil; absent: the first of netns, compose and sim that this machine can carry
    #[arg(long)]
    driver: Option<String>,
    /// What clients ask, as in `list`
    #[arg(long, default_value = "mixed")]
    workload: String,
    /// Families of faults or single ones, separated by commas; `all`, `none`
    #[arg(long, default_value = "kill,pause,partition")]
    nemesis: String,
    /// Replicas
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=5))]
    nodes: u8,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
    /// Decides the faults and their order, and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seeds to try, where the run is in virtual time; absent: as many as fit into the time
    #[arg(long)]
    seeds: Option<u64>,
    /// Seconds of faults; draining and reading come on top
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    time_limit: u64,
    /// Operations a second that all clients ask for together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Client processes at each replica
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=64))]
    processes: u8,
    /// Leases and elections: fast, default or wan
    #[arg(long, default_value = "default", value_parser = ["fast", "default", "wan"])]
    failover: String,
    /// The binary to test instead of the one with hooks that is built here
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Under which name it is kept
    #[arg(long)]
    name: Option<String>,
    /// Where runs are kept
    #[arg(long, default_value = "store", value_name = "DIR")]
    store: PathBuf,
    /// Say nothing until the end
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let verdict = match args.verb {
        Verb::Test(args) => test(&args),
        Verb::List => {
            list();
            return ExitCode::SUCCESS;
        }
        Verb::Check { store } => real::judge(&store).map(|ended| tell(&ended)),
        Verb::Report { store, out } => report(&store, out),
        Verb::Mutants { names, seed, store } => mutants::try_all(&names, seed, &store, true),
    };
    exit(verdict.unwrap_or_else(|why| {
        eprintln!("jepsen: {why}");
        println!("verdict: {}", Verdict::Unknown);
        Verdict::Unknown
    }))
}

fn tell(ended: &Ended) -> Verdict {
    print!("{}", ended.text);
    ended.verdict
}

fn test(args: &TestArgs) -> Result<Verdict, String> {
    let workload = Workload::named(&args.workload).ok_or_else(|| {
        let all: Vec<&str> = Workload::ALL.iter().map(|workload| workload.name()).collect();
        format!("no workload is called `{}`: choose from {}", args.workload, all.join(", "))
    })?;
    let faults = chosen(&args.nemesis)?;
    let driver = driver(args.driver.as_deref())?;
    let time = Duration::from_secs(args.time_limit.max(1));
    let ended = match driver {
        Driver::Sim | Driver::Turmoil => {
            let nodes = args.nodes.into();
            let seeds = Seeds {
                first: args.seed,
                count: args.seeds,
                time,
                nodes: Some(nodes).filter(|_| args.nodes != 3),
            };
            virtually::test(driver, seeds, None, &args.store, !args.quiet)?
        }
        Driver::Netns | Driver::Compose => {
            let (rate, processes) = (args.rate.into(), args.processes.into());
            let plan = Plan { workload, faults, seed: args.seed, time, processes, rate, patience: PATIENCE };
            let request = Request {
                name: args.name.clone().unwrap_or_else(|| format!("{}-{}", driver.name(), args.workload)),
                driver,
                plan,
                // The compose file knows three replicas, or five.
                nodes: if driver == Driver::Compose && args.nodes == 4 { 5 } else { args.nodes.into() },
                workers: if driver == Driver::Compose { 2 } else { args.workers.into() },
                failover: args.failover.clone(),
                binary: args.binary.clone(),
                mutant: None,
                store: args.store.clone(),
                is_loud: !args.quiet,
            };
            real::test(&request)?
        }
    };
    let (folder, ended) = ended;
    let verdict = tell(&ended);
    println!("kept in {}", folder.display());
    Ok(verdict)
}

fn driver(name: Option<&str>) -> Result<Driver, String> {
    let Some(name) = name else {
        let (driver, passed) = Driver::best();
        for (other, why) in passed {
            println!("SKIPPED: driver {}: {why}", other.name());
        }
        return Ok(driver);
    };
    let found = Driver::ALL.into_iter().find(|driver| driver.name() == name);
    let driver = found
        .ok_or_else(|| format!("no driver is called `{name}`: choose from netns, compose, sim, turmoil"))?;
    match driver.obstacle() {
        Some(why) => Err(format!("SKIPPED: driver {name}: {why}")),
        None => Ok(driver),
    }
}

fn report(folder: &std::path::Path, out: Option<PathBuf>) -> Result<Verdict, String> {
    let ended = real::judge(folder)?;
    let page = folder.join(store::PAGE);
    let place = match out {
        Some(out) => {
            std::fs::copy(&page, &out).map_err(|error| format!("{}: {error}", out.display()))?;
            out
        }
        None => page,
    };
    println!("{}", place.display());
    Ok(ended.verdict)
}

fn list() {
    println!("drivers");
    for driver in Driver::ALL {
        let state = driver.obstacle().map_or("here".to_owned(), |why| format!("NOT HERE: {why}"));
        println!("  {:<26} {} [{state}]", driver.name(), driver.about());
    }
    println!("workloads");
    Workload::ALL.iter().for_each(|workload| println!("  {:<26} {}", workload.name(), workload.about()));
    println!("faults, by families");
    for family in FAMILIES {
        println!("  {family}");
        for fault in Fault::ALL.iter().filter(|fault| fault.family() == *family) {
            let note = match fault.needs() {
                Needs::Impossible(why) => format!("not yet: {why}"),
                Needs::Hop => "netns, through the suite's own hop".to_owned(),
                Needs::Hooks => "netns, in the binary with hooks".to_owned(),
                Needs::FrailDisk => "netns, on small disks that lose what was not synced".to_owned(),
                Needs::Nothing => String::new(),
            };
            println!("    {:<24} {note}", fault.name());
        }
    }
    println!("checkers");
    checks::ALL.iter().for_each(|(id, claim)| println!("  {id:<26} {claim}"));
    println!("seeded bugs");
    MUTANTS.iter().for_each(|mutant| println!("  {:<26} {}", mutant.name, mutant.about));
}

fn exit(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::True => 0,
        Verdict::False => 1,
        Verdict::Unknown => 2,
    })
}
