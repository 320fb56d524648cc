//! Turns: what stands still leaves its processor time to others, and nothing else.

use model::Pace;

use super::*;

fn switch(seq: Seq, to: Pace) -> Message {
    Message::Switch { seq, token: Token(100 + seq), to }
}

#[test]
fn what_stands_still_makes_room_and_goes_on_when_it_is_told_to() {
    let mut world = World::attached();
    assert_eq!(starts(&world.run(big(1, 4))), [1]);
    let stands = Action::Switch { seq: 1, to: Pace::StandsStill };
    assert_eq!(world.say(switch(1, Pace::StandsStill)), [stands]);
    assert_eq!(world.say(switch(1, Pace::StandsStill)), [], "said again");
    assert_eq!(starts(&world.run(big(2, 4))), [2]);
    // It may not begin either, whatever room there is.
    world.run(big(3, 4));
    world.say(switch(3, Pace::StandsStill));
    assert_eq!(starts(&world.end(2)), [], "neither goes on by itself");
    let goes_on = Action::Switch { seq: 1, to: Pace::Runs };
    assert_eq!(world.say(switch(1, Pace::Runs)), [goes_on]);
    world.say(switch(3, Pace::Runs));
    assert_eq!(starts(&world.end(1)), [3]);
    assert_eq!(world.say(switch(9, Pace::StandsStill)), [], "nobody knows it");
    assert_eq!(world.say(Message::Switch { seq: 3, token: Token(7), to: Pace::StandsStill }), []);
}

#[test]
fn a_worker_that_starts_anew_knows_what_stands_still() {
    let mut world = World::attached();
    world.run(big(1, 4));
    world.say(switch(1, Pace::StandsStill));
    world.run(big(2, 3));
    let saved = world.core.saved().clone();
    assert!(saved.orders[&1].suspended);
    world.core = Core::new(Config { lease: Some(world.now.plus(lease().ttl)), ..config() }, saved);
    world.tick();
    world.event(Event::Up);
    world.say(welcome(1));
    // One of four cores is free: the one that stands still takes none.
    assert_eq!(starts(&world.run(big(3, 1))), [3]);
    assert_eq!(starts(&world.run(big(4, 1))), []);
    // It is stopped as any other is, and what it had is free only once.
    let stop = Message::Stop { seq: 1, token: Token(101) };
    assert_eq!(world.say(stop), [Action::Stop { seq: 1 }]);
    assert_eq!(starts(&world.end(1)), []);
    assert_eq!(starts(&world.end(3)), [4]);
}
