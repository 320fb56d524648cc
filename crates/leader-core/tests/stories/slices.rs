//! Turns, as workers hear of them.

use leader_core::*;
use machine::{Op, QueueSpec};
use model::policy::Order as QueueOrder;
use model::{Pace, Seq};

use crate::world::*;

fn paces(heard: &[ToWorker]) -> Vec<(Seq, Pace)> {
    let pace = |message: &ToWorker| match message {
        ToWorker::Switch { seq, to, .. } => Some((*seq, *to)),
        _ => None,
    };
    heard.iter().filter_map(pace).collect()
}

/// Two that take turns on one core, of which the first stands still.
fn taking_turns() -> (World, model::SessionId, Vec<Order>) {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let order = Some(QueueOrder::RoundRobin);
    world.write(Op::PutQueue(QueueSpec { name: "default".to_owned(), order, ..QueueSpec::default() }), 50);
    world.commit();
    world.job(array(2));
    world.commit();
    let mut sent = orders(&world.heard(1));
    assert_eq!(sent.len(), 1);
    world.pass(1_000);
    world.commit();
    let heard = world.heard(1);
    sent.extend(orders(&heard));
    assert_eq!(paces(&heard), [(1, Pace::StandsStill)]);
    assert!(matches!(heard.last(), Some(ToWorker::Run(_))), "room first, then who needs it: {heard:?}");
    (world, session, sent)
}

#[test]
fn a_slice_that_is_over_makes_room_for_who_waits_and_nothing_is_proposed_for_nobody() {
    let (mut world, _, sent) = taking_turns();
    world.pass(1_000);
    world.commit();
    assert_eq!(paces(&world.heard(1)), [(2, Pace::StandsStill), (1, Pace::Runs)]);
    world.reports(1, 1, vec![succeeded(&sent[0])]);
    world.commit();
    assert_eq!(paces(&world.heard(1)), [(2, Pace::Runs)]);
    world.forget();
    world.pass(3_000);
    assert!(world.proposed().is_empty(), "{:?}", world.proposed());
}

#[test]
fn a_worker_that_comes_back_hears_who_stands_still_first() {
    let (mut world, session, sent) = taking_turns();
    world.next_leader();
    world.forget();
    let both = [held(&sent[0]), held(&sent[1])];
    world.says(2, FromWorker::Hello(Box::new(back("w", 1, session, 2, &both))));
    assert_eq!(paces(&world.heard(2)), [(1, Pace::StandsStill), (2, Pace::Runs)]);
    // One that had neither order is told with the order.
    world.says(3, FromWorker::Hello(Box::new(back("w", 1, session, 0, &[]))));
    let heard = world.heard(3);
    assert_eq!(orders(&heard).iter().map(|order| order.seq).collect::<Vec<_>>(), [1, 2]);
    let stands = heard.iter().position(|message| matches!(message, ToWorker::Switch { seq: 1, .. }));
    let second = heard.iter().position(|message| matches!(message, ToWorker::Run(order) if order.seq == 2));
    assert!(stands < second && stands.is_some(), "{heard:?}");
    assert_eq!(paces(&heard), [(1, Pace::StandsStill)]);
}
