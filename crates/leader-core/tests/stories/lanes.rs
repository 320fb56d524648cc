//! What is proposed, in which order, and what is refused.

use std::time::Duration;

use leader_core::*;
use machine::{Command, Op, Reply};
use model::{Dependency, JobId, JobSpec, TaskSpec, Verdict, Work};

use crate::world::*;

fn names(entry: &machine::Entry) -> Vec<&'static str> {
    let name = |command: &Command| match command {
        Command::Bootstrap(_) => "bootstrap",
        Command::Write(write) if matches!(write.op, Op::Submit { .. }) => "submit",
        Command::Write(_) => "control",
        Command::Place(_) => "place",
        Command::OpenSession(_) => "open",
        Command::EndSession { .. } => "end",
        Command::Report(_) => "report",
        Command::Tick => "tick",
        Command::Release { .. } => "release",
        Command::SetClock => "clock",
    };
    entry.commands.iter().map(name).collect()
}

/// Fills every place in flight, so that what follows has to wait.
fn fill(world: &mut World) {
    for _ in 0..8 {
        world.write(Op::ResumeQueue { name: "default".to_owned() }, 50);
    }
    assert_eq!(world.pending.len(), 8);
}

#[test]
fn reports_go_first_then_control_then_submits() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    world.job(noop("a"));
    let sent = orders(&world.heard(1));
    fill(&mut world);
    world.submit(noop("b"));
    world.write(Op::ResumeQueue { name: "default".to_owned() }, 50);
    world.reports(1, 1, vec![succeeded(&sent[0])]);
    world.forget();
    world.commit_one();
    // The submit takes the room that the report frees.
    assert_eq!(names(&world.entries[0]), ["report", "control", "submit", "place"]);
}

#[test]
fn what_waits_for_a_task_is_placed_with_the_report_of_its_end() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    let mut second = TaskSpec::new("b", Work::Noop);
    second.after = vec![Dependency::from("a")].into();
    world.job(JobSpec::of("chain", vec![TaskSpec::new("a", Work::Noop), second]));
    world.commit();
    let first = orders(&world.heard(1));
    world.forget();
    world.reports(1, 1, vec![succeeded(&first[0])]);
    world.commit();
    assert_eq!(names(&world.entries[0]), ["report", "place"]);
    assert_eq!(orders(&world.heard(1)).last().map(|order| order.tasks.first), Some(1));
    // One that failed frees nobody.
    world.job(JobSpec::of("chain", {
        let mut second = TaskSpec::new("b", Work::Noop);
        second.after = vec![Dependency::from("a")].into();
        vec![TaskSpec::new("a", Work::Noop), second]
    }));
    let third = orders(&world.heard(1)).last().cloned().unwrap();
    world.forget();
    world.reports(1, 2, vec![ended(third.seq, third.token, third.tasks, Verdict::Failed)]);
    world.commit_one();
    assert_eq!(names(&world.entries[0]), ["report"]);
}

#[test]
fn submits_leave_places_in_flight_for_reports() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    for _ in 0..20 {
        world.submit(noop("a"));
    }
    assert_eq!(world.pending.len(), 6);
    world.says(2, FromWorker::Hello(Box::new(hello("v", 1))));
    assert_eq!(world.pending.len(), 7);
    assert_eq!(names(&world.pending[6].1), ["open"]);
}

#[test]
fn what_waits_together_goes_together_up_to_the_size_of_an_entry() {
    let mut world = World::new();
    fill(&mut world);
    for _ in 0..300 {
        world.submit(noop("a"));
    }
    world.forget();
    world.commit_one();
    assert_eq!(world.entries[0].commands.len(), 32 * 1024 / 300);
    world.commit();
    assert_eq!(world.state.unfinished_jobs(), 300);
    assert!(world.entries.len() < 8, "{}", world.entries.len());
}

#[test]
fn a_plan_gets_its_turn_under_a_flood_of_submits() {
    let mut world = World::new();
    world.worker(1, "w", 400);
    world.job(array(300));
    world.forget();
    world.job(array(300));
    fill(&mut world);
    for _ in 0..500 {
        world.submit(noop("a"));
    }
    world.commit();
    assert!(world.proposed().iter().any(|command| matches!(command, Command::Place(_))));
}

#[test]
fn an_overloaded_leader_refuses_at_once_and_says_when_to_come_back() {
    let mut world = World::new();
    let mut last = 0;
    for _ in 0..lanes::SUBMITS_QUEUED_MAX + 7 {
        last = world.submit(noop("a"));
    }
    let Answer::Overloaded { retry_after } = world.answers[&last] else {
        panic!("{:?}", world.answers[&last])
    };
    assert!(retry_after >= Duration::from_millis(20) && retry_after <= Duration::from_secs(5));
    // Workers and control still get in.
    world.says(2, FromWorker::Hello(Box::new(hello("v", 1))));
    let control = world.write(Op::PauseQueue { name: "default".to_owned() }, 50);
    assert!(!world.answers.contains_key(&control));
    assert_eq!(world.leader.take_tally().refused_submits, 1);
}

#[test]
fn ids_rise_and_never_come_back_under_the_next_leader() {
    let mut world = World::new();
    let first = world.job(noop("a"));
    let lost = world.submit(noop("lost with its leader"));
    assert!(!world.answers.contains_key(&lost));
    let s1 = world.worker(1, "w", 1);
    world.next_leader();
    let second = world.job(noop("b"));
    let third = world.job(noop("c"));
    let s2 = world.worker(2, "v", 1);
    assert!(first < second && second < third, "{first} {second} {third}");
    assert!(s1 < s2);
    let stamps: Vec<_> = world.entries.iter().map(|entry| entry.stamp).collect();
    assert!(stamps.is_sorted_by(|a, b| a.elapsed <= b.elapsed && a.wall <= b.wall));
    assert_eq!(world.state.last_job(), third);
    assert_ne!(third, JobId(0));
}

#[test]
fn a_leadership_that_ends_answers_everyone_properly() {
    let mut world = World::new();
    fill(&mut world);
    let waiting = world.submit(noop("a"));
    let mut actions = Vec::new();
    world.leader.resign(&mut actions);
    world.take(actions);
    assert_eq!(world.answers[&waiting], Answer::NotLeader);
    assert!(!world.leader.is_settled());
    // In flight: one came through, one certainly not, of the others nobody knows.
    let (proposal, _) = world.pending.pop_front().unwrap();
    world.step(Event::Committed { proposal, index: 77, replies: vec![Reply::Done] });
    let (proposal, _) = world.pending.pop_front().unwrap();
    world.step(Event::Failed { proposal, maybe: false });
    while let Some((proposal, _)) = world.pending.pop_front() {
        world.step(Event::Failed { proposal, maybe: true });
    }
    assert_eq!(world.answers[&1], Answer::Written { index: 77, reply: Reply::Done });
    assert_eq!(world.answers[&2], Answer::NotLeader);
    assert_eq!(world.answers[&3], Answer::Unknown);
    assert!(world.leader.is_settled());
    let late = world.submit(noop("b"));
    assert_eq!(world.answers[&late], Answer::NotLeader);
}

#[test]
fn without_a_quorum_writes_are_refused_and_not_done() {
    let mut world = World::new();
    fill(&mut world);
    let waiting = world.submit(noop("a"));
    world.has_quorum = false;
    world.pass(2 * 900 + 1);
    assert_eq!(world.answers[&waiting], Answer::NoQuorum);
    let late = world.submit(noop("b"));
    assert_eq!(world.answers[&late], Answer::NoQuorum);
    assert_eq!(world.pending.len(), 8);
}

#[test]
fn without_a_quorum_those_in_flight_are_told_that_nobody_knows_and_nothing_more() {
    let mut world = World::new();
    let proposed = world.submit(noop("a"));
    world.has_quorum = false;
    world.pass(2 * 900 + 1);
    assert_eq!(world.answers.remove(&proposed), Some(Answer::Unknown));
    world.has_quorum = true;
    world.pass(51);
    world.commit();
    assert_eq!(world.answers.get(&proposed), None, "one question has one answer");
    assert!(world.leader.is_settled());
}

#[test]
fn a_leader_that_never_confirms_its_lead_refuses_who_waits() {
    let mut world = World::new();
    let config = Config {
        cluster: "c".to_owned(),
        settings: Default::default(),
        next_node: 4,
        level: machine::LEVEL,
        election_timeout_max: ELECTION,
    };
    world.leader = Leader::new(config, 2, &world.state, world.now);
    world.has_quorum = false;
    let waiting = world.submit(noop("a"));
    world.pass(3_000);
    assert_eq!(world.answers[&waiting], Answer::NoQuorum);
    assert_eq!(world.pending.len(), 0);
}

#[test]
fn a_write_waits_for_the_quorum_and_is_not_proposed_without_one() {
    let mut world = World::new();
    world.has_quorum = false;
    world.pass(901);
    let waiting = world.submit(noop("a"));
    assert_eq!(world.pending.len(), 0);
    world.has_quorum = true;
    world.pass(51);
    world.commit();
    assert!(matches!(world.answers[&waiting], Answer::Written { .. }));
}

#[test]
fn a_delayed_job_is_ticked_when_it_is_due_and_not_before() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    let spec = noop("later").with(|job| job.delay = Some(Duration::from_secs(5)));
    world.job(spec);
    world.forget();
    world.pass(4_999);
    assert_eq!(world.pending.len(), 0);
    world.pass(1);
    assert_eq!(names(&world.pending[0].1), ["tick"]);
    world.commit();
    assert_eq!(orders(&world.heard(1)).len(), 1);
    world.pass(3_000);
    assert_eq!(world.entries.len(), 2, "one tick, one plan");
}

#[test]
fn the_wall_clock_leaps_only_when_the_voters_agree() {
    let mut world = World::new();
    let hour = 3_600_000_000;
    world.pending.clear();
    world.next_leader();
    world.now.wall = model::Timestamp(world.now.wall.0 + hour);
    world.submit(noop("a"));
    world.commit();
    assert!(world.state.stamp().wall.0 + hour / 2 < world.now.wall.0);
    world.step(Event::ClocksAgree);
    assert_eq!(names(&world.pending[0].1), ["clock"]);
    world.commit();
    assert_eq!(world.state.stamp().wall, world.now.wall);
    world.forget();
    world.step(Event::ClocksAgree);
    assert_eq!(world.pending.len(), 0);
}

#[test]
fn an_idle_cluster_starts_a_task_after_one_commit() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    world.forget();
    world.submit(array(2));
    assert_eq!(names(&world.pending[0].1), ["submit", "place"]);
    world.commit_one();
    assert_eq!(orders(&world.heard(1)).len(), 2);
    world.commit();
    assert_eq!(world.entries.len(), 1, "nothing is planned twice");
}

#[test]
fn what_is_placed_with_its_submit_takes_its_room_from_what_follows() {
    let mut world = World::new();
    world.worker(1, "w", 3);
    world.forget();
    for _ in 0..3 {
        world.submit(array(2));
    }
    let placed = |entry: &machine::Entry| match entry.commands.last() {
        Some(Command::Place(plan)) => plan.placements.len(),
        _ => 0,
    };
    assert_eq!(world.entries.iter().map(placed).collect::<Vec<_>>(), [2, 1, 0]);
    world.commit();
    assert_eq!(orders(&world.heard(1)).len(), 3);
    assert_eq!(world.leader.take_tally().dropped, 0);
}

#[test]
fn a_submit_never_overtakes_what_waits() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    let large = || {
        let mut spec = array(1);
        spec.tasks[0].resources = model::Resources::cores(4);
        spec
    };
    // In flight, then in the state: either way the next one waits for the planner.
    world.submit(large());
    world.forget();
    world.submit(array(1));
    assert_eq!(names(&world.entries[0]), ["submit"]);
    world.commit();
    world.forget();
    world.submit(array(1));
    assert_eq!(names(&world.entries[0]), ["submit"]);
}

#[test]
fn a_submit_that_is_refused_places_nothing() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    let spec = noop("after nothing").with(|job| job.after = vec![JobId(999)].into());
    world.submit(spec);
    let spec = noop("lost").with(|job| job.queue = "nowhere".to_owned());
    world.submit(spec);
    world.commit();
    assert!(orders(&world.heard(1)).is_empty());
    let first = world.job(noop("kept"));
    assert_eq!(orders(&world.heard(1))[0].job, first);
}

#[test]
fn jobs_of_one_entry_are_placed_by_priority() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    fill(&mut world);
    world.submit(array(1));
    world.submit(array(1).with(|job| job.priority = 9));
    world.commit();
    let last = world.state.last_job();
    assert_eq!(orders(&world.heard(1))[0].job, last);
}

#[test]
fn a_full_plan_gets_its_turn_under_a_flood_of_reports() {
    let mut world = World::new();
    world.worker(1, "w", 1_200);
    world.job(array(60));
    let running = orders(&world.heard(1));
    fill(&mut world);
    world.submit(array(1_000));
    // So many that each entry is full of them.
    for order in &running {
        let reports = Reports { number: 1, reports: vec![succeeded(order)], bytes: 31_000 };
        world.says(1, FromWorker::Reports(reports));
    }
    let is_full_plan =
        |command: &&Command| matches!(command, Command::Place(plan) if plan.placements.len() > 400);
    for _ in 0..30 {
        world.commit_one();
    }
    assert!(world.leader.queued().workers > 0, "the flood is over");
    assert!(world.proposed().iter().any(is_full_plan), "the plan was passed over");
}

#[test]
fn work_sent_ahead_is_asked_back_for_a_worker_with_room_and_goes_there() {
    let mut world = World::new();
    world.worker(1, "a", 1);
    world.job(array(3));
    let first = orders(&world.heard(1)).remove(0);
    let mut report = succeeded(&first);
    if let machine::News::Ended(ended) = &mut report.news {
        ended.started = Some(ended.ended);
    }
    world.reports(1, 1, vec![report]);
    world.commit();
    let sent = orders(&world.heard(1));
    assert_eq!(sent.iter().map(|order| order.held).collect::<Vec<_>>(), [false, true]);
    world.worker(2, "b", 1);
    let heard = world.heard(1);
    let seq = sent[1].seq;
    assert!(
        heard.iter().any(|message| matches!(message, ToWorker::Recall { seq: it, .. } if *it == seq)),
        "{heard:?}"
    );
    let news = machine::News::Recalled;
    let Order { seq, token, tasks, .. } = sent[1];
    world.reports(1, 2, vec![machine::Report { seq, token, tasks, news }]);
    world.commit();
    let moved = orders(&world.heard(2)).remove(0);
    assert_eq!((moved.tasks, moved.held, moved.attempt), (tasks, false, 1), "it had not begun");
}

/// Each attempt that fails is a change of its own, however few bytes say so of a thousand.
#[test]
fn a_batch_that_changes_much_is_spread_over_entries_and_acknowledged_once() {
    let mut world = World::new();
    world.worker(1, "w", 10_000);
    let mut task = model::TaskSpec::new("t", model::Work::Noop);
    task.array = Some("0-8191".parse().unwrap());
    let job = world.job(model::JobSpec::of("array", vec![task]));
    let orders = orders(&world.heard(1));
    assert_eq!(orders.iter().map(|order| order.tasks.len).sum::<u32>(), 8_192);
    let failed = |order: &Order| ended(order.seq, order.token, order.tasks, model::Verdict::Failed);
    let before = world.entries.len();
    world.reports(1, 1, orders.iter().map(failed).collect());
    world.commit();
    let rows = |entry: &machine::Entry| {
        let of = |command: &Command| match command {
            Command::Report(batch) => batch.reports.iter().map(|report| report.tasks.len as usize).sum(),
            _ => 0,
        };
        entry.commands.iter().map(of).sum::<usize>()
    };
    let each: Vec<usize> = world.entries[before..].iter().map(rows).filter(|rows| *rows > 0).collect();
    assert_eq!(each.iter().sum::<usize>(), 8_192);
    assert!(each.iter().all(|rows| *rows <= model::settings::ROWS_PER_APPLY as usize), "{each:?}");
    let heard = world.heard(1);
    let acked = heard.iter().filter(|message| matches!(message, ToWorker::Acked { number: 1, .. }));
    assert_eq!(acked.count(), 1, "{heard:?}");
    assert_eq!(world.state.job(job).unwrap().counts().running, 0);
}

#[test]
fn what_a_report_frees_and_finds_no_room_is_not_overtaken_by_a_submit() {
    let mut world = World::new();
    world.worker(1, "w", 2);
    let mut second = TaskSpec::new("b", Work::Noop);
    second.after = vec![Dependency::from("a")].into();
    second.resources = model::Resources::cores(3);
    world.job(JobSpec::of("chain", vec![TaskSpec::new("a", Work::Noop), second]));
    world.commit();
    let first = orders(&world.heard(1));
    world.forget();
    world.reports(1, 1, vec![succeeded(&first[0])]);
    world.submit(noop("later"));
    world.commit_one();
    assert_eq!(names(&world.entries[0]), ["report"]);
    assert_eq!(
        names(&world.pending[0].1),
        ["submit"],
        "it is placed when those before it have been looked at"
    );
}
