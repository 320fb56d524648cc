//! What is tested: replicas and workers, each a process in a namespace of its own, and clients in another.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_tests::cluster::LOOK_AGAIN;
use baton_tests::process::{Process, sweep};
use client::{Client, Options};
use model::views::ClusterView;

use crate::net::{Net, address};

const API_PORT: u16 = 7070;
const PEER_PORT: u16 = 7170;
/// Where the driver's own clients are.
pub const DRIVER: &str = "driver";

/// What is to be tested.
#[derive(Clone, Debug)]
pub struct Shape {
    pub replicas: usize,
    pub workers: usize,
    pub failover: String,
}

pub struct World {
    pub shape: Shape,
    pub replicas: Vec<Process>,
    pub workers: Vec<Process>,
    pub net: Net,
    folder: PathBuf,
}

impl World {
    /// Starts everything and puts the calling thread where the clients are to be.
    pub fn start(shape: &Shape, folder: &Path) -> Result<World, String> {
        let net = Net::new(&node_names(shape))?;
        net.enter(DRIVER)?;
        let mut world = World {
            shape: shape.clone(),
            replicas: Vec::new(),
            workers: Vec::new(),
            net,
            folder: folder.to_owned(),
        };
        for place in 0..shape.replicas {
            let mut replica = world.replica(place);
            replica.start();
            world.replicas.push(replica);
        }
        for place in 0..shape.workers {
            let mut worker = world.worker(place);
            worker.start();
            world.workers.push(worker);
        }
        Ok(world)
    }

    fn replica(&self, place: usize) -> Process {
        let name = format!("n{}", place + 1);
        let named = |place| format!("n{}={}:{PEER_PORT}", place + 1, address(place));
        let peers: Vec<String> = (0..self.shape.replicas).map(named).collect();
        let data = self.folder.join(&name);
        let listen = format!("{}:{API_PORT}", address(place));
        let peer_listen = format!("{}:{PEER_PORT}", address(place));
        let peers = peers.join(",");
        let data = data.to_str().expect("a plain path");
        let mut args = vec!["server", "--cluster", "jepsen", "--name", &name, "--data-dir", data];
        args.extend(["--listen", &listen, "--peer-listen", &peer_listen, "--http", "off"]);
        args.extend(["--peers", &peers, "--failover", &self.shape.failover, "--insecure"]);
        Process::new(&name, &args, &self.folder).through(self.net.on(&name))
    }

    fn worker(&self, place: usize) -> Process {
        let name = format!("w{}", place + 1);
        let data = self.folder.join(&name);
        let servers = (0..self.shape.replicas).map(api).collect::<Vec<_>>().join(",");
        let data = data.to_str().expect("a plain path");
        let args = ["worker", "--name", &name, "--servers", &servers, "--data-dir", data, "--cpu", "4"];
        Process::new(&name, &args, &self.folder).through(self.net.on(&name))
    }

    /// Names of all nodes; the place of a name is the place of its address.
    pub fn nodes(&self) -> Vec<String> {
        node_names(&self.shape)
    }

    pub fn clients(&self) -> Vec<Client> {
        (0..self.shape.replicas).map(client_of).collect()
    }

    /// A client that knows every replica.
    pub fn client(&self) -> Client {
        Client::connect((0..self.shape.replicas).map(api))
    }

    /// Who leads, in the eyes of those that follow the newest term.
    pub async fn leader(&self) -> Option<usize> {
        let mut newest: Option<(u64, String)> = None;
        for client in self.clients() {
            let Ok(view) = client.with_deadline(Duration::from_secs(1)).stale().cluster_status().await else {
                continue;
            };
            if let Some(leader) = view.leader {
                newest = newest.max(Some((view.term, leader)));
            }
        }
        let (_, name) = newest?;
        self.replicas.iter().position(|replica| replica.name == name)
    }

    /// What each replica says of itself; `None` where it does not answer.
    pub async fn views(&self) -> Vec<Option<ClusterView>> {
        let mut views = Vec::new();
        for client in self.clients() {
            views.push(client.stale().cluster_status().await.ok());
        }
        views
    }

    /// Whether all replicas follow one leader in one term and have applied the same, and all workers are there.
    pub async fn is_settled(&self) -> bool {
        let views: Option<Vec<ClusterView>> = self.views().await.into_iter().collect();
        let Some(views) = views else { return false };
        let first = &views[0];
        let agrees = |view: &ClusterView| {
            (view.term, &view.leader, view.applied) == (first.term, &first.leader, first.applied)
        };
        first.leader.is_some()
            && views.iter().all(agrees)
            && first.workers_live == self.shape.workers as u64
            && self.client().queues().await.is_ok()
    }

    pub async fn wait_settled(&self, patience: Duration) -> bool {
        let settle = async {
            while !self.is_settled().await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(patience, settle).await.is_ok()
    }
}

impl Drop for World {
    // The network goes last, when nobody is left in it.
    fn drop(&mut self) {
        self.replicas.clear();
        self.workers.clear();
        sweep(&self.folder);
    }
}

fn node_names(shape: &Shape) -> Vec<String> {
    let replicas = (1..=shape.replicas).map(|number| format!("n{number}"));
    let workers = (1..=shape.workers).map(|number| format!("w{number}"));
    replicas.chain(workers).chain([DRIVER.to_owned()]).collect()
}

fn api(replica: usize) -> String {
    format!("{}:{API_PORT}", address(replica))
}

/// A client that knows only this replica, and gives up soon: what is down is a result too.
pub fn client_of(replica: usize) -> Client {
    Client::with(Options {
        deadline: Duration::from_secs(2),
        patience: Duration::from_millis(500),
        ..Options::new(vec![api(replica)])
    })
}
