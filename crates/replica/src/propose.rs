//! Writes: one entry in, its replies out. Calls made one after the other enter the log in that order.

use std::future::Future;

use futures::FutureExt;
use openraft::errors::{ClientWriteError, ForwardReason, ForwardToLeader};
use openraft::impls::ProgressResponder;

use crate::types::{CommittedLeaderId, Member, NodeId, Proposal, Raft, TypeConfig};

/// The largest entry, encoded.
pub const ENTRY_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(ENTRY_BYTES_MAX < crate::log::PAYLOAD_BYTES_MAX, "the log must take it");

/// An entry that is committed and applied here.
#[derive(Clone, Debug)]
pub struct Proposed {
    pub index: u64,
    /// One per command, in order.
    pub replies: Vec<machine::Reply>,
}

/// Whether what failed may have been done all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    No,
    Maybe,
}

/// The leader as far as this replica knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub id: NodeId,
    pub member: Member,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    #[error("this replica does not lead in that term")]
    NotLeader { leader: Option<Leader> },
    /// Also right after an election: try again in some 5 ms.
    #[error("no quorum has acknowledged this leader lately")]
    LeaseExpired,
    #[error("the entry was replaced on a change of leader; it may have been committed all the same")]
    Discarded { leader: Option<Leader> },
    #[error("too many entries wait to be written")]
    Busy,
    #[error("an entry of {bytes} bytes is above the limit of {ENTRY_BYTES_MAX}")]
    TooLarge { bytes: usize },
    #[error("this replica is stopping")]
    Stopped,
}

impl ProposeError {
    pub fn happened(&self) -> Happened {
        match self {
            ProposeError::NotLeader { .. }
            | ProposeError::LeaseExpired
            | ProposeError::Busy
            | ProposeError::TooLarge { .. } => Happened::No,
            ProposeError::Discarded { .. } | ProposeError::Stopped => Happened::Maybe,
        }
    }
}

/// The entry is queued when this returns; the future only waits.
pub(crate) fn propose(
    raft: &Raft,
    term: u64,
    entry: machine::Entry,
) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static {
    let proposal = Proposal::new(entry);
    let bytes = proposal.bytes().len();
    let (responder, response) = ProgressResponder::complete_only();
    let queued = if bytes > ENTRY_BYTES_MAX {
        Err(ProposeError::TooLarge { bytes })
    } else {
        let write = raft.write(proposal).with_leader(CommittedLeaderId::new(term)).responder(responder);
        // Ready at once unless Raft's queue is full. Unconstrained, or the task's budget could make it wait.
        match tokio::task::unconstrained(write.into_future()).now_or_never() {
            Some(Ok(())) => Ok(response),
            Some(Err(_)) => Err(ProposeError::Stopped),
            None => Err(ProposeError::Busy),
        }
    };
    async move {
        match queued?.await {
            Ok(Ok(written)) => Ok(Proposed { index: written.data.index, replies: written.data.replies }),
            Ok(Err(error)) => Err(refused(error)),
            Err(_) => Err(ProposeError::Stopped),
        }
    }
}

fn refused(error: ClientWriteError<TypeConfig>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(ForwardToLeader {
            reason: ForwardReason::LeaseExpired, ..
        }) => ProposeError::LeaseExpired,
        ClientWriteError::ForwardToLeader(forward) => ProposeError::NotLeader { leader: leader(forward) },
        ClientWriteError::LogEntryDiscarded(forward) => ProposeError::Discarded { leader: leader(forward) },
        // These answer changes of the membership, which go another way.
        ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_) => {
            ProposeError::Stopped
        }
    }
}

fn leader(forward: ForwardToLeader<TypeConfig>) -> Option<Leader> {
    Some(Leader { id: forward.leader_id?, member: forward.leader_node? })
}
