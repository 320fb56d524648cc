//! Between Raft's messages and protobuf. Entries keep the bytes that their proposer encoded.

use machine::SharedSpecs;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::Status;
use wire::raft as pb;

use crate::codec::Record;
use crate::types::{self, LogId, Member, NodeId, TypeConfig, Vote};

pub fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId { term: *id.leader_id, index: id.index }
}

pub fn log_id_in(id: pb::LogId) -> LogId {
    types::log_id(id.term, id.index)
}

fn option_out(id: &Option<LogId>) -> Option<pb::LogId> {
    id.as_ref().map(log_id_out)
}

pub fn vote_out(vote: &Vote) -> pb::Vote {
    pb::Vote { term: vote.leader_id.term, node_id: vote.leader_id.voted_for, committed: vote.committed }
}

pub fn vote_in(vote: Option<pb::Vote>) -> Result<Vote, Status> {
    let vote = vote.ok_or_else(|| Status::invalid_argument("a message without a vote"))?;
    let plain = Vote::new(vote.term, vote.node_id);
    Ok(Vote { committed: vote.committed, ..plain })
}

pub fn append_out(request: AppendEntriesRequest<TypeConfig>) -> pb::AppendRequest {
    let entry = |record: Record| pb::LogEntry {
        term: record.term,
        index: record.index,
        kind: record.kind.into(),
        payload: record.payload,
    };
    pb::AppendRequest {
        vote: Some(vote_out(&request.vote)),
        previous: option_out(&request.prev_log_id),
        entries: request.entries.iter().map(|logged| entry(Record::new(logged))).collect(),
        leader_commit: option_out(&request.leader_commit),
    }
}

/// Refuses entries that this binary cannot read: it must not acknowledge what it could not apply. And those that do not
/// follow each other and the one before: Raft takes that for granted, and the log would have a gap. `specs`: those of the requests before.
pub fn append_in(
    request: pb::AppendRequest,
    specs: &mut SharedSpecs,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let mut entries = Vec::with_capacity(request.entries.len());
    let mut follows = request.previous.as_ref().map_or(0, |previous| previous.index.saturating_add(1));
    for pb::LogEntry { term, index, kind, payload } in request.entries {
        if index != follows {
            return Err(Status::invalid_argument(format!("entry {index} is sent where {follows} should be")));
        }
        follows = index.saturating_add(1);
        let unreadable = |error| Status::invalid_argument(format!("entry {index} cannot be read: {error}"));
        let kind = u8::try_from(kind).unwrap_or(u8::MAX);
        let entry = Record { term, index, kind, payload }.into_entry().map_err(unreadable)?;
        if let openraft::EntryPayload::Normal(proposal) = &entry.payload {
            proposal.entry_with(|entry| specs.share_entry(entry)).map_err(unreadable)?;
        }
        entries.push(entry);
    }
    Ok(AppendEntriesRequest {
        vote: vote_in(request.vote)?,
        prev_log_id: request.previous.map(log_id_in),
        entries,
        leader_commit: request.leader_commit.map(log_id_in),
    })
}

pub fn appended_out(result: StreamAppendResult<TypeConfig>) -> pb::AppendResponse {
    use pb::append_response::Outcome;
    let outcome = match result {
        Ok(last) => Outcome::Matched(pb::Matched { last: option_out(&last) }),
        Err(StreamAppendError::Conflict(id)) => Outcome::Conflict(log_id_out(&id)),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote_out(&vote)),
    };
    pb::AppendResponse { outcome: Some(outcome) }
}

pub fn appended_in(response: pb::AppendResponse) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use pb::append_response::Outcome;
    Ok(match response.outcome {
        Some(Outcome::Matched(matched)) => Ok(matched.last.map(log_id_in)),
        Some(Outcome::Conflict(id)) => Err(StreamAppendError::Conflict(log_id_in(id))),
        Some(Outcome::HigherVote(vote)) => Err(StreamAppendError::HigherVote(vote_in(Some(vote))?)),
        None => return Err(Status::internal("a response without an outcome")),
    })
}

pub fn vote_request_out(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(vote_out(&request.vote)),
        last_log_id: option_out(&request.last_log_id),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

pub fn vote_request_in(request: pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    let mut asked = VoteRequest::new(vote_in(request.vote)?, request.last_log_id.map(log_id_in));
    asked.leadership_transfer = request.leadership_transfer;
    Ok(asked)
}

pub fn vote_response_out(response: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(vote_out(&response.vote)),
        granted: response.vote_granted,
        last_log_id: option_out(&response.last_log_id),
    }
}

pub fn vote_response_in(response: pb::VoteResponse) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse::new(vote_in(response.vote)?, response.last_log_id.map(log_id_in), response.granted))
}

pub fn transfer_out(request: &TransferLeaderRequest<TypeConfig>) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        from: Some(vote_out(request.from_leader())),
        to: *request.to_node_id(),
        last_log_id: request.last_log_id().map(log_id_out),
    }
}

pub fn transfer_in(request: pb::TransferLeaderRequest) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    Ok(TransferLeaderRequest::new(vote_in(request.from)?, request.to, request.last_log_id.map(log_id_in)))
}

pub fn transferred_out(response: TransferLeaderResponse<TypeConfig>) -> pb::TransferLeaderResponse {
    let Err(refused) = response else { return pb::TransferLeaderResponse::default() };
    let (vote_changed, flushed) = match &refused {
        TransferLeaderError::VoteChanged { actual, .. } => (Some(vote_out(actual)), None),
        TransferLeaderError::LogNotFlushed { actual, .. } => (None, option_out(actual)),
    };
    pb::TransferLeaderResponse { refused: refused.to_string(), vote_changed, flushed }
}

pub fn transferred_in(
    request: &TransferLeaderRequest<TypeConfig>,
    response: pb::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, Status> {
    if response.refused.is_empty() {
        return Ok(Ok(()));
    }
    if let Some(vote) = response.vote_changed {
        let actual = vote_in(Some(vote))?;
        return Ok(Err(TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual }));
    }
    let expected = request.last_log_id().copied();
    Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: response.flushed.map(log_id_in) }))
}

pub fn member_out(id: NodeId, member: &Member) -> pb::Member {
    pb::Member {
        id,
        name: member.name.clone(),
        raft_address: member.raft_address.clone(),
        api_address: member.api_address.clone(),
        incarnation: member.incarnation,
    }
}

pub fn member_in(member: pb::Member) -> (NodeId, Member) {
    let pb::Member { id, name, raft_address, api_address, incarnation } = member;
    (id, Member { name, raft_address, api_address, incarnation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    #[test]
    fn entries_that_leave_a_gap_are_refused() {
        let entry = |index| {
            let payload = codec::encode_entry(&machine::Entry::default());
            let kind = 1;
            pb::LogEntry { term: 2, index, kind, payload }
        };
        let request = |previous: Option<u64>, indexes: &[u64]| pb::AppendRequest {
            vote: Some(pb::Vote { term: 2, node_id: 1, committed: true }),
            previous: previous.map(|index| pb::LogId { term: 1, index }),
            entries: indexes.iter().copied().map(entry).collect(),
            leader_commit: None,
        };
        assert!(append_in(request(Some(4), &[5, 6, 7]), &mut SharedSpecs::default()).is_ok());
        assert!(append_in(request(None, &[0, 1]), &mut SharedSpecs::default()).is_ok());
        assert!(append_in(request(Some(4), &[]), &mut SharedSpecs::default()).is_ok());
        for (previous, indexes) in [(Some(1), &[60][..]), (Some(4), &[5, 7]), (Some(4), &[4]), (None, &[1])] {
            let refused = append_in(request(previous, indexes), &mut SharedSpecs::default()).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{previous:?} {indexes:?}");
        }
    }
}
