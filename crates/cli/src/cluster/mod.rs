//! A cluster of child processes of this very binary, for `dev`, `demo` and `bench`: three replicas and some workers
//! on loopback. The children die with this process, whatever ends it.

mod failover;
pub mod ports;
mod process;

use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, Options};
use model::settings::Failover;
use model::views::ClusterView;

use crate::clock::Stopwatch;
use crate::fault::Fault;
use crate::tether;

pub use failover::{Kill, Takeover, failover, probe, send_probe};
pub use ports::Ports;
pub use process::Process;

use process::Spawner;

/// What to start.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cluster: String,
    pub replicas: usize,
    pub workers: usize,
    /// gRPC on this port and those behind it; 0: ports of the kernel's choice.
    pub port_base: u16,
    /// Kept if given, else a folder that goes with the cluster.
    pub data_dir: Option<PathBuf>,
    /// Where that folder is made.
    pub temporary_in: PathBuf,
    pub failover: Failover,
    /// Cores that each worker offers.
    pub worker_cpu: u32,
    /// Whether replicas can be cut off from their peers, see [`Process::cut_off`].
    pub can_cut: bool,
    /// Added to every command line of a worker.
    pub worker_args: Vec<String>,
}

impl Plan {
    pub fn new(cluster: &str) -> Plan {
        Plan {
            cluster: cluster.to_owned(),
            replicas: 3,
            workers: 2,
            port_base: 0,
            data_dir: None,
            temporary_in: std::env::temp_dir(),
            failover: Failover::Fast,
            worker_cpu: 4,
            can_cut: false,
            worker_args: Vec::new(),
        }
    }
}

pub struct Cluster {
    pub plan: Plan,
    pub replicas: Vec<Process>,
    pub workers: Vec<Process>,
    pub ports: Vec<Ports>,
    folder: Folder,
    spawner: Spawner,
}

/// Where the cluster keeps its data.
struct Folder {
    path: PathBuf,
    is_temporary: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

impl Cluster {
    /// Starts everything and waits until work can be done.
    pub async fn start(plan: Plan) -> Result<Cluster, Fault> {
        tether::adopt_orphans();
        let folder = folder(&plan)?;
        let ports = match folder.is_temporary {
            true => ports::choose(plan.port_base, plan.replicas)?,
            false => ports::of_folder(&folder.path, plan.port_base, plan.replicas)?,
        };
        let cluster = Cluster {
            replicas: Vec::new(),
            workers: Vec::new(),
            ports,
            folder,
            spawner: Spawner::start(),
            plan,
        };
        cluster.launch().await
    }

    async fn launch(mut self) -> Result<Cluster, Fault> {
        for n in 0..self.plan.replicas {
            let process = Process::new(&replica_name(n), self.replica_args(n), &self.folder.path);
            self.replicas.push(process);
        }
        for _ in 0..self.plan.workers {
            self.plan_worker();
        }
        // What was begun by a version that kept no ports may know others: these are its own once it is ready.
        let is_new = !self.folder.path.join(replica_name(0)).exists();
        for process in self.replicas.iter_mut().chain(&mut self.workers) {
            process.start(&self.spawner)?;
        }
        if is_new {
            self.keep_ports()?;
        }
        self.wait_ready().await?;
        self.keep_ports()?;
        Ok(self)
    }

    fn keep_ports(&self) -> Result<(), Fault> {
        if self.folder.is_temporary || ports::are_kept(&self.folder.path) {
            return Ok(());
        }
        ports::keep(&self.folder.path, &self.ports)
    }

    fn replica_args(&self, n: usize) -> Vec<String> {
        let Ports { api, peer, http } = self.ports[n];
        let peers = self.ports.iter().enumerate();
        let peers: Vec<String> =
            peers.map(|(n, ports)| format!("{}=127.0.0.1:{}", replica_name(n), ports.peer)).collect();
        let failover = match self.plan.failover {
            Failover::Fast => "fast",
            Failover::Default => "default",
            Failover::Wan => "wan",
        };
        let data = self.folder.path.join(replica_name(n));
        let flags = [
            ("--cluster", self.plan.cluster.clone()),
            ("--name", replica_name(n)),
            ("--data-dir", data.display().to_string()),
            ("--listen", format!("127.0.0.1:{api}")),
            ("--peer-listen", format!("127.0.0.1:{peer}")),
            ("--http", format!("127.0.0.1:{http}")),
            ("--peers", peers.join(",")),
            ("--failover", failover.to_owned()),
        ];
        let mut args = command_line("server", flags);
        if self.plan.can_cut {
            args.push("--cut-on-signal".to_owned());
        }
        args
    }

    fn plan_worker(&mut self) {
        let name = format!("w{}", self.workers.len() + 1);
        let flags = [
            ("--name", name.clone()),
            ("--data-dir", self.folder.path.join(&name).display().to_string()),
            ("--servers", self.addresses().join(",")),
            ("--cpu", self.plan.worker_cpu.to_string()),
        ];
        let mut args = command_line("worker", flags);
        args.extend(self.plan.worker_args.iter().cloned());
        self.workers.push(Process::new(&name, args, &self.folder.path));
    }

    pub fn add_worker(&mut self) -> Result<&Process, Fault> {
        self.plan_worker();
        let worker = self.workers.last_mut().expect("planned just now");
        worker.start(&self.spawner)?;
        Ok(worker)
    }

    /// gRPC addresses of the replicas.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|ports| format!("127.0.0.1:{}", ports.api)).collect()
    }

    pub fn folder(&self) -> &Path {
        &self.folder.path
    }

    pub fn client(&self, deadline: Duration) -> Client {
        self.client_of(self.addresses(), deadline)
    }

    fn client_of(&self, addresses: Vec<String>, deadline: Duration) -> Client {
        let mut options = Options::new(addresses);
        options.deadline = deadline;
        options.patience = deadline;
        options.via = "cli".to_owned();
        options.user = "dev".to_owned();
        Client::with(options)
    }

    /// What some replica that answers sees now. One that is cut off is not asked: it may still think that it leads.
    pub async fn status(&self) -> Option<ClusterView> {
        let replicas = self.addresses().into_iter().zip(&self.replicas);
        let asked: Vec<String> =
            replicas.filter(|(_, replica)| !replica.is_cut_off).map(|(address, _)| address).collect();
        if asked.is_empty() {
            return None;
        }
        self.client_of(asked, Duration::from_millis(500)).stale().cluster_status().await.ok()
    }

    /// The place of the leader, as a replica that is alive sees it.
    pub async fn leader(&self) -> Option<usize> {
        let leader = self.status().await?.leader?;
        let leads = |replica: &Process| replica.name == leader && replica.is_running() && !replica.is_cut_off;
        self.replicas.iter().position(leads)
    }

    pub async fn wait_ready(&mut self) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        let client = self.client(Duration::from_millis(250)).stale();
        while watch.elapsed() < Duration::from_secs(30) {
            self.check_alive()?;
            let status = client.cluster_status().await.ok();
            let is_ready = status.is_some_and(|status| {
                status.leader.is_some() && status.workers_live as usize >= self.workers.len()
            });
            if is_ready {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Fault::failed("the cluster is not ready after 30 s").why(self.last_words()))
    }

    /// Waits until every replica has what the leader has: until then one that is killed may leave no majority.
    pub async fn wait_whole(&mut self) -> Result<(), Fault> {
        for place in 0..self.replicas.len() {
            self.wait_serving(place).await?;
        }
        Ok(())
    }

    /// Waits until this replica answers for itself.
    pub async fn wait_serving(&mut self, place: usize) -> Result<(), Fault> {
        let watch = Stopwatch::start();
        let address = self.addresses().swap_remove(place);
        let client = Client::connect([address]).with_deadline(Duration::from_millis(500));
        // Not a stale answer: it comes when everything is applied that was committed when it was asked for.
        while let Err(error) = client.cluster_status().await {
            self.check_alive()?;
            if watch.elapsed() > Duration::from_secs(60) {
                return Err(Fault::failed("a replica is still behind after 60 s").why(error.to_string()));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), Fault> {
        for process in self.replicas.iter_mut().chain(&mut self.workers) {
            if let Some(status) = process.ended() {
                let text = process.last_lines(6);
                let fault = Fault::failed(format!("{} ended while starting ({status})", process.name));
                return Err(text.lines().fold(fault, |fault, line| fault.why(line)));
            }
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let all = self.replicas.iter().chain(&self.workers);
        all.map(|process| format!("{}: {}", process.name, process.last_lines(1)))
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// Brings back every replica that has ended by itself or by somebody else's hand.
    pub fn keep_up(&mut self) -> Result<Vec<String>, Fault> {
        let mut revived = Vec::new();
        for process in self.replicas.iter_mut() {
            if !process.is_stopped && process.ended().is_some() {
                process.start(&self.spawner)?;
                revived.push(process.name.clone());
            }
        }
        Ok(revived)
    }

    /// Brings back every replica and worker that has ended, is stopped or is cut off; gives their names.
    pub fn revive(&mut self) -> Result<Vec<String>, Fault> {
        let mut revived = Vec::new();
        for process in self.replicas.iter_mut().chain(&mut self.workers) {
            let was_away = process.is_stopped || process.is_cut_off;
            process.thaw();
            process.heal();
            let is_gone = process.ended().is_some() || !process.is_running();
            if is_gone {
                process.start(&self.spawner)?;
            }
            if was_away || is_gone {
                revived.push(process.name.clone());
            }
        }
        Ok(revived)
    }

    /// Ends everything at once, tasks included.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        for process in self.workers.iter_mut().chain(&mut self.replicas) {
            process.kill();
        }
        tether::kill_descendants();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn replica_name(n: usize) -> String {
    format!("n{}", n + 1)
}

fn command_line<const N: usize>(verb: &str, flags: [(&str, String); N]) -> Vec<String> {
    let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
    std::iter::once(verb.to_owned()).chain(flags).collect()
}

fn folder(plan: &Plan) -> Result<Folder, Fault> {
    let (path, is_temporary) = match &plan.data_dir {
        Some(path) => (path.clone(), false),
        None => (plan.temporary_in.join(format!("baton-{}-{:x}", plan.cluster, std::process::id())), true),
    };
    std::fs::create_dir_all(&path).map_err(|error| Fault::of_file("cannot keep data", &path, &error))?;
    let path = path.canonicalize().map_err(|error| Fault::of_file("cannot keep data", &path, &error))?;
    Ok(Folder { path, is_temporary })
}
