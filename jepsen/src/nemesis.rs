//! Breaks the ground and heals it, by a schedule drawn from the seed (H4). A window has one fault or a few at a time; after
//! it everything is healed, and it is quiet for a while.

mod disk;
mod fault;
mod inflict;
mod load;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::edn::Edn;
use crate::ground::{Ground, Node, name};
use crate::history::History;
use crate::observe::Places;
use crate::workload::Shared;
pub use fault::{FAMILIES, Fault, Needs, chosen};
pub use inflict::run_job;
pub use schedule::{Pace, schedule};

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Installed,
    Skipped(String),
    /// Begun, and then something went wrong: it counts neither as done nor as skipped.
    Indeterminate(String),
}

impl Outcome {
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Installed => "installed",
            Outcome::Skipped(_) => "skipped",
            Outcome::Indeterminate(_) => "indeterminate",
        }
    }

    pub fn why(&self) -> &str {
        match self {
            Outcome::Installed => "",
            Outcome::Skipped(why) | Outcome::Indeterminate(why) => why,
        }
    }
}

/// A replica that could reach no majority, and when. Nanoseconds of the driver's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    pub node: usize,
    /// The last rule was in force.
    pub from: u64,
    /// The first rule was about to be taken away.
    pub to: u64,
}

/// A worker that was killed, stood still or reached nobody, and when. Wall-clock nanoseconds, as in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    pub worker: String,
    pub from: u64,
    pub to: u64,
}

/// One fault from its beginning to its end. Nanoseconds of the driver's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub fault: Fault,
    pub node: String,
    pub from: u64,
    pub to: u64,
    pub outcome: Outcome,
    /// Whether it did what it should: a damaged disk is refused, a majority goes on. Absent where nothing was to be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Result<(), String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deeds {
    pub done: Vec<Done>,
    pub isolations: Vec<Isolation>,
    pub outages: Vec<Outage>,
}

/// How to undo a fault, and what to look at before.
pub(crate) enum Undo {
    Start(Vec<Node>),
    Thaw(Vec<Node>),
    Network,
    Knobs(Vec<usize>),
    /// A replica stopped because of its disk: knobs back, space back, start it again.
    Disk {
        replica: usize,
        fault: Fault,
    },
    Nothing,
}

/// A fault that has begun.
pub(crate) struct Begun {
    pub fault: Fault,
    pub nodes: Vec<Node>,
    /// Replicas that are cut off from every majority.
    pub isolated: Vec<usize>,
    /// Workers that cannot act or be reached.
    pub out: Vec<usize>,
    pub undo: Undo,
    /// What was found already.
    pub probe: Option<Result<(), String>>,
}

impl Begun {
    fn on(fault: Fault, nodes: Vec<Node>, undo: Undo) -> Begun {
        Begun { fault, nodes, isolated: Vec::new(), out: Vec::new(), undo, probe: None }
    }
}

/// Why a fault did not begin.
pub(crate) enum Miss {
    /// Nothing was changed.
    Skip(String),
    /// Something may have been.
    Doubt(String),
}

impl From<String> for Miss {
    fn from(why: String) -> Miss {
        Miss::Doubt(why)
    }
}

pub struct Nemesis {
    history: Arc<History>,
    shared: Arc<Shared>,
    chance: SmallRng,
    pub deeds: Deeds,
    /// How long a worker may be away before its lease has ended.
    lease: Duration,
    /// Told to those who measure, whenever processes may have changed.
    places: Places,
    /// What a fault of the current window has its hands on.
    touched: BTreeSet<Node>,
    /// What was seen while faults lasted.
    probes: Vec<(Fault, Result<(), String>)>,
    /// Clients of load faults.
    crowd: JoinSet<()>,
}

/// Nanoseconds of this machine's wall clock, as tasks write them.
#[allow(clippy::disallowed_methods)]
fn wall() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_nanos() as u64
}

impl Nemesis {
    pub fn new(shared: Arc<Shared>, chance: SmallRng, lease: Duration, places: Places) -> Nemesis {
        let (history, deeds) = (shared.history.clone(), Deeds::default());
        let (touched, probes, crowd) = (BTreeSet::new(), Vec::new(), JoinSet::new());
        Nemesis { history, shared, chance, deeds, lease, places, touched, probes, crowd }
    }

    /// Says what cannot be tried at all.
    pub fn skip_impossible(&mut self, faults: &[Fault]) {
        for fault in faults {
            if let Needs::Impossible(why) = fault.needs() {
                self.missed(*fault, Outcome::Skipped(why.to_owned()));
            }
        }
    }

    /// Runs windows until the time is over.
    pub async fn run(&mut self, ground: &mut Ground, windows: &[Vec<Fault>], pace: Pace, until: u64) {
        self.tell_places(ground);
        // So that it is known how things are when nothing is wrong.
        tokio::time::sleep(pace.quiet).await;
        for faults in windows {
            if self.history.clock().now() >= until {
                return;
            }
            self.tell_places(ground);
            self.window(ground, faults, pace).await;
            tokio::time::sleep(pace.quiet).await;
        }
    }

    fn tell_places(&self, ground: &Ground) {
        let place = |replica| Some((ground.pid(replica)?, ground.data(replica)?));
        *self.places.lock().expect("nobody panics with it") = (0..ground.replicas()).map(place).collect();
    }

    async fn window(&mut self, ground: &mut Ground, faults: &[Fault], pace: Pace) {
        self.touched.clear();
        let mut begun = Vec::new();
        for fault in faults {
            if let Err(why) = ground.can(*fault) {
                self.missed(*fault, Outcome::Skipped(why));
                continue;
            }
            self.note(*fault, "begins", Vec::new());
            match self.begin(ground, *fault).await {
                Ok(one) => {
                    let from = self.note(*fault, "installed", vec![("nodes", told(&one.nodes))]);
                    begun.push((one, from, wall()));
                }
                Err(Miss::Skip(why)) => self.missed(*fault, Outcome::Skipped(why)),
                Err(Miss::Doubt(why)) => self.missed(*fault, Outcome::Indeterminate(why)),
            }
        }
        let faults: Vec<Fault> = begun.iter().map(|(one, ..)| one.fault).collect();
        let lonely: Vec<usize> = begun.iter().flat_map(|(one, ..)| one.isolated.clone()).collect();
        self.meanwhile(ground, &faults, &lonely, pace.lasting(&faults, self.lease)).await;
        // All of them first: what heals one may heal another.
        let ends: Vec<u64> = begun
            .iter()
            .map(|(one, ..)| self.note(one.fault, "heals", vec![("nodes", told(&one.nodes))]))
            .collect();
        for ((one, from, wall_from), to) in begun.into_iter().zip(ends).rev() {
            self.end(ground, one, (from, to), wall_from).await;
        }
    }

    fn missed(&mut self, fault: Fault, outcome: Outcome) {
        let at = self.note(fault, outcome.word(), vec![("why", Edn::text(outcome.why()))]);
        self.deeds.done.push(Done { fault, node: String::new(), from: at, to: at, outcome, probe: None });
    }

    pub(crate) fn note(&self, fault: Fault, state: &'static str, more: Vec<(&'static str, Edn)>) -> u64 {
        let mut value = vec![("outcome", Edn::key(state))];
        value.extend(more);
        self.history.nemesis(fault.name(), Edn::map(value))
    }

    async fn end(&mut self, ground: &mut Ground, one: Begun, (from, to): (u64, u64), wall_from: u64) {
        let Begun { fault, nodes, isolated, out, undo, mut probe } = one;
        self.deeds.isolations.extend(isolated.into_iter().map(|node| Isolation { node, from, to }));
        let healed = self.undo(ground, undo, &mut probe).await;
        let outage =
            |worker: usize| Outage { worker: name(Node::Worker(worker)), from: wall_from, to: wall() };
        self.deeds.outages.extend(out.into_iter().map(outage));
        if let Some(place) = self.probes.iter().position(|(of, _)| *of == fault) {
            probe = Some(self.probes.swap_remove(place).1);
        }
        self.note(fault, "healed", Vec::new());
        let outcome = match healed {
            Ok(()) => Outcome::Installed,
            Err(why) => Outcome::Indeterminate(why),
        };
        let nodes: Vec<String> = nodes.iter().map(|node| name(*node)).collect();
        self.deeds.done.push(Done { fault, node: nodes.join(","), from, to, outcome, probe });
    }

    async fn undo(
        &mut self,
        ground: &mut Ground,
        undo: Undo,
        probe: &mut Option<Result<(), String>>,
    ) -> Result<(), String> {
        match undo {
            Undo::Start(nodes) => nodes.into_iter().try_for_each(|node| ground.start(node)),
            Undo::Thaw(nodes) => nodes.into_iter().try_for_each(|node| ground.thaw(node)),
            Undo::Network => ground.heal_network(),
            Undo::Knobs(replicas) => {
                let usual = ground.netns()?.usual();
                replicas.into_iter().try_for_each(|replica| ground.turn(replica, &usual))
            }
            Undo::Disk { replica, fault } => disk::mend(ground, replica, fault, probe).await,
            Undo::Nothing => Ok(()),
        }
    }

    /// One of these that no other fault of this window has its hands on.
    pub(crate) fn pick(&mut self, nodes: impl IntoIterator<Item = Node>) -> Result<Node, Miss> {
        let free: Vec<Node> = nodes.into_iter().filter(|node| !self.touched.contains(node)).collect();
        let node =
            *free.choose(&mut self.chance).ok_or_else(|| Miss::Skip("nobody is left to strike".into()))?;
        self.touched.insert(node);
        Ok(node)
    }

    pub(crate) async fn leader(&mut self, ground: &Ground) -> Result<Node, Miss> {
        let leader = ground.leader().await.ok_or_else(|| Miss::Skip("nobody leads".to_owned()))?;
        self.pick([Node::Replica(leader)])
    }

    pub(crate) async fn follower(&mut self, ground: &Ground) -> Result<Node, Miss> {
        let leader = ground.leader().await;
        self.pick((0..ground.replicas()).filter(|place| Some(*place) != leader).map(Node::Replica))
    }

    pub(crate) fn some_replicas(&mut self, ground: &Ground, count: usize) -> Result<Vec<Node>, Miss> {
        (0..count).map(|_| self.pick((0..ground.replicas()).map(Node::Replica))).collect()
    }
}

fn told(nodes: &[Node]) -> Edn {
    Edn::Vector(nodes.iter().map(|node| Edn::text(name(*node))).collect())
}

/// Heals the network and starts or thaws what does not run.
pub fn heal(ground: &mut Ground) -> Result<(), String> {
    ground.heal_network()?;
    for node in ground.nodes() {
        let _ = ground.thaw(node);
        if !ground.is_running(node) {
            ground.start(node)?;
        }
    }
    if let Ok(netns) = ground.netns() {
        let usual = netns.usual();
        if netns.layout.has_hooks {
            (0..netns.layout.replicas).try_for_each(|replica| netns.turn(replica, &usual))?;
        }
    }
    Ok(())
}

/// What was tried, by fault: installed, skipped, in doubt.
pub fn counted(done: &[Done]) -> BTreeMap<Fault, [u64; 3]> {
    let mut counts: BTreeMap<Fault, [u64; 3]> = BTreeMap::new();
    for one in done {
        let place = match one.outcome {
            Outcome::Installed => 0,
            Outcome::Skipped(_) => 1,
            Outcome::Indeterminate(_) => 2,
        };
        counts.entry(one.fault).or_default()[place] += 1;
    }
    counts
}
