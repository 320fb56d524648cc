//! Counts the instructions of every load under callgrind and holds them against the committed budgets:
//!
//! `budgets [--update] FILE [NAME...]`. Exit code 1: a load costs more than its budget allows. With `--update` the counts
//! become the budgets. `counted` has to lie beside this binary; callgrind's own files are left there too, as
//! `callgrind.NAME.out`, for `callgrind_annotate`.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use micro::budget::{Budgets, PERCENT_MAX, PERCENT_MIN, Unreadable, Verdict, grouped};
use micro::{LOADS, Load};

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("usage: budgets [--update] FILE [NAME...]")]
    Usage,
    #[error("no load is named `{0}`")]
    UnknownLoad(String),
    #[error("{path} cannot be read or written")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} does not hold budgets")]
    Budgets { path: PathBuf, source: Unreadable },
    #[error("valgrind cannot be started")]
    Start(#[source] io::Error),
    #[error("{name} cannot be counted: {said}")]
    Failed { name: &'static str, said: String },
    #[error("{path} has no total")]
    NoTotal { path: PathBuf },
}

struct Options {
    update: bool,
    file: PathBuf,
    /// None named: all.
    loads: Vec<&'static Load>,
}

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

/// Says the error and its causes, a line each.
fn complain(error: &dyn std::error::Error) {
    eprintln!("{error}");
    if let Some(cause) = error.source() {
        complain(cause);
    }
}

fn options() -> Result<Options, Error> {
    let is_flag = |argument: &String| argument.starts_with('-');
    let (flags, rest): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(is_flag);
    if flags.iter().any(|flag| flag != "--update") {
        return Err(Error::Usage);
    }
    let mut rest = rest.into_iter();
    let file = rest.next().ok_or(Error::Usage)?.into();
    let named = rest.map(|name| Load::named(&name).ok_or(Error::UnknownLoad(name)));
    let mut loads = named.collect::<Result<Vec<_>, _>>()?;
    if loads.is_empty() {
        loads = LOADS.iter().collect();
    }
    Ok(Options { update: !flags.is_empty(), file, loads })
}

fn run(options: &Options) -> Result<ExitCode, Error> {
    if let Some(why) = cannot_count() {
        println!("SKIPPED: instruction counts: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    let budgets = read(&options.file)?;
    println!("{:<22} {:>13} {:>13} {:>7}", "instructions of", "budget", "counted", "ratio");
    if options.update {
        update(options, budgets)?;
        return Ok(ExitCode::SUCCESS);
    }
    check(options, &budgets)
}

fn check(options: &Options, budgets: &Budgets) -> Result<ExitCode, Error> {
    let mut failed = 0;
    for load in &options.loads {
        let counted = count(load.name)?;
        let verdict = budgets.judge(load.name, counted);
        let said = match verdict {
            Verdict::Within => String::new(),
            Verdict::Loose => format!("  below {PERCENT_MIN} %: the budget can be lowered"),
            Verdict::Exceeded => format!("  FAILED: above {PERCENT_MAX} %"),
            Verdict::Missing => "  FAILED: no budget".to_owned(),
        };
        println!("{}{said}", row(budgets, load.name, counted));
        failed += usize::from(verdict.is_failure());
    }
    for name in budgets.0.keys().filter(|name| Load::named(name).is_none()) {
        println!("{name} has a budget and is no load any more");
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{failed} failed. If the cost is meant: scripts/budgets --update");
    Ok(ExitCode::FAILURE)
}

fn update(options: &Options, mut budgets: Budgets) -> Result<(), Error> {
    for load in &options.loads {
        let counted = count(load.name)?;
        println!("{}", row(&budgets, load.name, counted));
        budgets.0.insert(load.name.to_owned(), counted);
    }
    budgets.0.retain(|name, _| Load::named(name).is_some());
    let path = &options.file;
    std::fs::write(path, budgets.format()).map_err(|source| Error::File { path: path.clone(), source })
}

fn cannot_count() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the budgets are for x86-64");
    }
    match Command::new("valgrind").arg("--version").output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("no valgrind"),
        _ => None,
    }
}

fn read(path: &Path) -> Result<Budgets, Error> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Budgets::default()),
        other => other.map_err(|source| Error::File { path: path.to_owned(), source })?,
    };
    Budgets::parse(&text).map_err(|source| Error::Budgets { path: path.to_owned(), source })
}

/// Instructions of the load.
fn count(name: &'static str) -> Result<u64, Error> {
    let own = std::env::current_exe().map_err(Error::Start)?;
    let path = own.with_file_name(format!("callgrind.{name}.out"));
    let output = Command::new("valgrind")
        // The allocator gives memory back to the system by the clock: on a slow machine in the middle of what is counted.
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .arg(format!("--callgrind-out-file={}", path.display()))
        .arg(own.with_file_name("counted"))
        .arg(name)
        .output()
        .map_err(Error::Start)?;
    if !output.status.success() {
        return Err(Error::Failed { name, said: String::from_utf8_lossy(&output.stderr).into_owned() });
    }
    let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    total.filter(|total| *total > 0).ok_or(Error::NoTotal { path })
}

fn row(budgets: &Budgets, name: &str, counted: u64) -> String {
    let budget = budgets.0.get(name).copied();
    let percent = |budget: u64| format!("{:.1} %", counted as f64 * 100.0 / budget as f64);
    let ratio = budget.map_or("-".to_owned(), percent);
    let budget = budget.map_or("-".to_owned(), |budget| grouped(budget, ','));
    format!("{name:<22} {budget:>13} {:>13} {ratio:>7}", grouped(counted, ','))
}
