//! Disks that fail.

mod world;

use std::io;
use std::sync::Arc;

use replica::{Faults, Happened, Real, Replica, Seams, SledBackend};
use tokio::sync::mpsc;
use world::{PATIENCE, World, entry};

/// One replica over a failing disk, and what it says when it stops.
async fn over(faults: &Faults) -> (World, mpsc::UnboundedReceiver<String>) {
    let (stop, stopped) = mpsc::unbounded_channel();
    let mut world = World::new(1);
    let wrapped = faults.clone();
    let seams = Seams {
        env: Arc::new(Real::with_stop_hook(move |reason| drop(stop.send(reason.to_owned())))),
        open_log: Box::new(move |dir| Ok(Box::new(wrapped.wrap(SledBackend::open(dir)?)))),
        ..Seams::default()
    };
    let config = world.config(0);
    world.replicas[0] = Some(Arc::new(Replica::start_with(config, seams).await.unwrap()));
    (world, stopped)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_the_replica_and_acknowledges_nothing() {
    let faults = Faults::default();
    let (world, mut stopped) = over(&faults).await;
    world.write(1).await;
    let (leader, term) = world.leader().await;
    faults.fail_syncs(io::ErrorKind::Other);
    let error = world.replica(leader).propose(term, entry(2)).await.unwrap_err();
    assert_eq!(error.happened(), Happened::Maybe, "{error}");
    let reason = tokio::time::timeout(PATIENCE, stopped.recv()).await.unwrap().unwrap();
    assert!(reason.contains("cannot be written"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_replica_and_loses_nothing() {
    let faults = Faults::default();
    let (mut world, mut stopped) = over(&faults).await;
    let (leader, proposed) = world.write(1).await;
    let (_, term) = world.leader().await;
    faults.fail_writes(io::ErrorKind::StorageFull);
    assert!(world.replica(leader).propose(term, entry(2)).await.is_err());
    tokio::time::timeout(PATIENCE, stopped.recv()).await.unwrap().unwrap();
    world.stop(0).await;
    world.start(0).await.unwrap();
    assert!(world.replica(0).read_index().await.unwrap() > proposed.index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_log_is_refused_with_a_way_out() {
    let mut world = World::started(1).await;
    world.write(1).await;
    world.stop(0).await;
    {
        let db = sled::open(world.data_dir(0).join("log")).unwrap();
        let chunks = db.open_tree("chunks").unwrap();
        // The newest: behind it are entries that wait for a chunk.
        let last = chunks.iter().rev().map(Result::unwrap).find(|(_, value)| !value.is_empty());
        let (key, mut value) = last.map(|(key, value)| (key, value.to_vec())).unwrap();
        *value.last_mut().unwrap() ^= 1;
        chunks.insert(key, value).unwrap();
        db.flush().unwrap();
    }
    let error = world.start(0).await.unwrap_err();
    assert!(error.to_string().contains("join with an empty directory"), "{error}");
}
