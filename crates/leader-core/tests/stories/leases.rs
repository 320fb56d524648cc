//! When a worker is dead, and when it is not.

use leader_core::ToWorker;
use machine::Command;
use model::views::TaskState;

use crate::world::*;

fn ends(world: &World) -> usize {
    world.proposed().iter().filter(|command| matches!(command, Command::EndSession { .. })).count()
}

#[test]
fn an_idle_leader_proposes_nothing() {
    let mut world = World::new();
    world.worker(1, "w", 4);
    world.forget();
    for number in 0..300 {
        world.beat(1, number);
        world.pass(1_000);
    }
    assert_eq!(world.proposed(), Vec::<&Command>::new());
    assert_eq!(world.heard(1).len(), 300);
}

#[test]
fn a_renewal_without_a_quorum_is_refused() {
    let mut world = World::new();
    world.worker(1, "w", 4);
    world.beat(1, 1);
    assert_eq!(world.heard(1), [ToWorker::Renewed { number: 1, heartbeat: None }]);
    world.has_quorum = false;
    world.pass(901);
    world.beat(1, 2);
    assert_eq!(world.heard(1), [ToWorker::NotLeader]);
    assert_eq!(world.closed.len(), 1);
    // Nor is it taken back, or expired.
    world.says(2, leader_core::FromWorker::Hello(Box::new(hello("w", 4))));
    assert_eq!(world.heard(2), [ToWorker::NotLeader]);
    world.pass(60_000);
    assert_eq!(ends(&world), 0);
}

#[test]
fn a_silent_worker_loses_its_tasks_after_lease_and_margin() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let job = world.job(noop("a"));
    world.beat(1, 1);
    world.pass(11_999);
    assert_eq!(ends(&world), 0);
    world.pass(1);
    assert_eq!(ends(&world), 1);
    // From the proposal on nothing is renewed.
    world.heard(1);
    world.beat(1, 2);
    assert_eq!(world.heard(1), []);
    world.commit();
    assert!(world.state.session(session).is_none_or(|row| row.ended));
    assert_eq!(world.heard(1), [ToWorker::SessionEnded]);
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!(tasks[0].state, TaskState::Ready);
    // Another worker gets it as a new attempt.
    world.worker(2, "v", 1);
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!((tasks[0].attempt, tasks[0].worker.as_deref()), (2, Some("v")));
}

#[test]
fn nobody_is_expired_by_an_election() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    world.pass(11_000);
    world.next_leader();
    world.forget();
    world.pass(12_899);
    assert_eq!(ends(&world), 0);
    world.pass(1);
    assert_eq!(ends(&world), 1);
}

#[test]
fn a_leader_that_was_stopped_expires_nobody() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    let later = world.now.moment.0 + 60_000_000;
    world.go_to(later);
    world.step(leader_core::Event::Timer);
    assert_eq!(ends(&world), 0);
    world.beat(1, 1);
    assert_eq!(world.heard(1), [ToWorker::Renewed { number: 1, heartbeat: None }]);
}

#[test]
fn a_worker_that_says_goodbye_is_not_waited_for() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    world.says(1, leader_core::FromWorker::Goodbye);
    world.commit();
    assert!(world.state.session(session).is_none());
    assert_eq!(world.heard(1), [ToWorker::SessionEnded]);
}
