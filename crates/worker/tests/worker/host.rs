//! A worker in this process, its directory, and a look at what runs on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::JoinSet;
use worker::{Config, Handle, KeeperProgram, Left, StartError, Worker, WorkerBuilder, WorkerError};

use crate::leader::Leader;

/// A leader and a worker that is attached to it.
pub struct World {
    pub leader: Leader,
    pub host: Host,
}

impl World {
    pub async fn new() -> World {
        World::with(|builder| builder, |_| ()).await
    }

    pub async fn with(
        build: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
        configure: impl FnOnce(&mut Config),
    ) -> World {
        let mut leader = Leader::start().await;
        let mut host = Host::new();
        host.start(&leader, build, configure).await.unwrap();
        leader.attached().await;
        World { leader, host }
    }
}

pub struct Host {
    dir: tempfile::TempDir,
    worker: JoinSet<Result<Left, WorkerError>>,
    pub handle: Option<Handle>,
}

impl Host {
    pub fn new() -> Host {
        Host { dir: tempfile::tempdir().unwrap(), worker: JoinSet::new(), handle: None }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn config(&self, leader: &Leader) -> Config {
        let mut config = Config::new("w1", vec![leader.address.clone()], self.data_dir());
        config.capacity = model::Capacity::of(model::Resources::cores(64));
        config.stop_grace = Duration::from_millis(300);
        config.drain_timeout = Duration::from_secs(30);
        config.keeper =
            KeeperProgram { program: env!("CARGO_BIN_EXE_baton-keeper").into(), arguments: Vec::new() };
        config
    }

    pub async fn start(
        &mut self,
        leader: &Leader,
        build: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
        configure: impl FnOnce(&mut Config),
    ) -> Result<(), StartError> {
        let mut config = self.config(leader);
        configure(&mut config);
        let worker = build(Worker::builder(config)).start().await?;
        self.handle = Some(worker.handle());
        self.worker.spawn(worker.run());
        Ok(())
    }

    /// The worker is gone from one moment to the next; its keeper is not told.
    pub async fn crash(&mut self) {
        self.worker.shutdown().await;
    }

    pub async fn left(&mut self) -> Left {
        self.worker.join_next().await.expect("a worker runs").unwrap().unwrap()
    }

    pub async fn failed(&mut self) -> WorkerError {
        self.worker.join_next().await.expect("a worker runs").unwrap().unwrap_err()
    }

    pub fn keeper(&self) -> Option<i32> {
        fs::read_to_string(self.data_dir().join("keeper.pid")).ok()?.parse().ok()
    }

    pub fn read(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.path().join(file)).ok()
    }

    /// Waits until a task has written the file, and returns its text.
    pub async fn written(&self, file: &str) -> String {
        until(|| self.read(file).is_some_and(|text| text.ends_with('\n'))).await;
        self.read(file).unwrap().trim().to_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(pid) = self.keeper() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub fn is_alive(pid: &str) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // A zombie has ended, whoever has not yet looked.
    !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

pub async fn until(is_so: impl Fn() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("it comes to pass");
}
