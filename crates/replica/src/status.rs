//! How this replica stands.

use std::collections::BTreeMap;
use std::time::Duration;

use model::Moment;
use openraft::ServerState;
use openraft::async_runtime::Instant;

use crate::types::{LogId, Member, Metrics, NodeId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftState {
    Learner,
    Follower,
    Candidate,
    Leader,
    Stopping,
}

/// A member under its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: NodeId,
    pub name: String,
    pub raft_addr: String,
    pub api_addr: String,
    pub voter: bool,
}

/// Indexes are 0 where there is none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub id: NodeId,
    pub name: String,
    pub cluster: String,
    pub cluster_id: String,
    pub state: RaftState,
    pub term: u64,
    pub leader: Option<MemberStatus>,
    pub members: Vec<MemberStatus>,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
    pub snapshot: u64,
    pub purged: u64,
    pub log_bytes: u64,
    pub snapshot_bytes: u64,
    /// Leader: how long ago a quorum last acknowledged it.
    pub quorum_acked: Option<Duration>,
    /// Leader: the last entry that each peer is known to have.
    pub matched: BTreeMap<NodeId, u64>,
    /// Of the chain over everything applied.
    pub digest: u64,
    /// Another replica has another digest at an index that both have applied: a person must look.
    pub digest_alarm: Option<String>,
    /// How far each peer's wall clock is ahead of this one's, in microseconds.
    pub clock_offsets: BTreeMap<NodeId, i64>,
}

impl Status {
    pub fn voters(&self) -> impl Iterator<Item = &MemberStatus> {
        self.members.iter().filter(|member| member.voter)
    }

    /// This replica's wall clock against the median of all voters, in microseconds; positive: ahead.
    pub fn clock_skew(&self) -> i64 {
        let mut offsets: Vec<i64> = self.clock_offsets.values().copied().chain([0]).collect();
        offsets.sort();
        -offsets[offsets.len() / 2]
    }
}

/// Whether this replica leads, told only when it has applied the first entry of its own term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    Leading { term: u64, since: Moment },
    NotLeading,
}

impl Leadership {
    pub fn term(self) -> Option<u64> {
        match self {
            Leadership::Leading { term, .. } => Some(term),
            Leadership::NotLeading => None,
        }
    }
}

pub(crate) fn raft_state(state: ServerState) -> RaftState {
    match state {
        ServerState::Learner => RaftState::Learner,
        ServerState::Follower => RaftState::Follower,
        ServerState::Candidate => RaftState::Candidate,
        ServerState::Leader => RaftState::Leader,
        ServerState::Shutdown => RaftState::Stopping,
    }
}

pub(crate) fn members(metrics: &Metrics) -> Vec<MemberStatus> {
    let voters: Vec<NodeId> = metrics.membership_config.voter_ids().collect();
    let nodes = metrics.membership_config.nodes();
    nodes.map(|(id, member)| member_status(*id, member, voters.contains(id))).collect()
}

fn member_status(id: NodeId, member: &Member, voter: bool) -> MemberStatus {
    MemberStatus {
        id,
        name: member.name.clone(),
        raft_addr: member.raft_address.clone(),
        api_addr: member.api_address.clone(),
        voter,
    }
}

pub(crate) fn index(id: &Option<LogId>) -> u64 {
    id.map_or(0, |id| id.index)
}

pub(crate) fn quorum_acked(metrics: &Metrics) -> Option<Duration> {
    metrics.last_quorum_acked.as_ref().map(|at| at.elapsed())
}

pub(crate) fn matched(metrics: &Metrics) -> BTreeMap<NodeId, u64> {
    let matched = metrics.replication.iter().flatten();
    matched.map(|(id, log_id)| (*id, index(log_id))).collect()
}
