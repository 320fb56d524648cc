//! Promises to the first tasks of several queues.

use model::policy::{Backfill, Order};

use super::backfill::{exact, timed};
use super::*;

pub(super) const SECOND: u64 = 1_000_000;

/// Two queues with EASY, the one that came first being `default`.
pub(super) fn two_queues() -> World {
    let mut w = World::new();
    w.policy(Order::Fifo, Backfill::Easy);
    let other =
        QueueSpec { name: "other".to_owned(), backfill: Some(Backfill::Easy), ..QueueSpec::default() };
    assert_eq!(w.write(Op::PutQueue(other)), machine::Reply::Done);
    w
}

/// So many members, or one task, that take so long.
pub(super) fn asked(queue: &str, members: u32, cores: u64, seconds: u64) -> JobSpec {
    let mut spec = timed(&exact(0, cores, seconds)).with(|job| job.queue = queue.to_owned());
    if members > 1 {
        spec.tasks[0].set_gang(members);
    }
    spec
}

pub(super) fn ask(w: &mut World, queue: &str, members: u32, cores: u64, seconds: u64) -> JobId {
    let job = w.submit(asked(queue, members, cores, seconds));
    rest(w);
    job
}

pub(super) fn rest(w: &mut World) {
    w.apply(Command::Tick);
    w.round();
    assert!(w.plan().is_empty(), "planning twice adds nothing: {:?}", w.plan());
}

pub(super) fn promised(w: &World, job: JobId) -> Option<u64> {
    w.state.queues().find_map(|queue| queue.promises.get(&(job, 0)).map(|promise| promise.at.0 / SECOND))
}

#[test]
fn nobody_is_put_off_by_who_is_first_in_another_queue_later() {
    for members in [1, 2] {
        let mut w = two_queues();
        w.session("a", 5);
        ask(&mut w, "default", 1, 3, 10);
        ask(&mut w, "default", 1, 2, 20);
        let early = ask(&mut w, "other", members, 4 / u64::from(members), 100);
        assert_eq!(promised(&w, early), Some(20));
        // It could start after ten seconds, and the other one only after it then.
        let late = ask(&mut w, "default", 1, 3, 100);
        assert_eq!((promised(&w, early), promised(&w, late)), (Some(20), Some(120)), "{members} members");
        w.now = 15 * SECOND;
        ask(&mut w, "other", 1, 5, 10);
        assert_eq!((promised(&w, early), promised(&w, late)), (Some(20), Some(120)), "{members} members");
    }
}

#[test]
fn who_delays_nobody_is_promised_the_time_before() {
    let mut w = two_queues();
    w.session("a", 5);
    ask(&mut w, "default", 1, 3, 10);
    ask(&mut w, "default", 1, 2, 20);
    let early = ask(&mut w, "other", 1, 4, 100);
    // Over before the other one is to start.
    let late = ask(&mut w, "default", 1, 3, 10);
    assert_eq!((promised(&w, early), promised(&w, late)), (Some(20), Some(10)));
}

#[test]
fn what_cannot_be_kept_for_two_any_more_is_kept_for_who_is_to_start_first() {
    let mut w = two_queues();
    let (one, _) = (w.session("a", 3), w.session("b", 2));
    ask(&mut w, "default", 1, 3, 10);
    ask(&mut w, "default", 1, 2, 20);
    let first = ask(&mut w, "other", 1, 3, 5);
    let second = ask(&mut w, "default", 1, 3, 5);
    assert_eq!((promised(&w, first), promised(&w, second)), (Some(10), Some(15)));
    // What runs there takes longer than it should: as long again, as far as anybody knows.
    w.now = 11 * SECOND;
    ask(&mut w, "other", 1, 3, 5);
    assert_eq!((promised(&w, first), promised(&w, second)), (Some(20), Some(25)));
    end(&mut w, one, 1, Verdict::Succeeded, 11_000);
    ask(&mut w, "other", 1, 3, 5);
    assert_eq!((promised(&w, first), promised(&w, second)), (None, Some(16)));
}

/// What a plan starts ends as long after it was made as its entry is applied after that.
#[test]
fn who_is_to_start_first_stays_first_though_a_plan_takes_its_time() {
    for members in [1, 2] {
        let mut w = two_queues();
        w.session("a", 4);
        w.submit(asked("default", 1, 4, 10));
        let first = w.submit(asked("other", members, 4 / u64::from(members), 10));
        let second = w.submit(asked("default", 1, 4, 10));
        let plan = w.plan();
        w.now += 3_000;
        w.apply(Command::Place(plan));
        assert_eq!((promised(&w, first), promised(&w, second)), (Some(10), Some(20)));
        rest(&mut w);
        assert_eq!((promised(&w, first), promised(&w, second)), (Some(10), Some(20)), "{members} members");
        let at = |job| w.state.queues().find_map(|queue| queue.promises.get(&(job, 0))).unwrap().at.0;
        assert_eq!((at(first), at(second)), (10 * SECOND + 3_000, 20 * SECOND + 3_000));
    }
}

#[test]
fn what_fits_beside_each_of_two_and_not_beside_both_waits() {
    let mut w = two_queues();
    w.session("a", 10);
    ask(&mut w, "default", 1, 3, 10);
    ask(&mut w, "default", 1, 5, 20);
    let late = ask(&mut w, "other", 1, 6, 100);
    let early = w.submit(asked("default", 1, 4, 100));
    let behind = w.submit(asked("default", 1, 1, 100));
    let short = w.submit(asked("default", 1, 1, 20));
    rest(&mut w);
    assert_eq!((promised(&w, late), promised(&w, early)), (Some(20), Some(10)));
    let runs = |job| w.state.job(job).unwrap().groups[0].ready.is_empty();
    assert_eq!((runs(behind), runs(short)), (false, true));
}

#[test]
fn a_place_in_time_comes_after_those_of_all_first_tasks() {
    let mut w = two_queues();
    let third = QueueSpec {
        name: "third".to_owned(),
        backfill: Some(Backfill::Conservative),
        ..QueueSpec::default()
    };
    assert_eq!(w.write(Op::PutQueue(third)), machine::Reply::Done);
    w.session("a", 4);
    ask(&mut w, "default", 1, 4, 10);
    let first = ask(&mut w, "default", 1, 4, 10);
    let second = ask(&mut w, "other", 1, 4, 10);
    let last = ask(&mut w, "third", 1, 4, 10);
    assert_eq!([first, second, last].map(|job| promised(&w, job)), [Some(10), Some(20), Some(30)]);
}
