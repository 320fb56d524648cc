//! Workers that register, come back and disagree with the state.

use leader_core::*;
use machine::{Command, News, Op};
use model::views::TaskState;
use model::{SessionId, Token, TraceId, Verdict};

use crate::world::*;

fn says_hello(world: &mut World, stream: u64, hello: Hello) {
    world.says(stream, FromWorker::Hello(Box::new(hello)));
}

#[test]
fn a_task_goes_to_a_worker_and_its_end_is_acknowledged_once_committed() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    let job = world.job(noop("a"));
    let sent = orders(&world.heard(1));
    assert_eq!(sent.len(), 1);
    assert_eq!((sent[0].job, sent[0].attempt, sent[0].array_index), (job, 1, None));
    assert_eq!(sent[0].traceparent.len(), 55);
    world.reports(1, 1, vec![succeeded(&sent[0])]);
    assert_eq!(world.heard(1), []);
    world.commit();
    assert_eq!(world.heard(1), [ToWorker::Acked { number: 1, fenced: vec![] }]);
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!(tasks[0].state, TaskState::Succeeded);
}

#[test]
fn attempts_go_on_in_the_trace_of_their_submitter() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    world.actor.trace = TraceId::of_traceparent(&format!("00-{trace}-00f067aa0ba902b7-01"));
    world.job(array(2));
    let sent = orders(&world.heard(1));
    let spans: Vec<&str> =
        sent.iter().map(|order| order.traceparent.strip_prefix(&format!("00-{trace}-")).unwrap()).collect();
    assert_eq!(spans.len(), 2);
    assert_ne!(spans[0], spans[1]);
}

#[test]
fn coming_back_costs_no_command_and_brings_the_orders_it_has_not_had() {
    let mut world = World::new();
    let session = world.worker(1, "w", 4);
    world.job(array(4));
    let sent = orders(&world.heard(1));
    assert_eq!(sent.len(), 4);
    world.next_leader();
    world.forget();
    // It has had 1 and 3.
    let holds = [held(&sent[0]), held(&sent[2])];
    says_hello(&mut world, 2, Hello { gaps: vec![2], ..back("w", 4, session, 3, &holds) });
    let heard = world.heard(2);
    assert!(matches!(heard[0], ToWorker::Welcome { session: s, .. } if s == session));
    let again: Vec<u64> = orders(&heard).iter().map(|order| order.seq).collect();
    assert_eq!(again, [2, 4]);
    assert_eq!((&heard[1], heard.len()), (&ToWorker::Resume, 4));
    assert_eq!(orders(&heard)[0], sent[1]);
    assert_eq!(world.proposed(), Vec::<&Command>::new());
}

#[test]
fn what_a_worker_has_lost_is_reported_in_its_name_and_its_late_report_is_fenced() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let job = world.job(noop("a"));
    let sent = orders(&world.heard(1));
    says_hello(&mut world, 2, back("w", 1, session, 1, &[]));
    world.commit();
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!((tasks[0].attempt, tasks[0].state), (2, TaskState::Placed));
    let heard = world.heard(2);
    assert_eq!(orders(&heard).len(), 1);
    world.reports(2, 1, vec![succeeded(&sent[0])]);
    world.commit();
    assert_eq!(world.heard(2), [ToWorker::Acked { number: 1, fenced: vec![1] }]);
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!(tasks[0].state, TaskState::Placed);
}

#[test]
fn reports_brought_along_are_taken_before_anything_is_called_lost() {
    let mut world = World::new();
    let session = world.worker(1, "w", 2);
    let job = world.job(array(2));
    let sent = orders(&world.heard(1));
    world.next_leader();
    world.forget();
    let reports = Some(batch(7, vec![succeeded(&sent[0])]));
    says_hello(&mut world, 2, Hello { reports, ..back("w", 2, session, 2, &[held(&sent[1])]) });
    assert_eq!(world.heard(2)[1..], [ToWorker::Resume], "no orders until the reports are committed");
    world.commit();
    assert_eq!(world.heard(2), [ToWorker::Acked { number: 7, fenced: vec![] }]);
    let lost = |command: &&&Command| match command {
        Command::Report(batch) => batch
            .reports
            .iter()
            .any(|report| matches!(&report.news, News::Ended(ended) if ended.verdict == Verdict::Lost)),
        _ => false,
    };
    assert_eq!(world.proposed().iter().filter(lost).count(), 0);
    let (tasks, _) = world.state.list_tasks(job, 0, 10, &[], None).unwrap();
    assert_eq!(
        tasks.iter().map(|task| task.state).collect::<Vec<_>>(),
        [TaskState::Succeeded, TaskState::Placed]
    );
}

#[test]
fn what_the_state_does_not_know_is_stopped_unless_its_token_is_newer() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let old = Held { seq: 8, token: Token::new(0, 1) };
    let newer = Held { seq: 9, token: Token::new(0, 1_000) };
    says_hello(&mut world, 2, back("w", 1, session, 9, &[old, newer]));
    let heard = world.heard(2);
    assert_eq!(heard[2..], [ToWorker::Stop { seq: 8, token: old.token }]);
}

#[test]
fn a_cancel_stops_the_attempt_also_if_the_worker_was_away() {
    let mut world = World::new();
    let session = world.worker(1, "w", 2);
    let job = world.job(array(2));
    let sent = orders(&world.heard(1));
    world.step(Event::StreamClosed { stream: StreamId(1) });
    world.write(Op::Cancel { targets: vec![machine::Target::job(job)] }, 50);
    world.commit();
    // It had the first order; of the second it only learns that it shall not run.
    says_hello(&mut world, 2, back("w", 2, session, 1, &[held(&sent[0])]));
    let stops: Vec<u64> = world
        .heard(2)
        .iter()
        .filter_map(|message| match message {
            ToWorker::Stop { seq, .. } => Some(*seq),
            _ => None,
        })
        .collect();
    assert_eq!(stops, [1, 2]);
}

#[test]
fn the_newest_stream_of_a_session_wins() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    says_hello(&mut world, 2, back("w", 1, session, 0, &[]));
    assert_eq!(world.closed, [StreamId(1)]);
    world.step(Event::StreamClosed { stream: StreamId(1) });
    world.job(noop("a"));
    assert_eq!(orders(&world.heard(2)).len(), 1);
}

#[test]
fn a_second_process_under_a_live_name_is_refused() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    says_hello(&mut world, 2, Hello { secret: b"other".to_vec(), ..hello("w", 1) });
    assert!(matches!(&world.heard(2)[..], [ToWorker::Refused { code: "worker-live", .. }]));
    assert_eq!(world.closed, [StreamId(2)]);
    assert_eq!(world.pending.len(), 0);
}

#[test]
fn a_worker_that_lost_its_session_gets_a_new_one_after_the_end_of_the_old() {
    let mut world = World::new();
    let old = world.worker(1, "w", 1);
    let new = world.worker(2, "w", 1);
    assert!(new > old);
    assert!(world.state.session(old).is_none());
    // With a session that is over it must kill what it held first.
    says_hello(&mut world, 3, back("w", 1, old, 0, &[]));
    assert_eq!(world.heard(3), [ToWorker::SessionEnded]);
}

#[test]
fn a_worker_that_has_seen_a_later_leader_is_turned_away() {
    let mut world = World::new();
    says_hello(&mut world, 1, Hello { term: 2, ..hello("w", 1) });
    assert_eq!(world.heard(1), [ToWorker::NotLeader]);
}

#[test]
fn other_figures_need_a_new_session_but_not_while_something_runs() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    world.job(noop("a"));
    let sent = orders(&world.heard(1));
    says_hello(&mut world, 2, back("w", 8, session, 1, &[held(&sent[0])]));
    assert!(matches!(world.heard(2)[0], ToWorker::Welcome { .. }));
    world.reports(2, 1, vec![succeeded(&sent[0])]);
    world.commit();
    world.heard(2);
    says_hello(&mut world, 3, back("w", 8, session, 1, &[]));
    assert_eq!(world.heard(3), [ToWorker::SessionEnded]);
    assert!(world.worker(4, "w", 8) > session);
}

#[test]
fn who_comes_before_the_leader_is_ready_is_greeted_when_it_is() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let config = Config {
        cluster: "c".to_owned(),
        settings: Default::default(),
        next_node: 4,
        level: machine::LEVEL,
        election_timeout_max: ELECTION,
    };
    world.leader = Leader::new(config, 2, &world.state, world.now);
    says_hello(&mut world, 2, back("w", 1, session, 0, &[]));
    assert_eq!(world.heard(2), []);
    world.step(Event::Ready);
    assert!(matches!(world.heard(2)[0], ToWorker::Welcome { session: SessionId(s), .. } if s == session.0));
}

fn change_worker(world: &mut World, op: Op) {
    world.write(op, 50);
    world.commit();
}

#[test]
fn a_drain_and_its_end_reach_the_worker_once_they_are_committed() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    let worker = || "w".to_owned();
    change_worker(&mut world, Op::Drain { worker: worker() });
    assert_eq!(world.heard(1), [ToWorker::Drain]);
    change_worker(&mut world, Op::Uncordon { worker: worker() });
    assert_eq!(world.heard(1), [ToWorker::Resume]);
}

#[test]
fn a_worker_that_was_away_learns_whether_it_drains() {
    let mut world = World::new();
    let session = world.worker(1, "w", 1);
    let worker = || "w".to_owned();
    world.step(Event::StreamClosed { stream: StreamId(1) });
    change_worker(&mut world, Op::Drain { worker: worker() });
    says_hello(&mut world, 2, back("w", 1, session, 0, &[]));
    assert_eq!(world.heard(2)[1..], [ToWorker::Drain]);
    world.step(Event::StreamClosed { stream: StreamId(2) });
    change_worker(&mut world, Op::Uncordon { worker: worker() });
    says_hello(&mut world, 3, back("w", 1, session, 0, &[]));
    assert_eq!(world.heard(3)[1..], [ToWorker::Resume]);
}

/// Commits of which this leader hears only the answers: the feed of its replica has run over.
fn commit_unheard(world: &mut World) {
    while let Some((proposal, entry)) = world.pending.pop_front() {
        let index = world.state.index() + 1;
        let replies = world.state.apply(index, &entry).replies;
        world.step(Event::Committed { proposal, index, replies });
    }
}

#[test]
fn what_was_applied_unheard_is_read_off_the_state() {
    let mut world = World::new();
    world.worker(1, "w", 4);
    let job = world.job(array(1));
    let first = orders(&world.heard(1)).remove(0);
    world.worker(2, "v", 1);
    let gone = world.worker(3, "u", 1);
    world.forget();
    let mut large = noop("large");
    large.tasks[0].resources = model::Resources::cores(2);
    world.submit(large);
    assert_eq!(world.pending.len(), 1, "with its placement");
    world.write(Op::Cancel { targets: vec![machine::Target::job(job)] }, 50);
    world.write(Op::Drain { worker: "v".to_owned() }, 50);
    world.says(3, FromWorker::Goodbye);
    commit_unheard(&mut world);
    assert!(world.state.session(gone).is_none_or(|row| row.ended));
    assert_eq!(world.sent, []);
    world.step(Event::Resync);
    let heard = world.heard(1);
    let more = orders(&heard);
    assert_eq!(more.iter().map(|order| order.seq).collect::<Vec<_>>(), [2]);
    assert!(heard.contains(&ToWorker::Stop { seq: 1, token: first.token }));
    assert_eq!(world.heard(2), [ToWorker::Drain]);
    assert_eq!(world.heard(3), [ToWorker::SessionEnded]);
    // What has been sent is not sent again.
    world.step(Event::Resync);
    assert_eq!(orders(&world.heard(1)), []);
}
