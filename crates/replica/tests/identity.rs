//! Who may start, and who is listened to.

mod world;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use model::settings::Failover;
use replica::{Config, Peer, Replica, StartError};
use tonic::{Code, Request};
use wire::raft as pb;
use wire::raft::raft_client::RaftClient;
use world::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn no_cluster_is_founded_before_all_peers_are_there() {
    let mut world = World::new(3);
    let [first, second, third] = [world.config(0), world.config(1), world.config(2)];
    let start = |config| Replica::start_with(config, World::seams());
    let two = futures::future::join(start(first), start(second));
    tokio::pin!(two);
    let early = tokio::time::timeout(Duration::from_millis(700), &mut two).await;
    assert!(early.is_err(), "two of three have founded a cluster");
    let (started, third) = futures::future::join(two, start(third)).await;
    let replicas = [started.0.unwrap(), started.1.unwrap(), third.unwrap()];
    let ids: Vec<_> = replicas.iter().map(|replica| replica.identity().cluster_id.clone()).collect();
    assert!(!ids[0].is_empty() && ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
    assert_eq!(replicas.each_ref().map(Replica::id), [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_directory_under_a_members_name_is_refused() {
    let mut world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let wiped = (leader + 1) % 3;
    world.stop(wiped).await;
    std::fs::remove_dir_all(world.data_dir(wiped)).unwrap();
    let error = world.start(wiped).await.unwrap_err();
    assert!(matches!(error, StartError::NameTaken { .. }), "{error}");
    world.write(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_without_its_identity_is_refused_and_so_is_an_identity_without_its_log() {
    let mut world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    world.stop(one).await;
    let identity = world.data_dir(one).join("identity.json");
    let content = std::fs::read(&identity).unwrap();
    std::fs::remove_file(&identity).unwrap();
    let error = world.start(one).await.unwrap_err();
    assert!(matches!(error, StartError::NoIdentity { .. }), "{error}");
    std::fs::write(&identity, content).unwrap();
    world.start(one).await.unwrap();

    world.stop(other).await;
    let log = world.data_dir(other).join("log");
    std::fs::remove_dir_all(&log).unwrap();
    let error = world.start(other).await.unwrap_err();
    assert!(matches!(error, StartError::OtherLog { .. }), "{error}");
    // Another replica's log is no better than none.
    world.stop(one).await;
    std::fs::remove_dir_all(&log).unwrap();
    std::fs::rename(world.data_dir(one).join("log"), &log).unwrap();
    let error = world.start(other).await.unwrap_err();
    assert!(matches!(error, StartError::OtherLog { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_serves_one_process_under_its_own_names() {
    let mut world = World::started(1).await;
    let error = world.start(0).await.unwrap_err();
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    world.stop(0).await;
    let renamed = Config { name: "n9".into(), ..world.config(0) };
    let Err(error) = Replica::start_with(renamed, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::OtherIdentity { .. }), "{error}");
    let moved = Config { cluster: "other".into(), ..world.config(0) };
    let Err(error) = Replica::start_with(moved, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::OtherIdentity { .. }), "{error}");
    let hurried = Config { failover: Failover::Fast, ..world.config(0) };
    let Err(error) = Replica::start_with(hurried, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::OtherFailover { .. }), "{error}");
}

/// What the first of them to end is refused for; the others may wait for ever.
async fn first_refusal(configs: Vec<Config>) -> StartError {
    let starts = configs.into_iter().map(|config| Box::pin(Replica::start_with(config, World::seams())));
    let first = tokio::time::timeout(PATIENCE, futures::future::select_all(starts)).await;
    let Err(error) = first.expect("one of them is refused").0 else { panic!("started") };
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_that_do_not_belong_together_say_so() {
    let mut world = World::new(2);
    let stranger = Config { cluster: "other".into(), ..world.config(1) };
    let error = first_refusal(vec![world.config(0), stranger]).await;
    assert!(matches!(error, StartError::Refused { .. }), "{error}");

    for shorter in [0, 1] {
        let mut world = World::new(3);
        let mut configs: Vec<_> = (0..3).map(|at| world.config(at)).collect();
        configs[shorter].peers.truncate(2);
        let error = first_refusal(configs).await;
        assert!(matches!(error, StartError::PeersDiffer { .. }), "{error}");
    }

    let mut world = World::new(2);
    let hurried = Config { failover: Failover::Fast, ..world.config(1) };
    let error = first_refusal(vec![world.config(0), hurried]).await;
    assert!(matches!(error, StartError::OtherFailover { .. }), "{error}");

    let mut world = World::new(2);
    let mut configs: Vec<_> = (0..2).map(|at| world.config(at)).collect();
    configs[0].peers[1].raft_addr = world.peers[0].raft_addr.clone();
    let error = first_refusal(configs).await;
    assert!(matches!(error, StartError::OtherPeer { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_lists_of_peers_are_refused_at_once() {
    let mut world = World::new(2);
    let none = Config { peers: vec![], ..world.config(0) };
    let Err(error) = Replica::start_with(none, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::NoPeers { .. }), "{error}");
    let others = Config { peers: world.peers[1..].to_vec(), ..world.config(0) };
    let Err(error) = Replica::start_with(others, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::NotAPeer { .. }), "{error}");
    let twice: Vec<Peer> = world.peers.iter().chain(&world.peers[..1]).cloned().collect();
    let twice = Config { peers: twice, ..world.config(0) };
    let Err(error) = Replica::start_with(twice, World::seams()).await else { panic!("started") };
    assert!(matches!(error, StartError::PeerTwice { .. }), "{error}");
}

fn vote_for(cluster: &str, target: u64, incarnation: u64) -> Request<pb::VoteRequest> {
    let vote = pb::Vote { term: 1_000_000, node_id: 2, committed: false };
    let last_log_id = Some(pb::LogId { term: 1_000_000, index: 1_000_000 });
    let mut request = Request::new(pb::VoteRequest {
        vote: Some(vote),
        last_log_id,
        leadership_transfer: true,
        pre_vote: false,
    });
    request.metadata_mut().insert("baton-cluster", cluster.parse().unwrap());
    request.metadata_mut().insert("baton-target", target.into());
    request.metadata_mut().insert("baton-incarnation", incarnation.into());
    request.metadata_mut().insert("baton-from", 2.into());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_for_another_cluster_node_or_incarnation_never_reaches_raft() {
    let world = World::started(1).await;
    world.write(1).await;
    let (_, term) = world.leader().await;
    let own = world.replica(0).identity().clone();
    let mut client = RaftClient::connect(format!("http://{}", world.peers[0].raft_addr)).await.unwrap();
    let wrong = [
        vote_for("another", own.id, own.incarnation),
        vote_for(&own.cluster_id, own.id + 1, own.incarnation),
        vote_for(&own.cluster_id, own.id, own.incarnation + 1),
    ];
    for request in wrong {
        let status = client.vote(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    }
    assert_eq!(world.replica(0).status().term, term);
    // The same vote, rightly addressed, does reach it: the refusals above were for the address.
    client.vote(vote_for(&own.cluster_id, own.id, own.incarnation)).await.unwrap();
    let mut changes = world.replica(0).changes();
    let moved = changes.wait_for(|status| status.term >= 1_000_000);
    tokio::time::timeout(PATIENCE, moved).await.expect("the term moves").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_peer_port_is_closed_and_harms_nobody() {
    let world = World::started(1).await;
    let address = world.peers[0].raft_addr.clone();
    tokio::task::spawn_blocking(move || {
        for garbage in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nXX"]
        {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(garbage).unwrap();
            // Closed or reset, whichever comes first; some answer may precede it.
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer);
            assert!(!matches!(ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock));
        }
    })
    .await
    .unwrap();
    world.write(1).await;
}
