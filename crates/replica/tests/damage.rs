//! A replica whose disk was damaged while it was down: it starts with everything that it acknowledged, or not at all.

mod world;

use replica::StartError;
use replica::chaos::{Damage, Damaged, damage};
use world::World;

/// What a replica alone has acknowledged, stopped and then damaged.
async fn damaged(what: Damage) -> (World, u64, Damaged) {
    let mut world = World::started(1).await;
    let last = world.write_many(1..=300).await;
    if what == Damage::FlipSnapshot {
        world.replica(0).snapshot().await.unwrap();
    }
    // The mark of what is committed rides with a later write.
    let last = last.max(world.write(301).await.1.index).max(world.write(302).await.1.index);
    world.stop(0).await;
    let done = damage(&world.data_dir(0), what).unwrap().expect("there is something to damage");
    (world, last, done)
}

async fn refusal(what: Damage) -> (Damaged, StartError) {
    let (mut world, _, done) = damaged(what).await;
    let Err(refused) = world.start(0).await else { panic!("it starts after {done:?}") };
    let Err(again) = world.start(0).await else { panic!("the second time it starts") };
    assert_eq!(again.to_string(), refused.to_string());
    (done, refused)
}

fn chain(error: &StartError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_lost_what_was_committed_is_refused() {
    let (done, refused) = refusal(Damage::LostTail).await;
    let Damaged::LostTail(lost) = done else { panic!("{done:?}") };
    assert!((lost.first..=lost.last).contains(&lost.committed), "{lost:?}");
    let text = chain(&refused);
    assert!(text.contains("the end of the log is lost") && text.contains("empty directory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_append_is_dropped_and_everything_acknowledged_is_there() {
    let (mut world, last, done) = damaged(Damage::TornTail).await;
    let Damaged::TornTail(torn) = done else { panic!("{done:?}") };
    assert!(torn.index > last && torn.parts == 3, "{torn:?}");
    world.start(0).await.unwrap();
    assert!(world.replica(0).read_index().await.unwrap() > last);
    let (_, proposed) = world.write(1).await;
    assert!(proposed.index > last);
    world.stop(0).await;
    world.start(0).await.unwrap();
    assert!(world.replica(0).read_index().await.unwrap() > proposed.index);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_log_is_refused() {
    let text = chain(&refusal(Damage::FlipLog).await.1);
    assert!(text.contains("checksum") && text.contains("empty directory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_vote_is_refused() {
    let text = chain(&refusal(Damage::FlipVote).await.1);
    assert!(text.contains("`vote`") && text.contains("empty directory"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_snapshot_is_refused() {
    let text = chain(&refusal(Damage::FlipSnapshot).await.1);
    assert!(text.contains("snapshot"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_of_the_kind_nothing_is_changed() {
    let mut world = World::started(1).await;
    let (_, proposed) = world.write(1).await;
    assert!(damage(&world.data_dir(0), Damage::FlipLog).is_err(), "a replica runs on it");
    world.stop(0).await;
    assert_eq!(damage(&world.data_dir(0), Damage::FlipSnapshot).unwrap(), None);
    assert!(damage(&world.dir.path().join("nowhere"), Damage::FlipLog).is_err());
    let empty = world.dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    for what in [Damage::LostTail, Damage::TornTail, Damage::FlipLog, Damage::FlipVote] {
        assert_eq!(damage(&empty, what).unwrap(), None, "{what:?}");
    }
    world.start(0).await.unwrap();
    assert!(world.replica(0).read_index().await.unwrap() > proposed.index);
}
