//! The way to the peers: gRPC over connections of our own, one per peer and lane, so that bulk never delays a
//! heartbeat. Each call says whom it is meant for.
//!
//! A stream of appends is pipelined; when something is in flight and nothing comes back for too long, the stream is
//! given up, for TCP alone would wait for minutes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use hyper_util::rt::TokioIo;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use wire::raft as pb;
use wire::raft::peer_client::PeerClient;
use wire::raft::raft_client::RaftClient;

use crate::convert;
use crate::env::{Env, offload};
use crate::identity::Identity;
use crate::session::Session;
use crate::snapshot::SnapshotFile;
use crate::types::{LogId, Member, NodeId, Snapshot, TypeConfig, Vote};

pub const CLUSTER: &str = "baton-cluster";
pub const TARGET: &str = "baton-target";
pub const INCARNATION: &str = "baton-incarnation";
pub const FROM: &str = "baton-from";

pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
pub const STREAM_WINDOW_BYTES: u32 = 4 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(1);
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const CHUNK_BYTES: usize = 1 << 20;
/// A snapshot is given up when no chunk has gone out for this long,
const SNAPSHOT_STALL: Duration = Duration::from_secs(15);
/// or when it is not installed this long after its last chunk.
const SNAPSHOT_INSTALL: Duration = Duration::from_secs(120);
const BACKOFF_MS: [u64; 5] = [20, 40, 80, 160, 250];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Append,
    /// Heartbeats, votes and everything else that is small.
    Control,
    Snapshot,
}

/// All connections of this replica.
pub struct Transport {
    env: Arc<dyn Env>,
    runtime: Handle,
    channels: Mutex<BTreeMap<(String, Lane), Channel>>,
}

impl Transport {
    pub fn new(env: Arc<dyn Env>, runtime: Handle) -> Transport {
        Transport { env, runtime, channels: Mutex::default() }
    }

    /// A channel that connects when it is first used and again whenever it must.
    pub fn channel(&self, address: &str, lane: Lane) -> Channel {
        let mut channels = self.channels.lock();
        let channel = channels.entry((address.to_owned(), lane)).or_insert_with(|| self.connect(address));
        channel.clone()
    }

    fn connect(&self, address: &str) -> Channel {
        // Its tasks belong to the runtime of replication, whoever asks first.
        let _entered = self.runtime.enter();
        let (env, address) = (self.env.clone(), address.to_owned());
        let connector = tower::service_fn(move |_| {
            let connecting = env.connect(address.clone());
            async move {
                match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                    Ok(connected) => connected.map(TokioIo::new),
                    Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
                }
            }
        });
        // The address goes to the connector; this one is only a name.
        Endpoint::from_static("http://peer")
            .http2_keep_alive_interval(KEEPALIVE_EVERY)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_with_connector_lazy(connector)
    }

    pub fn peer(&self, address: &str) -> PeerClient<Channel> {
        PeerClient::new(self.channel(address, Lane::Control))
    }
}

/// Names receiver and sender on a request.
pub fn address<T>(request: &mut Request<T>, own: &Identity, target: NodeId, incarnation: u64) {
    let metadata = request.metadata_mut();
    let cluster = MetadataValue::try_from(own.cluster_id.as_str()).expect("a cluster id is hexadecimal");
    metadata.insert(CLUSTER, cluster);
    metadata.insert(TARGET, target.into());
    metadata.insert(INCARNATION, incarnation.into());
    metadata.insert(FROM, own.id.into());
}

pub struct Network {
    pub transport: Arc<Transport>,
    pub own: Arc<Identity>,
    /// How long a stream may be silent while something is in flight.
    pub silence_max: Duration,
}

impl Network {
    fn client(&self, target: NodeId, member: &Member, lane: Lane) -> Client {
        let channel = |lane| {
            RaftClient::new(self.transport.channel(&member.raft_address, lane))
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX)
        };
        Client {
            bulk: channel(lane),
            control: channel(Lane::Control),
            env: self.transport.env.clone(),
            own: self.own.clone(),
            target,
            incarnation: member.incarnation,
            // A heartbeat is tried again soon, a stream costs more to set up.
            silence_max: if lane == Lane::Append { self.silence_max } else { Duration::ZERO },
            beats: None,
            only_beats: false,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Lane::Append)
    }

    async fn new_heartbeat_client(&mut self, target: NodeId, node: &Member) -> Client {
        Client { only_beats: true, ..self.client(target, node, Lane::Control) }
    }

    async fn new_snapshot_client(&mut self, target: NodeId, node: &Member) -> Client {
        self.client(target, node, Lane::Snapshot)
    }
}

/// The way to one peer.
pub struct Client {
    bulk: RaftClient<Channel>,
    control: RaftClient<Channel>,
    env: Arc<dyn Env>,
    own: Arc<Identity>,
    target: NodeId,
    incarnation: u64,
    silence_max: Duration,
    /// Of a client that sends heartbeats: the stream that the last one was answered on.
    beats: Option<Beats>,
    only_beats: bool,
}

/// A stream of heartbeats, one in flight at a time. That it goes on spares each of them setting one up, which is most of
/// what a cluster does that has nothing to do.
struct Beats {
    requests: mpsc::Sender<pb::AppendRequest>,
    answers: tonic::Streaming<pb::AppendResponse>,
}

impl Beats {
    async fn exchange(&mut self, beat: pb::AppendRequest) -> Result<pb::AppendResponse, Status> {
        self.requests.send(beat).await.map_err(|_| Beats::ended())?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<pb::AppendResponse, Status> {
        self.answers.message().await?.ok_or_else(Beats::ended)
    }

    fn ended() -> Status {
        Status::unavailable("the peer ended the stream")
    }
}

fn failed(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        Code::Cancelled | Code::DeadlineExceeded => RPCError::Network(NetworkError::new(status)),
        _ => RPCError::Unreachable(Unreachable::new(status)),
    }
}

fn silent(limit: Duration) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::from_string(format!("no answer for {limit:?}")))
}

impl Client {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        address(&mut request, &self.own, self.target, self.incarnation);
        request
    }

    /// With a first heartbeat under way: it takes no longer than any other.
    async fn open_beats(&mut self, first: pb::AppendRequest) -> Result<Beats, Status> {
        let (requests, receiver) = mpsc::channel(1);
        requests.send(first).await.map_err(|_| Beats::ended())?;
        let request = self.request(ReceiverStream::new(receiver));
        let answers = self.bulk.append(request).await?.into_inner();
        Ok(Beats { requests, answers })
    }

    /// On the stream that is open, or on a new one where the peer has closed that since.
    async fn exchange(&mut self, beat: &pb::AppendRequest) -> Result<(Beats, pb::AppendResponse), Status> {
        if let Some(mut beats) = self.beats.take()
            && let Ok(answer) = beats.exchange(beat.clone()).await
        {
            return Ok((beats, answer));
        }
        let mut beats = self.open_beats(beat.clone()).await?;
        let answer = beats.answer().await?;
        Ok((beats, answer))
    }

    /// A stream is kept only with nothing in flight: the answer to a heartbeat that was given up is nobody else's.
    async fn beat(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let beat = convert::append_out(rpc);
        let (beats, answer) = within(limit, self.exchange(&beat)).await?;
        let result = convert::appended_in(answer).map_err(|status| failed(&status))?;
        // After any other answer the peer ends the stream.
        self.beats = result.is_ok().then_some(beats);
        Ok(result)
    }

    async fn ask(&mut self, rpc: &VoteRequest<TypeConfig>, pre_vote: bool, option: &RPCOption) -> VoteResult {
        let request = self.request(convert::vote_request_out(rpc, pre_vote));
        let response = within(option.soft_ttl(), self.control.vote(request)).await?;
        convert::vote_response_in(response.into_inner()).map_err(|status| failed(&status))
    }
}

type VoteResult = Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>>;

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, RPCError<TypeConfig>> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|status| failed(&status)),
        Err(_) => Err(silent(limit)),
    }
}

impl RaftNetworkV2<TypeConfig> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let once = futures::stream::iter([rpc]);
        let mut responses = RaftNetworkV2::stream_append(self, once, option).await?;
        match responses.next().await {
            Some(result) => result.map(AppendEntriesResponse::from),
            None => Err(RPCError::Network(NetworkError::from_string("the stream ended without an answer"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let silence_max = option.soft_ttl().max(self.silence_max);
        Box::pin(async move {
            // Raft waits out its back-off when asked for the first request: ask before connecting, or a peer that
            // refuses at once would be tried again at once, for ever.
            let mut input = input;
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            if self.only_beats {
                let result = self.beat(first, silence_max).await;
                return Ok(futures::stream::iter([result]).boxed());
            }
            // The first is under way from now on, whenever the connection gets to it.
            let sent = Arc::new(AtomicU64::new(1));
            let counter = sent.clone();
            let rest = input.inspect(move |_| {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            let (session, requests) = Session::of(futures::stream::iter([first]).chain(rest));
            let request = self.request(requests.map(convert::append_out));
            let response = within(silence_max, self.bulk.append(request)).await?;
            let incoming = response.into_inner();
            let responses = Responses { incoming, sent, received: 0, silence_max, ended: false };
            let stream =
                futures::stream::unfold((responses, session), |(mut responses, session)| async move {
                    let next = responses.next().await?;
                    Some((next, (responses, session)))
                });
            Ok(stream.boxed())
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> VoteResult {
        self.ask(&rpc, false, &option).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<TypeConfig>, option: RPCOption) -> VoteResult {
        self.ask(&rpc, true, &option).await
    }

    /// `option` carries a limit for the whole, which no snapshot of some size would meet: here progress counts.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (parts, receiver) = mpsc::channel(1);
        let request = self.request(ReceiverStream::new(receiver));
        let sending = send_parts(self.env.clone(), vote, snapshot.snapshot, parts);
        let exchange = async {
            let mut call = std::pin::pin!(self.bulk.snapshot(request));
            let answer = tokio::select! {
                biased;
                answer = &mut call => answer.map_err(|status| failed(&status)),
                sent = sending => match sent {
                    Ok(()) => within(SNAPSHOT_INSTALL, call).await,
                    Err(error) => Err(error),
                },
            };
            let response = answer?;
            let vote = convert::vote_in(response.into_inner().vote).map_err(|status| failed(&status))?;
            Ok(SnapshotResponse::new(vote))
        };
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = exchange => result.map_err(|error: RPCError<TypeConfig>| error.into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = self.request(convert::transfer_out(&rpc));
        let response = within(option.hard_ttl(), self.control.transfer_leader(request)).await?;
        convert::transferred_in(&rpc, response.into_inner()).map_err(|status| failed(&status))
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = BACKOFF_MS[BACKOFF_MS.len() - 1];
        Some(Backoff::new(BACKOFF_MS.into_iter().chain(std::iter::repeat(last)).map(Duration::from_millis)))
    }
}

/// The answers to a stream of appends.
struct Responses {
    incoming: tonic::Streaming<pb::AppendResponse>,
    sent: Arc<AtomicU64>,
    received: u64,
    silence_max: Duration,
    ended: bool,
}

impl Responses {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        if self.ended {
            return None;
        }
        let response = self.receive().await;
        self.ended = !matches!(response, Some(Ok(Ok(_))));
        response
    }

    async fn receive(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        loop {
            let in_flight = self.sent.load(Ordering::Relaxed) > self.received;
            let Ok(message) = tokio::time::timeout(self.silence_max, self.incoming.message()).await else {
                if in_flight {
                    return Some(Err(silent(self.silence_max)));
                }
                continue;
            };
            self.received += 1;
            return match message {
                Ok(Some(response)) => Some(convert::appended_in(response).map_err(|status| failed(&status))),
                Ok(None) if self.sent.load(Ordering::Relaxed) >= self.received => {
                    Some(Err(RPCError::Network(NetworkError::from_string("the peer ended the stream"))))
                }
                Ok(None) => None,
                Err(status) => Some(Err(failed(&status))),
            };
        }
    }
}

/// Sends header and chunks; fails when the peer takes none for too long.
async fn send_parts(
    env: Arc<dyn Env>,
    vote: Vote,
    snapshot: SnapshotFile,
    parts: mpsc::Sender<pb::SnapshotPart>,
) -> Result<(), RPCError<TypeConfig>> {
    use pb::snapshot_part::Part;
    let header = pb::SnapshotHeader { vote: Some(convert::vote_out(&vote)), bytes: snapshot.bytes() };
    let mut part = Part::Header(header);
    let mut offset = 0;
    loop {
        let permit = tokio::time::timeout(SNAPSHOT_STALL, parts.reserve()).await;
        // When the peer has closed the stream, its answer says why.
        let Ok(permit) = permit.map_err(|_| silent(SNAPSHOT_STALL))? else { return Ok(()) };
        permit.send(pb::SnapshotPart { part: Some(part) });
        if offset == snapshot.bytes() {
            break;
        }
        let file = snapshot.clone();
        let chunk = offload(&env, move || file.read_at(offset, CHUNK_BYTES)).await;
        let chunk = chunk.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        offset += chunk.len() as u64;
        part = Part::Chunk(chunk.into());
    }
    Ok(())
}

/// Asks the leader for a read index.
pub async fn read_index(
    transport: &Transport,
    own: &Identity,
    leader: NodeId,
    member: &Member,
    limit: Duration,
) -> Result<LogId, Status> {
    let mut request = Request::new(pb::ReadIndexRequest {});
    address(&mut request, own, leader, member.incarnation);
    let mut client = transport.peer(&member.raft_address);
    let answer = tokio::time::timeout(limit, client.read_index(request)).await;
    let response = answer.map_err(|_| Status::deadline_exceeded("the leader does not answer"))??;
    let read = response.into_inner().read;
    read.map(convert::log_id_in).ok_or_else(|| Status::internal("an answer without an index"))
}

#[cfg(test)]
mod tests;
