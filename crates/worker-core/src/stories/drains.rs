//! Draining, by whoever asked for it.

use super::*;

#[test]
fn draining_gives_back_what_waits_and_says_goodbye_when_idle() {
    let mut world = World::attached();
    world.run(big(1, 4));
    world.run(held(2, 1));
    world.event(Event::Drain { until: Moment(30_000_000) });
    let batch = batches(&world.tick()).remove(0);
    assert_eq!(batch.reports[0].news, News::Recalled);
    world.say(Message::Acked { number: batch.number, fenced: vec![] });
    // What still comes is given back too, but not at once.
    assert_eq!(starts(&world.run(order(3))), []);
    assert_eq!(batches(&world.tick()), []);
    world.beat(1_000);
    world.end(1);
    let batch = world.core.saved().batched;
    world.tick();
    for number in batch..=world.core.saved().batched {
        world.say(Message::Acked { number, fenced: vec![] });
    }
    assert!(world.core.saved().orders.is_empty());
    let left = world.say(Message::SessionEnded);
    assert_eq!(left.last(), Some(&Action::Leave(Leave::Drained)));
}

#[test]
fn an_idle_worker_that_drains_says_goodbye_at_once() {
    let mut world = World::attached();
    let actions = world.event(Event::Drain { until: Moment(30_000_000) });
    assert_eq!(actions, [Action::Send(Outgoing::Goodbye)]);
    assert_eq!(world.after(2_000).last(), Some(&Action::Leave(Leave::Drained)), "answered or not");
}

#[test]
fn a_drain_that_the_leader_takes_back_leaves_the_worker_at_work() {
    let mut world = World::attached();
    world.run(order(1));
    world.say(Message::Drain);
    // The first is given back at once, the next one would be after a second.
    world.run(order(2));
    assert_eq!(starts(&world.run(order(3))), []);
    assert_eq!(starts(&world.say(Message::Resume)), [3]);
    assert_eq!(starts(&world.run(order(4))), [4]);
    let goodbye = Action::Send(Outgoing::Goodbye);
    for seq in [1, 3, 4] {
        world.end(seq);
    }
    assert!(!world.tick().contains(&goodbye));
    // Never drained at all: nothing changes.
    assert_eq!(world.say(Message::Resume), []);
}

#[test]
fn the_leader_takes_no_drain_back_that_was_asked_for_here() {
    for leader_first in [true, false] {
        let mut world = World::attached();
        world.run(order(1));
        let here = Event::Drain { until: Moment(30_000_000) };
        let leader = Event::Said { term: 5, applied: 9, message: Message::Drain };
        let both = if leader_first { [leader, here] } else { [here, leader] };
        for event in both {
            world.event(event);
        }
        world.say(Message::Resume);
        assert_eq!(starts(&world.run(order(2))), [], "{leader_first}");
    }
}

#[test]
fn a_worker_that_had_said_goodbye_comes_back_with_a_new_session() {
    for answered in [true, false] {
        let mut world = World::attached();
        assert_eq!(world.say(Message::Drain), [Action::Send(Outgoing::Goodbye)]);
        world.say(Message::Resume);
        // The session is as good as over: what begins now might run elsewhere too.
        assert_eq!(starts(&world.run(order(1))), []);
        if answered {
            world.say(Message::SessionEnded);
        } else {
            world.after(2_000);
        }
        assert_eq!(connects(&world.tick()), Some("a"), "{answered}");
        let Some(Action::Send(Outgoing::Hello(hello))) = world.event(Event::Up).pop() else { panic!() };
        assert_eq!(hello.session, None);
        world.say(welcome(2));
        assert_eq!(starts(&world.run(order(1))), [1]);
    }
}

#[test]
fn a_drain_after_the_goodbye_was_taken_back_counts() {
    let mut world = World::attached();
    world.say(Message::Drain);
    world.say(Message::Resume);
    world.say(Message::Drain);
    assert_eq!(world.say(Message::SessionEnded).last(), Some(&Action::Leave(Leave::Drained)));
}

#[test]
fn a_drain_that_takes_too_long_leaves_the_rest_to_the_keeper() {
    let mut world = World::attached();
    world.run(order(1));
    world.event(Event::Drain { until: Moment(1_000_000) });
    let actions = world.after(1_000);
    assert_eq!(kills(&actions), []);
    assert_eq!(actions.last(), Some(&Action::Leave(Leave::DrainTimeout)));
    assert_eq!(world.core.next_due(), None);
}
