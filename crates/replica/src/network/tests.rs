use std::pin::Pin;

use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Response, Streaming};
use wire::raft::raft_server::{Raft, RaftServer};

use super::*;
use crate::env::Real;

const TERM: u64 = 3;

fn network(silence_max: Duration) -> Network {
    let own = Identity {
        cluster: "c".into(),
        cluster_id: "1".into(),
        id: 1,
        name: "n1".into(),
        incarnation: 1,
        failover: Default::default(),
        founders: BTreeMap::new(),
    };
    let transport = Arc::new(Transport::new(Arc::new(Real::new()), Handle::current()));
    Network { transport, own: Arc::new(own), silence_max }
}

fn member(address: std::net::SocketAddr) -> Member {
    Member { raft_address: address.to_string(), ..Member::default() }
}

fn append(term: u64) -> AppendEntriesRequest<TypeConfig> {
    AppendEntriesRequest {
        vote: Vote::new_committed(term, 1),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    }
}

/// It lived on in the connection, and took from the next one what that was to send.
#[tokio::test]
async fn a_stream_of_appends_that_nobody_answers_is_gone_when_it_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let member = member(listener.local_addr().unwrap());
    let mut client = network(Duration::from_millis(50)).client(2, &member, Lane::Append);

    let held = Arc::new(());
    let holder = held.clone();
    let requests = futures::stream::repeat_with(move || {
        let _ = &holder;
        append(1)
    });
    let option = RPCOption::new(Duration::from_millis(10));
    let given_up = RaftNetworkV2::stream_append(&mut client, requests, option).await;
    assert!(given_up.is_err(), "the peer takes connections and says nothing");
    assert_eq!(Arc::strong_count(&held), 1);
}

/// A follower: it answers the heartbeats of its term, says so to those of earlier ones, and nothing to those of later ones.
#[derive(Clone, Default)]
struct Follower {
    streams: Arc<AtomicU64>,
}

type Appended = Result<pb::AppendResponse, Status>;

#[tonic::async_trait]
impl Raft for Follower {
    type AppendStream = Pin<Box<dyn Stream<Item = Appended> + Send>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        self.streams.fetch_add(1, Ordering::Relaxed);
        // Not even that the stream is open is said before the first heartbeat is here: whoever waits for it waits in vain.
        let mut beats = request.into_inner();
        let first = beats.next().await;
        let answers = futures::stream::iter(first).chain(beats).filter_map(async |beat| {
            let beat = convert::append_in(beat.ok()?, &mut Default::default()).ok()?;
            let answer = match beat.vote.leader_id.term {
                TERM => Ok(None),
                lower if lower < TERM => {
                    Err(openraft::raft::StreamAppendError::HigherVote(Vote::new(TERM, 2)))
                }
                _ => return None,
            };
            Some(Ok(convert::appended_out(answer)))
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, _: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn snapshot(
        &self,
        _: Request<Streaming<pb::SnapshotPart>>,
    ) -> Result<Response<pb::SnapshotResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn transfer_leader(
        &self,
        _: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}

impl Follower {
    /// Until the runtime is gone, and with it all connections.
    fn serve(&self, listener: std::net::TcpListener) -> Runtime {
        let runtime = Runtime::new().unwrap();
        let server = tonic::transport::Server::builder().add_service(RaftServer::new(self.clone()));
        listener.set_nonblocking(true).unwrap();
        runtime.spawn(async {
            let listener = TcpListener::from_std(listener).unwrap();
            drop(server.serve_with_incoming(TcpListenerStream::new(listener)).await);
        });
        runtime
    }
}

/// As the worker in Raft does: `Some(true)`: it was taken; `Some(false)`: somebody else leads.
async fn beat(client: &mut Client, term: u64) -> Option<bool> {
    let option = RPCOption::new(Duration::from_millis(400));
    let once = futures::stream::iter([append(term)]);
    let mut answers = RaftNetworkV2::stream_append(client, once, option).await.ok()?;
    let answer = answers.next().await?.ok()?;
    assert!(answers.next().await.is_none(), "one answer to one heartbeat");
    Some(answer.is_ok())
}

#[tokio::test]
async fn heartbeats_go_over_one_stream_until_one_is_not_taken_or_not_answered() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, follower) = (listener.local_addr().unwrap(), Follower::default());
    let serving = follower.serve(listener);
    let mut network = network(Duration::ZERO);
    let mut client = network.new_heartbeat_client(2, &member(address)).await;
    let streams = || follower.streams.load(Ordering::Relaxed);

    for _ in 0..3 {
        assert_eq!(beat(&mut client, TERM).await, Some(true));
    }
    assert_eq!(streams(), 1);
    // Whoever is told that another leads hears nothing more on that stream.
    assert_eq!(beat(&mut client, TERM - 1).await, Some(false));
    assert_eq!((beat(&mut client, TERM).await, streams()), (Some(true), 2));
    // The answer to one that was given up is not taken for the answer to the next.
    assert_eq!(beat(&mut client, TERM + 1).await, None);
    assert_eq!((beat(&mut client, TERM - 1).await, streams()), (Some(false), 3));

    // A peer that has ended the stream since, as one that has started anew has, is asked on another at once.
    assert_eq!((beat(&mut client, TERM).await, streams()), (Some(true), 4));
    serving.shutdown_background();
    // Its socket is closed in the background.
    let listener = loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => break listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let again = follower.serve(listener);
    let mut answered = beat(&mut client, TERM).await;
    // The connection itself may have to be made anew first.
    while answered.is_none() {
        answered = beat(&mut client, TERM).await;
    }
    assert!(answered == Some(true) && streams() >= 5, "{}", streams());
    again.shutdown_background();
}
