//! Slots of preemptive periodic sets: who comes before the one that runs takes its place at once.

use std::collections::BTreeMap;

use machine::{PeriodicSpec, PeriodicTaskSpec};
use model::policy::Order;
use model::{Pace, Timing};
use proptest::sample::select;

use super::*;
use crate::realtime::{How, Periodic, Priority, admit};

const MS: u64 = 1_000;

/// C, T and D of each task, in milliseconds, and its slot.
type Times = (u64, u64, u64, u32);

fn put(w: &mut World, order: Order, slots: u32, preemptive: bool, tasks: &[Times]) -> machine::Reply {
    let task = |(number, (run_time, period, deadline, slot)): (usize, &Times)| {
        let [run_time, period, deadline] = [run_time, period, deadline].map(|ms| Duration::from_millis(*ms));
        let mut one = task(1);
        one.timing = Timing::periodic(run_time, deadline, period).boxed();
        let queue = machine::state::periodic::queue_of("s", *slot);
        let job = Arc::new(JobSpec::of("t", vec![one]).with(|job| job.queue = queue));
        PeriodicTaskSpec { name: format!("t{number}"), run_time, period, deadline, slot: *slot, job }
    };
    let tasks = tasks.iter().enumerate().map(task).collect();
    let (name, admitted) = ("s".to_owned(), Vec::new());
    w.write(Op::PutPeriodic(Box::new(PeriodicSpec { name, order, slots, preemptive, admitted, tasks })))
}

/// Tasks that have begun: how much of each is left, and since when it runs.
#[derive(Default)]
struct Begun(BTreeMap<(SessionId, u64), (u64, Option<u64>)>);

impl Begun {
    fn next_end(&self) -> Option<u64> {
        self.0.values().filter_map(|(left, since)| Some(since.as_ref()? + left)).min()
    }

    /// What is over by now ends.
    fn end(&mut self, w: &mut World) {
        let now = w.now;
        let is_over =
            |(left, since): &mut (u64, Option<u64>)| since.is_some_and(|since| since + *left <= now);
        let over: Vec<_> = self.0.extract_if(.., |_, task| is_over(task)).map(|(key, _)| key).collect();
        over.into_iter().for_each(|(session, seq)| end(w, session, seq, Verdict::Succeeded, 0));
    }

    /// As the log has it, who begins, stands still and goes on.
    fn follow(&mut self, w: &World, tasks: &[Times]) {
        for session in w.state.sessions() {
            for (seq, row) in &session.allocations {
                let period = w.state.job(row.job).unwrap().spec.tasks[0].timing().period.unwrap();
                let queue = w.state.queue(row.queue).unwrap().name.clone();
                let of = |(_, other, _, slot): &&Times| {
                    *other * MS == model::time::micros(period)
                        && machine::state::periodic::queue_of("s", *slot) == queue
                };
                let cost = tasks.iter().find(of).unwrap().0 * MS;
                let (left, since) = self.0.entry((session.id, *seq)).or_insert((cost, Some(w.now)));
                match (row.is_suspended(), *since) {
                    (true, Some(from)) => (*left, *since) = (*left - (w.now - from), None),
                    (false, None) => *since = Some(w.now),
                    _ => {}
                }
            }
        }
    }
}

/// Releases the set for so many milliseconds, each task as long as it may take. What it has missed, and how often one stood still.
fn run(order: Order, slots: u32, preemptive: bool, tasks: &[Times], until: u64) -> (u64, u64) {
    let mut w = World::new();
    w.session("w", slots.into());
    assert_eq!(put(&mut w, order, slots, preemptive, tasks), machine::Reply::Done);
    let mut begun = Begun::default();
    loop {
        let set = w.state.periodic_sets().next().unwrap();
        let release = Some(set.due.0).filter(|due| *due < until * MS);
        let Some(now) = begun.next_end().into_iter().chain(release).min() else { break };
        w.now = now;
        w.apply(Command::Tick);
        begun.end(&mut w);
        // Afterwards what is there ends.
        let count = if now < until * MS { w.state.releases_due(Elapsed(now), 1_000) } else { 0 };
        if count > 0 {
            w.apply(Command::Release { first: JobId(w.state.last_job().0 + 1), count });
        }
        w.round();
        assert!(w.plan().is_empty(), "planning twice adds nothing: {:?}", w.plan());
        for queue in w.state.queues().filter(|queue| queue.owner.is_some()) {
            let of_queue = w.state.sessions().flat_map(|session| session.allocations.values());
            let runs = of_queue.filter(|row| row.queue == queue.id && !row.is_suspended()).count();
            assert!(runs <= 1, "one at a time on {}", queue.name);
        }
        begun.follow(&w, tasks);
    }
    let set = w.state.periodic_sets().next().unwrap();
    let missed = set.tasks.iter().map(|task| task.missed + task.skipped).sum();
    assert!(set.tasks.iter().all(|task| task.released > 0));
    (missed, w.state.queues().map(|queue| queue.suspensions).sum())
}

#[test]
fn whoever_comes_before_the_one_that_runs_takes_its_place_and_gives_it_back() {
    let mut w = World::new();
    let session = w.session("w", 1);
    put(&mut w, Order::Rms, 1, true, &[(300, 1_000, 1_000, 0), (20, 100, 100, 0)]);
    let turn = |w: &mut World, ms: u64| {
        w.now = ms * MS;
        let due = w.state.releases_due(Elapsed(w.now), 10);
        w.apply(Command::Release { first: JobId(w.state.last_job().0 + 1), count: due });
        let plan = w.plan();
        let switches = plan.switches.iter().map(|switch| (switch.seq, switch.to == Pace::Runs));
        let told =
            (switches.collect::<Vec<_>>(), plan.placements.iter().map(|p| p.job.0).collect::<Vec<_>>());
        w.round();
        told
    };
    // The shorter period first, which is the second job.
    assert_eq!(turn(&mut w, 0), (vec![], vec![2]));
    end(&mut w, session, 1, Verdict::Succeeded, 0);
    assert_eq!(turn(&mut w, 20), (vec![], vec![1]));
    assert_eq!(turn(&mut w, 100), (vec![(2, false)], vec![3]));
    let queue = w.state.queue_named("s.1").unwrap();
    assert_eq!(
        (queue.counts.running, w.state.suspended(queue.id).count(), w.state.room_in(queue)),
        (2, 1, 0)
    );
    end(&mut w, session, 3, Verdict::Succeeded, 0);
    assert_eq!(turn(&mut w, 120), (vec![(2, true)], vec![]));
    // The one that is released again while it stands still in vain is the next.
    assert_eq!(turn(&mut w, 200), (vec![(2, false)], vec![4]));
    w.write(Op::DeletePeriodic { name: "s".to_owned() });
    end(&mut w, session, 4, Verdict::Succeeded, 0);
    assert_eq!(turn(&mut w, 220), (vec![(2, true)], vec![]));
    end(&mut w, session, 2, Verdict::Succeeded, 0);
    assert!(w.state.with_suspended().next().is_none());
}

/// The only task of the job, placed there.
fn on(session: SessionId, job: u64) -> machine::Placement {
    machine::Placement { job: JobId(job), tasks: model::Run::new(0, 1), session, held: false, alternative: 0 }
}

/// Three tasks: the first stands still for the second, and both for the third.
fn two_stand_still() -> (World, SessionId) {
    let mut w = World::new();
    let session = w.session("w", 2);
    put(&mut w, Order::Rms, 1, true, &[(300, 2_000, 2_000, 0), (100, 1_000, 1_000, 0), (20, 500, 500, 0)]);
    w.apply(Command::Release { first: JobId(1), count: 3 });
    for job in 1..4 {
        let placement = on(session, job);
        let switch = machine::Switch { session, seq: job - 1, to: Pace::StandsStill };
        let switches = if job > 1 { vec![switch] } else { Vec::new() };
        w.apply(Command::Place(Plan { placements: vec![placement], switches, ..Plan::default() }));
    }
    let seqs: Vec<u64> = w.state.session(session).unwrap().allocations.keys().copied().collect();
    assert_eq!((seqs, w.state.with_suspended().count()), (vec![1, 2, 3], 1));
    (w, session)
}

#[test]
fn who_is_cancelled_while_it_stands_still_leaves_no_room_for_another() {
    let (mut w, session) = two_stand_still();
    w.write(Op::Cancel { targets: vec![machine::Target::job(JobId(1))] });
    assert!(w.plan().is_empty(), "one runs, and the other stands still for it: {:?}", w.plan());
    end(&mut w, session, 3, Verdict::Succeeded, 0);
    assert_eq!(w.plan().switches.len(), 1);
}

#[test]
fn who_stands_still_goes_on_beside_nobody_where_the_set_is_not_preemptive_any_more() {
    let (mut w, session) = two_stand_still();
    put(&mut w, Order::Rms, 1, false, &[(300, 2_000, 2_000, 0), (100, 1_000, 1_000, 0), (20, 500, 500, 0)]);
    assert!(w.plan().is_empty(), "{:?}", w.plan());
    end(&mut w, session, 3, Verdict::Succeeded, 0);
    let plan = w.plan();
    assert_eq!(plan.switches.iter().map(|switch| switch.seq).collect::<Vec<_>>(), [2], "{plan:?}");
}

#[test]
fn nothing_leaves_a_slot_for_another_queue() {
    let (mut w, _) = two_stand_still();
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), ..QueueSpec::default() }));
    let change = machine::JobChange { queue: Some("other".to_owned()), ..Default::default() };
    let reply = w.write(Op::SetJob { job: JobId(2), change });
    assert!(
        matches!(&reply, machine::Reply::Rejected(why) if matches!(**why, machine::Rejection::QueueOwned { .. })),
        "{reply:?}"
    );
}

/// Who stops on one slot leaves room for whom another slot's stops too.
#[test]
fn all_slots_give_way_in_one_round() {
    let mut w = World::new();
    let session = w.session("w", 4);
    let sized = |cores: u64, ms: u64, slot: u32| {
        let [run_time, period] = [ms / 10, ms].map(Duration::from_millis);
        let mut one = task(cores);
        one.timing = Timing::periodic(run_time, period, period).boxed();
        let queue = machine::state::periodic::queue_of("s", slot);
        let job = Arc::new(JobSpec::of("t", vec![one]).with(|job| job.queue = queue));
        PeriodicTaskSpec { name: format!("t{ms}"), run_time, period, deadline: period, slot, job }
    };
    let tasks = vec![sized(1, 2_000, 0), sized(2, 1_000, 0), sized(3, 2_100, 1), sized(1, 1_100, 1)];
    let (name, admitted) = ("s".to_owned(), Vec::new());
    let spec = PeriodicSpec { name, order: Order::Rms, slots: 2, preemptive: true, admitted, tasks };
    assert_eq!(w.write(Op::PutPeriodic(Box::new(spec))), machine::Reply::Done);
    w.apply(Command::Release { first: JobId(1), count: 4 });
    for job in [1, 3] {
        let placement = on(session, job);
        w.apply(Command::Place(Plan { placements: vec![placement], ..Plan::default() }));
    }
    let plan = w.plan();
    assert_eq!((plan.switches.len(), plan.placements.len()), (2, 2), "{plan:?}");
    w.round();
    assert!(w.plan().is_empty(), "planning twice adds nothing: {:?}", w.plan());
}

#[test]
fn a_long_run_does_not_make_a_short_period_miss() {
    let tasks = [(300, 1_000, 1_000, 0), (20, 100, 100, 0)];
    for order in [Order::Edf, Order::Rms, Order::Dms] {
        let (missed, stood) = run(order, 1, true, &tasks, 3_000);
        assert_eq!((missed, stood > 0), (0, true), "{order}");
        assert!(run(order, 1, false, &tasks, 3_000).0 > 0, "{order}: it would, if it held the slot");
    }
}

#[test]
fn only_processes_give_way() {
    let mut w = World::new();
    let mut noop = TaskSpec::new("t", Work::Noop);
    noop.timing =
        Timing::periodic(Duration::from_millis(1), Duration::from_secs(1), Duration::from_secs(1)).boxed();
    noop.resources = Resources::cores(1);
    let [run_time, second] = [1, 1_000].map(Duration::from_millis);
    let of = |preemptive| {
        let job = Arc::new(JobSpec::of("t", vec![noop.clone()]).with(|job| job.queue = "s.1".to_owned()));
        let task = PeriodicTaskSpec {
            name: "a".to_owned(),
            run_time,
            period: second,
            deadline: second,
            slot: 0,
            job,
        };
        let (name, admitted, tasks) = ("s".to_owned(), Vec::new(), vec![task]);
        PeriodicSpec { name, order: Order::Edf, slots: 1, preemptive, admitted, tasks }
    };
    let machine::Reply::Rejected(why) = w.write(Op::PutPeriodic(Box::new(of(true)))) else { panic!() };
    assert!(format!("{why:?}").contains("nothing else can be made to stand still"), "{why:?}");
    assert!(w.state.queue_named("s.1").is_none());
    assert_eq!(w.write(Op::PutPeriodic(Box::new(of(false)))), machine::Reply::Done);
}

/// A period that all others have a small multiple in common with, what part of it the task takes, and of what is left its deadline.
fn times() -> impl Strategy<Value = (u64, u64, u64)> {
    (select(vec![100u64, 200, 250, 400, 500, 1_000]), 1u64..60, 0u64..101).prop_map(
        |(period, part, slack)| {
            let cost = (period * part / 100).max(1);
            (cost, period, cost + (period - cost) * slack / 100)
        },
    )
}

proptest! {
    #![proptest_config(config(150))]

    /// The test of `baton plan` and of the server, and what the leader does, by the log's own clock.
    #[test]
    fn a_set_that_is_admitted_meets_every_deadline(
        times in prop::collection::vec(times(), 1..6),
        order in select(vec![Order::Edf, Order::Rms, Order::Dms]),
        slots in 1u32..3,
        preemptive in prop::bool::weighted(0.8),
    ) {
        // One task of a period: they are told apart by it.
        let mut times = times;
        times.sort_by_key(|(_, period, _)| *period);
        times.dedup_by_key(|(_, period, _)| *period);
        let periodic = |(cost, period, deadline): &(u64, u64, u64)| Periodic {
            name: format!("t{period}"), cost: *cost, period: *period, deadline: *deadline,
        };
        let set: Vec<Periodic> = times.iter().map(periodic).collect();
        let priority = match order {
            Order::Edf => Priority::Edf,
            Order::Rms => Priority::Rms,
            _ => Priority::Dms,
        };
        let found = admit(&set, How { priority, preemptive, slots, global: false }).unwrap();
        prop_assume!(found.accepted);
        let slot = |place: usize| found.slots.get(place).copied().flatten().unwrap_or(0);
        let tasks: Vec<Times> =
            times.iter().enumerate().map(|(place, (c, t, d))| (*c, *t, *d, slot(place))).collect();
        let (missed, _) = run(order, slots, preemptive, &tasks, 2_000);
        prop_assert_eq!(missed, 0, "{:?}", tasks);
    }
}
