//! Round robin: slices end only for others, and everybody comes in turn.

use model::Pace;

use super::*;

const SECOND: u64 = 1_000_000;

fn sliced(w: &mut World, quantum: u64) {
    let policy = QueueSpec {
        name: "default".to_owned(),
        order: Some(model::policy::Order::RoundRobin),
        quantum: Some(Duration::from_secs(quantum)),
        ..QueueSpec::default()
    };
    assert_eq!(w.write(Op::PutQueue(policy)), machine::Reply::Done);
}

/// Plans and applies; what was switched and placed, as `j1 stands`, `j2 goes on`, `j3 starts`.
fn turn(w: &mut World) -> Vec<String> {
    let plan = w.plan();
    let job = |session, seq: &u64| w.state.session(session).unwrap().allocations[seq].job;
    let switches = plan.switches.iter().map(|switch| {
        let what = if switch.to == Pace::Runs { "goes on" } else { "stands" };
        format!("{} {what}", job(switch.session, &switch.seq))
    });
    let told = switches.chain(plan.placements.iter().map(|p| format!("{} starts", p.job))).collect();
    w.round();
    assert!(w.plan().is_empty(), "planning twice adds nothing: {:?}", w.plan());
    told
}

fn after(w: &mut World, seconds: u64) -> Vec<String> {
    w.now += seconds * SECOND;
    w.apply(Command::Tick);
    turn(w)
}

#[test]
fn each_runs_for_a_quantum_in_the_order_in_which_they_came() {
    let mut w = World::new();
    sliced(&mut w, 4);
    let worker = w.session("a", 1);
    for _ in 0..3 {
        w.submit(job(1));
    }
    assert_eq!(turn(&mut w), ["j1 starts"]);
    assert_eq!(after(&mut w, 3), Vec::<String>::new());
    let due = w.state.next_due().and_then(|due| due.elapsed);
    assert_eq!(due, Some(Elapsed(4 * SECOND)));
    assert_eq!(after(&mut w, 1), ["j1 stands", "j2 starts"]);
    // One that comes now waits behind the one that stands still.
    w.submit(job(1));
    assert_eq!(after(&mut w, 4), ["j2 stands", "j3 starts"]);
    assert_eq!(after(&mut w, 4), ["j3 stands", "j1 goes on"]);
    assert_eq!(after(&mut w, 4), ["j1 stands", "j4 starts"]);
    // Its end makes room too: no slice has to end for that.
    end(&mut w, worker, 4, Verdict::Succeeded, 1);
    assert_eq!(turn(&mut w), ["j2 goes on"]);
    end(&mut w, worker, 2, Verdict::Succeeded, 1);
    assert_eq!(turn(&mut w), ["j3 goes on"]);
    assert_eq!(after(&mut w, 4), ["j3 stands", "j1 goes on"]);
    end(&mut w, worker, 1, Verdict::Succeeded, 1);
    assert_eq!(turn(&mut w), ["j3 goes on"]);
    // Alone it runs on.
    let due = w.state.next_due().and_then(|due| due.elapsed);
    assert!(due.is_none_or(|due| due > Elapsed(w.now + 3_600 * SECOND)), "{due:?}");
    assert_eq!(after(&mut w, 400), Vec::<String>::new());
}

#[test]
fn as_many_slices_end_as_one_task_needs_and_no_more() {
    let mut w = World::new();
    sliced(&mut w, 1);
    let capacity = Capacity::of(Resources { memory: 100, ..Resources::cores(4) });
    w.session_with("a", capacity);
    let small = |memory| {
        let mut task = task(1);
        task.resources.memory = memory;
        JobSpec::of("", vec![task])
    };
    for _ in 0..4 {
        w.submit(small(10));
    }
    assert_eq!(turn(&mut w).len(), 4);
    w.submit(job(3));
    assert_eq!(after(&mut w, 1), ["j1 stands", "j2 stands", "j3 stands", "j5 starts"]);
    // What stands still keeps its memory: this one waits until some of them have ended.
    w.submit(small(70));
    assert_eq!(after(&mut w, 1), ["j5 stands", "j1 goes on", "j2 goes on", "j3 goes on"]);
}

#[test]
fn nobody_yields_to_a_queue_that_may_run_no_more() {
    let mut w = World::new();
    sliced(&mut w, 1);
    let spec = QueueSpec { name: "default".to_owned(), running_max: Some(1), ..QueueSpec::default() };
    w.write(Op::PutQueue(spec));
    w.session("a", 1);
    w.submit(job(1));
    w.submit(job(1));
    assert_eq!(turn(&mut w), ["j1 starts"]);
    assert_eq!(after(&mut w, 5), Vec::<String>::new());
}

#[test]
fn what_stands_still_goes_on_before_the_work_of_other_queues_that_came_later() {
    let mut w = World::new();
    sliced(&mut w, 1);
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), ..QueueSpec::default() }));
    let worker = w.session("a", 1);
    w.submit(job(1));
    assert_eq!(turn(&mut w), ["j1 starts"]);
    w.submit(job(1));
    assert_eq!(after(&mut w, 1), ["j1 stands", "j2 starts"]);
    // A paused queue starts nothing, and what has begun goes on; no slice ends any more.
    w.submit(job(1));
    w.write(Op::PauseQueue { name: "default".to_owned() });
    assert_eq!(after(&mut w, 5), Vec::<String>::new());
    end(&mut w, worker, 2, Verdict::Succeeded, 1);
    assert_eq!(turn(&mut w), ["j1 goes on"]);
    assert_eq!(after(&mut w, 5), Vec::<String>::new());
}

/// Found by random plans: what is stopped for one gives room to the next as well, in the same round.
#[test]
fn a_wide_slice_makes_room_for_all_that_fits_into_it() {
    let mut w = World::new();
    sliced(&mut w, 1);
    w.session("a", 3);
    w.submit(job(2));
    assert_eq!(turn(&mut w), ["j1 starts"]);
    w.now += SECOND;
    for _ in 0..3 {
        w.submit(job(1));
    }
    assert_eq!(turn(&mut w), ["j1 stands", "j2 starts", "j3 starts", "j4 starts"]);
}

#[test]
fn what_stands_still_goes_on_though_its_queue_is_no_more() {
    let mut w = World::new();
    let name = || "gone".to_owned();
    let (order, quantum) = (Some(model::policy::Order::RoundRobin), Some(Duration::from_secs(1)));
    w.write(Op::PutQueue(QueueSpec { name: name(), order, quantum, ..QueueSpec::default() }));
    let worker = w.session("a", 1);
    for _ in 0..2 {
        w.submit(job(1).with(|job| job.queue = name()));
    }
    assert_eq!(turn(&mut w), ["j1 starts"]);
    assert_eq!(after(&mut w, 1), ["j1 stands", "j2 starts"]);
    for job in [JobId(1), JobId(2)] {
        let change =
            machine::JobChange { queue: Some("default".to_owned()), ..machine::JobChange::default() };
        assert_eq!(w.write(Op::SetJob { job, change }), machine::Reply::Changed { tasks: 0 });
    }
    assert_eq!(w.write(Op::DeleteQueue { name: name() }), machine::Reply::Done);
    assert_eq!(after(&mut w, 5), Vec::<String>::new());
    end(&mut w, worker, 2, Verdict::Succeeded, 1);
    assert_eq!(turn(&mut w), ["j1 goes on"]);
}

proptest! {
    #![proptest_config(config(200))]

    /// On one core, whoever is runnable has run as much as any other that came no later, but for a quantum.
    #[test]
    fn all_have_had_as_much_but_for_a_quantum(count in 2..6u64, turns in 1..40u64) {
        let mut w = World::new();
        sliced(&mut w, 1);
        let worker = w.session("a", 1);
        for _ in 0..count {
            w.submit(job(1));
        }
        turn(&mut w);
        let mut ran = std::collections::BTreeMap::<JobId, u64>::new();
        for _ in 0..turns {
            let running = w.state.session(worker).unwrap().allocations.values().find(|a| !a.is_suspended());
            *ran.entry(running.expect("somebody runs").job).or_default() += 1;
            after(&mut w, 1);
        }
        let all: Vec<u64> = (1..=count).map(|job| ran.get(&JobId(job)).copied().unwrap_or(0)).collect();
        let (most, least) = (all.iter().max().unwrap(), all.iter().min().unwrap());
        prop_assert!(most - least <= 1, "{all:?}");
    }
}
