//! Who gives way to whom.

use model::policy::{Backfill, Order};

use super::*;

fn preempting(w: &mut World) {
    let spec = QueueSpec { name: "default".to_owned(), preempt: Some(true), ..QueueSpec::default() };
    assert_eq!(w.write(Op::PutQueue(spec)), machine::Reply::Done);
}

fn of(priority: i32, cores: u64) -> JobSpec {
    JobSpec { priority, ..job(cores) }
}

/// What the next plan stops, as `task@worker`, for whom.
fn preempted(w: &World) -> Vec<String> {
    let told = |preemption: &machine::Preemption| {
        let row = w.state.session(preemption.session).unwrap();
        let victim = &row.allocations[&preemption.seq];
        let (job, task, worker) = (victim.job, victim.tasks.first, &row.worker);
        format!("{job}.{task}@{worker} for {}.{}", preemption.job, preemption.task)
    };
    w.plan().preemptions.iter().map(told).collect()
}

#[test]
fn the_lowest_priority_that_has_run_shortest_gives_way_and_no_more_than_needed() {
    let mut w = World::new();
    let session = w.session("a", 4);
    preempting(&mut w);
    let older = w.submit(of(1, 1));
    w.round();
    w.now += 10_000_000;
    let middle = w.submit(of(3, 1));
    let newer = w.submit(of(1, 2));
    assert_eq!(w.round().len(), 2);
    w.now += 1_000_000;
    let high = w.submit(of(5, 1));
    assert_eq!(
        preempted(&w),
        [format!("{newer}.0@a for {high}.0")],
        "two cores for a second are less than one for eleven"
    );
    let _ = (older, middle);
    assert!(w.state.session(session).is_some());
}

#[test]
fn who_makes_room_is_stopped_and_who_waits_gets_it_and_nobody_else() {
    let mut w = World::new();
    let session = w.session("a", 2);
    preempting(&mut w);
    let low = w.submit(of(0, 2));
    w.round();
    let high = w.submit(of(5, 2));
    let small = w.submit(of(1, 1));
    w.round();
    assert!(w.plan().is_empty(), "once is enough");
    assert_eq!(w.state.job(low).unwrap().counts.blocked, 1);
    assert_eq!(w.reserved("a"), Some((high, 0)));
    end(&mut w, session, 1, Verdict::Failed, 1);
    assert_eq!(w.round(), [format!("{high}.0@a")]);
    assert_eq!(w.state.job(low).unwrap().counts.ready, 1, "it waits again");
    end(&mut w, session, 2, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), [format!("{small}.0@a")]);
    assert_eq!(w.state.queue_named("default").unwrap().preempted, 1);
}

#[test]
fn nobody_gives_way_to_an_equal_to_another_queue_or_where_it_is_not_wanted() {
    let mut w = World::new();
    w.session("a", 1);
    w.submit(of(0, 1));
    w.round();
    w.submit(of(5, 1));
    assert!(preempted(&w).is_empty(), "off by default");
    preempting(&mut w);
    assert_eq!(preempted(&w).len(), 1);
    w.policy(Order::Edf, Backfill::FirstFit);
    assert!(preempted(&w).is_empty(), "another order takes it away");
    let mut w = World::new();
    w.session("a", 1);
    preempting(&mut w);
    w.write(Op::PutQueue(QueueSpec {
        name: "other".to_owned(),
        preempt: Some(true),
        ..QueueSpec::default()
    }));
    w.submit(of(1, 1));
    w.round();
    w.submit(of(1, 1));
    w.submit(JobSpec { queue: "other".to_owned(), ..of(9, 1) });
    assert!(preempted(&w).is_empty());
}

#[test]
fn the_cheapest_worker_is_chosen_and_each_waiting_task_has_its_own() {
    let mut w = World::new();
    w.session("a", 2);
    w.session("b", 2);
    preempting(&mut w);
    let (one, two) = (w.submit(of(2, 2)), w.submit(of(1, 2)));
    assert_eq!(w.round().len(), 2);
    let mut wide = of(5, 2);
    wide.tasks[0].array = Some(model::ArrayRange { first: 0, last: 2, step: 1 });
    let high = w.submit(wide);
    let at = |job: JobId| {
        w.state.sessions().find(|s| s.allocations.values().any(|a| a.job == job)).unwrap().worker.clone()
    };
    let expected = [format!("{two}.0@{} for {high}.0", at(two)), format!("{one}.0@{} for {high}.1", at(one))];
    assert_eq!(preempted(&w), expected);
}

#[test]
fn no_member_of_a_gang_gives_way_alone() {
    let mut w = World::new();
    w.session("a", 2);
    preempting(&mut w);
    let mut spec = of(0, 1);
    spec.tasks[0].set_gang(2);
    w.submit(spec);
    assert_eq!(w.round().len(), 2);
    w.submit(of(5, 1));
    assert!(preempted(&w).is_empty());
}
