//! The real replica, openraft and all, bare or within a real server, in a simulated world: network, clocks, disks and power belong to the run, and
//! everything that goes wrong follows from its seed. Built with `--cfg turmoil --cfg tokio_unstable` one seed is one
//! run, to the bit; without, the same story is told, nearly.
//!
//! A run has a time of faults, then everything is mended and it must come to rest. The invariants of [`invariants`]
//! look at all of it after every tick.

mod api;
mod calm;
mod client;
mod door;
mod env;
mod gate;
pub mod history;
mod host;
pub mod invariants;
mod links;
mod log;
mod nemesis;
pub mod observe;
mod panics;
mod report;
mod run;
mod worker;
mod workload;
mod world;

use std::time::Duration;

use model::settings::Failover;
use replica::SnapshotThresholds;

pub use report::{Report, Verdict};
pub use run::run;
use sim::chance::Chance;

/// When every simulation begins, since the Unix epoch.
pub const EPOCH: Duration = Duration::from_secs(1_800_000_000);

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub stack: Stack,
    pub replicas: usize,
    pub clients: u64,
    /// Of servers only.
    pub workers: u64,
    pub failover: Failover,
    /// How long things go wrong.
    pub faults: Duration,
    /// The longest time between two faults.
    pub gap_ms_max: u64,
    /// Before the first fault.
    pub quiet: Duration,
    pub latency_max: Duration,
    /// The longest that a sync takes while its disk is well.
    pub sync_max: Duration,
    /// Between two calls of a client.
    pub think_ms_max: u64,
    pub snapshots: SnapshotThresholds,
    /// A seeded bug.
    pub mutant: Option<Mutant>,
}

/// How much of the product runs on each host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The replica alone: its own log, network and state machine, and clients that propose to it.
    Replica,
    /// A whole server, with clients and workers that come over gRPC.
    Server,
}

impl Stack {
    pub fn word(self) -> &'static str {
        match self {
            Stack::Replica => "replica",
            Stack::Server => "server",
        }
    }
}

impl std::str::FromStr for Stack {
    type Err = String;

    fn from_str(name: &str) -> Result<Stack, String> {
        match name {
            "replica" => Ok(Stack::Replica),
            "server" => Ok(Stack::Server),
            other => Err(format!("`{other}` is not one of replica, server")),
        }
    }
}

/// A seeded bug by its name. Only a build with the feature `chaos` has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant(
    #[cfg(feature = "chaos")] pub replica::chaos::Mutant,
    #[cfg(not(feature = "chaos"))] pub std::convert::Infallible,
);

impl std::str::FromStr for Mutant {
    type Err = String;

    #[cfg(feature = "chaos")]
    fn from_str(name: &str) -> Result<Mutant, String> {
        use replica::chaos::Mutant as Bug;
        let names = || Bug::ALL.map(|(name, _)| name).join(", ");
        let found = Bug::ALL.into_iter().find(|(other, _)| *other == name);
        found
            .map(|(_, bug)| Mutant(bug))
            .ok_or_else(|| format!("there is no mutant `{name}`: name one of {}", names()))
    }

    #[cfg(not(feature = "chaos"))]
    fn from_str(name: &str) -> Result<Mutant, String> {
        Err(format!("there is no mutant `{name}`: this build has no seeded bugs"))
    }
}

impl Options {
    /// Varied by the seed.
    pub fn of_seed(seed: u64) -> Options {
        let mut chance = Chance::of(seed, 0);
        Options {
            seed,
            stack: if chance.percent(40) { Stack::Server } else { Stack::Replica },
            replicas: if chance.percent(30) { 5 } else { 3 },
            clients: chance.between(2, 5),
            workers: 2,
            failover: match chance.below(10) {
                0..6 => Failover::Fast,
                6..9 => Failover::Default,
                _ => Failover::Wan,
            },
            faults: Duration::from_secs(30),
            gap_ms_max: chance.pick(&[1_000, 3_000, 3_000, 6_000]).unwrap_or(3_000),
            // Now and then things go wrong while the cluster is being founded.
            quiet: if chance.percent(15) { Duration::ZERO } else { Duration::from_secs(2) },
            latency_max: chance.millis(2, 30),
            sync_max: if chance.percent(20) { Duration::ZERO } else { chance.millis(1, 8) },
            think_ms_max: chance.between(10, 100),
            snapshots: SnapshotThresholds {
                log_bytes_min: chance.between(3 << 10, 16 << 10),
                tail_bytes: chance.between(256, 4 << 10),
                // As little as there can be, so that followers are sent what has to be read back.
                cached_bytes: 0,
            },
            mutant: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_that_is_not_built_in_is_refused_by_name() {
        let refused = "ack-before-sync".parse::<Mutant>().unwrap_err();
        assert!(refused.contains("`ack-before-sync`"), "{refused}");
    }
}
