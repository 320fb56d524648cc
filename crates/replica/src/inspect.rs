//! What a simulation looks at, to judge Raft itself, and nobody else needs.

use std::ops::Range;
use std::sync::atomic::Ordering;

use openraft::async_runtime::WatchReceiver;

use crate::log::{Ballot, Logged};
use crate::replica::Replica;
use crate::status::{self, RaftState};

/// A replica from within. Indexes are 0 where there is none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inside {
    pub state: RaftState,
    pub term: u64,
    /// As Raft believes it to be on the disk.
    pub ballot: Ballot,
    /// The last entry of the log, or of the snapshot that it begins behind.
    pub last: u64,
    pub last_term: u64,
    pub purged: u64,
    pub purged_term: u64,
    /// What may be applied here.
    pub committed: u64,
    pub applied: u64,
    /// Of the state as of the last command applied.
    pub digest: u64,
    pub snapshot: u64,
}

impl Replica {
    pub fn inside(&self) -> Inside {
        let upkeep = self.upkeep();
        let metrics = upkeep.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (purged, last) = upkeep.log.ends();
        let term = |id: Option<crate::types::LogId>| id.map_or(0, |id| *id.leader_id);
        Inside {
            state: status::raft_state(metrics.state),
            term: metrics.current_term,
            ballot: Ballot::from(&metrics.vote),
            last: status::index(&last),
            last_term: term(last),
            purged: status::index(&purged),
            purged_term: term(purged),
            committed: status::index(&metrics.local_committed),
            applied: status::index(&upkeep.shared.applied.borrow()),
            digest: upkeep.shared.digest.load(Ordering::Acquire),
            snapshot: status::index(&metrics.snapshot),
        }
    }

    /// The entries of the log that have these indexes, synced or not.
    pub fn logged(&self, range: Range<u64>) -> Vec<Logged> {
        self.upkeep().log.logged(range)
    }
}
