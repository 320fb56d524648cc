//! A whole cluster in virtual time: machine, scheduler and both cores over a modelled log, with everything going wrong
//! that may. One seed is one run, to the bit.
//!
//! A run has a safety phase with faults, then everything is mended and it must come to rest: every job finished, every
//! call answered, every replica alike. The invariants of [`invariants`] watch all of it.

pub mod chance;
mod claims;
mod client;
mod convert;
pub mod invariants;
mod mutants;
mod nemesis;
mod network;
mod queue;
mod raft;
mod replica;
mod stream;
mod worker;
mod workload;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use model::settings::Failover;

pub use mutants::Mutants;

#[derive(Clone, Debug)]
pub struct Options {
    pub replicas: usize,
    pub workers: usize,
    pub clients: usize,
    pub failover: Failover,
    /// How long things go wrong.
    pub safety: Duration,
    /// How long it may take to come to rest afterwards.
    pub liveness: Duration,
    pub faults: bool,
    /// The longest time between two faults.
    pub fault_gap_max: Duration,
    pub mutants: Mutants,
    /// What attempts come to depends on it, and on the seed.
    pub salt: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            replicas: 3,
            workers: 4,
            clients: 3,
            failover: Failover::Fast,
            safety: Duration::from_secs(60),
            liveness: Duration::from_secs(400),
            faults: true,
            fault_gap_max: Duration::from_secs(6),
            mutants: Mutants::default(),
            salt: 0,
        }
    }
}

impl Options {
    /// Varied by the seed: three or five replicas, more or fewer workers, the preset of the timing, how often faults come.
    pub fn of_seed(seed: u64) -> Options {
        let mut chance = chance::Chance::new(!seed);
        Options {
            replicas: if chance.in_thousand(250) { 5 } else { 3 },
            workers: chance.between(2, 7) as usize,
            clients: chance.between(1, 4) as usize,
            failover: if chance.in_thousand(200) { Failover::Default } else { Failover::Fast },
            fault_gap_max: Duration::from_secs(chance.pick(&[1, 6, 6, 12]).unwrap_or(6)),
            ..Options::default()
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    pub steps: u64,
    /// Virtual time.
    pub ended: Duration,
    pub entries: u64,
    pub jobs: u64,
    pub terms: u64,
    pub executions: u64,
    /// Invariants that did not hold, in words. None: a sound run.
    pub broken: Vec<String>,
    /// Equal runs have equal hashes.
    pub trace_hash: u64,
    /// How often what happened.
    pub counts: BTreeMap<String, u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} steps in {:?} of virtual time, {} entries, {} jobs, {} attempts begun, {} terms, trace {:016x}",
            self.steps, self.ended, self.entries, self.jobs, self.executions, self.terms, self.trace_hash
        )?;
        self.counts.iter().try_for_each(|(what, count)| writeln!(f, "  {count:6} {what}"))?;
        self.broken.iter().try_for_each(|what| writeln!(f, "  BROKEN {what}"))
    }
}

/// One run.
pub fn run(seed: u64, options: Options) -> Report {
    world::World::new(seed, options).run()
}
