//! Who gives way to whom.

use model::policy::{Backfill, Order};

use super::*;

fn preempting(w: &mut World) {
    let spec = QueueSpec { name: "default".to_owned(), preempt: Some(true), ..QueueSpec::default() };
    assert_eq!(w.write(Op::PutQueue(spec)), machine::Reply::Done);
}

fn of(priority: i32, cores: u64) -> JobSpec {
    job(cores).with(|job| job.priority = priority)
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
    assert_eq!(w.state.job(low).unwrap().counts().blocked, 1);
    assert_eq!(w.reserved("a"), Some((high, 0)));
    end(&mut w, session, 1, Verdict::Failed, 1);
    assert_eq!(w.round(), [format!("{high}.0@a")]);
    assert_eq!(w.state.job(low).unwrap().counts().ready, 1, "it waits again");
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
    w.submit(of(9, 1).with(|job| job.queue = "other".to_owned()));
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

/// Low has waited for so long that its worker drains for it; then something of a higher priority comes. Low would have to give
/// way to it as soon as it is there.
#[test]
fn what_drains_for_a_low_priority_is_taken_by_a_higher_one() {
    let mut w = World::new();
    let session = w.session("a", 2);
    preempting(&mut w);
    let running = w.submit(of(9, 1));
    w.round();
    let low = w.submit(of(0, 2));
    wait(&mut w, 61);
    w.round();
    assert_eq!(w.reserved("a"), Some((low, 0)));
    let same = w.submit(of(0, 1));
    assert!(w.round().is_empty(), "{same} comes after it");
    let high = w.submit(of(5, 1));
    assert_eq!(w.round(), [format!("{high}.0@a")]);
    assert_eq!(w.reserved("a"), Some((low, 0)), "it goes on draining");
    assert!(w.plan().is_empty());
    end(&mut w, session, 1, Verdict::Succeeded, 1_000);
    end(&mut w, session, 2, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), [format!("{low}.0@a")], "{running} and {high} are over");
}

#[test]
fn a_worker_that_drains_for_a_low_priority_does_so_for_a_higher_one_that_would_have_it_give_way() {
    let mut w = World::new();
    let session = w.session("a", 4);
    preempting(&mut w);
    w.submit(of(1, 1));
    w.submit(of(9, 2));
    w.round();
    let low = w.submit(of(0, 2));
    wait(&mut w, 61);
    w.round();
    assert_eq!(w.reserved("a"), Some((low, 0)));
    let high = w.submit(of(5, 2));
    assert_eq!(preempted(&w), [format!("j1.0@a for {high}.0")]);
    w.round();
    assert_eq!(w.reserved("a"), Some((high, 0)));
    assert!(w.plan().is_empty());
    end(&mut w, session, 1, Verdict::Failed, 1);
    assert_eq!(w.round(), [format!("{high}.0@a")]);
}

/// Else what it has been given would be taken from it again in the next round.
#[test]
fn nobody_takes_the_room_of_those_who_give_way_while_a_higher_priority_waits() {
    let mut w = World::new();
    w.session("a", 4);
    preempting(&mut w);
    let old = w.submit(of(0, 2));
    w.round();
    let high = w.submit(of(5, 4));
    let small = w.submit(of(0, 2));
    assert_eq!(preempted(&w), [format!("{old}.0@a for {high}.0")]);
    assert!(w.round().is_empty(), "{small} would have to give way at once");
    assert!(w.plan().is_empty());
}

/// What is being stopped already for one that went elsewhere, or of which there is more than that one needs, is room to come.
#[test]
fn room_that_is_being_given_back_is_not_made_twice() {
    let mut w = World::new();
    w.session("a", 4);
    preempting(&mut w);
    w.submit(of(0, 2));
    w.submit(of(0, 2));
    w.round();
    let middle = w.submit(of(3, 2));
    assert_eq!(preempted(&w).len(), 1);
    w.round();
    let high = w.submit(of(5, 2));
    assert!(preempted(&w).is_empty(), "it gets what was made for {middle}");
    let reserved: Vec<JobId> = w.plan().reservations.iter().map(|reservation| reservation.job).collect();
    assert_eq!(reserved, [high]);
}

/// By waiting it comes before the other, whatever their priorities were.
#[test]
fn who_has_waited_for_its_turn_does_not_give_way_to_those_behind_it() {
    let mut w = World::new();
    w.session("a", 1);
    preempting(&mut w);
    let ageing = Some(Duration::from_secs(10));
    w.write(Op::PutQueue(QueueSpec { name: "default".to_owned(), ageing, ..QueueSpec::default() }));
    w.submit(of(0, 1));
    w.round();
    wait(&mut w, 9);
    w.submit(of(1, 1));
    assert_eq!(preempted(&w).len(), 1, "nine seconds are less than a priority");
    w.write(Op::Cancel { targets: vec![machine::Target::job(JobId(2))] });
    wait(&mut w, 2);
    w.submit(of(1, 1));
    assert!(preempted(&w).is_empty());
    w.submit(of(2, 1));
    assert_eq!(preempted(&w).len(), 1);
}

/// What drained for a task and is there for it may have to wait for those that go before it, and is placed in the same round.
#[test]
fn who_has_drained_a_worker_gets_it_in_the_round_of_those_that_could_not_use_it() {
    let mut w = World::new();
    let session = w.session_with("a", Capacity::of(Resources::cores(5)));
    preempting(&mut w);
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), ..QueueSpec::default() }));
    w.submit(of(0, 3));
    w.round();
    let low = w.submit(of(0, 3));
    wait(&mut w, 61);
    w.round();
    let mut gpu = of(1, 1);
    gpu.tasks[0].resources.set("gpu", 5_000);
    w.submit(gpu);
    let other = w.submit(of(0, 1).with(|job| job.queue = "other".to_owned()));
    assert!(w.round().is_empty());
    end(&mut w, session, 1, Verdict::Succeeded, 1_000);
    assert_eq!(w.round(), [format!("{low}.0@a"), format!("{other}.0@a")]);
    assert!(w.plan().is_empty());
}

/// A plan makes room for so many at most; that there is more is said, and the next one goes on.
#[test]
fn a_plan_that_makes_room_for_as_many_as_it_may_is_cut_short() {
    let mut w = World::new();
    preempting(&mut w);
    for nth in 0..20 {
        w.session(&format!("w{nth}"), 1);
        w.submit(of(0, 1));
    }
    assert_eq!(w.round().len(), 20);
    let mut many = of(5, 1);
    many.tasks[0].array = Some(model::ArrayRange { first: 0, last: 19, step: 1 });
    w.submit(many);
    let mut stopped = Vec::new();
    for is_last in [false, true] {
        let mut scratch = Scratch::default();
        let made = plan(&w.state, &mut scratch, &Overlay::default(), Budget::default());
        assert_eq!(scratch.has_more(), !is_last);
        stopped.push(made.preemptions.len());
        w.apply(Command::Place(made));
    }
    assert_eq!(stopped, [16, 4]);
    assert!(w.plan().is_empty());
}

/// Two that have done little are more than one that has done a bit more.
#[test]
fn the_set_that_has_done_least_gives_way_and_not_the_one_after_the_other_that_has() {
    let mut w = World::new();
    w.session("a", 7);
    preempting(&mut w);
    let wide = w.submit(of(0, 3));
    w.round();
    wait(&mut w, 1);
    let narrow = [w.submit(of(0, 2)), w.submit(of(0, 2))];
    assert_eq!(w.round().len(), 2);
    wait(&mut w, 9);
    // 30 core-seconds by the wide one, 18 by each of the others.
    let high = w.submit(of(5, 3));
    assert_eq!(preempted(&w), [format!("{wide}.0@a for {high}.0")]);
    w.write(Op::Cancel { targets: vec![machine::Target::job(high)] });
    let high = w.submit(of(5, 2));
    assert_eq!(preempted(&w), [format!("{}.0@a for {high}.0", narrow[0])]);
}

proptest! {
    #![proptest_config(config(100))]

    /// Against all sets there are: the lowest priority that must, then least done, then fewest.
    #[test]
    fn no_set_that_makes_room_is_cheaper_than_the_one_that_gives_way(
        running in prop::collection::vec((1u64..5, 0i32..3, 0u64..6), 1..8),
        asked in 1u64..12,
    ) {
        let mut w = World::new();
        let all: u64 = running.iter().map(|(cores, ..)| cores).sum();
        let session = w.session("a", all);
        preempting(&mut w);
        for (cores, priority, gap) in &running {
            w.submit(of(*priority, *cores));
            w.round();
            wait(&mut w, *gap);
        }
        w.submit(of(3, asked.min(all)));
        let row = w.state.session(session).unwrap();
        let able: Vec<(i32, u64, u64)> = row.allocations.values().map(|row| {
            let done = row.share * (w.now - row.placed.elapsed.0);
            (w.state.job(row.job).unwrap().priority, done, row.resources.cpu)
        }).collect();
        let cost = |set: &[&(i32, u64, u64)]| {
            (set.iter().map(|one| one.0).max(), set.iter().map(|one| one.1).sum::<u64>(), set.len())
        };
        let sets = (1u32..1 << able.len()).map(|bits| -> Vec<&(i32, u64, u64)> {
            able.iter().enumerate().filter(|(nth, _)| bits >> nth & 1 == 1).map(|(_, one)| one).collect()
        });
        let needed = Resources::cores(asked.min(all)).cpu;
        let cheapest = sets.filter(|set| set.iter().map(|one| one.2).sum::<u64>() >= needed).map(|set| cost(&set)).min();
        let stopped: Vec<(i32, u64, u64)> = w.plan().preemptions.iter().map(|preemption| {
            let place = row.allocations.keys().position(|seq| *seq == preemption.seq).unwrap();
            able[place]
        }).collect();
        prop_assert_eq!(Some(cost(&stopped.iter().collect::<Vec<_>>())), cheapest);
    }
}
