//! Breaks the world and heals it, one fault at a time, by a schedule drawn from the seed (H4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use baton_tests::cluster::LOOK_AGAIN;
use model::{JobSpec, TaskSpec, Work};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::edn::Edn;
use crate::history::History;
use crate::net::address;
use crate::workload::{Process, Shared};
use crate::world::{World, client_of};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The leader hears no other replica and none hears it; workers and clients still reach it.
    LeaderFromPeers,
    /// The leader is alone.
    LeaderFromAll,
    /// A follower is alone.
    Follower,
    /// One replica after another is killed and started again.
    Kills,
    Nothing,
}

impl Fault {
    pub const ALL: [Fault; 4] = [Fault::LeaderFromPeers, Fault::LeaderFromAll, Fault::Follower, Fault::Kills];

    pub fn name(self) -> &'static str {
        match self {
            Fault::LeaderFromPeers => "cut-leader-from-peers",
            Fault::LeaderFromAll => "cut-leader-from-all",
            Fault::Follower => "cut-follower",
            Fault::Kills => "kill-replicas",
            Fault::Nothing => "nothing",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Installed,
    Skipped(String),
    /// Begun, and then something went wrong: it counts neither as done nor as skipped.
    Indeterminate(String),
}

/// A replica that could reach no other, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isolation {
    pub node: usize,
    /// The last rule was in force.
    pub from: u64,
    /// The first rule was about to be taken away.
    pub to: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub fault: Fault,
    pub outcome: Outcome,
    /// Whether a job ran on the majority's side while the leader was cut off; absent where that was not tried.
    pub probe: Option<Result<(), String>>,
}

#[derive(Clone, Debug, Default)]
pub struct Deeds {
    pub done: Vec<Done>,
    pub isolations: Vec<Isolation>,
    /// Leaders seen before each fault and after it, where they differ.
    pub leader_changes: u64,
}

/// For how long a fault lasts, and how long the quiet after it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub fault: Duration,
    pub quiet: Duration,
}

/// Clients in a hurry at a replica that is alone.
const HASTY: usize = 4;

pub struct Nemesis {
    pub history: Arc<History>,
    pub shared: Arc<Shared>,
    pub pace: Pace,
    pub chance: SmallRng,
    pub deeds: Deeds,
}

/// Each kind once in an order by chance, then draws with a quarter of nothing.
pub fn schedule(seed: u64, windows: usize) -> Vec<Fault> {
    let mut chance = SmallRng::seed_from_u64(seed);
    let mut faults = Fault::ALL.to_vec();
    faults.shuffle(&mut chance);
    while faults.len() < windows {
        let idle = chance.random_range(0..4) == 0;
        faults.push(if idle { Fault::Nothing } else { Fault::ALL[chance.random_range(0..Fault::ALL.len())] });
    }
    faults
}

/// How long the majority may take to run a job while the leader is cut off.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);

impl Nemesis {
    pub async fn run(&mut self, world: &mut World, faults: &[Fault]) {
        for fault in faults {
            let before = world.leader().await;
            let (outcome, probe) = self.inflict(world, *fault).await;
            tokio::time::sleep(self.pace.quiet).await;
            let after = world.leader().await;
            self.deeds.leader_changes += u64::from(before.is_some() && after.is_some() && before != after);
            self.deeds.done.push(Done { fault: *fault, outcome, probe });
        }
    }

    async fn inflict(&mut self, world: &mut World, fault: Fault) -> (Outcome, Option<Result<(), String>>) {
        match fault {
            Fault::Nothing => {
                tokio::time::sleep(self.pace.fault).await;
                (Outcome::Installed, None)
            }
            Fault::Kills => (self.kills(world).await, None),
            Fault::LeaderFromPeers | Fault::LeaderFromAll | Fault::Follower => {
                let Some(leader) = world.leader().await else {
                    return (self.skip(fault, "nobody leads"), None);
                };
                let others = world.shape.replicas - 1;
                let victim = match fault {
                    Fault::Follower => (leader + 1 + self.chance.random_range(0..others)) % (others + 1),
                    _ => leader,
                };
                self.cut(world, fault, victim).await
            }
        }
    }

    fn skip(&self, fault: Fault, why: &str) -> Outcome {
        self.note(fault, "skipped", vec![("why", Edn::text(why))]);
        Outcome::Skipped(why.to_owned())
    }

    fn note(&self, fault: Fault, state: &'static str, more: Vec<(&'static str, Edn)>) -> u64 {
        let mut value = vec![("outcome", Edn::Keyword(state))];
        value.extend(more);
        self.history.nemesis(fault.name(), Edn::Map(value))
    }

    async fn cut(
        &mut self,
        world: &World,
        fault: Fault,
        victim: usize,
    ) -> (Outcome, Option<Result<(), String>>) {
        let node = Edn::text(&world.replicas[victim].name);
        self.note(fault, "begins", vec![("node", node.clone())]);
        let from_all = fault != Fault::LeaderFromPeers;
        if let Err(why) = isolate(world, victim, from_all) {
            let _ = world.net.heal();
            self.note(fault, "indeterminate", vec![("why", Edn::text(&why))]);
            return (Outcome::Indeterminate(why), None);
        }
        let from = self.note(fault, "installed", vec![("node", node.clone())]);
        let (hasty, stop) = self.ask_lonely(victim);
        let (probe, ()) = tokio::join!(probe(world, fault, victim), tokio::time::sleep(self.pace.fault));
        stop.store(true, Ordering::Relaxed);
        hasty.join_all().await;
        let to = self.note(fault, "heals", vec![("node", node)]);
        self.deeds.isolations.push(Isolation { node: victim, from, to });
        match world.net.heal() {
            Ok(()) => {
                self.note(fault, "healed", Vec::new());
                (Outcome::Installed, probe)
            }
            Err(why) => (Outcome::Indeterminate(why), probe),
        }
    }

    /// More clients at a replica that is alone, for as long as it is.
    fn ask_lonely(&mut self, victim: usize) -> (JoinSet<()>, Arc<AtomicBool>) {
        let stop = Arc::new(AtomicBool::new(false));
        let mut hasty = JoinSet::new();
        for _ in 0..HASTY {
            let process = Process::hasty(&self.shared, victim, self.chance.random());
            hasty.spawn(process.drive(stop.clone()));
        }
        (hasty, stop)
    }

    async fn kills(&mut self, world: &mut World) -> Outcome {
        let (mut spent, mut victims) = (Duration::ZERO, Vec::new());
        while spent < self.pace.fault {
            let victim = self.chance.random_range(0..world.replicas.len());
            let down = Duration::from_millis(self.chance.random_range(200..1500));
            let up = Duration::from_millis(self.chance.random_range(1000..2500));
            let node = Edn::text(&world.replicas[victim].name);
            world.replicas[victim].kill();
            self.note(Fault::Kills, "installed", vec![("node", node.clone())]);
            tokio::time::sleep(down).await;
            world.replicas[victim].start();
            self.note(Fault::Kills, "healed", vec![("node", node)]);
            tokio::time::sleep(up).await;
            spent += down + up;
            victims.push(victim);
        }
        Outcome::Installed
    }
}

/// Between the victim and every other replica nothing passes; with `from_all` nothing at all.
fn isolate(world: &World, victim: usize, from_all: bool) -> Result<(), String> {
    let name = &world.replicas[victim].name;
    for (place, other) in world.nodes().iter().enumerate() {
        let is_replica = place < world.shape.replicas;
        if place == victim || !(is_replica || from_all) {
            continue;
        }
        world.net.drop_from(name, &address(place))?;
        world.net.drop_from(other, &address(victim))?;
    }
    Ok(())
}

/// Whether the majority goes on while the leader is cut off: a job through another replica runs on the workers, which
/// have to leave the old leader for that.
async fn probe(world: &World, fault: Fault, victim: usize) -> Option<Result<(), String>> {
    if fault == Fault::Follower {
        return None;
    }
    let through = (victim + 1) % world.shape.replicas;
    let client = client_of(through).with_deadline(PROBE_PATIENCE);
    let spec = JobSpec::of("probe", vec![TaskSpec::new("probe", Work::Run(vec!["true".to_owned()]))]);
    let run = async {
        let submitted = client.submit(&spec).await.map_err(|error| format!("not accepted: {error}"))?;
        loop {
            match client.get_job(submitted.job).await {
                Ok(read) if read.value.state.is_final() => return Ok(()),
                Ok(_) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    };
    let late =
        || format!("a job through {} did not end within {PROBE_PATIENCE:?}", world.replicas[through].name);
    Some(tokio::time::timeout(PROBE_PATIENCE, run).await.unwrap_or_else(|_| Err(late())))
}

/// Heals the network and starts what is down.
pub fn heal(world: &mut World) -> Result<(), String> {
    world.net.heal()?;
    for process in world.replicas.iter_mut().chain(&mut world.workers) {
        if !process.is_running() {
            process.kill();
            process.start();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_and_the_seed_decides_the_order() {
        for seed in 0..20 {
            let faults = schedule(seed, 12);
            assert!(Fault::ALL.iter().all(|fault| faults[..4].contains(fault)));
            assert_eq!((faults.len(), &faults), (12, &schedule(seed, 12)));
        }
        assert_ne!(schedule(1, 12), schedule(2, 12));
        assert!((0..20).any(|seed| schedule(seed, 12).contains(&Fault::Nothing)));
    }
}
