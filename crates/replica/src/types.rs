//! The types that Raft is instantiated with. Only this crate knows openraft.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec::{self, Undecodable};

pub type NodeId = u64;

/// A replica as the membership names it. Never a bare address: the incarnation tells a data directory from a
/// later one under the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub name: String,
    pub raft_address: String,
    pub api_address: String,
    pub incarnation: u64,
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.raft_address)
    }
}

/// An entry on its way through the log: encoded once by the proposer, decoded once per replica.
#[derive(Clone)]
pub struct Proposal {
    bytes: Bytes,
    entry: OnceLock<Arc<machine::Entry>>,
}

impl Proposal {
    pub fn new(entry: machine::Entry) -> Proposal {
        let bytes = codec::encode_entry(&entry);
        Proposal { bytes, entry: OnceLock::from(Arc::new(entry)) }
    }

    /// What was written to a log. Decoded when first asked for.
    pub fn from_bytes(bytes: Bytes) -> Proposal {
        Proposal { bytes, entry: OnceLock::new() }
    }

    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub fn entry(&self) -> Result<&Arc<machine::Entry>, Undecodable> {
        self.entry_with(|_| {})
    }

    /// `first` sees it when it has just been decoded.
    pub fn entry_with(
        &self,
        first: impl FnOnce(&mut machine::Entry),
    ) -> Result<&Arc<machine::Entry>, Undecodable> {
        if let Some(entry) = self.entry.get() {
            return Ok(entry);
        }
        let mut entry = codec::decode_entry(&self.bytes)?;
        first(&mut entry);
        Ok(self.entry.get_or_init(|| Arc::new(entry)))
    }

    /// Lets the decoded form go; the bytes stay for followers.
    pub(crate) fn forget_entry(&mut self) {
        self.entry = OnceLock::new();
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry.get() {
            Some(entry) => write!(f, "{entry}"),
            None => write!(f, "{} bytes", self.bytes.len()),
        }
    }
}

impl PartialEq for Proposal {
    fn eq(&self, other: &Proposal) -> bool {
        self.bytes == other.bytes
    }
}

// openraft's `serde` feature asks for these two; our own codec moves bytes as bytes.
impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Proposal {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Vec::<u8>::deserialize(d).map(|bytes| Proposal::from_bytes(bytes.into()))
    }
}

/// What the proposer gets back once its entry is applied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    pub index: u64,
    pub replies: Vec<machine::Reply>,
}

#[cfg(not(turmoil))]
type AsyncRuntime = TokioRuntime;
#[cfg(turmoil)]
type AsyncRuntime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

// The name under `openraft_rt_tokio` is the same type; through openraft it needs no further dependency.
#[allow(deprecated)]
#[cfg(not(turmoil))]
use openraft::TokioRuntime;

openraft::declare_raft_types!(
    /// Standard leader ids: at most one leader per term, so a log id is (term, index).
    pub TypeConfig:
        D = Proposal,
        R = Response,
        NodeId = NodeId,
        Node = Member,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = AsyncRuntime,
);

pub type CommittedLeaderId = <leader_id_std::LeaderId<u64, u64> as RaftLeaderId>::Committed;
pub type LogId = openraft::LogId<CommittedLeaderId>;
pub type Vote = openraft::Vote<leader_id_std::LeaderId<u64, u64>>;
pub type Payload = openraft::EntryPayload<Proposal, NodeId, Member>;
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub type Membership = openraft::Membership<NodeId, Member>;
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, NodeId, Member>;
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, NodeId, Member>;
pub type Snapshot = openraft::Snapshot<CommittedLeaderId, NodeId, Member, crate::snapshot::SnapshotFile>;
pub type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;
pub type Metrics = openraft::RaftMetrics<TypeConfig>;
pub type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;

pub fn log_id(term: u64, index: u64) -> LogId {
    openraft::LogId { leader_id: CommittedLeaderId::new(term), index }
}

/// Runs what calls into Raft from a task that Raft did not start. In a simulation Raft draws its chance from a seed
/// that such a task must carry.
#[cfg(not(turmoil))]
pub async fn seeded<F: Future>(call: F) -> F::Output {
    call.await
}

#[cfg(turmoil)]
pub async fn seeded<F: Future>(call: F) -> F::Output {
    AsyncRuntime::scope(crate::chance::next(), call).await
}
