//! What peers may ask of this replica. Whatever is not meant for exactly this replica of this cluster is refused
//! before Raft sees it, votes included.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt};
use machine::SharedSpecs;
use model::settings::Failover;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use parking_lot::Mutex;
use tonic::metadata::MetadataMap;
use tonic::transport::server::Router;
use tonic::{Code, Request, Response, Status, Streaming};
use wire::raft as pb;
use wire::raft::peer_server::{Peer, PeerServer};
use wire::raft::raft_server::{Raft as RaftService, RaftServer};

use crate::convert;
use crate::env::{Env, offload};
use crate::identity::Identity;
use crate::network::{
    CLUSTER, CONNECTION_WINDOW_BYTES, FROM, INCARNATION, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT,
    MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, TARGET,
};
use crate::snapshot::{Incoming, SnapshotFile, SnapshotStore};
use crate::state_machine::Shared;
use crate::types::{Member, NodeId, Raft, Snapshot, SnapshotMeta, Vote, seeded};

/// How far this replica is.
pub enum Phase {
    /// Its directory is empty: it has seen these peers pristine, itself included.
    Pristine {
        seen: BTreeMap<String, u64>,
    },
    Founded(Arc<Identity>),
}

/// Raft and what it runs on, once there is an identity.
pub struct Running {
    pub raft: Raft,
    pub shared: Arc<Shared>,
    pub snapshots: Arc<SnapshotStore>,
}

/// What the services answer from.
pub struct Node {
    pub env: Arc<dyn Env>,
    pub cluster: String,
    pub name: String,
    pub incarnation: u64,
    /// The names of all founding members, in order; read only while pristine.
    pub peers: Vec<String>,
    pub raft_address: String,
    pub api_address: String,
    pub failover: Failover,
    pub phase: Mutex<Phase>,
    pub running: OnceLock<Running>,
    /// When a leader's message last came, by `env`, in microseconds.
    pub led_at_us: AtomicU64,
}

impl Node {
    pub fn identity(&self) -> Option<Arc<Identity>> {
        match &*self.phase.lock() {
            Phase::Founded(identity) => Some(identity.clone()),
            Phase::Pristine { .. } => None,
        }
    }

    pub fn members(&self) -> BTreeMap<NodeId, Member> {
        let current = self.running.get().map(|running| {
            let metrics = running.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics
                .membership_config
                .nodes()
                .map(|(id, member)| (*id, member.clone()))
                .collect::<BTreeMap<_, _>>()
        });
        match current {
            Some(members) if !members.is_empty() => members,
            _ => self.identity().map(|identity| identity.founders.clone()).unwrap_or_default(),
        }
    }

    fn running(&self) -> Result<&Running, Status> {
        self.running.get().ok_or_else(|| Status::unavailable("this replica is starting"))
    }

    /// Who sent it, if it is meant for this replica.
    fn admit(&self, metadata: &MetadataMap) -> Result<NodeId, Status> {
        let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
        let number = |key| text(key).and_then(|text| text.parse::<u64>().ok());
        let own = self.identity().ok_or_else(|| Status::unavailable("this replica has no cluster yet"))?;
        let refuse = |what: String| {
            tracing::warn!(from = ?text(FROM), what, "refused a message that is not meant for this replica");
            Err(Status::failed_precondition(what))
        };
        if text(CLUSTER) != Some(&own.cluster_id) {
            let theirs = text(CLUSTER).unwrap_or("none");
            return refuse(format!("this is cluster {}, not {theirs}", own.cluster_id));
        }
        if number(TARGET) != Some(own.id) {
            return refuse(format!("this is node {}, not {:?}", own.id, number(TARGET)));
        }
        if number(INCARNATION) != Some(own.incarnation) {
            return refuse(format!("node {} has another data directory than the one that is meant", own.id));
        }
        number(FROM).ok_or_else(|| Status::invalid_argument("a message without a sender"))
    }

    fn admitted<T>(&self, request: Request<T>) -> Result<(&Running, T), Status> {
        self.admit(request.metadata())?;
        Ok((self.running()?, request.into_inner()))
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("this replica is stopping: {error}"))
}

#[derive(Clone)]
pub struct Services(pub Arc<Node>);

impl Services {
    pub fn router(self) -> Router {
        tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .add_service(
                RaftServer::new(self.clone())
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX),
            )
            .add_service(PeerServer::new(self))
    }
}

#[tonic::async_trait]
impl RaftService for Services {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let (running, requests) = self.0.admitted(request)?;
        // What cannot be read ends the stream before it is acknowledged; the leader will try again.
        let node = self.0.clone();
        let readable = requests.scan(SharedSpecs::default(), move |specs, message| {
            let request = message.and_then(|message| convert::append_in(message, specs));
            if request.is_ok() {
                node.led_at_us.store(node.env.now().0, Ordering::Relaxed);
            }
            let request = request.inspect_err(|status| match status.code() {
                // The leader lets go of a stream when it leads no more, or had no answer in time.
                Code::Cancelled => tracing::debug!(%status, "a stream of appends is given up"),
                _ => tracing::warn!(%status, "append refused"),
            });
            futures::future::ready(request.ok())
        });
        let results = seeded(async { running.raft.stream_append(readable) }).await;
        let responses = results.map(|result| result.map(convert::appended_out).map_err(stopped));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let (running, request) = self.0.admitted(request)?;
        let pre_vote = request.pre_vote;
        let asked = convert::vote_request_in(request)?;
        let raft = &running.raft;
        let answer =
            seeded(async { if pre_vote { raft.pre_vote(asked).await } else { raft.vote(asked).await } })
                .await;
        Ok(Response::new(convert::vote_response_out(&answer.map_err(stopped)?)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        let (running, mut parts) = self.0.admitted(request)?;
        let (vote, meta, snapshot) = receive(&self.0.env, &running.snapshots, &mut parts).await?;
        if is_late(running, &vote, &meta).await? {
            return Err(Status::unavailable(
                "the log has what the snapshot holds, and waits to hear that it counts",
            ));
        }
        let install = running.raft.install_full_snapshot(vote, Snapshot { meta, snapshot });
        let answer = seeded(install).await.map_err(stopped)?;
        Ok(Response::new(pb::SnapshotResponse { vote: Some(convert::vote_out(&answer.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let (running, request) = self.0.admitted(request)?;
        let answer = seeded(running.raft.handle_transfer_leader(convert::transfer_in(request)?)).await;
        Ok(Response::new(convert::transferred_out(answer.map_err(stopped)?)))
    }
}

/// Whether this leader's entries beyond the snapshot are here already: it gave up an attempt to send the snapshot, whose
/// end comes only now, and went on with entries. Raft would note the snapshot as the newest that it has written, newer than
/// those entries, and a build with assertions ends by that (openraft 0.10.0-alpha.37, `run_state_machine`). The leader's next
/// message says that the entries are committed, and the snapshot is needed no more.
async fn is_late(running: &Running, vote: &Vote, meta: &SnapshotMeta) -> Result<bool, Status> {
    let known = running.raft.with_raft_state(|state| (*state.vote_ref(), state.local_committed().copied()));
    let (known, committed) = seeded(known).await.map_err(stopped)?;
    let last = running.raft.data_metrics().borrow_watched().last_log;
    let is_beyond =
        last.is_some_and(|last| *last.leader_id == vote.leader_id.term && Some(last) > meta.last_log_id);
    Ok(known == *vote && is_beyond && committed < meta.last_log_id)
}

type Received = (Vote, SnapshotMeta, SnapshotFile);

async fn receive(
    env: &Arc<dyn Env>,
    snapshots: &SnapshotStore,
    parts: &mut Streaming<pb::SnapshotPart>,
) -> Result<Received, Status> {
    use pb::snapshot_part::Part;
    let broken = |error: std::io::Error| Status::data_loss(format!("the snapshot cannot be taken: {error}"));
    let Some(Part::Header(header)) = parts.message().await?.and_then(|first| first.part) else {
        return Err(Status::invalid_argument("a snapshot begins with its header"));
    };
    let vote = convert::vote_in(header.vote)?;
    let mut incoming = snapshots.receive().map_err(broken)?;
    let mut bytes = 0;
    while let Some(part) = parts.message().await? {
        let Some(Part::Chunk(chunk)) = part.part else {
            return Err(Status::invalid_argument("chunks follow the header"));
        };
        bytes += chunk.len() as u64;
        let written: (Incoming, std::io::Result<()>) = offload(env, move || {
            let written = incoming.write(&chunk);
            (incoming, written)
        })
        .await;
        written.1.map_err(broken)?;
        incoming = written.0;
    }
    if bytes != header.bytes {
        return Err(Status::data_loss(format!("{bytes} bytes came of {}", header.bytes)));
    }
    let (meta, file) = offload(env, move || incoming.finish()).await.map_err(broken)?;
    Ok((vote, meta, file))
}

#[tonic::async_trait]
impl Peer for Services {
    async fn hello(&self, request: Request<pb::HelloRequest>) -> Result<Response<pb::HelloResponse>, Status> {
        let request = request.into_inner();
        let node = &self.0;
        if request.cluster != node.cluster {
            let (own, theirs) = (&node.cluster, &request.cluster);
            return Err(Status::failed_precondition(format!("this is cluster `{own}`, not `{theirs}`")));
        }
        let (cluster_id, seen) = match &*node.phase.lock() {
            Phase::Pristine { seen } => (String::new(), seen.clone()),
            Phase::Founded(identity) => (identity.cluster_id.clone(), BTreeMap::new()),
        };
        Ok(Response::new(pb::HelloResponse {
            cluster: node.cluster.clone(),
            name: node.name.clone(),
            incarnation: node.incarnation,
            raft_address: node.raft_address.clone(),
            api_address: node.api_address.clone(),
            cluster_id,
            seen: seen.into_iter().collect(),
            peers: node.peers.clone(),
            failover: node.failover.to_string(),
            members: node.members().iter().map(|(id, member)| convert::member_out(*id, member)).collect(),
        }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let (running, _) = self.0.admitted(request)?;
        let linearizer = seeded(running.raft.get_read_linearizer(ReadPolicy::ReadIndex)).await;
        let linearizer = linearizer.map_err(|error| match error {
            RaftError::APIError(error) => Status::failed_precondition(error.to_string()),
            RaftError::Fatal(error) => stopped(error),
        })?;
        let read = convert::log_id_out(linearizer.read_log_id().log_id());
        Ok(Response::new(pb::ReadIndexResponse { read: Some(read) }))
    }

    async fn compare(
        &self,
        request: Request<pb::CompareRequest>,
    ) -> Result<Response<pb::CompareResponse>, Status> {
        let (running, _) = self.0.admitted(request)?;
        let digests = running
            .shared
            .checkpoints
            .lock()
            .iter()
            .map(|(index, value)| pb::Digest { index: *index, value: *value })
            .collect();
        Ok(Response::new(pb::CompareResponse { digests, wall: self.0.env.wall().0 }))
    }

    async fn status(
        &self,
        request: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let (running, _) = self.0.admitted(request)?;
        let metrics = running.raft.metrics().borrow_watched().clone();
        let member = self.0.members().get(&metrics.id).map(|member| convert::member_out(metrics.id, member));
        let index = |id: &Option<crate::types::LogId>| id.map_or(0, |id| id.index);
        Ok(Response::new(pb::StatusResponse {
            member,
            term: metrics.current_term,
            leader: metrics.current_leader.unwrap_or(0),
            state: format!("{:?}", metrics.state).to_lowercase(),
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: index(&metrics.cluster_committed),
            applied: index(&metrics.last_applied),
            snapshot: index(&metrics.snapshot),
            digest: running.shared.digest.load(Ordering::Acquire),
            version: env!("CARGO_PKG_VERSION").into(),
        }))
    }
}
