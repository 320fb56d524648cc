//! The other systems: how each is found, started, loaded and stopped. A turn starts it anew, warms up, measures, and
//! stops it, so that it takes nothing from Baton's turn.

mod dask;
mod etcd;
mod hyperqueue;
mod nats;
mod python;
mod spawn;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use crate::child::printed;
use crate::fault::Fault;

/// Bytes of a value or message, as in the figures of others.
const VALUE_BYTES: usize = 256;
/// For a cluster of a peer to have a leader and take its first write.
const READY_MAX: Duration = Duration::from_secs(60);
/// Between two questions whether it is ready.
const READY_POLL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Peer {
    /// Three members, each write synced
    Etcd,
    /// JetStream, three replicas, file storage
    Nats,
    /// dask.distributed, two worker processes
    Dask,
    /// A server and a worker of two cpus
    HyperQueue,
    /// No system at all: posix_spawn and wait in one thread
    Spawn,
}

/// What a row asks of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// Puts with so many in flight.
    Puts(usize),
    /// Messages from the publish to the confirmed acknowledgement of their consumer, so many in flight.
    Messages(usize),
    Noops,
    Processes,
}

/// Where a turn keeps its data, what it uses, and how much it does.
#[derive(Clone, Debug)]
pub struct Turn {
    pub dir: PathBuf,
    /// The Python that has the packages of dask and HyperQueue.
    pub python: PathBuf,
    pub scale: f64,
}

impl Turn {
    /// A part or a multiple of the usual amount.
    fn scaled(&self, count: u64) -> u64 {
        ((count as f64 * self.scale) as u64).max(1)
    }
}

impl Peer {
    pub const ALL: [Peer; 5] = [Peer::Etcd, Peer::Nats, Peer::Dask, Peer::HyperQueue, Peer::Spawn];

    pub fn title(self) -> &'static str {
        match self {
            Peer::Etcd => "etcd",
            Peer::Nats => "NATS JetStream R3",
            Peer::Dask => "dask.distributed",
            Peer::HyperQueue => "HyperQueue",
            Peer::Spawn => "bare posix_spawn",
        }
    }

    /// Whether an acknowledgement waits until a majority of its disks has the write.
    pub fn is_synced(self) -> bool {
        match self {
            Peer::Etcd => true,
            Peer::Nats | Peer::Dask | Peer::HyperQueue | Peer::Spawn => false,
        }
    }

    /// The version that would be measured; an error says why it cannot be.
    pub async fn version(self, python: &Path) -> Result<String, Fault> {
        match self {
            Peer::Etcd => etcd::version().await,
            Peer::Nats => nats::version().await,
            Peer::Dask => python::version(python, "distributed").await,
            Peer::HyperQueue => python::version(python, "hyperqueue").await,
            Peer::Spawn => spawn::version(),
        }
    }

    /// One turn: a figure per second for each load, in their order.
    pub async fn measure(self, turn: &Turn, loads: &[Load]) -> Result<Vec<f64>, Fault> {
        match self {
            Peer::Etcd => etcd::measure(turn, loads).await,
            Peer::Nats => nats::measure(turn, loads).await,
            Peer::Dask => dask::measure(turn).await.map(|rate| vec![rate]),
            Peer::HyperQueue => hyperqueue::measure(turn).await.map(|rate| vec![rate]),
            Peer::Spawn => spawn::measure(turn).await.map(|rate| vec![rate]),
        }
    }
}

/// A server's program: on the PATH, or where Debian puts servers, which is not on everybody's PATH.
fn program(name: &str, package: &str) -> Result<PathBuf, Fault> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        Fault::new(format!("{name} is not installed"))
            .because("no folder of the PATH has it")
            .fix(format!("apt-get install {package}"))
    })
}

/// The first line that it prints when asked for its version.
async fn first_line(program: &Path, argument: &str) -> Result<String, Fault> {
    let mut command = Command::new(program);
    command.arg(argument);
    let text = printed("version", command).await?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        assert!(program("sh", "dash").is_ok());
        let fault = program("no-such-server", "some-package").unwrap_err().to_string();
        assert!(fault.contains("apt-get install some-package"), "{fault}");
    }

    #[test]
    fn work_is_scaled_and_never_nothing() {
        let turn = |scale| Turn { dir: PathBuf::new(), python: PathBuf::new(), scale };
        assert_eq!((turn(0.5).scaled(100), turn(0.0).scaled(100)), (50, 1));
    }
}
