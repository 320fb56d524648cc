//! A suite that has never failed proves nothing: seeded bugs of the product, each with the run that has to find it.

use std::path::Path;
use std::time::Duration;

use crate::checks::Verdict;
use crate::drivers::real::{self, INTERRUPTED, Request};
use crate::drivers::virtually::{self, Seeds};
use crate::drivers::{Driver, Ended};
use crate::nemesis::chosen;
use crate::run::Plan;
use crate::workload::Workload;

/// What is broken for good is not waited for as long as what is to heal.
const PATIENCE: Duration = Duration::from_secs(30);

/// A seeded bug, and where it is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// As the binary with hooks knows it.
    pub name: &'static str,
    pub about: &'static str,
    pub driver: Driver,
    pub workload: Workload,
    pub nemesis: &'static str,
    pub seconds: u64,
}

const fn real(name: &'static str, about: &'static str, workload: Workload, nemesis: &'static str) -> Mutant {
    Mutant { name, about, driver: Driver::Netns, workload, nemesis, seconds: 30 }
}

const fn turmoil(name: &'static str, about: &'static str) -> Mutant {
    Mutant { name, about, driver: Driver::Turmoil, workload: Workload::Mixed, nemesis: "all", seconds: 180 }
}

const fn sim(name: &'static str, about: &'static str) -> Mutant {
    Mutant { name, about, driver: Driver::Sim, workload: Workload::Mixed, nemesis: "all", seconds: 60 }
}

pub const MUTANTS: &[Mutant] = &[
    real(
        "ack-before-sync",
        "the log answers before it has synced",
        Workload::Submit,
        "power-cut,power-cut-all",
    ),
    turmoil("skip-vote-sync", "a vote is given before it is on disk"),
    real("read-without-index", "a linearizable read is answered at once", Workload::Register, "partition"),
    // A session that has ended is refused before its tokens are looked at: only a retry of what still stops needs the fence,
    // and real processes are too quick for that.
    sim("no-fence-on-finish", "the end of an attempt counts, whoever owns the task"),
    real("start-twice", "a worker starts an order again that is repeated", Workload::Fence, "kill-leader"),
    real("requests-not-in-snapshot", "request ids are left out of snapshots", Workload::Submit, "kill-all"),
    real(
        "capacity-not-released",
        "what an end should give back stays taken",
        Workload::Capacity,
        "kill-leader",
    ),
    real("capacity-released-twice", "an end gives back twice what it had taken", Workload::Capacity, "none"),
    real(
        "dependency-on-stale-state",
        "a task begins before what it waits for has ended",
        Workload::Graph,
        "none",
    ),
    real(
        "expire-on-election",
        "a new leader ends every session that it finds",
        Workload::Mixed,
        "kill-leader",
    ),
    real(
        "renew-without-quorum",
        "a leader without a quorum renews leases",
        Workload::Mixed,
        "cut-leader-from-peers",
    ),
    real("hash-order", "the order of a hash table shows in what is applied", Workload::Mixed, "none"),
    sim("released-twice", "a release of a periodic task is made again"),
    real("lost-tail-accepted", "a log whose end is lost is taken for whole", Workload::Submit, "lost-tail"),
];

/// Tries one. It has been caught when a checker says no.
pub fn try_one(mutant: &Mutant, seed: u64, store: &Path, is_loud: bool) -> Result<Ended, String> {
    if let Some(why) = mutant.driver.obstacle() {
        return Err(why);
    }
    if mutant.driver == Driver::Sim {
        return virtually::simulated_bug(mutant.name);
    }
    if mutant.driver == Driver::Turmoil {
        let time = Duration::from_secs(mutant.seconds);
        let seeds = Seeds { first: seed, count: None, time, nodes: None };
        return virtually::test(mutant.driver, seeds, Some(mutant.name), store, is_loud)
            .map(|(_, ended)| ended);
    }
    let plan = Plan {
        workload: mutant.workload,
        faults: chosen(mutant.nemesis)?,
        seed,
        time: Duration::from_secs(mutant.seconds),
        processes: 3,
        rate: 100.0,
        patience: PATIENCE,
    };
    let request = Request {
        name: format!("mutant-{}", mutant.name),
        driver: mutant.driver,
        plan,
        nodes: 3,
        workers: 2,
        failover: "fast".to_owned(),
        binary: None,
        mutant: Some(mutant.name.to_owned()),
        store: store.to_owned(),
        is_loud,
    };
    real::test(&request).map(|(_, ended)| ended)
}

/// Tries several and tells a line for each. False: one of them got away.
pub fn try_all(names: &[String], seed: u64, store: &Path, is_loud: bool) -> Result<Verdict, String> {
    let mut chosen = Vec::new();
    for name in names {
        let found = MUTANTS.iter().find(|mutant| mutant.name == name);
        let all: Vec<&str> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        chosen
            .push(found.ok_or_else(|| {
                format!("no seeded bug is called `{name}`: choose from {}", all.join(", "))
            })?);
    }
    if names.is_empty() {
        chosen.extend(MUTANTS);
    }
    let mut worst = Verdict::True;
    for mutant in chosen {
        let (verdict, line) = match try_one(mutant, seed, store, is_loud) {
            Ok(ended) if ended.verdict == Verdict::False => {
                let by = ended.against.join(", ");
                (
                    Verdict::True,
                    format!("caught by {by} after {} operations ({} s)", ended.operations, mutant.seconds),
                )
            }
            Ok(ended) => (Verdict::False, format!("NOT CAUGHT: the verdict is {}", ended.verdict)),
            Err(why) if why.starts_with(INTERRUPTED) => return Err(why),
            Err(why) => (Verdict::Unknown, format!("not tried: {why}")),
        };
        println!(
            "{:<28} {} / {} / {}: {line}",
            mutant.name,
            mutant.driver.name(),
            mutant.workload.name(),
            mutant.nemesis
        );
        worst = worst.max(verdict);
    }
    Ok(worst)
}
