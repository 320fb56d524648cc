//! What a replica is told at its start, and why a start can be refused.

use std::io;
use std::path::PathBuf;

use model::settings::Failover;

use crate::env::Listen;
use crate::log::LogError;

/// A founding member, under its configured name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    /// `host:port`; the name is resolved at each connect.
    pub raft_addr: String,
}

/// When the log is folded into a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotThresholds {
    /// Bytes of log since the last snapshot; or twice the bytes of that, if it is more.
    pub log_bytes_min: u64,
    /// Bytes of log kept behind a snapshot, for followers that are a little late.
    pub tail_bytes: u64,
    /// Bytes of applied log that stay in memory; older entries are read back from the disk.
    pub cached_bytes: u64,
}

impl SnapshotThresholds {
    pub const LOG_BYTES_DEFAULT: u64 = 64 << 20;

    /// A snapshot after so many bytes of log, half of them kept behind it, a quarter of them in memory.
    pub fn of_log_bytes(log_bytes: u64) -> SnapshotThresholds {
        SnapshotThresholds {
            log_bytes_min: log_bytes,
            tail_bytes: log_bytes / 2,
            cached_bytes: log_bytes / 4,
        }
    }
}

impl Default for SnapshotThresholds {
    fn default() -> SnapshotThresholds {
        SnapshotThresholds::of_log_bytes(SnapshotThresholds::LOG_BYTES_DEFAULT)
    }
}

#[derive(Debug)]
pub struct Config {
    /// Peers of another cluster name are refused.
    pub cluster: String,
    pub name: String,
    pub data_dir: PathBuf,
    pub peer_listen: Listen,
    /// How peers reach this replica; empty: the address it listens on.
    pub advertise_raft: String,
    /// How clients reach it.
    pub advertise_api: String,
    /// All founding members, this one included. Read only while the data directory is empty.
    pub peers: Vec<Peer>,
    pub failover: Failover,
    pub snapshots: SnapshotThresholds,
    /// The highest behaviour level that this replica applies: what the code knows, or less in a test. It stops at what is above.
    pub level_max: u32,
}

impl Config {
    /// A replica of a cluster `cluster` called `name`, listening on a port of the kernel's choice on loopback.
    pub fn new(cluster: &str, name: &str, data_dir: PathBuf) -> Config {
        Config {
            cluster: cluster.into(),
            name: name.into(),
            data_dir,
            peer_listen: Listen::Address("127.0.0.1:0".into()),
            advertise_raft: String::new(),
            advertise_api: String::new(),
            peers: Vec::new(),
            failover: Failover::Default,
            snapshots: SnapshotThresholds::default(),
            level_max: machine::LEVEL,
        }
    }
}

/// Says what is wrong, and what can be done.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("data directory {dir}: {what}")]
    DataDir {
        dir: PathBuf,
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "data directory {dir} is in use by another process; stop that one, or give this one another directory"
    )]
    InUse { dir: PathBuf },
    #[error(
        "data directory {dir} belongs to replica `{found}` of cluster `{found_cluster}`, not to `{name}` of \
             `{cluster}`; start it with its own names, or give this replica another directory"
    )]
    OtherIdentity { dir: PathBuf, name: String, cluster: String, found: String, found_cluster: String },
    #[error(
        "the log in {dir} is not the one that this replica wrote; put the right one back, or remove this replica \
             from the cluster and let it join with an empty directory under another name"
    )]
    OtherLog { dir: PathBuf },
    #[error(
        "data directory {dir} holds a log but no identity; put its `identity.json` back, or remove this replica \
             from the cluster and let it join with an empty directory under another name"
    )]
    NoIdentity { dir: PathBuf },
    #[error(
        "this replica stopped because its state differed from that of the others: {why}; remove it from the \
             cluster and let it join with an empty directory under another name"
    )]
    Diverged { why: String },
    #[error(
        "the log in {dir} cannot be used; the other replicas have all that was acknowledged: remove this one from \
             the cluster and let it join with an empty directory under another name"
    )]
    Log {
        dir: PathBuf,
        #[source]
        source: LogError,
    },
    #[error("peers cannot be listened for on {address}; is the port taken?")]
    Listen {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "data directory {dir} is empty and no peers are given; name all founding replicas, this one included"
    )]
    NoPeers { dir: PathBuf },
    #[error("`{name}` is not among the peers {peers:?}; name all founding replicas, this one included")]
    NotAPeer { name: String, peers: Vec<String> },
    #[error("the peer name `{name}` is given twice")]
    PeerTwice { name: String },
    #[error("the peer at {address} says: {answer}")]
    Refused { address: String, answer: String },
    #[error("the peer at {address} is called `{found}`, not `{expected}`; correct the list of peers")]
    OtherPeer { address: String, expected: String, found: String },
    #[error(
        "{whose} election timing is `{theirs}`, this replica was given `{own}`; all replicas of a cluster have the \
             one that it was founded with: give this one the same --failover"
    )]
    OtherFailover { whose: String, theirs: String, own: Failover },
    #[error(
        "the replicated lease of workers is too short for the election timing `{failover}`: ttl - margin - heartbeat \
             must be at least twice the time of a failover; give the cluster a longer lease before this replica is \
             started again"
    )]
    LeaseTooShort { failover: Failover },
    #[error("the peer `{peer}` was given the peers {theirs:?}, this replica {own:?}; give all the same list")]
    PeersDiffer { peer: String, theirs: Vec<String>, own: Vec<String> },
    #[error(
        "the cluster has a member called `{name}` with another data directory than this empty one; put that \
             directory back, or remove the member and let this replica join under another name"
    )]
    NameTaken { name: String },
    #[error(
        "cluster `{cluster}` exists and `{name}` is not a member of it; it has to be added before it can start"
    )]
    NotAMember { name: String, cluster: String },
    #[error("the runtime for replication cannot be started")]
    Runtime(#[source] io::Error),
    #[error("replication cannot be started: {0}")]
    Raft(String),
}
