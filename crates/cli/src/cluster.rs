//! A cluster of child processes of this very binary, for `dev`, `demo` and `bench`: three replicas and some workers
//! on loopback. The children die with this process, whatever ends it.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use client::{Client, Options, TaskFilter};
use model::settings::Failover;
use model::size::PARTS;
use model::views::{ClusterView, TaskView};
use model::{JobSpec, LogIndex, Resources, TaskSpec, Timestamp, Work};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clock::{self, Stopwatch};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::tether;

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
    pub failover: Failover,
    /// Cores that each worker offers.
    pub worker_cpu: u32,
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
            failover: Failover::Fast,
            worker_cpu: 4,
            worker_args: Vec::new(),
        }
    }
}

/// Peer ports lie so far above the gRPC ports, and HTTP ports so far.
const PEER_OFFSET: u16 = 100;
const HTTP_OFFSET: u16 = 1_010;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    pub api: u16,
    pub peer: u16,
    pub http: u16,
}

/// One child, alive, stopped or ended.
pub struct Process {
    pub name: String,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    pub is_stopped: bool,
}

pub struct Cluster {
    pub plan: Plan,
    pub replicas: Vec<Process>,
    pub workers: Vec<Process>,
    pub ports: Vec<Ports>,
    folder: Folder,
    spawner: Spawner,
}

/// A leader that was killed.
#[derive(Clone, Debug)]
pub struct Kill {
    pub name: String,
    pub pid: u32,
    pub at: Timestamp,
}

/// Whoever leads after it.
#[derive(Clone, Debug)]
pub struct Takeover {
    pub leader: String,
    /// The last index that the survivors had from the old leader: the new one writes above it.
    pub last_index: LogIndex,
}

const TAKEOVER_MAX: Duration = Duration::from_secs(60);

/// From SIGKILL to the first task start by the new leader. A token names the log entry that placed the attempt, so it
/// tells which leader placed it.
pub fn failover(kill: &Kill, takeover: &Takeover, tasks: &[TaskView]) -> Option<Duration> {
    let outcomes = tasks.iter().filter_map(|task| task.outcome.as_ref());
    let by_new = outcomes.filter(|outcome| outcome.token.index() > takeover.last_index);
    let first = by_new.filter_map(|outcome| outcome.started).filter(|started| *started > kill.at).min()?;
    Some(first.since(kill.at))
}

/// A task so small that it finds room beside anything: when it starts, somebody leads.
pub fn probe() -> JobSpec {
    let mut task = TaskSpec::new("probe", Work::Noop);
    task.resources = Resources { cpu: PARTS / 100, ..Resources::default() };
    JobSpec::of("probe", vec![task])
}

/// Submits a probe and gives its task as it ended. The replicas that are left hold the call until one of them leads.
pub async fn send_probe(client: &Client) -> Result<Vec<TaskView>, Fault> {
    let cannot = |error| Fault::reading("cannot send a probe", error);
    let job = client.submit(&probe()).await.map_err(cannot)?.job;
    while !client.get_job(job).await.map_err(cannot)?.value.state.is_final() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)
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
        let ports = choose_ports(&plan)?;
        let folder = folder(&plan)?;
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
        for process in self.replicas.iter_mut().chain(&mut self.workers) {
            process.start(&self.spawner)?;
        }
        self.wait_ready().await?;
        Ok(self)
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
        command_line("server", flags)
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
        let mut options = Options::new(self.addresses());
        options.deadline = deadline;
        options.patience = deadline;
        options.via = "cli".to_owned();
        options.user = "dev".to_owned();
        Client::with(options)
    }

    /// What some replica that answers sees now.
    pub async fn status(&self) -> Option<ClusterView> {
        self.client(Duration::from_millis(500)).stale().cluster_status().await.ok()
    }

    /// The place of the leader, as a replica that is alive sees it.
    pub async fn leader(&self) -> Option<usize> {
        let leader = self.status().await?.leader?;
        self.replicas.iter().position(|replica| replica.name == leader && replica.is_running())
    }

    /// SIGKILL to the leader.
    pub async fn kill_leader(&mut self) -> Result<Kill, Fault> {
        let place = self.leader().await.ok_or_else(|| Fault::failed("there is no leader to kill"))?;
        let process = &mut self.replicas[place];
        let (name, pid, at) = (process.name.clone(), process.pid().unwrap_or_default(), clock::now());
        process.kill();
        Ok(Kill { name, pid, at })
    }

    /// Waits for another leader than the one that was killed.
    pub async fn takeover(&self, kill: &Kill) -> Result<Takeover, Fault> {
        let watch = Stopwatch::start();
        let mut last_index = 0;
        while watch.elapsed() < TAKEOVER_MAX {
            for (place, _) in self.replicas.iter().enumerate().filter(|(_, replica)| replica.is_running()) {
                let address = self.addresses()[place].clone();
                let one = Client::connect([address]).with_deadline(Duration::from_millis(300)).stale();
                let Ok(status) = one.cluster_status().await else { continue };
                match status.leader {
                    Some(leader) if leader != kill.name => return Ok(Takeover { leader, last_index }),
                    _ => last_index = last_index.max(status.last_log),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Fault::failed("nobody took over").why(self.last_words()))
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

    /// Brings back every replica and worker that has ended or is stopped; gives their names.
    pub fn revive(&mut self) -> Result<Vec<String>, Fault> {
        let mut revived = Vec::new();
        for process in self.replicas.iter_mut().chain(&mut self.workers) {
            if process.is_stopped {
                process.signal(Signal::SIGCONT);
                process.is_stopped = false;
                revived.push(process.name.clone());
            } else if process.ended().is_some() || !process.is_running() {
                process.start(&self.spawner)?;
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

impl Process {
    fn new(name: &str, args: Vec<String>, folder: &Path) -> Process {
        let log = folder.join(format!("{name}.log"));
        Process { name: name.to_owned(), args, log, child: None, is_stopped: false }
    }

    fn start(&mut self, spawner: &Spawner) -> Result<(), Fault> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| Fault::of_file("cannot write a log", &self.log, &error))?;
        let binary = std::env::current_exe()?;
        let mut command = Command::new(binary);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Settings of the user's own clients are not for these processes.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("BATON_") && !name.starts_with("BATON_LOG"))
            {
                command.env_remove(name);
            }
        }
        command.env(tether::PARENT, std::process::id().to_string());
        let child = spawner.spawn(command)?;
        // For scripts that want to break something by themselves.
        std::fs::write(self.log.with_extension("pid"), format!("{}\n", child.id()))?;
        self.child = Some(child);
        self.is_stopped = false;
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some() && !self.is_stopped
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid as i32), signal);
        }
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.is_stopped = false;
    }

    /// SIGSTOP: it neither answers nor ends.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.is_stopped = self.child.is_some();
    }

    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Starts children from one thread that lives as long as this process: a child tied to its parent dies with the
/// *thread* that started it.
struct Spawner {
    orders: mpsc::Sender<(Command, mpsc::Sender<std::io::Result<Child>>)>,
}

impl Spawner {
    fn start() -> Spawner {
        let (orders, inbox) = mpsc::channel::<(Command, mpsc::Sender<std::io::Result<Child>>)>();
        let work = move || {
            while let Ok((mut command, answer)) = inbox.recv() {
                let _ = answer.send(command.spawn());
            }
            // The children are killed before the cluster goes; until the process ends nothing may end this thread.
            loop {
                std::thread::park();
            }
        };
        std::thread::Builder::new().name("spawner".to_owned()).spawn(work).expect("a thread can be started");
        Spawner { orders }
    }

    fn spawn(&self, command: Command) -> Result<Child, Fault> {
        let (answer, told) = mpsc::channel();
        let gone = || Fault::failed("the thread that starts processes is gone");
        self.orders.send((command, answer)).map_err(|_| gone())?;
        Ok(told.recv().map_err(|_| gone())??)
    }
}

fn folder(plan: &Plan) -> Result<Folder, Fault> {
    let (path, is_temporary) = match &plan.data_dir {
        Some(path) => (path.clone(), false),
        None => (std::env::temp_dir().join(format!("baton-{}-{:x}", plan.cluster, std::process::id())), true),
    };
    std::fs::create_dir_all(&path).map_err(|error| Fault::of_file("cannot keep data", &path, &error))?;
    let path = path.canonicalize().map_err(|error| Fault::of_file("cannot keep data", &path, &error))?;
    Ok(Folder { path, is_temporary })
}

fn choose_ports(plan: &Plan) -> Result<Vec<Ports>, Fault> {
    if plan.port_base == 0 {
        return free_ports(plan.replicas);
    }
    let mut all = Vec::new();
    for n in 0..plan.replicas as u16 {
        let at = |offset: u16| {
            plan.port_base.checked_add(offset + n).ok_or_else(|| {
                Fault::usage(format!("--port-base {} leaves no room for {offset} more ports", plan.port_base))
            })
        };
        let ports = Ports { api: at(0)?, peer: at(PEER_OFFSET)?, http: at(HTTP_OFFSET)? };
        for port in [ports.api, ports.peer, ports.http] {
            check_free(port)?;
        }
        all.push(ports);
    }
    Ok(all)
}

fn check_free(port: u16) -> Result<(), Fault> {
    match TcpListener::bind(("127.0.0.1", port)) {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(Fault::new("port-taken", Exit::FAILED, format!("port {port} cannot be used: {error}"))
                .fix("choose others with --port-base PORT, or let the kernel choose with --port-base 0"))
        }
    }
}

/// Ports that are free now; held until all are chosen, so that they differ.
fn free_ports(replicas: usize) -> Result<Vec<Ports>, Fault> {
    let listeners =
        (0..replicas * 3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let ports = ports.collect::<Result<Vec<u16>, std::io::Error>>()?;
    Ok(ports.chunks_exact(3).map(|three| Ports { api: three[0], peer: three[1], http: three[2] }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_an_error_that_names_the_port_and_the_flag() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let fault = check_free(port).unwrap_err();
        assert!(fault.what.contains(&port.to_string()) && fault.fix.contains("--port-base"), "{fault:?}");
    }

    #[test]
    fn chosen_ports_differ() {
        let ports = free_ports(3).unwrap();
        let all: std::collections::BTreeSet<u16> =
            ports.iter().flat_map(|ports| [ports.api, ports.peer, ports.http]).collect();
        assert_eq!(all.len(), 9);
    }
}
