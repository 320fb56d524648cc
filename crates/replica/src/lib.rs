//! A replica of the cluster's state: openraft over a log on sled, with its own transport. It carries entries and
//! applies them to `machine::State`; it knows no scheduling.
//!
//! [`Replica::start`] founds or finds the cluster. [`Replica::propose`] writes, [`Replica::read_index`] makes the
//! state here linearizable, [`Replica::read`] reads it, [`Replica::leadership`] tells who leads and
//! [`Replica::applied`] what was applied.

mod accept;
mod bootstrap;
#[cfg(not(feature = "chaos"))]
mod calm;
pub mod chance;
#[cfg(feature = "chaos")]
pub mod chaos;
mod codec;
mod config;
mod convert;
mod cut;
mod disk;
pub mod env;
mod feed;
mod held;
mod identity;
mod inspect;
mod log;
mod network;
mod propose;
mod reads;
mod replica;
mod service;
mod session;
mod snapshot;
mod start;
mod state_machine;
mod status;
mod types;
mod upkeep;

pub use accept::connections;
#[cfg(not(feature = "chaos"))]
pub use calm::Hooks;
#[cfg(feature = "chaos")]
pub use chaos::Hooks;
pub use codec::{Undecodable, decode_entry, encode_entry};
pub use config::{Config, Peer, SnapshotThresholds, StartError};
pub use cut::Cut;
pub use env::{Env, Listen, Real, WallOffset};
pub use feed::{Feed, Subscription};
pub use held::{Held, Pauses};
pub use identity::Identity;
pub use inspect::Inside;
pub use log::{
    Ballot, ChunkKey, Contents, FaultBackend, Faults, Loaded, LogBackend, LogError, Logged, MemoryBackend,
    MemoryDisk, Operation, SledBackend,
};
pub use propose::{ENTRY_BYTES_MAX, Happened, Leader, ProposeError, Proposed};
pub use reads::ReadError;
pub use replica::{Replica, TransferError};
pub use start::Seams;
pub use status::{Leadership, MemberStatus, RaftState, Status};
pub use types::{Member, NodeId};
