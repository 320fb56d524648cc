//! What workers take themselves, and what the leader still places.

use model::policy::{Mode, Order};

use super::*;
use crate::claim::{Offer, offer};

fn set(w: &mut World, mode: Mode) {
    let put = QueueSpec { name: "default".to_owned(), mode: Some(mode), ..QueueSpec::default() };
    assert_eq!(w.write(Op::PutQueue(put)), machine::Reply::Done);
}

/// So many placements won and lost.
fn claim(w: &mut World, session: SessionId, offer: Offer, chance: u64) -> (u32, u32) {
    match w.write(Op::Claim { session, placements: offer.draw(chance) }) {
        machine::Reply::Placed { taken, dropped } => (taken, dropped),
        other => panic!("{other:?}"),
    }
}

fn names(offer: &Offer) -> Vec<String> {
    (0..offer.channels())
        .flat_map(|channel| offer.clone().draw(channel.into()))
        .map(|placement| format!("{}.{}", placement.job, placement.tasks.first))
        .collect()
}

#[test]
fn the_leader_leaves_it_to_the_workers_and_the_first_claim_wins() {
    let mut w = World::new();
    let (a, b) = (w.session("a", 2), w.session("b", 2));
    set(&mut w, Mode::Claim);
    let id = w.submit(job(2));
    assert!(w.plan().is_empty());
    let why = explain(&w.state, TaskId { job: id, number: 0 }).unwrap();
    assert_eq!(why.reasons.last().unwrap().code, "to_be_claimed", "{why:?}");
    let (of_a, of_b) = (offer(&w.state, a), offer(&w.state, b));
    assert_eq!((of_a.channels(), of_a.stations), (1, 2));
    assert_eq!(claim(&mut w, b, of_b, 7), (1, 0));
    assert_eq!(claim(&mut w, a, of_a, 8), (0, 1), "as of an older state");
    assert!(offer(&w.state, a).is_empty());
    assert!(!crate::claim::is_open(&w.state));
}

#[test]
fn nothing_can_be_claimed_from_a_queue_that_is_pushed() {
    let mut w = World::new();
    let a = w.session("a", 2);
    set(&mut w, Mode::Hybrid);
    w.submit(job(1));
    let offered = offer(&w.state, a);
    assert_eq!(offered.channels(), 1);
    set(&mut w, Mode::Push);
    assert!(offer(&w.state, a).is_empty());
    assert_eq!(claim(&mut w, a, offered, 0), (0, 1));
    assert_eq!(w.round(), ["j1.0@a"]);
}

#[test]
fn what_is_shared_the_leader_and_workers_take() {
    let mut w = World::new();
    let (a, b) = (w.session("a", 1), w.session("b", 1));
    set(&mut w, Mode::Hybrid);
    (0..2).for_each(|_| _ = w.submit(job(1)));
    let plan = w.plan();
    assert_eq!(plan.placements.len(), 2);
    // The worker was faster; what the leader had in hand for it comes too late, and the rest is as well off.
    let of_b = offer(&w.state, b);
    assert_eq!(claim(&mut w, b, of_b, 0), (1, 0));
    let reply = w.apply(Command::Place(plan));
    // One is not ready any more, and where the other was to go there is no room.
    assert_eq!(reply, machine::Reply::Placed { taken: 0, dropped: 2 });
    assert!(w.state.session(a).unwrap().allocations.is_empty());
    assert_eq!(w.round(), ["j2.0@a"]);
    let of_b: Vec<JobId> = w.state.session(b).unwrap().allocations.values().map(|row| row.job).collect();
    assert_eq!(of_b, [JobId(1)]);
}

/// No more tasks are on offer than stations could take: what is drawn is near the first.
#[test]
fn the_window_follows_the_order_of_the_queue() {
    let mut w = World::new();
    let a = w.session("a", 1);
    w.session("b", 1);
    set(&mut w, Mode::Claim);
    for priority in [0, 5, 3, 5] {
        w.submit(job(1).with(|job| job.priority = priority));
    }
    assert_eq!(names(&offer(&w.state, a)), ["j2.0", "j4.0"]);
    let put = QueueSpec { name: "default".to_owned(), order: Some(Order::Fifo), ..QueueSpec::default() };
    w.write(Op::PutQueue(put));
    assert_eq!(names(&offer(&w.state, a)), ["j1.0", "j2.0"]);
}

#[test]
fn a_channel_is_what_the_worker_has_room_for() {
    let mut w = World::new();
    let (small, large) = (w.session("small", 1), w.session("large", 3));
    set(&mut w, Mode::Claim);
    let mut array = task(1);
    array.array = Some("0-9".parse().unwrap());
    w.submit(JobSpec::of("", vec![array]));
    let first = offer(&w.state, large);
    assert_eq!((first.channels(), first.stations), (2, 2));
    assert_eq!(first.clone().draw(1).len(), 3);
    assert_eq!(offer(&w.state, small).draw(0).len(), 1);
    assert_eq!(claim(&mut w, large, first, 1), (3, 0));
    assert!(offer(&w.state, large).is_empty());
}

#[test]
fn only_what_may_go_there_is_offered() {
    let mut w = World::new();
    let a = w.session("a", 2);
    set(&mut w, Mode::Claim);
    let mut apart = task(1);
    apart.resources.set_apart(["web".to_owned()]);
    w.submit(JobSpec::of("", vec![apart.clone(), apart.with(|task| task.name = "other".to_owned())]));
    w.submit(job(3));
    assert_eq!(names(&offer(&w.state, a)), ["j1.0"], "never two of a name");
    let offered = offer(&w.state, a);
    claim(&mut w, a, offered, 0);
    assert!(offer(&w.state, a).is_empty());
    w.write(Op::PutQueue(QueueSpec {
        name: "default".to_owned(),
        running_max: Some(1),
        ..QueueSpec::default()
    }));
    w.submit(job(1));
    assert!(offer(&w.state, a).is_empty(), "the queue runs as many as it may");
    w.write(Op::PutQueue(QueueSpec {
        name: "default".to_owned(),
        running_max: Some(2),
        ..QueueSpec::default()
    }));
    assert_eq!(names(&offer(&w.state, a)), ["j3.0"]);
    w.write(Op::Cordon { worker: "a".to_owned() });
    assert!(offer(&w.state, a).is_empty());
    assert!(offer(&w.state, SessionId(99)).is_empty());
}

#[test]
fn the_leader_places_gangs_and_what_has_waited_too_long() {
    let mut w = World::new();
    let (a, b) = (w.session("a", 2), w.session("b", 1));
    set(&mut w, Mode::Claim);
    let mut members = task(1);
    members.set_gang(2);
    w.submit(JobSpec::of("", vec![members]));
    assert!(offer(&w.state, a).is_empty());
    assert_eq!(w.round().len(), 2);
    // One core is left, and the two that the next one asks for are never free at once: smaller ones go on claiming.
    w.submit(job(2));
    w.submit(job(1));
    let offered = offer(&w.state, b);
    let of_a = offer(&w.state, a);
    assert_eq!(names(&offered).len() + names(&of_a).len(), 1);
    wait(&mut w, 61);
    w.round();
    assert_eq!(w.reserved("a"), Some((JobId(2), 0)));
    assert!(offer(&w.state, a).is_empty(), "it drains");
    let gang: Vec<(SessionId, u64)> = w
        .state
        .sessions()
        .flat_map(|session| session.allocations.values().map(|row| (session.id, row.seq)))
        .collect();
    gang.into_iter().for_each(|(session, seq)| end(&mut w, session, seq, Verdict::Succeeded, 5_000));
    assert_eq!(w.round(), ["j2.0@a"]);
}

#[test]
fn a_claim_of_another_or_of_too_much_changes_nothing() {
    let mut w = World::new();
    let (a, b) = (w.session("a", 1), w.session("b", 1));
    set(&mut w, Mode::Claim);
    let mut array = task(1);
    array.array = Some("0-99".parse().unwrap());
    w.submit(JobSpec::of("", vec![array]));
    let mut placements = offer(&w.state, a).draw(0);
    placements[0].session = b;
    let reply = w.write(Op::Claim { session: a, placements: placements.clone() });
    assert_eq!(reply, machine::Reply::Placed { taken: 0, dropped: 1 });
    let reply = w.write(Op::Claim { session: b, placements: vec![placements[0]; 65] });
    assert!(matches!(reply.rejection(), Some(machine::Rejection::Limit { .. })), "{reply:?}");
    let ahead = machine::Placement { held: true, ..placements[0] };
    let reply = w.write(Op::Claim { session: b, placements: vec![ahead] });
    assert_eq!(reply, machine::Reply::Placed { taken: 0, dropped: 1 });
    let reply = w.write(Op::Claim { session: SessionId(9), placements });
    assert!(matches!(reply.rejection(), Some(machine::Rejection::SessionEnded { .. })), "{reply:?}");
}

/// Found by random plans: what was placed just then stood for the first that waits.
#[test]
fn who_has_waited_too_long_gets_a_worker_in_the_round_in_which_it_has() {
    let mut w = World::new();
    w.submit(JobSpec::of("", vec![wants(1, 4 << 30)]));
    w.session_with("a", offers(1, 1 << 30));
    set(&mut w, Mode::Claim);
    let mut task = wants(1, 1 << 30);
    let label = "name".to_owned();
    task.constraints = vec![model::Constraint::Equals { label, value: "b".to_owned() }].into();
    w.submit(JobSpec::of("", vec![task]));
    w.session_with("b", offers(1, 4 << 30));
    wait(&mut w, 60);
    assert_eq!(w.round(), ["j1.0@b"]);
    assert_eq!(w.reserved("b"), Some((JobId(2), 0)));
    assert!(w.plan().is_empty(), "{:?}", w.plan());
}

/// Found by random plans.
#[test]
fn no_channel_has_more_of_a_queue_than_its_ceiling_allows() {
    let mut w = World::new();
    let a = w.session("a", 8);
    set(&mut w, Mode::Claim);
    let ceiling = QueueSpec { name: "default".to_owned(), running_max: Some(2), ..QueueSpec::default() };
    w.write(Op::PutQueue(ceiling));
    for _ in 0..5 {
        w.submit(job(1));
    }
    let offered = offer(&w.state, a);
    assert_eq!(offered.clone().draw(0).len(), 2);
    assert_eq!(claim(&mut w, a, offered, 0), (2, 0));
    assert!(offer(&w.state, a).is_empty());
}

/// Found by random plans.
#[test]
fn what_is_claimed_at_once_leaves_what_is_booked() {
    let mut w = World::new();
    let a = w.session("a", 4);
    set(&mut w, Mode::Claim);
    let booked = machine::BookingSpec {
        name: "b".to_owned(),
        length: Duration::from_secs(10),
        count: 1,
        resources: Resources::cores(2),
        ..machine::BookingSpec::default()
    };
    assert_eq!(w.write(Op::PutBooking(booked)), machine::Reply::Done);
    for _ in 0..4 {
        w.submit(job(1));
    }
    for _ in 0..2 {
        let offered = offer(&w.state, a);
        assert_eq!(claim(&mut w, a, offered, 0), (1, 0));
    }
    assert!(offer(&w.state, a).is_empty());
}
