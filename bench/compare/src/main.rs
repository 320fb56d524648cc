//! Runs Baton and other systems in turn on one machine and tells the ratios, as a table, as JSON and as a picture.
//! Which system, in which setting, and who syncs to disk: README.md.

mod baton;
mod child;
mod clock;
mod fault;
mod lanes;
mod peers;
mod ports;
mod report;
mod rows;
mod scenario;
mod stats;
mod svg;
mod turns;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tokio::signal::unix::{SignalKind, signal};

use baton::Baton;
use fault::Fault;
use peers::Peer;
use report::Report;
use rows::Row;
use turns::Plan;

/// Exit statuses: 0 all that can be measured here was; 1 nothing was, or a row failed; 130 it was interrupted.
const INTERRUPTED: u8 = 130;

/// Compare Baton with other systems, side by side in one run
#[derive(Debug, Parser)]
#[command(name = "compare", version)]
struct Args {
    /// The program that is measured
    #[arg(long, value_name = "FILE", default_value = "baton")]
    baton: PathBuf,
    /// Turns of each side; they alternate
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Part of the usual amount of work in each turn
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    scale: f64,
    /// Only the rows of these peers
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEERS", default_values_t = Peer::ALL)]
    only: Vec<Peer>,
    /// What goes to standard output
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    /// Draw the ratios into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Where every system keeps its data; the disk under it is measured [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A Python that has the packages distributed and hyperqueue
    #[arg(long, value_name = "FILE", env = "BATON_COMPARE_PYTHON", default_value = "python3")]
    python: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

/// How it went for the rows that could be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Failed,
    Interrupted,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(Outcome::Whole) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(fault) => {
            eprintln!("error: {fault}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<Outcome, Fault> {
    // Dropping the comparison ends every process that it started.
    let (report, outcome) = tokio::select! {
        compared = compare(args) => compared?,
        asked = asked_to_end() => {
            asked?;
            return Ok(Outcome::Interrupted);
        }
    };
    if let Some(path) = &args.svg {
        let cannot = format!("cannot write {}", path.display());
        std::fs::write(path, svg::draw(&report)).map_err(Fault::of(cannot))?;
    }
    match args.output {
        Format::Table => print!("{}", report.table()),
        Format::Json => {
            let json =
                serde_json::to_string(&report).map_err(Fault::of("cannot write the report as JSON"))?;
            println!("{json}");
        }
    }
    Ok(outcome)
}

async fn compare(args: &Args) -> Result<(Report, Outcome), Fault> {
    let plan = plan(args)?;
    let mut report = Report { rounds: args.rounds, scale: args.scale, cores: cores(), ..Report::default() };
    report.versions.insert("baton".to_owned(), plan.baton.version().await?);
    let peers = present(args, &mut report).await;
    let mut outcome = Outcome::Whole;
    for group in rows::groups(&peers) {
        for (row, measured) in group.iter().zip(plan.measure(&group).await) {
            if measured.is_err() {
                outcome = Outcome::Failed;
            }
            report.add(row, measured);
        }
    }
    if report.rows.is_empty() {
        outcome = Outcome::Failed;
    }
    Ok((report, outcome))
}

fn plan(args: &Args) -> Result<Plan, Fault> {
    let data_dir = args.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    let cannot = format!("cannot keep data in {}", data_dir.display());
    let data_dir = data_dir.canonicalize().map_err(Fault::of(cannot))?;
    if is_memory(&data_dir) {
        let what = "warning: the data lie in memory, so no sync costs anything";
        eprintln!("{what} (fix: name a folder on a disk by --data-dir)");
    }
    let baton = Baton { program: args.baton.clone(), scale: args.scale };
    Ok(Plan { baton, rounds: args.rounds, scale: args.scale, python: args.python.clone(), data_dir })
}

/// The peers that can be measured here. The others leave their rows out, with the reason.
async fn present(args: &Args, report: &mut Report) -> Vec<Peer> {
    let mut present = Vec::new();
    for peer in Peer::ALL.into_iter().filter(|peer| args.only.contains(peer)) {
        match peer.version(&args.python).await {
            Ok(version) => {
                report.versions.insert(peer.title().to_owned(), version);
                present.push(peer);
            }
            Err(fault) => {
                eprintln!("left out: {}: {fault}", peer.title());
                let of_peer = |row: &&Row| row.peer == peer;
                rows::ROWS.iter().filter(of_peer).for_each(|row| report.leave_out(row, &fault));
            }
        }
    }
    present
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| "it is a number, as 0.5 or 2".to_owned())?;
    if scale > 0.0 && scale <= 1_000.0 { Ok(scale) } else { Err("it is above 0 and at most 1000".to_owned()) }
}

/// Ctrl-C, or what a terminal or a supervisor says at its end.
async fn asked_to_end() -> Result<(), Fault> {
    let listen = |kind| signal(kind).map_err(Fault::of("cannot listen to signals"));
    let (mut interrupt, mut end, mut hangup) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = end.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_picked_by_name() {
        let args = Args::try_parse_from(["compare", "--only", "etcd,hyperqueue", "-o", "json"]).unwrap();
        assert_eq!((args.only, args.output), (vec![Peer::Etcd, Peer::HyperQueue], Format::Json));
        assert_eq!(Args::try_parse_from(["compare"]).unwrap().only, Peer::ALL);
        assert!(Args::try_parse_from(["compare", "--scale", "0"]).is_err());
    }
}
