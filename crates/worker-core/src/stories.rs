//! Stories of a worker, told event by event.

use std::sync::Arc;
use std::time::Duration;

use model::settings::Lease;
use model::{
    JobId, Moment, OnDisconnect, Reason, Resources, Run, Seq, SessionId, TaskSpec, Timestamp, Token, Verdict,
    Work,
};

use crate::*;

/// A worker with four cores; time in milliseconds.
struct World {
    core: Core,
    now: Moment,
    journal: Vec<Record>,
}

fn lease() -> Lease {
    let ms = Duration::from_millis;
    Lease { heartbeat: ms(1_000), ttl: ms(10_000), margin: ms(2_000) }
}

fn config() -> Config {
    Config { capacity: Resources::cores(4), servers: vec!["a".into(), "b".into()], lease: None, seed: 7 }
}

fn order(seq: Seq) -> Order {
    let spec = TaskSpec::new("t", Work::Run(vec!["true".into()]));
    Order {
        seq,
        token: Token(100 + seq),
        job: JobId(1),
        tasks: Run::new(seq as u32, 1),
        attempt: 1,
        held: false,
        job_name: String::new(),
        spec: Arc::new(spec),
        array_index: None,
        array_step: 1,
        lines: Vec::new(),
        units: Vec::new(),
        on_disconnect: OnDisconnect::Stop,
        traceparent: String::new(),
    }
}

fn big(seq: Seq, cores: u64) -> Order {
    let mut spec = TaskSpec::new("t", Work::Run(vec!["true".into()]));
    spec.resources = Resources::cores(cores);
    Order { spec: Arc::new(spec), ..order(seq) }
}

fn held(seq: Seq, cores: u64) -> Order {
    Order { held: true, ..big(seq, cores) }
}

fn noops(seq: Seq, tasks: Run) -> Order {
    Order { spec: Arc::new(TaskSpec::new("n", Work::Noop)), tasks, ..order(seq) }
}

fn welcome(session: u64) -> Message {
    Message::Welcome(Welcome { session: SessionId(session), lease: lease(), replicas: vec!["c".into()] })
}

impl World {
    fn new() -> World {
        World { core: Core::new(config(), Saved::default()), now: Moment(0), journal: Vec::new() }
    }

    /// Attached under session 1, term 5.
    fn attached() -> World {
        let mut world = World::new();
        world.tick();
        world.event(Event::Up);
        world.say(welcome(1));
        world.tick();
        world
    }

    /// Without the records, which are kept and must say the same as the state.
    fn event(&mut self, event: Event) -> Vec<Action> {
        let actions = self.core.step(event, self.now);
        let (saves, rest): (Vec<_>, Vec<_>) =
            actions.into_iter().partition(|action| matches!(action, Action::Save(_)));
        self.journal.extend(saves.into_iter().map(|save| match save {
            Action::Save(record) => record,
            other => panic!("{other:?}"),
        }));
        let mut replayed = Saved::default();
        self.journal.iter().for_each(|record| replayed.apply(record));
        assert_eq!(&replayed, self.core.saved(), "a restart would go on elsewhere");
        rest
    }

    fn say(&mut self, message: Message) -> Vec<Action> {
        self.event(Event::Said { term: 5, applied: 9, message })
    }

    fn run(&mut self, order: Order) -> Vec<Action> {
        self.say(Message::Run(Arc::new(order)))
    }

    fn tick(&mut self) -> Vec<Action> {
        self.event(Event::Tick)
    }

    fn after(&mut self, ms: u64) -> Vec<Action> {
        self.now = self.now.plus(Duration::from_millis(ms));
        self.tick()
    }

    fn end(&mut self, seq: Seq) -> Vec<Action> {
        let ended = Ended::succeeded(Some(Timestamp(1)), Timestamp(2));
        self.event(Event::Ended { seq, tasks: Run::new(seq as u32, 1), ended: Box::new(ended) })
    }

    /// Answers the last heartbeat for `ms`, so that the stream stays alive.
    fn beat(&mut self, ms: u64) {
        for action in self.after(ms) {
            if let Action::Send(Outgoing::Heartbeat { number }) = action {
                self.say(Message::Renewed { number });
            }
        }
    }

    fn reattach(&mut self) -> Hello {
        self.event(Event::Down);
        let actions = self.after(1_000);
        assert!(matches!(actions[..], [Action::Connect { .. }]), "{actions:?}");
        match &self.event(Event::Up)[..] {
            [Action::Send(Outgoing::Hello(hello))] => hello.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// The worker process dies and another one takes over its directory.
    fn restart(&mut self) {
        let config = Config { lease: self.core.lease_until(), ..config() };
        self.core = Core::new(config, self.core.saved().clone());
    }
}

fn starts(actions: &[Action]) -> Vec<Seq> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Start { order, .. } => Some(order.seq),
            _ => None,
        })
        .collect()
}

fn kills(actions: &[Action]) -> Vec<Seq> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Kill { seq } => Some(*seq),
            _ => None,
        })
        .collect()
}

fn batches(actions: &[Action]) -> Vec<Batch> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Send(Outgoing::Reports(batch)) => Some(batch.clone()),
            _ => None,
        })
        .collect()
}

fn ended_as(report: &Report) -> (Seq, Verdict, Reason) {
    match &report.news {
        News::Ended(ended) => (report.seq, ended.verdict, ended.reason),
        other => panic!("{other:?}"),
    }
}

fn connects(actions: &[Action]) -> Option<&str> {
    actions.iter().find_map(|action| match action {
        Action::Connect { address } => Some(address.as_str()),
        _ => None,
    })
}

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
fn the_lease_counts_from_when_its_renewal_was_sent() {
    let mut world = World::attached();
    // Attaching sent heartbeat 1 at 0; its answer takes three seconds.
    let sent = world.after(1_000);
    assert_eq!(sent, [Action::Send(Outgoing::Heartbeat { number: 2 })]);
    world.now = Moment(3_000_000);
    let renewed = world.say(Message::Renewed { number: 2 });
    assert_eq!(renewed, [Action::Lease { until: Moment(11_000_000) }]);
    // An older answer that comes later takes nothing back.
    assert_eq!(world.say(Message::Renewed { number: 1 }), []);
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
    assert_eq!(kills(&world.say(Message::Renewed { number: 1 })), [1]);
    assert_eq!(starts(&world.run(order(2))), []);
    // A fresh renewal lets the waiting order begin.
    let Some(Action::Send(Outgoing::Heartbeat { number })) = world.tick_alive().first().cloned() else {
        panic!("no heartbeat")
    };
    assert_eq!(starts(&world.say(Message::Renewed { number })), [2]);
}

impl World {
    /// A tick on a stream that has just been heard of.
    fn tick_alive(&mut self) -> Vec<Action> {
        self.say(Message::Acked { number: 0, fenced: vec![] });
        self.tick()
    }
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
    world.event(Event::Said { term: 7, applied: 1, message: Message::Renewed { number: 0 } });
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
fn a_drain_that_takes_too_long_leaves_the_rest_to_the_keeper() {
    let mut world = World::attached();
    world.run(order(1));
    world.event(Event::Drain { until: Moment(1_000_000) });
    let actions = world.after(1_000);
    assert_eq!(kills(&actions), []);
    assert_eq!(actions.last(), Some(&Action::Leave(Leave::DrainTimeout)));
    assert_eq!(world.core.next_due(), None);
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
