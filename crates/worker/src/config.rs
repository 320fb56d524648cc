//! What a worker is told at its start, and what it finds out about its host.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use model::{Capacity, Resources};

pub use crate::keeper::client::KeeperProgram;

#[derive(Clone, Debug)]
pub struct Config {
    /// Unique in the cluster.
    pub name: String,
    /// API addresses of replicas, `host:port`.
    pub servers: Vec<String>,
    pub data_dir: PathBuf,
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    /// Where secrets lie, one per file.
    pub secrets_dir: Option<PathBuf>,
    pub logs: LogLimits,
    /// How long a drain waits for what runs.
    pub drain_timeout: Duration,
    /// Between TERM and KILL when an attempt is stopped or timed out.
    pub stop_grace: Duration,
    pub keeper: KeeperProgram,
    /// Whether to use control groups where the host lets us.
    pub cgroups: bool,
    #[cfg(feature = "chaos")]
    pub mutant: Option<worker_core::Mutant>,
}

impl Config {
    pub fn new(name: &str, servers: Vec<String>, data_dir: impl Into<PathBuf>) -> Config {
        Config {
            name: name.to_owned(),
            servers,
            data_dir: data_dir.into(),
            capacity: detect_capacity(),
            labels: BTreeMap::new(),
            secrets_dir: None,
            logs: LogLimits::default(),
            drain_timeout: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            keeper: KeeperProgram::default(),
            cgroups: true,
            #[cfg(feature = "chaos")]
            mutant: None,
        }
    }
}

/// How much output is kept, and how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// Of each stream of an attempt. What is beyond is dropped, and said to be.
    pub stream_bytes_max: u64,
    /// Of all attempts that have ended; the oldest go first.
    pub bytes_max: u64,
    /// How many attempts that have ended.
    pub attempts_max: usize,
    pub age_max: Duration,
    /// The working directory of an attempt that failed stays so long.
    pub workdir_age_max: Duration,
}

impl Default for LogLimits {
    fn default() -> LogLimits {
        LogLimits {
            stream_bytes_max: 16 << 20,
            bytes_max: 1 << 30,
            attempts_max: 50_000,
            age_max: Duration::from_secs(7 * 24 * 3600),
            workdir_age_max: Duration::from_secs(3600),
        }
    }
}

/// The cores and the memory that this process may use.
pub fn detect_capacity() -> Capacity {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut total = Resources::cores(cores as u64);
    total.memory = memory_bytes();
    Capacity::of(total)
}

/// Of the host, or of the control group if that has less.
fn memory_bytes() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let groups = limits.into_iter().filter_map(read);
    groups.chain(host_memory_bytes()).min().unwrap_or(0)
}

fn host_memory_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
