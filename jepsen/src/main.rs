//! `cargo run -p baton-jepsen -- --time 60 --seed 1`: exit status 0 if everything held, 1 if something did not, 2 if
//! the run cannot say.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use baton_jepsen::checks::{Verdict, overall};
use baton_jepsen::net;
use baton_jepsen::run::{Judged, Plan, run};
use baton_jepsen::world::{Shape, World};
use clap::Parser;

/// Breaks a cluster of real processes in network namespaces and judges what it did meanwhile
#[derive(Debug, Parser)]
struct Args {
    /// Seconds of faults; each kind comes at least once, which takes about half a minute
    #[arg(long, default_value_t = 60)]
    time: u64,
    /// Decides the faults and their order, and what clients ask
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    replicas: u8,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    workers: u8,
    /// Client processes at each replica
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    processes: u8,
    /// Leases and elections: fast, default or wan
    #[arg(long, default_value = "default", value_parser = ["fast", "default", "wan"])]
    failover: String,
    /// Where history, ledger, logs and results are kept; absent: only if something did not hold
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(why) = net::obstacle() {
        println!("SKIPPED: {why}");
        println!("verdict: {}", Verdict::Unknown);
        return exit(Verdict::Unknown);
    }
    let (plan, out) = (plan(&args), args.out);
    let folder = tempfile::Builder::new().prefix("baton-jepsen-").tempdir().expect("a folder");
    // A thread of its own: it moves into another network, and all that it starts moves with it.
    let judged = std::thread::scope(|scope| scope.spawn(|| drive(&plan, folder.path())).join());
    let verdict = match judged {
        Ok(Ok(judged)) => {
            print!("{}", judged.text);
            overall(&judged.findings)
        }
        Ok(Err(why)) => {
            println!("the run did not take place: {why}");
            Verdict::Unknown
        }
        Err(_) => Verdict::Unknown,
    };
    match out {
        Some(out) => keep(folder.path(), &out),
        None if verdict != Verdict::True => println!("evidence is kept in {}", folder.keep().display()),
        None => {}
    }
    exit(verdict)
}

fn plan(args: &Args) -> Plan {
    let shape = Shape {
        replicas: args.replicas.into(),
        workers: args.workers.into(),
        failover: args.failover.clone(),
    };
    let time = Duration::from_secs(args.time);
    Plan { shape, seed: args.seed, time, processes: args.processes.into() }
}

fn drive(plan: &Plan, folder: &Path) -> Result<Judged, String> {
    let mut world = World::start(&plan.shape, folder)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        tokio::select! {
            judged = run(plan, &mut world, folder) => judged,
            _ = tokio::signal::ctrl_c() => Err("it was interrupted".to_owned()),
        }
    })
}

/// Copies the evidence without the replicas' and workers' own data.
fn keep(from: &Path, to: &Path) {
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(to)?;
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => println!("evidence is in {}", to.display()),
        Err(error) => println!("the evidence cannot be kept in {}: {error}", to.display()),
    }
}

fn exit(verdict: Verdict) -> ExitCode {
    ExitCode::from(match verdict {
        Verdict::True => 0,
        Verdict::False => 1,
        Verdict::Unknown => 2,
    })
}
