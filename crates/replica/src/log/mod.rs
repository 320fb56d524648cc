//! The Raft log: chunks of entries in a [`LogBackend`], written by one thread, the newest of it read from memory.

mod backend;
mod cache;
mod chunk;
mod contents;
#[cfg(feature = "chaos")]
pub(crate) mod damage;
mod fault;
mod mark;
mod memory;
mod sled;
mod slots;
mod store;
#[cfg(any(test, feature = "chaos"))]
mod volatile;
mod writer;

#[cfg(all(test, feature = "chaos"))]
mod chaos_tests;
#[cfg(test)]
mod kill_tests;
#[cfg(test)]
mod sled_tests;
#[cfg(test)]
mod tests;

pub use backend::{ChunkKey, Loaded, LogBackend};
pub use chunk::PAYLOAD_BYTES_MAX;
pub use contents::{Ballot, Contents, Logged};
pub use fault::{FaultBackend, Faults, Operation};
pub use memory::{MemoryBackend, MemoryDisk};
pub use sled::SledBackend;
pub use store::{LogError, LogStore, Owner};
#[cfg(feature = "chaos")]
pub use volatile::Volatile;
