//! Many seeds, none may break an invariant. `BATON_SEEDS=200` runs so many, `BATON_SEED=7` only that one and says what
//! came of it.

use std::env;

use jepsen_turmoil::{Options, Report, Verdict, run};

/// In an ordinary test run. One more takes about four seconds.
const SEEDS: u64 = 4;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

fn seeds() -> Vec<u64> {
    match number("BATON_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("BATON_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

#[test]
fn no_seed_breaks_an_invariant() {
    let seeds = seeds();
    let reports: Vec<Report> = seeds.iter().map(|seed| run(Options::of_seed(*seed))).collect();
    if seeds.len() == 1 {
        println!("{}", reports[0].json());
    }
    let broken: Vec<String> = reports
        .iter()
        .filter(|report| report.verdict == Verdict::False)
        .map(|report| {
            format!("{}\n  again: cargo run -p jepsen-turmoil -- --seed {}", report.json(), report.seed)
        })
        .collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    if seeds.len() as u64 >= SEEDS {
        enough_happened(&reports);
    }
}

/// A run in which nothing went wrong proves nothing.
fn enough_happened(reports: &[Report]) {
    let sum = |count: fn(&Report) -> u64| reports.iter().map(count).sum::<u64>();
    let happened = [
        ("changes of leader", sum(|report| report.leaders as u64), 10),
        ("acknowledged writes", sum(|report| report.acknowledged), 300),
        ("reads", sum(|report| report.reads), 100),
        ("snapshots built", sum(|report| report.snapshots_built), 20),
        ("snapshots installed", sum(|report| report.snapshots_installed), 1),
        ("faults", sum(|report| report.faults.values().sum()), 40),
    ];
    let few: Vec<_> = happened.iter().filter(|(_, count, least)| count < least).collect();
    assert!(few.is_empty(), "too little (what, how often, least): {few:?}");
}

/// In a process each: tokio counts its tasks through the process, and lets them go by these numbers.
#[cfg(turmoil)]
#[test]
fn one_seed_is_one_run_to_the_bit() {
    let report = |seed: &str, stack: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_jepsen-turmoil"));
        let output = command.args(["--seed", seed, "--stack", stack, "--seconds", "15"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (seed, stack) in [("3", "replica"), ("1000003", "server")] {
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| report(seed, stack));
            (report(seed, stack), other.join().unwrap())
        });
        assert_eq!(one, other);
        assert!(one.contains("trace"), "{one}");
    }
}

#[test]
fn other_seeds_are_other_runs() {
    let faults = |seed| Options { faults: std::time::Duration::from_secs(3), ..Options::of_seed(seed) };
    assert_ne!(run(faults(1)).trace, run(faults(2)).trace);
}
