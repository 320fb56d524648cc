//! What stands in the way of what is promised to the first tasks of queues, and what does not.

use machine::BookingSpec;
use model::Timestamp;
use model::policy::{Backfill, Order};

use super::several_queues::{SECOND, ask, asked, promised, rest, two_queues};
use super::*;

fn put(w: &mut World, spec: QueueSpec, name: &str) {
    assert_eq!(w.write(Op::PutQueue(QueueSpec { name: name.to_owned(), ..spec })), machine::Reply::Done);
}

fn preempting(w: &mut World, backfill: Backfill) {
    let (order, backfill) = (Some(Order::Priority), Some(backfill));
    put(w, QueueSpec { order, backfill, preempt: Some(true), ..QueueSpec::default() }, "default");
}

fn runs(w: &World, job: JobId) -> bool {
    w.state.job(job).unwrap().groups[0].ready.is_empty()
}

/// Whatever runs of the job ends now.
fn over(w: &mut World, job: JobId) {
    let all =
        w.state.sessions().flat_map(|session| session.allocations.values().map(move |row| (session, row)));
    let rows: Vec<_> =
        all.filter(|(_, row)| row.job == job).map(|(session, row)| (session.id, row.seq)).collect();
    assert!(!rows.is_empty());
    rows.into_iter().for_each(|(session, seq)| end(w, session, seq, Verdict::Succeeded, 1_000));
}

#[test]
fn no_start_is_promised_on_a_worker_that_drains_for_another() {
    for members in [1, 2] {
        let mut w = two_queues();
        preempting(&mut w, Backfill::FirstFit);
        w.session("a", 4);
        ask(&mut w, "default", 1, 4, 20);
        w.session("b", 4);
        w.now = SECOND;
        ask(&mut w, "default", 1, 4, 9);
        let high = w.submit(asked("default", 1, 4, 100).with(|job| job.priority = 5));
        rest(&mut w);
        assert_eq!(w.reserved("b"), Some((high, 0)));
        let first = ask(&mut w, "other", members, 4 / u64::from(members), 10);
        assert_eq!(promised(&w, first), Some(20), "{members} members");
    }
}

#[test]
fn whose_time_has_come_keeps_it_though_a_gang_begins_that_had_drained() {
    let mut w = two_queues();
    put(&mut w, QueueSpec { backfill: Some(Backfill::FirstFit), ..QueueSpec::default() }, "third");
    w.session("a", 4);
    w.session("b", 4);
    let long = [ask(&mut w, "other", 1, 4, 100), ask(&mut w, "other", 1, 4, 100)];
    let gang = ask(&mut w, "third", 2, 2, 10);
    w.now = 90 * SECOND;
    rest(&mut w);
    assert_eq!(w.reserved("a").map(|(job, _)| job), Some(gang));
    let first = ask(&mut w, "other", 1, 4, 10);
    assert_eq!(promised(&w, first), Some(100));
    w.now = 100 * SECOND;
    long.into_iter().for_each(|job| over(&mut w, job));
    let late = w.submit(asked("default", 1, 4, 100));
    rest(&mut w);
    assert_eq!([gang, first, late].map(|job| runs(&w, job)), [true, true, false]);
}

#[test]
fn whose_time_has_come_keeps_it_though_its_turn_does_not_come() {
    let mut w = two_queues();
    w.session("a", 4);
    let long = ask(&mut w, "other", 1, 4, 100);
    let first = ask(&mut w, "other", 1, 4, 10);
    assert_eq!(promised(&w, first), Some(100));
    w.session("b", 1);
    w.now = 100 * SECOND;
    over(&mut w, long);
    let small = w.submit(asked("default", 1, 1, 10));
    let budget = Budget { placements_max: 1, ..Budget::default() };
    let plan = plan(&w.state, &mut Scratch::default(), &Overlay::default(), budget);
    assert_eq!(plan.placements.iter().map(|row| row.job).collect::<Vec<_>>(), [small]);
    assert_eq!(plan.promises, []);
    w.apply(Command::Place(plan));
    assert_eq!(promised(&w, first), Some(100));
    assert_eq!(w.round(), [format!("{first}.0@a")]);
}

#[test]
fn what_is_promised_stands_behind_a_head_that_is_on_its_way() {
    let mut w = two_queues();
    w.session("a", 6);
    ask(&mut w, "other", 1, 3, 10);
    let first = ask(&mut w, "other", 1, 5, 100);
    assert_eq!(promised(&w, first), Some(10));
    put(&mut w, QueueSpec { order: Some(Order::Priority), ..QueueSpec::default() }, "other");
    w.submit(asked("other", 1, 1, 5).with(|job| job.priority = 5));
    let (mut overlay, plan_of) = (Overlay::default(), |w: &World, overlay: &Overlay| {
        plan(&w.state, &mut Scratch::default(), overlay, Budget::default())
    });
    let ahead = plan_of(&w, &overlay);
    assert_eq!(ahead.placements.len(), 1);
    overlay.add(1, &ahead);
    w.submit(asked("default", 1, 2, 100));
    assert_eq!(plan_of(&w, &overlay).placements, []);
}

/// Nine cores, of which three are booked from second 50 to 60, and six promised at second 10 for a hundred seconds.
fn booked_while_the_first_runs(w: &mut World) {
    w.session("a", 9);
    ask(w, "other", 1, 4, 10);
    let booked = BookingSpec {
        name: "b".to_owned(),
        from: Some(Timestamp(50 * SECOND)),
        length: Duration::from_secs(10),
        count: 1,
        resources: Resources::cores(3),
        ..BookingSpec::default()
    };
    assert_eq!(w.write(Op::PutBooking(booked)), machine::Reply::Done);
    let first = ask(w, "other", 1, 6, 100);
    assert_eq!(promised(w, first), Some(10));
}

#[test]
fn what_is_booked_while_the_first_task_runs_is_not_there_for_what_comes_before_it() {
    let mut w = two_queues();
    booked_while_the_first_runs(&mut w);
    let (long, short) = (ask(&mut w, "default", 1, 2, 100), ask(&mut w, "default", 1, 2, 10));
    assert_eq!([long, short].map(|job| runs(&w, job)), [false, true]);
}

#[test]
fn a_place_in_time_is_looked_for_beside_all_first_tasks_at_once() {
    let mut w = two_queues();
    put(&mut w, QueueSpec { backfill: Some(Backfill::Conservative), ..QueueSpec::default() }, "third");
    w.session("a", 4);
    ask(&mut w, "default", 1, 4, 10);
    let first = w.submit(job(3).with(|job| job.queue = "other".to_owned()));
    rest(&mut w);
    let second = ask(&mut w, "default", 1, 1, 10);
    assert_eq!([first, second].map(|job| promised(&w, job)), [Some(10), Some(10)]);
    let third = ask(&mut w, "third", 1, 1, 10);
    assert_eq!(promised(&w, third), Some(20));
}

#[test]
fn who_waited_lest_it_delay_another_has_somebody_give_way_once_the_room_is_taken() {
    for backfill in [Backfill::None, Backfill::Easy, Backfill::FirstFit] {
        let mut w = two_queues();
        preempting(&mut w, backfill);
        // By this it is the turn of the other queue.
        w.session("c", 8);
        ask(&mut w, "other", 1, 8, 1_000);
        w.session("b", 2);
        ask(&mut w, "default", 1, 2, 1_000);
        w.session("a", 4);
        ask(&mut w, "other", 1, 2, 10);
        let first = ask(&mut w, "other", 1, 4, 100);
        assert_eq!(promised(&w, first), Some(10));
        let high = w.submit(asked("default", 1, 2, 100).with(|job| job.priority = 5));
        let short = w.submit(asked("other", 1, 2, 5));
        rest(&mut w);
        assert_eq!((w.reserved("b"), runs(&w, short)), (Some((high, 0)), true), "{backfill}");
    }
}

/// One of `other` gives way for one that is cancelled by then; its gang may run once that has ended.
fn gang_behind_what_gives_way(w: &mut World) -> JobId {
    let (order, running_max) = (Some(Order::Priority), Some(4));
    put(w, QueueSpec { order, preempt: Some(true), running_max, ..QueueSpec::default() }, "other");
    w.session("a", 8);
    ask(w, "other", 1, 2, 100);
    ask(w, "default", 1, 6, 10);
    let high = w.submit(asked("other", 1, 2, 5).with(|job| job.priority = 5));
    rest(w);
    assert_eq!(w.reserved("a"), Some((high, 0)));
    w.write(Op::Cancel { targets: vec![machine::Target::job(high)] });
    let gang = ask(w, "other", 3, 2, 10);
    assert_eq!(promised(w, gang), Some(10));
    gang
}

#[test]
fn a_gang_keeps_its_promise_while_what_gives_way_fills_its_queue() {
    let mut w = two_queues();
    let gang = gang_behind_what_gives_way(&mut w);
    put(&mut w, QueueSpec { running_max: Some(3), ..QueueSpec::default() }, "other");
    rest(&mut w);
    assert_eq!(promised(&w, gang), Some(10));
}

#[test]
fn what_is_promised_stands_behind_a_head_that_starts_in_the_same_round() {
    let mut w = two_queues();
    w.session("a", 6);
    ask(&mut w, "other", 1, 3, 10);
    let first = ask(&mut w, "other", 1, 5, 100);
    put(&mut w, QueueSpec { order: Some(Order::Priority), ..QueueSpec::default() }, "other");
    let high = w.submit(asked("other", 1, 1, 5).with(|job| job.priority = 5));
    let long = w.submit(asked("default", 1, 2, 100));
    rest(&mut w);
    assert_eq!((runs(&w, high), runs(&w, long), promised(&w, first)), (true, false, Some(10)));
    // Who comes before it in its own queue may delay it, and not the first of another, which was promised second 110 and goes
    // before it by that.
    let higher = w.submit(asked("other", 1, 2, 50).with(|job| job.priority = 9));
    rest(&mut w);
    assert!(runs(&w, higher));
    assert_eq!([first, long].map(|job| promised(&w, job)), [Some(110), Some(10)]);
}

#[test]
fn a_gang_that_waits_for_what_gives_way_is_not_put_off_by_its_own_queue() {
    let mut w = two_queues();
    let gang = gang_behind_what_gives_way(&mut w);
    ask(&mut w, "other", 1, 8, 10);
    w.session("b", 1);
    put(&mut w, QueueSpec { running_max: Some(3), ..QueueSpec::default() }, "other");
    let small = ask(&mut w, "other", 1, 1, 1_000);
    assert_eq!((promised(&w, gang), runs(&w, small)), (Some(10), false));
}

#[test]
fn who_drains_a_worker_for_a_full_queue_puts_nobody_off() {
    for seconds in [Some(1_000), None] {
        let mut w = two_queues();
        let third =
            QueueSpec { backfill: Some(Backfill::FirstFit), running_max: Some(1), ..QueueSpec::default() };
        put(&mut w, third, "third");
        w.session("a", 4);
        ask(&mut w, "other", 1, 3, 100);
        let drained = match seconds {
            Some(seconds) => w.submit(asked("third", 1, 4, seconds)),
            None => w.submit(job(4).with(|job| job.queue = "third".to_owned())),
        };
        w.now = 90 * SECOND;
        rest(&mut w);
        assert_eq!(w.reserved("a"), Some((drained, 0)));
        w.session("c", 1);
        let first = w.submit(asked("other", 1, 4, 10));
        w.submit(asked("third", 1, 1, 1_000));
        let made = w.plan();
        let mut overlay = Overlay::default();
        overlay.add(1, &made);
        assert_eq!((made.placements.len(), made.promises[0].job), (1, first));
        w.submit(asked("default", 1, 1, 1_000));
        let next = plan(&w.state, &mut Scratch::default(), &overlay, Budget::default());
        assert_eq!(next.placements, []);
    }
}

#[test]
fn what_is_over_before_a_booking_begins_need_not_leave_room_for_it() {
    let mut w = two_queues();
    booked_while_the_first_runs(&mut w);
    let over = ask(&mut w, "default", 1, 2, 20);
    assert!(runs(&w, over));
}

#[test]
fn who_has_another_give_way_puts_off_nobody_by_that() {
    let mut w = two_queues();
    preempting(&mut w, Backfill::FirstFit);
    w.session("a", 8);
    ask(&mut w, "default", 1, 4, 1_000);
    ask(&mut w, "other", 1, 4, 10);
    let first = ask(&mut w, "other", 1, 4, 100);
    assert_eq!(promised(&w, first), Some(10));
    let high = w.submit(asked("default", 1, 4, 8).with(|job| job.priority = 5));
    rest(&mut w);
    assert_eq!(w.reserved("a"), Some((high, 0)));
    assert_eq!(promised(&w, first), Some(10));
}

#[test]
fn who_goes_before_the_first_of_its_own_queue_delays_no_other() {
    let mut w = two_queues();
    put(&mut w, QueueSpec { order: Some(Order::Priority), ..QueueSpec::default() }, "other");
    w.session("a", 4);
    ask(&mut w, "default", 1, 2, 10);
    let first = ask(&mut w, "other", 1, 4, 5);
    let second = ask(&mut w, "default", 1, 4, 10);
    assert_eq!([first, second].map(|job| promised(&w, job)), [Some(10), Some(15)]);
    let high = w.submit(asked("other", 1, 2, 14).with(|job| job.priority = 5));
    rest(&mut w);
    assert!(runs(&w, high));
    assert_eq!([first, second].map(|job| promised(&w, job)), [Some(24), Some(14)]);
}

/// An older gang has its workers drain although the round is made anew for a younger task.
#[test]
fn all_who_starve_have_workers_drain_where_one_of_them_puts_off_a_promise() {
    let mut w = two_queues();
    put(&mut w, QueueSpec { backfill: Some(Backfill::FirstFit), ..QueueSpec::default() }, "default");
    put(&mut w, QueueSpec { backfill: Some(Backfill::FirstFit), ..QueueSpec::default() }, "third");
    let on = |w: &mut World, name: &str, mut spec: JobSpec| {
        w.session(name, 4);
        let (label, value) = ("name".to_owned(), name.to_owned());
        spec.tasks[0].constraints = vec![model::Constraint::Equals { label, value }].into();
        w.submit(spec);
        w.round();
    };
    on(&mut w, "a", job(1));
    on(&mut w, "b", job(1));
    on(&mut w, "c", asked("default", 1, 2, 100));
    (0..9).for_each(|number| on(&mut w, &format!("full{number}"), job(4)));
    let first = ask(&mut w, "other", 1, 4, 10);
    assert_eq!(promised(&w, first), Some(100));
    let mut members = job(4);
    members.tasks[0].set_gang(2);
    let gang = w.submit(members);
    w.now = SECOND;
    let task = w.submit(job(4).with(|job| job.queue = "third".to_owned()));
    w.now = 62 * SECOND;
    w.apply(Command::Tick);
    let plan = w.plan();
    let drains = |id: JobId| plan.reservations.iter().filter(|of| of.job == id).count();
    assert_eq!((drains(gang), drains(task)), (2, 1), "{plan:?}");
}
