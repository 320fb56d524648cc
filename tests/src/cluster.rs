//! A cluster of child processes on a loopback address of its own. When it is dropped, everything that it started is
//! ended: replicas and workers by their pids, keepers and attempts by the folder that their lines and environments name.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use client::Client;
use model::LogIndex;
use model::views::ClusterView;
use tempfile::TempDir;

use crate::process::{Process, sweep};

/// How long anything may take before a test gives up. Generous: it bounds a hang, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks at a condition.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The binary under test: `BATON_BINARY`, else the workspace's own, built here if it is missing or older than a source.
pub fn baton() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("BATON_BINARY") {
        Some(path) => path.into(),
        None => {
            let sources = ["crates", "proto", "Cargo.toml", "Cargo.lock"];
            built("baton", &["-p", "baton-cli", "--bin", "baton"], &sources)
        }
    })
}

/// The example of that name, built likewise.
pub fn example(name: &str) -> PathBuf {
    let source = format!("examples/{name}.rs");
    let sources = ["crates/client", "crates/model", "crates/wire", "proto", "Cargo.lock", &source];
    built(&format!("examples/{name}"), &["-p", "baton-client", "--example", name], &sources)
}

/// All that has seeded bugs, so that one build serves every program that can have them.
pub const CHAOS_FEATURES: &str = "baton-cli/chaos,jepsen-turmoil/chaos";

/// The same product with the hooks of the fault-injection suite, built likewise.
pub fn chaos() -> PathBuf {
    let sources = ["crates", "proto", "Cargo.toml", "Cargo.lock"];
    // As part of the whole workspace: what both depend on is not made twice.
    let words = ["--workspace", "--features", CHAOS_FEATURES, "--bin", "baton-chaos"];
    built("baton-chaos", &words, &sources)
}

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// A file of the target folder, made by `cargo build` with these words if it is missing or older than a source.
pub fn built(file: &str, words: &[&str], sources: &[&str]) -> PathBuf {
    let exe = std::env::current_exe().expect("a test has a path");
    let folder = exe.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
    let folder = folder.expect("tests run from the target folder");
    let binary = folder.join(file);
    if is_fresh(&binary, sources) {
        return binary;
    }
    let mut build = std::process::Command::new(env!("CARGO"));
    build.args(["build", "--quiet"]).args(words);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let built = build.current_dir(ROOT).status().expect("cargo runs");
    assert!(built.success(), "{file} does not build");
    binary
}

/// `cargo test --workspace` has made the binary already; to build it alone would make everything once more, with other
/// features.
fn is_fresh(binary: &Path, sources: &[&str]) -> bool {
    let made = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(built) = made(binary) else { return false };
    let mut waiting: Vec<PathBuf> = sources.iter().map(|name| Path::new(ROOT).join(name)).collect();
    while let Some(path) = waiting.pop() {
        match std::fs::read_dir(&path) {
            Ok(entries) => waiting.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) if made(&path).is_none_or(|made| made > built) => return false,
            Err(_) => {}
        }
    }
    true
}

/// What a cluster consists of at its start.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub replicas: usize,
    pub workers: usize,
    /// `fast` fails over within a second and ends a lease after four; `default` gives a busy machine ten.
    pub failover: &'static str,
    /// Cores that each worker says it has.
    pub cpu: &'static str,
    /// The behaviour level that replicas know at most; `None`: what this version knows.
    pub level_max: Option<&'static str>,
}

impl Layout {
    pub fn of(replicas: usize, workers: usize) -> Layout {
        Layout { replicas, workers, failover: "fast", cpu: "4", level_max: None }
    }

    /// For what must not lose a lease, however busy the machine is.
    pub fn patient(self) -> Layout {
        Layout { failover: "default", ..self }
    }
}

pub struct Cluster {
    pub replicas: Vec<Process>,
    pub workers: Vec<Process>,
    /// API addresses, by replica.
    pub addresses: Vec<String>,
    /// Peer addresses, by replica.
    pub peers: Vec<String>,
    /// HTTP addresses, by replica.
    pub http: Vec<String>,
    layout: Layout,
    // Last, so that the processes end before their folders go.
    folder: TempDir,
}

impl Cluster {
    /// Starts so many replicas and workers and waits until work can be done.
    pub async fn start(replicas: usize, workers: usize) -> Cluster {
        Cluster::with(Layout::of(replicas, workers)).await
    }

    pub async fn with(layout: Layout) -> Cluster {
        let folder = TempDir::new().expect("a folder");
        let sockets = free_addresses(layout.replicas * 3);
        let (addresses, rest) = sockets.split_at(layout.replicas);
        let (peers, http) = rest.split_at(layout.replicas);
        let mut cluster = Cluster {
            replicas: Vec::new(),
            workers: Vec::new(),
            addresses: addresses.to_vec(),
            peers: peers.to_vec(),
            http: http.to_vec(),
            layout,
            folder,
        };
        for place in 0..layout.replicas {
            let process = cluster.replica(place);
            cluster.replicas.push(process);
            cluster.replicas[place].start();
        }
        for number in 1..=layout.workers {
            cluster.add_worker(&format!("w{number}"), &[]);
        }
        cluster.wait_ready(layout.workers).await;
        cluster
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A replica's process, not yet started.
    fn replica(&self, place: usize) -> Process {
        let name = format!("n{}", place + 1);
        let named = |(peer, number): (&String, usize)| format!("n{number}={peer}");
        let peers: Vec<String> = self.peers.iter().zip(1..).map(named).collect();
        let data = self.data_dir(&name);
        let peers = peers.join(",");
        let mut args = vec!["server", "--cluster", "test", "--name", &name, "--data-dir", plain(&data)];
        args.extend(["--listen", &self.addresses[place], "--peer-listen", &self.peers[place]]);
        args.extend(["--http", &self.http[place], "--peers", &peers, "--failover", self.layout.failover]);
        args.extend(self.layout.level_max.iter().flat_map(|level| ["--level-max", level]));
        Process::new(&name, &args, self.folder())
    }

    /// Another process with a replica's flags, these in place of some. Not yet started.
    pub fn twin(&self, place: usize, more: &[&str]) -> Process {
        self.replica(place).with(more)
    }

    /// Starts a worker with these flags beside the usual ones.
    pub fn add_worker(&mut self, name: &str, more: &[&str]) -> &mut Process {
        let mut worker = self.worker(name, more);
        worker.start();
        self.workers.push(worker);
        self.workers.last_mut().expect("just added")
    }

    /// A worker's process, not yet started.
    pub fn worker(&self, name: &str, more: &[&str]) -> Process {
        let data = self.data_dir(name);
        let servers = self.addresses.join(",");
        let mut args = vec!["worker", "--name", name, "--servers", &servers, "--data-dir", plain(&data)];
        args.extend(["--cpu", self.layout.cpu, "--memory", "1GiB"]);
        Process::new(name, &args, self.folder()).with(more)
    }

    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// The process that holds a worker's attempts.
    pub fn keeper(&self, worker: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.data_dir(worker).join("keeper.pid")).ok()?;
        text.trim().parse().ok()
    }

    /// A client that knows every replica.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses.clone())
    }

    /// A client that knows only this one.
    pub fn client_of(&self, replica: usize) -> Client {
        Client::connect([self.addresses[replica].clone()])
    }

    pub async fn wait_ready(&self, workers: usize) {
        let client = self.client();
        wait_until("the cluster is ready", async || {
            let Ok(status) = client.cluster_status().await else { return false };
            let can_read = client.queues().await.is_ok();
            status.leader.is_some() && status.workers_live as usize >= workers && can_read
        })
        .await;
    }

    /// Waits until every replica answers, sees the same leader and has applied the same.
    pub async fn wait_agreed(&self) -> Vec<ClusterView> {
        let clients: Vec<Client> = (0..self.replicas.len()).map(|place| self.client_of(place)).collect();
        let mut views = Vec::new();
        wait_until("all replicas agree", async || {
            views.clear();
            for client in &clients {
                let Ok(view) = client.stale().cluster_status().await else { return false };
                views.push(view);
            }
            let first = &views[0];
            let agrees = |view: &ClusterView| view.leader == first.leader && view.applied == first.applied;
            first.leader.is_some() && views.iter().all(agrees)
        })
        .await;
        views
    }

    /// Which replica leads, as a majority sees it.
    pub async fn leader(&self) -> usize {
        let clients: Vec<Client> = (0..self.replicas.len()).map(|place| self.client_of(place)).collect();
        let mut leader = None;
        wait_until("somebody leads", async || {
            let mut votes = Vec::new();
            for (client, replica) in clients.iter().zip(&self.replicas) {
                if replica.pid().is_some()
                    && let Ok(view) =
                        client.with_deadline(Duration::from_secs(2)).stale().cluster_status().await
                {
                    votes.extend(view.leader.map(|leader| (view.term, leader)));
                }
            }
            let newest = votes.iter().max().cloned();
            let backing = votes.iter().filter(|vote| Some(*vote) == newest.as_ref()).count();
            leader = newest.filter(|_| backing * 2 > self.replicas.len());
            leader.is_some()
        })
        .await;
        let (_, name) = leader.expect("seen above");
        self.replicas
            .iter()
            .position(|replica| replica.name == name)
            .expect("a replica of this cluster leads")
    }

    /// SIGKILLs the leader and waits until another one leads. Returns the place of the one that is gone.
    pub async fn kill_leader(&mut self) -> usize {
        let leader = self.leader().await;
        self.replicas[leader].kill();
        self.leader().await;
        leader
    }

    /// SIGKILLs the leader and waits for nothing. Returns its place, and how far it had applied the log.
    pub async fn kill_leader_now(&mut self) -> (usize, LogIndex) {
        let leader = self.leader().await;
        let view = self.client_of(leader).stale().cluster_status().await.expect("it leads");
        self.replicas[leader].kill();
        (leader, view.applied)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.replicas.clear();
        self.workers.clear();
        sweep(self.folder());
    }
}

fn plain(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Addresses that nobody else uses: every cluster has a loopback address of its own, so that a replica which
/// restarts finds its ports free, whatever else runs on this machine.
pub fn free_addresses(count: usize) -> Vec<String> {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let [_, high, middle, low] = ((pid << 4) | (number % 16)).to_be_bytes();
    // 127.0.0.1 itself is everybody's.
    let host = format!("127.{}.{middle}.{low}", 1 + high % 250);
    let bind = |_| std::net::TcpListener::bind(format!("{host}:0")).expect("loopback has a free port");
    let listeners: Vec<std::net::TcpListener> = (0..count).map(bind).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("bound").to_string()).collect()
}

/// Waits for a condition; a hang becomes a failure that names it.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "waited in vain until {what}");
}
