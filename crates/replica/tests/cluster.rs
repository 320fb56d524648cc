//! Three replicas: founding, writes, reads anywhere, failover, restarts, snapshots.

mod world;

use std::time::Duration;

use replica::{Feed, Happened, Identity, Leadership, ProposeError, RaftState, SnapshotThresholds};
use tonic::{Code, Request};
use wire::raft as pb;
use wire::raft::raft_client::RaftClient;
use world::{PATIENCE, World, entry};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_the_leader_is_read_on_a_follower() {
    let world = World::started(3).await;
    let (leader, proposed) = world.write(1).await;
    let follower = (leader + 1) % 3;
    let index = world.replica(follower).read_index().await.unwrap();
    assert!(index >= proposed.index);
    assert!(world.replica(leader).read_index().await.unwrap() >= proposed.index);
    world.assert_alike(proposed.index).await;

    let status = world.replica(follower).status();
    assert_eq!(status.state, RaftState::Follower);
    assert_eq!(status.leader.unwrap().name, world.peers[leader].name);
    assert_eq!(status.members.len(), 3);
    let names: Vec<_> = status.members.iter().map(|member| (member.id, member.name.as_str())).collect();
    assert_eq!(names, [(1, "n1"), (2, "n2"), (3, "n3")], "ids follow the sorted names");
    assert!(world.replica(leader).quorum_acked().unwrap() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_a_cluster_too() {
    let mut world = World::started(1).await;
    let (_, proposed) = world.write(1).await;
    assert!(world.replica(0).read_index().await.unwrap() >= proposed.index);
    assert!(world.replica(0).quorum_acked().unwrap() < PATIENCE);
    world.stop(0).await;
    world.start(0).await.unwrap();
    assert!(world.replica(0).read_index().await.unwrap() > proposed.index);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_writes_keep_their_order() {
    let world = World::started(3).await;
    world.write(0).await;
    let (leader, term) = world.leader().await;
    let mut applied = world.replica(leader).applied();
    let futures: Vec<_> =
        (1..=2000).map(|number| world.replica(leader).propose(term, entry(number))).collect();
    let mut last = 0;
    for future in futures {
        let index = future.await.unwrap().index;
        assert!(index > last, "{index} after {last}");
        last = index;
    }
    let mut seen = 0;
    while seen < last {
        match applied.next().await.unwrap() {
            Feed::Applied { index, .. } => {
                assert!(index > seen);
                seen = index;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_in_another_term_is_refused_and_did_not_happen() {
    let world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let (_, term) = world.leader().await;
    let digest = world.replica(leader).status().digest;
    let stale = world.replica(leader).propose(term + 1, entry(2)).await.unwrap_err();
    assert_eq!(stale.happened(), Happened::No);
    let follower = (leader + 1) % 3;
    let refused = world.replica(follower).propose(term, entry(2)).await.unwrap_err();
    let ProposeError::NotLeader { leader: Some(named) } = refused else { panic!("{refused}") };
    assert_eq!(named.member.name, world.peers[leader].name);
    assert_eq!(named.member.api_address, format!("api-{}", world.peers[leader].name));
    world.replica(leader).read_index().await.unwrap();
    assert_eq!(world.replica(leader).status().digest, digest, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_dies_and_nothing_acknowledged_is_lost() {
    let mut world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let (_, first_term) = world.leader().await;
    world.stop(leader).await;
    let (next, proposed) = world.write(2).await;
    assert_ne!(next, leader);
    let Leadership::Leading { term, .. } = *world.replica(next).leadership().borrow() else {
        panic!("it leads")
    };
    assert!(term > first_term);
    world.start(leader).await.unwrap();
    let index = world.replica(leader).read_index().await.unwrap();
    assert!(index >= proposed.index);
    world.assert_alike(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_answered() {
    let mut world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let (_, term) = world.leader().await;
    for at in 0..3 {
        if at != leader {
            world.stop(at).await;
        }
    }
    let alone = world.replica(leader).clone();
    assert!(alone.read_index().await.is_err());
    // Either the lease has run out, or the entry waits for a quorum that does not come.
    let write = tokio::time::timeout(Duration::from_secs(2), alone.propose(term, entry(2))).await;
    assert!(!matches!(write, Ok(Ok(_))), "{write:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_restart_with_their_disks_and_have_everything() {
    let mut world = World::started(3).await;
    let last = world.write_many(0..=100).await;
    let digest = world.replica(world.leader().await.0).status().digest;
    for at in 0..3 {
        world.stop(at).await;
    }
    world.start_all().await;
    let index = world.replica(0).read_index().await.unwrap();
    assert!(index >= last);
    world.assert_alike(index).await;
    assert_eq!(world.replica(0).status().digest, digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_a_purged_log_gets_a_snapshot() {
    let mut world = World::new(3);
    world.thresholds = SnapshotThresholds { log_bytes_min: 64 << 10, tail_bytes: 4 << 10, cached_bytes: 0 };
    world.start_all().await;
    let (leader, before) = world.write(0).await;
    let behind = (leader + 1) % 3;
    world.stop(behind).await;
    let last = world.write_many(1..=4000).await;
    let (leader, _) = world.leader().await;
    let mut changes = world.replica(leader).changes();
    let purged = changes.wait_for(|status| status.purged > before.index + 1);
    let purged = tokio::time::timeout(PATIENCE, purged).await.expect("the log is purged").unwrap().clone();
    assert!(purged.snapshot >= purged.purged);

    world.start(behind).await.unwrap();
    world.assert_alike(last).await;
    // The status follows what is applied after a moment.
    let mut changes = world.replica(behind).changes();
    let installed = changes.wait_for(|status| status.snapshot >= purged.purged);
    tokio::time::timeout(PATIENCE, installed).await.expect("it came by snapshot").unwrap();
    // And once more from its own disk.
    world.stop(behind).await;
    world.start(behind).await.unwrap();
    let index = world.replica(behind).read_index().await.unwrap();
    assert!(index >= last);
    world.assert_alike(index).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_moves_when_asked() {
    let world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let to = (leader + 1) % 3;
    world.replica(leader).transfer_leader(to as u64 + 1).await.unwrap();
    let mut leadership = world.replica(to).leadership();
    let leads = leadership.wait_for(|leadership| leadership.term().is_some());
    tokio::time::timeout(PATIENCE, leads).await.expect("it leads").unwrap();
    let (now, _) = world.write(2).await;
    assert_eq!(now, to);
    assert!(world.replica(leader).transfer_leader(1).await.is_err(), "it leads no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_off_hands_over() {
    let mut world = World::started(3).await;
    let (leader, _) = world.write(1).await;
    let off = (leader + 1) % 3;
    world.stop(off).await;
    world.start_off(off, 5_000).await.unwrap();
    world.replica(off).read_index().await.unwrap();
    world.replica(leader).transfer_leader(off as u64 + 1).await.unwrap();
    let mut changes = world.replica(off).changes();
    for leads in [true, false] {
        let told = changes.wait_for(|status| {
            status.leader.as_ref().is_some_and(|leader| (leader.id == status.id) == leads)
        });
        tokio::time::timeout(PATIENCE, told).await.expect("it leads, and then another one").unwrap();
    }
    let status = world.replica(off).status();
    let skew = status.clock_skew().expect("the others have answered");
    assert!((4_000_000..6_000_000).contains(&skew), "{skew}");
    let (now, _) = world.write(2).await;
    assert_ne!(now, off);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_when_asked() {
    let world = World::started(1).await;
    let (_, proposed) = world.write(1).await;
    assert!(world.replica(0).snapshot().await.unwrap() >= proposed.index);
    assert!(world.replica(0).status().snapshot_bytes > 0);
}

fn addressed<T>(message: T, to: &Identity, from: u64) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("baton-cluster", to.cluster_id.parse().unwrap());
    request.metadata_mut().insert("baton-target", to.id.into());
    request.metadata_mut().insert("baton-incarnation", to.incarnation.into());
    request.metadata_mut().insert("baton-from", from.into());
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_comes_after_the_entries_that_followed_it_is_declined() {
    let mut world = World::started(3).await;
    let (leader, first) = world.write(1).await;
    world.assert_alike(first.index).await;
    let behind = (leader + 1) % 3;
    world.stop(behind).await;
    world.write_many(2..=20).await;
    let (leader, term) = world.leader().await;
    let covers = world.replica(leader).snapshot().await.unwrap();
    let snapshots: Vec<_> = std::fs::read_dir(world.data_dir(leader).join("snapshots")).unwrap().collect();
    let snapshot = std::fs::read(snapshots[0].as_ref().unwrap().path()).unwrap();
    for at in world.running().collect::<Vec<_>>() {
        world.stop(at).await;
    }

    // Alone, and led by this test in place of the leader.
    world.start(behind).await.unwrap();
    let own = world.replica(behind).identity().clone();
    let from = leader as u64 + 1;
    let vote = Some(pb::Vote { term, node_id: from, committed: true });
    let mut client = RaftClient::connect(format!("http://{}", world.peers[behind].raft_addr)).await.unwrap();
    let known = world.replica(behind).status().last_log;
    let blank = |index| pb::LogEntry { term, index, kind: 0, payload: Default::default() };
    let entries: Vec<_> = (known + 1..=covers + 1).map(blank).collect();
    let previous = Some(pb::LogId { term, index: known });
    let append = pb::AppendRequest { vote, previous, entries, leader_commit: None };
    let beat = pb::AppendRequest {
        previous: Some(pb::LogId { term, index: covers + 1 }),
        entries: vec![],
        leader_commit: Some(pb::LogId { term, index: covers }),
        ..append.clone()
    };
    let parts = || {
        use pb::snapshot_part::Part;
        let header = pb::SnapshotHeader { vote, bytes: snapshot.len() as u64 };
        let parts = [Part::Header(header), Part::Chunk(snapshot.clone().into())];
        let parts = parts.map(|part| pb::SnapshotPart { part: Some(part) });
        addressed(futures::stream::iter(parts), &own, from)
    };
    let last = |response: pb::AppendResponse| match response.outcome.unwrap() {
        pb::append_response::Outcome::Matched(matched) => matched.last.unwrap().index,
        other => panic!("{other:?}"),
    };

    let appends = |append| addressed(futures::stream::iter([append]), &own, from);
    let mut answers = client.append(appends(append)).await.unwrap().into_inner();
    assert_eq!(last(answers.message().await.unwrap().unwrap()), covers + 1);
    let declined = client.snapshot(parts()).await.unwrap_err();
    assert_eq!(declined.code(), Code::Unavailable, "{declined}");
    // It goes on, hears what is committed, and needs the snapshot no more.
    let mut answers = client.append(appends(beat)).await.unwrap().into_inner();
    assert_eq!(last(answers.message().await.unwrap().unwrap()), covers + 1);
    world.replica(behind).wait_applied(covers, PATIENCE).await.unwrap();
    client.snapshot(parts()).await.unwrap();
    assert!(world.replica(behind).status().snapshot < covers, "nothing was taken over");
}
