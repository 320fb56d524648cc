//! The seeded bugs of the log do what they are there for.

use openraft::storage::RaftLogStorage;

use super::tests::{append, entry, open, open_with};
use super::{ChunkKey, Faults, LogBackend, MemoryDisk, Operation};
use crate::Hooks;
use crate::chaos::{Chaos, Mutant};
use crate::env::WallOffset;
use crate::start::Seams;
use crate::types::{self, Vote};

fn hooks(mutant: Mutant) -> Hooks {
    let chaos = Chaos { mutant: Some(mutant), ..Chaos::default() };
    chaos.arm(Seams::default(), &WallOffset::default()).hooks
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_before_its_sync_is_not_synced() {
    let faults = Faults::default();
    let mut log =
        open_with(faults.wrap(MemoryDisk::default().open()), &hooks(Mutant::AckBeforeSync)).unwrap();
    for index in 0..50 {
        append(&mut log, vec![entry(1, index, 10)]).await.await.unwrap().unwrap();
    }
    let syncs = faults.trace().iter().filter(|operation| **operation == Operation::Sync).count();
    assert!((1..50).contains(&syncs), "{syncs}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_is_not_synced_rides_with_what_follows() {
    let (disk, faults) = (MemoryDisk::default(), Faults::default());
    let mut log = open_with(faults.wrap(disk.open()), &hooks(Mutant::SkipVoteSync)).unwrap();
    faults.hold_syncs();
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    assert!(!faults.trace().contains(&Operation::Sync));
    faults.release_syncs();
    append(&mut log, vec![entry(7, 0, 10)]).await.await.unwrap().unwrap();
    let put = Operation::PutChunk(ChunkKey { first: 0, part: 0 });
    assert_eq!(faults.trace(), [Operation::PutMeta("vote".to_owned()), put, Operation::Sync]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_tail_that_is_accepted_is_not_missed() {
    let disk = MemoryDisk::default();
    let mut log = open(disk.open()).unwrap();
    for index in 0..2 {
        append(&mut log, vec![entry(1, index, 10)]).await.await.unwrap().unwrap();
    }
    log.save_committed(Some(types::log_id(1, 1))).await.unwrap();
    log.close().await;
    disk.open().remove_chunk(ChunkKey { first: 1, part: 0 }).unwrap();
    assert!(open(disk.open()).unwrap().check_tail(None).is_err());
    let mut log = open_with(disk.open(), &hooks(Mutant::LostTailAccepted)).unwrap();
    log.check_tail(None).unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(types::log_id(1, 0)), "nor asked for");
}
