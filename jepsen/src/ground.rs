//! What is tested and where it stands: a cluster of real processes that can be killed, frozen, cut off and spoilt. Two
//! drivers build one: network namespaces on this machine, and the product's own compose file.

pub mod compose;
mod hop;
pub mod net;
pub mod netns;

use std::path::PathBuf;
use std::time::Duration;

use baton_tests::cluster::LOOK_AGAIN;
use client::Client;
use model::views::ClusterView;
use serde::{Deserialize, Serialize};

use crate::ledger::Desk;
use crate::nemesis::Fault;
use crate::workload::client_of;
pub use hop::Rule;

/// One member of what is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Node {
    Replica(usize),
    Worker(usize),
    /// Where the clients are.
    Driver,
}

/// What is to be tested.
#[derive(Clone, Debug)]
pub struct Layout {
    pub replicas: usize,
    pub workers: usize,
    pub failover: String,
    /// The product's binary.
    pub binary: PathBuf,
    /// Whether that has the hooks for faults inside of a process.
    pub has_hooks: bool,
    /// A seeded bug of it.
    pub mutant: Option<String>,
    /// Whether packets go through the suite's own hop, so that links can be slow, jam and say things twice.
    pub hops: bool,
    /// Whether every replica's disk is small, and a kill takes with it what was not synced.
    pub frail_disks: bool,
}

/// Knobs of a process with hooks: what its disk and its clock do. Absent: as they should.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knobs {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_offset_ms: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_delay_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub volatile: bool,
}

pub enum Ground {
    Netns(netns::Netns),
    Compose(compose::Compose),
}

/// Hands a call on to the driver.
macro_rules! each {
    ($self:ident, $ground:ident => $call:expr) => {
        match $self {
            Ground::Netns($ground) => $call,
            Ground::Compose($ground) => $call,
        }
    };
}

impl Ground {
    pub fn layout(&self) -> &Layout {
        each!(self, ground => &ground.layout)
    }

    pub fn replicas(&self) -> usize {
        self.layout().replicas
    }

    pub fn name(&self, node: Node) -> String {
        name(node)
    }

    /// API addresses of the replicas, from where the clients are.
    pub fn addresses(&self) -> Vec<String> {
        each!(self, ground => ground.addresses())
    }

    /// Where the tasks write.
    pub fn desk(&self) -> Desk {
        each!(self, ground => ground.desk())
    }

    /// Why this ground cannot carry a fault; `Ok`: it can.
    pub fn can(&self, fault: Fault) -> Result<(), String> {
        each!(self, ground => ground.can(fault))
    }

    /// SIGKILL, and gone when it returns.
    pub fn kill(&mut self, node: Node) -> Result<(), String> {
        each!(self, ground => ground.kill(node))
    }

    /// Starts what was killed or has ended.
    pub fn start(&mut self, node: Node) -> Result<(), String> {
        each!(self, ground => ground.start_node(node))
    }

    /// SIGTERM; returns at once.
    pub fn terminate(&mut self, node: Node) -> Result<(), String> {
        each!(self, ground => ground.terminate(node))
    }

    /// Nothing of the node runs any more: of a worker its host stands still, keeper and tasks too.
    pub fn freeze(&mut self, node: Node) -> Result<(), String> {
        each!(self, ground => ground.freeze(node))
    }

    pub fn thaw(&mut self, node: Node) -> Result<(), String> {
        each!(self, ground => ground.thaw(node))
    }

    pub fn is_running(&mut self, node: Node) -> bool {
        each!(self, ground => ground.is_running(node))
    }

    /// From now on `at` hears nothing from `from`.
    pub fn block(&mut self, at: Node, from: Node) -> Result<(), String> {
        each!(self, ground => ground.block(at, from))
    }

    /// Takes a node off the network altogether, where the ground can do that at one blow. False: it cannot.
    pub fn disconnect(&mut self, node: Node) -> Result<bool, String> {
        match self {
            Ground::Netns(_) => Ok(false),
            Ground::Compose(compose) => compose.disconnect(node).map(|()| true),
        }
    }

    /// From now on so many of a thousand packets that come to `at` are lost.
    pub fn lose(&mut self, at: Node, in_thousand: u32) -> Result<(), String> {
        each!(self, ground => ground.lose(at, in_thousand))
    }

    /// Ends the connections that `at` has with `from`.
    pub fn reset(&mut self, at: Node, from: Node) -> Result<(), String> {
        each!(self, ground => ground.reset(at, from))
    }

    /// What the hop does from now on with packets between these two, in both directions.
    pub fn link(&mut self, a: Node, b: Node, rule: Rule) -> Result<(), String> {
        match self {
            Ground::Netns(netns) => netns.link(a, b, rule),
            Ground::Compose(_) => Err("the containers' links have no hop of ours".to_owned()),
        }
    }

    /// All nodes hear all others again.
    pub fn heal_network(&mut self) -> Result<(), String> {
        each!(self, ground => ground.heal_network())
    }

    /// Turns the knobs of a replica's process.
    pub fn turn(&mut self, replica: usize, knobs: &Knobs) -> Result<(), String> {
        match self {
            Ground::Netns(netns) => netns.turn(replica, knobs),
            Ground::Compose(_) => Err("the image has no hooks".to_owned()),
        }
    }

    /// The driver of namespaces, for what only it can do.
    pub fn netns(&mut self) -> Result<&mut netns::Netns, String> {
        match self {
            Ground::Netns(netns) => Ok(netns),
            Ground::Compose(_) => Err("the containers' disks are not this suite's to spoil".to_owned()),
        }
    }

    /// The process of a replica, as this machine numbers it.
    pub fn pid(&self, replica: usize) -> Option<i32> {
        each!(self, ground => ground.pid(replica))
    }

    /// Its data directory, as this machine sees it.
    pub fn data(&self, replica: usize) -> Option<PathBuf> {
        each!(self, ground => ground.data(replica))
    }

    /// Brings what the tasks and processes wrote to the folder of the run.
    pub fn collect(&mut self) -> Result<(), String> {
        each!(self, ground => ground.collect())
    }

    pub fn nodes(&self) -> Vec<Node> {
        let layout = self.layout();
        let replicas = (0..layout.replicas).map(Node::Replica);
        replicas.chain((0..layout.workers).map(Node::Worker)).collect()
    }

    pub fn clients(&self) -> Vec<Client> {
        self.addresses().iter().map(|address| client_of(address)).collect()
    }

    /// A client that knows every replica.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses())
    }

    /// Who leads, in the eyes of those that follow the newest term.
    pub async fn leader(&self) -> Option<usize> {
        let looks = self.clients().into_iter().map(|client| async move {
            let client = client.with_deadline(Duration::from_secs(1)).stale();
            client.cluster_status().await.ok().and_then(|view| Some((view.term, view.leader?)))
        });
        let newest = futures::future::join_all(looks).await.into_iter().flatten().max();
        let (_, leader) = newest?;
        (0..self.replicas()).find(|place| name(Node::Replica(*place)) == leader)
    }

    /// What each replica says of itself; `None` where it does not answer.
    pub async fn views(&self) -> Vec<Option<ClusterView>> {
        let looks = self
            .clients()
            .into_iter()
            .map(|client| async move { client.stale().cluster_status().await.ok() });
        futures::future::join_all(looks).await
    }

    /// What all replicas say of themselves, if they follow one leader in one term, have applied the same and raise no alarm,
    /// and all workers are there.
    pub async fn settled(&self) -> Option<Vec<ClusterView>> {
        let views: Vec<ClusterView> = self.views().await.into_iter().collect::<Option<_>>()?;
        let first = &views[0];
        let agrees = |view: &ClusterView| {
            (view.term, &view.leader, view.applied) == (first.term, &first.leader, first.applied)
                && view.alarms.is_empty()
        };
        let is_settled = first.leader.is_some()
            && views.iter().all(agrees)
            && first.workers_live == self.layout().workers as u64
            && self.client().queues().await.is_ok();
        is_settled.then_some(views)
    }

    /// The first look at which they are so.
    pub async fn wait_settled(&self, patience: Duration) -> Option<Vec<ClusterView>> {
        let settle = async {
            loop {
                if let Some(views) = self.settled().await {
                    return views;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(patience, settle).await.ok()
    }
}

pub fn name(node: Node) -> String {
    match node {
        Node::Replica(place) => format!("n{}", place + 1),
        Node::Worker(place) => format!("w{}", place + 1),
        Node::Driver => "driver".to_owned(),
    }
}
