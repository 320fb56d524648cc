//! A cluster of child processes. Each is ended by its pid when the cluster is dropped.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long anything may take before a test gives up. Generous: it bounds a hang, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The binary under test, built once if this package is tested alone.
pub fn baton() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let exe = std::env::current_exe().expect("a test has a path");
        let folder = exe.ancestors().find(|path| path.ends_with("debug") || path.ends_with("release"));
        let folder = folder.expect("tests run from the target folder");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "baton-cli", "--bin", "baton"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built =
            build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).status().expect("cargo runs");
        assert!(built.success(), "baton does not build");
        folder.join("baton")
    })
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}

pub struct Process {
    pub name: String,
    args: Vec<String>,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    fn new(name: &str, args: Vec<String>, folder: &Path) -> Process {
        let mut process =
            Process { name: name.to_owned(), args, child: None, log: folder.join(format!("{name}.log")) };
        process.start();
        process
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(baton());
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Nothing of the tester's own configuration may reach the processes.
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("BATON_LOG", "info,baton=debug");
        self.child = Some(command.spawn().expect("baton starts"));
    }

    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().expect("the process runs");
        kill(Pid::from_raw(pid), signal).expect("the process can be signalled");
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and wait until it has left by itself.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("the process runs");
        for _ in 0..PATIENCE.as_millis() / 50 {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = child.kill();
        panic!("{} did not leave after SIGTERM:\n{}", self.name, self.log_tail());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.log_tail());
        }
        self.kill();
    }
}

pub struct Cluster {
    pub replicas: Vec<Process>,
    pub workers: Vec<Process>,
    /// API addresses, by replica.
    pub addresses: Vec<String>,
    // Last, so that the processes end before their folders go.
    pub folder: TempDir,
}

impl Cluster {
    /// Starts so many replicas and workers and waits until work can be done.
    pub async fn start(replicas: usize, workers: usize) -> Cluster {
        let folder = TempDir::new().expect("a folder");
        let ports = free_ports(replicas * 2);
        let (api, peer) = ports.split_at(replicas);
        let peers: Vec<String> =
            peer.iter().zip(1..).map(|(port, n)| format!("n{n}=127.0.0.1:{port}")).collect();
        let processes = (0..replicas).map(|n| {
            let name = format!("n{}", n + 1);
            let args = replica_args(&name, folder.path(), api[n], peer[n], &peers.join(","));
            Process::new(&name, args, folder.path())
        });
        let addresses: Vec<String> = api.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let replicas = processes.collect();
        let mut cluster = Cluster { replicas, workers: Vec::new(), addresses, folder };
        for n in 0..workers {
            cluster.add_worker(&format!("w{}", n + 1), &[]);
        }
        cluster.wait_ready(workers).await;
        cluster
    }

    pub fn add_worker(&mut self, name: &str, more: &[&str]) {
        let mut args = worker_args(name, self.folder.path(), &self.addresses.join(","));
        args.extend(more.iter().map(|arg| arg.to_string()));
        let process = Process::new(name, args, self.folder.path());
        self.workers.push(process);
    }

    /// A client that knows every replica.
    pub fn client(&self) -> Client {
        Client::connect(self.addresses.clone())
    }

    /// A client that knows only this one.
    pub fn client_of(&self, replica: usize) -> Client {
        Client::connect(vec![self.addresses[replica].clone()])
    }

    pub async fn wait_ready(&self, workers: usize) {
        let client = self.client();
        wait_until("the cluster is ready", async || {
            let Ok(status) = client.cluster_status(false).await else { return false };
            status.leader.is_some() && status.workers_live as usize >= workers
        })
        .await;
    }

    /// Which replica leads.
    pub async fn leader(&self) -> usize {
        let client = self.client();
        for _ in 0..PATIENCE.as_millis() / 50 {
            if let Ok(status) = client.cluster_status(false).await
                && let Some(place) =
                    self.replicas.iter().position(|r| Some(&r.name) == status.leader.as_ref())
                && self.replicas[place].pid().is_some()
            {
                return place;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("nobody leads");
    }
}

fn replica_args(name: &str, folder: &Path, api: u16, peer: u16, peers: &str) -> Vec<String> {
    let data = folder.join(name);
    let list = [
        "server",
        "--cluster",
        "test",
        "--name",
        name,
        "--data-dir",
        data.to_str().expect("a plain path"),
        "--listen",
        &format!("127.0.0.1:{api}"),
        "--peer-listen",
        &format!("127.0.0.1:{peer}"),
        "--http",
        "127.0.0.1:0",
        "--peers",
        peers,
        "--failover",
        "fast",
    ];
    list.map(str::to_owned).to_vec()
}

fn worker_args(name: &str, folder: &Path, servers: &str) -> Vec<String> {
    let data = folder.join(name);
    let data = data.to_str().expect("a plain path");
    let list = [
        "worker",
        "--name",
        name,
        "--servers",
        servers,
        "--data-dir",
        data,
        "--cpu",
        "4",
        "--memory",
        "1GiB",
    ];
    list.map(str::to_owned).to_vec()
}

/// Waits for a condition; a hang becomes a failure that names it.
pub async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / 50 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}
