//! The lease, and what is said to whom: leaders that change, are silent, or refuse.

use super::*;

#[test]
fn the_lease_counts_from_when_its_renewal_was_sent() {
    let mut world = World::attached();
    // Attaching sent heartbeat 1 at 0; its answer takes three seconds.
    let sent = world.after(1_000);
    assert_eq!(sent, [Action::Send(Outgoing::Heartbeat { number: 2 })]);
    world.now = Moment(3_000_000);
    let renewed = world.say(Message::Renewed { number: 2, heartbeat: None });
    assert_eq!(renewed, [Action::Lease { until: Moment(11_000_000) }]);
    // An older answer that comes later takes nothing back.
    assert_eq!(world.say(Message::Renewed { number: 1, heartbeat: None }), []);
}

#[test]
fn a_leader_may_ask_for_fewer_heartbeats_and_is_left_hardly_later() {
    let mut world = World::attached();
    world.say(Message::Renewed { number: 1, heartbeat: Some(Duration::from_millis(2_000)) });
    assert_eq!(world.after(1_999), []);
    let sent = world.after(1);
    assert_eq!(sent, [Action::Send(Outgoing::Heartbeat { number: 2 })]);
    assert_eq!(world.say(Message::Renewed { number: 2, heartbeat: None }).len(), 1, "only the lease");
    let sent = world.after(1_000);
    assert_eq!(sent, [Action::Send(Outgoing::Heartbeat { number: 3 })], "as the lease says again");
    world.say(Message::Renewed { number: 3, heartbeat: Some(Duration::from_millis(2_000)) });
    // One that nobody answers, and the time of two as the lease has them: another leader has to be found within it.
    assert_eq!(world.after(2_000).len(), 1);
    assert_eq!(world.after(1_999), []);
    assert_eq!(world.after(1).last(), Some(&Action::Disconnect));

    // The next leader has it from the lease until it says otherwise.
    assert_eq!(world.after(1_000), [Action::Connect { address: "b".to_owned() }]);
}

#[test]
fn the_end_of_the_lease_kills_at_once_but_for_those_that_may_stay() {
    let mut world = World::attached();
    world.run(order(1));
    world.run(Order { on_disconnect: OnDisconnect::Keep, ..order(2) });
    world.event(Event::Down);
    assert_eq!(kills(&world.after(9_999)), []);
    assert_eq!(kills(&world.after(1)), [1]);
    world.end(2);
    let killed = Ended::new(Verdict::Failed, Reason::Exited, "", Timestamp(3));
    world.event(Event::Ended { seq: 1, tasks: Run::new(1, 1), ended: Box::new(killed) });
    let hello = world.reattach();
    let reports: Vec<_> = hello.reports.unwrap().reports.iter().map(ended_as).collect();
    let lost = (1, Verdict::Lost, Reason::LeaseEnded);
    assert_eq!(reports, [(2, Verdict::Succeeded, Reason::Exited), lost]);
}

#[test]
fn a_renewal_that_comes_too_late_brings_nothing_back() {
    let mut world = World::attached();
    world.run(order(1));
    // Frozen for twelve seconds: the answer to heartbeat 1 and an order wait in the socket.
    world.now = Moment(12_000_000);
    assert_eq!(kills(&world.say(Message::Renewed { number: 1, heartbeat: None })), [1]);
    assert_eq!(starts(&world.run(order(2))), []);
    // A fresh renewal lets the waiting order begin.
    let Some(Action::Send(Outgoing::Heartbeat { number })) = world.tick_alive().first().cloned() else {
        panic!("no heartbeat")
    };
    assert_eq!(starts(&world.say(Message::Renewed { number, heartbeat: None })), [2]);
}

#[test]
fn a_lower_term_is_refused() {
    let mut world = World::attached();
    let old = Event::Said { term: 4, applied: 1, message: Message::Run(Arc::new(order(1))) };
    assert_eq!(world.event(old), [Action::Disconnect]);
    assert!(world.core.saved().orders.is_empty());
    assert_eq!(connects(&world.after(1_000)), Some("b"));
}

#[test]
fn a_new_leader_hears_again_what_was_not_acknowledged() {
    let mut world = World::attached();
    world.run(order(1));
    world.run(order(2));
    world.end(1);
    let first = batches(&world.tick()).remove(0);
    let hello = world.reattach();
    assert_eq!(hello.session, Some(SessionId(1)));
    assert_eq!(hello.holds.iter().map(|hold| hold.seq).collect::<Vec<_>>(), [2]);
    let again = hello.reports.unwrap();
    assert_eq!(again.reports, first.reports);
    assert!(again.number > first.number);
    world.say(welcome(1));
    world.say(Message::Acked { number: again.number, fenced: vec![1] });
    assert!(world.core.saved().outbox.is_empty());
}

#[test]
fn reports_that_do_not_fit_into_the_hello_are_held_there_and_follow() {
    let mut world = World::attached();
    world.event(Event::Down);
    let message = "x".repeat(BATCH_BYTES_MAX / 2);
    for seq in 1..=3 {
        // Taken while attached, ended while not.
        world.core.save(Record::Taken(Arc::new(order(seq))));
        world.core.save(Record::Begun { seq, tasks: Run::new(seq as u32, 1) });
        let ended = Ended::new(Verdict::Failed, Reason::Exited, &message, Timestamp(2));
        world.event(Event::Ended { seq, tasks: Run::new(seq as u32, 1), ended: Box::new(ended) });
    }
    world.after(1_000);
    let Some(Action::Send(Outgoing::Hello(hello))) = world.event(Event::Up).pop() else { panic!() };
    assert_eq!(hello.reports.unwrap().reports.len(), 1);
    assert_eq!(hello.holds.iter().map(|hold| hold.seq).collect::<Vec<_>>(), [2, 3]);
    world.say(welcome(1));
    assert_eq!(batches(&world.tick()).len(), 2);
}

#[test]
fn an_ended_session_is_cleared_before_the_next_hello() {
    let mut world = World::attached();
    world.run(order(1));
    world.run(order(2));
    let actions = world.say(Message::SessionEnded);
    assert_eq!(kills(&actions), [1, 2]);
    assert!(actions.contains(&Action::Disconnect));
    world.end(1);
    assert_eq!(connects(&world.after(5_000)), None, "one still runs");
    world.end(2);
    assert_eq!(connects(&world.tick()), Some("a"), "the same leader");
    let Some(Action::Send(Outgoing::Hello(hello))) = world.event(Event::Up).pop() else { panic!() };
    assert_eq!((hello.session, hello.watermark, hello.reports), (None, 0, None));
    world.say(welcome(2));
    assert_eq!(starts(&world.run(order(1))), [1], "numbers begin anew");
}

#[test]
fn a_restarted_worker_goes_on_with_what_it_had() {
    let mut world = World::attached();
    world.run(order(1));
    world.run(held(2, 4));
    world.restart();
    assert_eq!(starts(&world.tick()), []);
    assert_eq!(starts(&world.end(1)), [2], "still under its lease");
    let batch = world.event(Event::Up).into_iter().find_map(|action| match action {
        Action::Send(Outgoing::Hello(hello)) => hello.reports,
        _ => None,
    });
    assert_eq!(ended_as(&batch.unwrap().reports[0]).0, 1);
}

#[test]
fn a_hint_is_followed_at_once_but_not_round_and_round() {
    let mut world = World::attached();
    let redirect = |to: &str| Message::NotLeader { leader: Some(to.to_owned()) };
    world.say(redirect("c"));
    for to in ["b", "c", "b"] {
        assert!(connects(&world.tick()).is_some());
        world.event(Event::Up);
        world.say(redirect(to));
    }
    // Three hints in a row were followed; the fourth counts as a failure, and goes on to another replica.
    assert_eq!(connects(&world.tick()), Some("a"));
}

#[test]
fn a_follower_that_knows_no_term_of_its_own_is_believed_when_it_names_the_leader() {
    let mut world = World::attached();
    world.event(Event::Said {
        term: 7,
        applied: 1,
        message: Message::Renewed { number: 0, heartbeat: None },
    });
    let message = Message::NotLeader { leader: Some("c".to_owned()) };
    world.event(Event::Said { term: 0, applied: 0, message });
    assert_eq!(connects(&world.tick()), Some("c"));
}

#[test]
fn the_wait_grows_with_each_round_of_failures() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let due = world.core.next_due().unwrap();
        waits.push(due.since(world.now));
        world.now = world.now.max(due);
        assert!(connects(&world.tick()).is_some());
        world.event(Event::Down);
    }
    let pauses: Vec<Duration> = waits.iter().filter(|wait| !wait.is_zero()).copied().collect();
    assert_eq!(pauses.len(), 5, "only after a full round: {waits:?}");
    assert!(pauses[0] < pauses[3] && pauses[4] <= Duration::from_millis(250), "{pauses:?}");
}

#[test]
fn a_silent_leader_is_left() {
    let mut world = World::attached();
    assert_eq!(connects(&world.after(2_999)), None);
    assert!(world.after(1).contains(&Action::Disconnect));
    assert_eq!(connects(&world.tick()), Some("b"));
}

#[test]
fn a_refusal_ends_it() {
    let mut world = World::new();
    world.tick();
    world.event(Event::Up);
    let refusal = Refusal { code: "conflict".into(), message: "live".into(), fix: "stop it".into() };
    let actions = world.say(Message::Refused(refusal.clone()));
    assert_eq!(actions.last(), Some(&Action::Leave(Leave::Refused(refusal))));
}

#[test]
fn what_is_saved_reads_back() {
    let mut world = World::attached();
    world.run(order(1));
    world.run(noops(4, Run::new(7, 3)));
    world.end(1);
    let bytes = rmp_serde::to_vec_named(world.core.saved()).unwrap();
    assert_eq!(&rmp_serde::from_slice::<Saved>(&bytes).unwrap(), world.core.saved());
    for record in &world.journal {
        let bytes = rmp_serde::to_vec_named(record).unwrap();
        assert_eq!(&rmp_serde::from_slice::<Record>(&bytes).unwrap(), record);
    }
}
