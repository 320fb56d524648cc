//! Orders: what runs, in which order, and what is stopped.

use super::*;

#[test]
fn an_order_runs_and_its_end_is_reported_until_acknowledged() {
    let mut world = World::attached();
    assert_eq!(starts(&world.run(order(1))), [1]);
    assert_eq!(world.event(Event::Started { seq: 1, task: 1, at: Timestamp(1) }), []);
    world.end(1);
    let batch = batches(&world.tick()).remove(0);
    // The start is in the end, so it needs no report of its own.
    assert_eq!(batch.reports.len(), 1);
    assert_eq!(ended_as(&batch.reports[0]), (1, Verdict::Succeeded, Reason::Exited));
    assert_eq!(world.core.saved().outbox.len(), 1);
    world.say(Message::Acked { number: batch.number, fenced: vec![] });
    assert!(world.core.saved().outbox.is_empty());
    assert_eq!(world.tick(), []);
}

#[test]
fn an_order_that_comes_again_is_not_started_again_even_after_its_end() {
    let mut world = World::attached();
    world.run(order(1));
    assert_eq!(world.run(order(1)), []);
    world.end(1);
    assert_eq!(starts(&world.run(order(1))), []);
    world.restart();
    world.after(0);
    world.event(Event::Up);
    world.say(welcome(1));
    assert_eq!(starts(&world.run(order(1))), []);
}

#[test]
fn numbers_that_come_late_fill_the_gaps() {
    let mut world = World::attached();
    assert_eq!(starts(&world.run(order(3))), [3]);
    let hello = world.reattach();
    assert_eq!((hello.watermark, hello.gaps), (3, vec![1, 2]));
    world.say(welcome(1));
    assert_eq!(starts(&world.run(order(2))), [2]);
    assert_eq!(world.reattach().gaps, [1]);
}

#[test]
fn a_start_waits_a_little_for_company() {
    let mut world = World::attached();
    world.run(order(1));
    world.event(Event::Started { seq: 1, task: 1, at: Timestamp(1) });
    assert_eq!(batches(&world.after(199)), []);
    assert_eq!(world.core.next_due(), Some(Moment(200_000)));
    let batch = batches(&world.after(1)).remove(0);
    assert_eq!(batch.reports[0].news, News::Started { at: Timestamp(1) });
}

#[test]
fn held_orders_start_in_order_when_there_is_room() {
    let mut world = World::attached();
    assert_eq!(starts(&world.run(big(1, 3))), [1]);
    assert_eq!(starts(&world.run(held(2, 2))), []);
    // It would fit, but it is not its turn.
    assert_eq!(starts(&world.run(held(3, 1))), []);
    assert_eq!(starts(&world.end(1)), [2, 3]);
    let batch = batches(&world.tick()).remove(0);
    let news: Vec<(Seq, bool)> =
        batch.reports.iter().map(|r| (r.seq, matches!(r.news, News::Started { .. }))).collect();
    assert_eq!(news, [(1, false), (2, true), (3, true)], "the end comes with the starts that it caused");
    assert_eq!(batches(&world.after(500)), []);
    world.event(Event::Started { seq: 2, task: 2, at: Timestamp(3) });
    assert_eq!(batches(&world.after(500)), [], "once is enough");
}

#[test]
fn a_placed_order_goes_before_held_ones_and_waits_for_room() {
    let mut world = World::attached();
    world.run(big(1, 4));
    world.run(held(2, 4));
    assert_eq!(starts(&world.run(big(3, 4))), []);
    assert_eq!(starts(&world.end(1)), [3]);
    assert_eq!(starts(&world.end(3)), [2]);
}

#[test]
fn what_is_larger_than_the_worker_runs_alone() {
    let mut world = World::attached();
    assert_eq!(starts(&world.run(big(1, 9))), [1]);
    assert_eq!(starts(&world.run(order(2))), []);
    assert_eq!(starts(&world.end(1)), [2]);
}

#[test]
fn a_stopped_order_that_has_not_begun_is_given_back() {
    let mut world = World::attached();
    world.run(big(1, 4));
    world.run(held(2, 1));
    world.say(Message::Stop { seq: 2, token: Token(102) });
    let batch = batches(&world.tick()).remove(0);
    assert_eq!((batch.reports[0].seq, &batch.reports[0].news), (2, &News::Recalled));
    assert_eq!(starts(&world.end(1)), []);
}

#[test]
fn an_order_that_cannot_be_read_is_answered_once() {
    let mut world = World::attached();
    let ended = Ended::new(Verdict::Failed, Reason::Unsupported, "no spec", Timestamp(2));
    let news = News::Ended(Box::new(ended));
    let report = Report { seq: 1, token: Token(101), job: JobId(1), tasks: Run::new(1, 1), news };
    world.say(Message::Unreadable(Box::new(report.clone())));
    let batch = batches(&world.tick()).remove(0);
    assert_eq!(batch.reports, std::slice::from_ref(&report));
    world.say(Message::Unreadable(Box::new(report)));
    assert_eq!(batches(&world.tick()), []);
    assert_eq!(world.reattach().watermark, 1);
}

#[test]
fn a_stop_that_comes_before_its_order_wins() {
    let mut world = World::attached();
    world.say(Message::Stop { seq: 1, token: Token(101) });
    let batch = batches(&world.tick()).remove(0);
    assert_eq!((batch.reports[0].token, &batch.reports[0].news), (Token(101), &News::Recalled));
    assert_eq!(starts(&world.run(order(1))), []);
}

#[test]
fn a_stopped_attempt_counts_as_cancelled_with_all_that_followed_it() {
    let mut world = World::attached();
    world.run(Order { tasks: Run::new(1, 3), ..order(1) });
    assert_eq!(world.say(Message::Stop { seq: 1, token: Token(101) }), [Action::Stop { seq: 1 }]);
    assert_eq!(world.say(Message::Stop { seq: 1, token: Token(101) }), [], "asked once");
    assert_eq!(world.end(1), []);
    let batch = batches(&world.tick()).remove(0);
    let tasks: Vec<Run> = batch.reports.iter().map(|report| report.tasks).collect();
    assert_eq!(tasks, [Run::new(1, 1), Run::new(2, 2)]);
    assert!(batch.reports.iter().all(|r| ended_as(r).1 == Verdict::Cancelled));
    assert!(world.core.saved().orders.is_empty());
}

#[test]
fn a_run_of_noops_is_one_start_and_one_report() {
    let mut world = World::attached();
    let tasks = Run::new(10, 50_000);
    let actions = world.run(noops(1, tasks));
    assert!(matches!(&actions[..], [Action::Start { tasks: all, .. }] if *all == tasks));
    let ended = Box::new(Ended::succeeded(None, Timestamp(2)));
    world.event(Event::Ended { seq: 1, tasks, ended });
    assert_eq!(batches(&world.tick())[0].reports.len(), 1);
}

#[test]
fn the_tasks_of_an_order_run_one_after_the_other() {
    let mut world = World::attached();
    let started = |actions: Vec<Action>| match &actions[..] {
        [Action::Start { tasks, .. }] => *tasks,
        other => panic!("{other:?}"),
    };
    assert_eq!(started(world.run(Order { tasks: Run::new(1, 2), ..order(1) })), Run::new(1, 1));
    assert_eq!(started(world.end(1)), Run::new(2, 1));
    assert_eq!(world.core.saved().orders[&1].left(), Run::new(2, 1));
}

#[test]
fn a_recalled_order_is_given_back_unless_it_has_begun() {
    let mut world = World::attached();
    world.run(big(1, 4));
    world.run(held(2, 1));
    assert_eq!(world.say(Message::Recall { seq: 1, token: Token(101) }), [], "it runs on");
    world.say(Message::Recall { seq: 2, token: Token(99) });
    assert_eq!(batches(&world.tick()), [], "another attempt was meant");
    world.say(Message::Recall { seq: 2, token: Token(102) });
    let batch = batches(&world.tick()).remove(0);
    assert_eq!(batch.reports.len(), 1);
    assert_eq!((batch.reports[0].seq, &batch.reports[0].news), (2, &News::Recalled));
    assert_eq!(starts(&world.end(1)), []);
    assert_eq!(starts(&world.run(held(2, 1))), [], "never again under this number");
}

#[test]
fn a_host_that_could_not_start_something_rests_before_it_tries_again() {
    let mut world = World::attached();
    world.run(Order { tasks: Run::new(1, 2), ..order(1) });
    world.event(Event::HostFailed);
    let lost = Ended::new(Verdict::Lost, Reason::NotStarted, "no space", Timestamp(2));
    world.event(Event::Ended { seq: 1, tasks: Run::new(1, 1), ended: Box::new(lost) });
    assert_eq!(starts(&world.run(order(3))), []);
    (0..9).for_each(|_| world.beat(1_000));
    assert_eq!(starts(&world.after(999)), []);
    assert_eq!(world.core.next_due(), Some(Moment(10_000_000)));
    assert_eq!(starts(&world.after(1)), [1, 3]);
}
