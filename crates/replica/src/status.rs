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

    /// This replica's wall clock against the median of the voters', in microseconds; positive: ahead. None while it
    /// knows the clocks of no majority of them.
    pub fn clock_skew(&self) -> Option<i64> {
        self.clock_median().map(|median| median.saturating_neg())
    }

    /// Who should lead in place of this leader, whose clock is more than `tolerated` microseconds off the median: of
    /// the voters that are not, the one with most of the log. None if this one does not lead, or should go on.
    pub(crate) fn better_clock(&self, tolerated: i64) -> Option<NodeId> {
        let median = self.clock_median()?;
        if self.state != RaftState::Leader || median.saturating_abs() <= tolerated {
            return None;
        }
        let is_right = |id: &NodeId| {
            let offset = self.clock_offsets.get(id);
            offset.is_some_and(|offset| offset.saturating_sub(median).saturating_abs() <= tolerated)
        };
        let others = self.voters().map(|voter| voter.id).filter(|id| *id != self.id);
        others.filter(is_right).max_by_key(|id| self.matched.get(id))
    }

    /// Of the voters' wall clocks, against this one's.
    fn clock_median(&self) -> Option<i64> {
        let offset = |voter: &MemberStatus| {
            if voter.id == self.id { Some(0) } else { self.clock_offsets.get(&voter.id).copied() }
        };
        let mut offsets: Vec<i64> = self.voters().filter_map(offset).collect();
        if offsets.len() * 2 <= self.voters().count() {
            return None;
        }
        offsets.sort_unstable();
        let (lower, upper) = (offsets[(offsets.len() - 1) / 2], offsets[offsets.len() / 2]);
        Some(i64::midpoint(lower, upper))
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

#[allow(clippy::disallowed_methods)] // Its instants are openraft's own, which no clock but openraft's can read.
pub(crate) fn quorum_acked(metrics: &Metrics) -> Option<Duration> {
    metrics.last_quorum_acked.as_ref().map(|at| at.elapsed())
}

pub(crate) fn matched(metrics: &Metrics) -> BTreeMap<NodeId, u64> {
    let matched = metrics.replication.iter().flatten();
    matched.map(|(id, log_id)| (*id, index(log_id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    /// A leader 1 of `voters` voters, whose clocks are off its own by so many seconds.
    fn leader(voters: u64, offsets: &[(NodeId, i64)]) -> Status {
        let member = |id| {
            let name = format!("n{id}");
            MemberStatus { id, name, raft_addr: String::new(), api_addr: String::new(), voter: true }
        };
        Status {
            id: 1,
            name: "n1".into(),
            cluster: String::new(),
            cluster_id: String::new(),
            state: RaftState::Leader,
            term: 1,
            leader: Some(member(1)),
            members: (1..=voters).map(member).collect(),
            last_log: 9,
            committed: 9,
            applied: 9,
            snapshot: 0,
            purged: 0,
            log_bytes: 0,
            snapshot_bytes: 0,
            quorum_acked: None,
            matched: (2..=voters).map(|id| (id, 5 + id)).collect(),
            digest: 0,
            digest_alarm: None,
            clock_offsets: offsets.iter().map(|(id, seconds)| (*id, seconds * SECOND)).collect(),
        }
    }

    #[test]
    fn the_skew_is_against_the_median_of_a_majority() {
        assert_eq!(leader(3, &[]).clock_skew(), None);
        assert_eq!(leader(1, &[]).clock_skew(), Some(0));
        assert_eq!(leader(3, &[(2, -5), (3, -6)]).clock_skew(), Some(5 * SECOND));
        assert_eq!(leader(3, &[(2, -5)]).clock_skew(), Some(5 * SECOND / 2), "between the two");
        assert_eq!(leader(3, &[(2, 0), (3, 60)]).clock_skew(), Some(0), "one that is far off counts as one");
        assert_eq!(leader(5, &[(2, 0)]).clock_skew(), None);
    }

    #[test]
    fn a_leader_whose_clock_is_off_names_a_voter_whose_clock_is_right() {
        let off = leader(5, &[(2, -5), (3, -5), (4, -5), (5, 9)]);
        assert_eq!(off.better_clock(2 * SECOND), Some(4), "the one of them that has most of the log");
        assert_eq!(off.better_clock(6 * SECOND), None);
        assert_eq!(leader(3, &[(2, -5), (3, 0)]).better_clock(2 * SECOND), None, "another one is off");
        assert_eq!(
            leader(3, &[(2, -5)]).better_clock(2 * SECOND),
            None,
            "nobody can say which of two is right"
        );
        let follower = Status { state: RaftState::Follower, ..off };
        assert_eq!(follower.better_clock(2 * SECOND), None);
    }
}
