//! Runs in virtual time: many seeds, each a run of its own.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use baton_tests::cluster::{CHAOS_FEATURES, built};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{Driver, Ended, commit, machine, now};
use crate::checks::Verdict;
use crate::clock::Clock;

/// Which seeds, and for how long at most.
#[derive(Clone, Copy, Debug)]
pub struct Seeds {
    pub first: u64,
    /// Absent: until the time is over.
    pub count: Option<u64>,
    pub time: Duration,
    pub nodes: Option<usize>,
}

/// What one seed came to.
struct Run {
    seed: u64,
    verdict: Verdict,
    /// Entries of the log, or acknowledged writes.
    entries: u64,
    leaders: u64,
    broken: Vec<String>,
}

/// Tries seed after seed on every processor. `bug`: a seeded bug of the product.
pub fn test(
    driver: Driver,
    seeds: Seeds,
    bug: Option<&str>,
    store: &std::path::Path,
    is_loud: bool,
) -> Result<(std::path::PathBuf, Ended), String> {
    let program = match driver {
        Driver::Turmoil => Some(turmoil(bug)),
        _ => None,
    };
    let try_one = |seed: u64| match &program {
        Some(program) => by_process(program, seed, seeds, bug),
        None => simulated(seed),
    };
    let runs = all(seeds, is_loud, bug.is_some(), &try_one);
    let folder = crate::store::create(store, driver.name(), &now())?;
    let ended = judge(driver, &runs, bug);
    let told: Vec<Value> = runs.iter().filter(|run| run.verdict != Verdict::True).map(shown).collect();
    let json = json!({"driver": driver.name(), "verdict": ended.verdict, "seeds": runs.len(), "first": seeds.first,
                      "entries": ended.operations, "commit": commit(), "machine": machine(), "mutant": bug, "runs": told});
    let path = folder.join(crate::store::RESULTS);
    std::fs::write(&path, format!("{json:#}\n")).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((folder, ended))
}

fn shown(run: &Run) -> Value {
    json!({"seed": run.seed, "verdict": run.verdict, "broken": run.broken})
}

fn all(seeds: Seeds, is_loud: bool, stops_at_first: bool, try_one: &(dyn Fn(u64) -> Run + Sync)) -> Vec<Run> {
    let (clock, next) = (Clock::start(), AtomicU64::new(seeds.first));
    let runs: Mutex<Vec<Run>> = Mutex::default();
    let end = seeds.count.map_or(u64::MAX, |count| seeds.first.saturating_add(count));
    let until = seeds.time.as_nanos() as u64;
    let bar = if is_loud { ProgressBar::new(seeds.count.unwrap_or(0)) } else { ProgressBar::hidden() };
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || (seeds.count.is_none() && clock.now() >= until) {
            return;
        }
        let run = try_one(seed);
        bar.inc(1);
        let found = run.verdict == Verdict::False;
        runs.lock().expect("nobody panics with it").push(run);
        if found && stops_at_first {
            next.store(end, Ordering::Relaxed);
            return;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    bar.finish_and_clear();
    let mut runs = runs.into_inner().expect("nobody panics with it");
    runs.sort_by_key(|run| run.seed);
    runs
}

fn simulated(seed: u64) -> Run {
    let options = sim::Options::of_seed(seed);
    // An assertion of the product that does not hold is a finding, not the end of the suite.
    let report = std::panic::catch_unwind(|| sim::run(seed, options));
    match report {
        Ok(report) => Run {
            seed,
            verdict: if report.broken.is_empty() { Verdict::True } else { Verdict::False },
            entries: report.entries,
            leaders: report.terms,
            broken: report.broken,
        },
        Err(_) => Run {
            seed,
            verdict: Verdict::False,
            entries: 0,
            leaders: 0,
            broken: vec!["it panicked".to_owned()],
        },
    }
}

/// Tries seeds of the simulation until one finds the bug. Its own tests do that: no other build of it has bugs.
pub fn simulated_bug(bug: &str) -> Result<Ended, String> {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo.args(["test", "--quiet", "--workspace", "--test", "mutants", "--", "--nocapture"]);
    let output = cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // As its tests print it: the name of the flag, and what caught it.
    let flag = bug.replace('-', "_") + ": true";
    let caught = text.lines().find(|line| line.contains(&flag) && line.contains("is caught by"));
    let by = caught.and_then(|line| line.split("is caught by ").nth(1)).map(str::to_owned);
    let verdict = if by.is_some() && output.status.success() { Verdict::False } else { Verdict::True };
    Ok(Ended { verdict, text, against: by.into_iter().collect(), operations: 0 })
}

/// The program that runs one seed of the real stack.
fn turmoil(bug: Option<&str>) -> std::path::PathBuf {
    let sources = ["crates", "jepsen/turmoil", "proto", "Cargo.toml", "Cargo.lock"];
    let (file, feature): (&str, &[&str]) = match bug {
        Some(_) => ("jepsen-turmoil-chaos", &["--features", CHAOS_FEATURES]),
        None => ("jepsen-turmoil", &[]),
    };
    built(file, &[&["--workspace", "--bin", file], feature].concat(), &sources)
}

fn by_process(program: &std::path::Path, seed: u64, seeds: Seeds, bug: Option<&str>) -> Run {
    let mut command = std::process::Command::new(program);
    command.args(["--seed", &seed.to_string(), "-o", "json"]);
    if let Some(nodes) = seeds.nodes {
        command.args(["--replicas", &nodes.to_string()]);
    }
    if let Some(bug) = bug {
        command.args(["--mutant", bug]);
    }
    let output = command.output();
    let text = output
        .as_ref()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let last = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
    let told: Value = serde_json::from_str(last).unwrap_or_default();
    let verdict = match output.as_ref().ok().and_then(|output| output.status.code()) {
        Some(0) => Verdict::True,
        Some(2) => Verdict::Unknown,
        _ => Verdict::False,
    };
    let broken = told["broken"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut broken: Vec<String> = broken.map(str::to_owned).collect();
    if verdict == Verdict::False && broken.is_empty() {
        let said = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
        broken.push(said.unwrap_or_else(|error| error.to_string()));
    }
    let figure = |name: &str| told[name].as_u64().unwrap_or(0);
    Run { seed, verdict, entries: figure("acknowledged"), leaders: figure("terms"), broken }
}

fn judge(driver: Driver, runs: &[Run], bug: Option<&str>) -> Ended {
    let worst = runs.iter().map(|run| run.verdict).max().unwrap_or(Verdict::Unknown);
    // One seed in which too little happened says nothing about the others.
    let enough = runs.iter().filter(|run| run.verdict == Verdict::True).count() * 2 > runs.len();
    let verdict = if worst == Verdict::Unknown && enough { Verdict::True } else { worst };
    let (entries, leaders) =
        (runs.iter().map(|run| run.entries).sum::<u64>(), runs.iter().map(|run| run.leaders).sum::<u64>());
    let count = |verdict: Verdict| runs.iter().filter(|run| run.verdict == verdict).count();
    let mut text = format!(
        "{} · {} seeds · commit {}{}\n{} true, {} false, {} unknown; {entries} entries, {leaders} terms\n",
        driver.name(),
        runs.len(),
        commit(),
        bug.map(|bug| format!(" · seeded bug {bug}")).unwrap_or_default(),
        count(Verdict::True),
        count(Verdict::False),
        count(Verdict::Unknown)
    );
    let mut against = Vec::new();
    for run in runs.iter().filter(|run| run.verdict == Verdict::False).take(10) {
        let first = run.broken.first().map_or("", String::as_str);
        text += &format!("seed {}: {first}\n", run.seed);
        against.push(first.chars().take(60).collect());
    }
    text += &format!("verdict: {verdict}\n");
    Ended { verdict, text, against, operations: entries as usize }
}
