//! Orders and backfill, by what the field says of them.

use model::policy::{Backfill, Order};

use super::*;

/// A job of one task.
pub(super) struct Job {
    pub submit: u64,
    pub cores: u64,
    pub run: u64,
    pub estimate: u64,
}

pub(super) const fn exact(submit: u64, cores: u64, run: u64) -> Job {
    Job { submit, cores, run, estimate: run }
}

/// Runs the jobs on one worker; when each started, in seconds.
pub(super) fn starts(cores: u64, jobs: &[Job], order: Order, backfill: Backfill) -> Vec<u64> {
    let mut world = World::new();
    let session = world.session("w", cores);
    world.policy(order, backfill);
    let mut started = vec![None; jobs.len()];
    let (mut running, mut last): (Vec<(u64, u64)>, Option<u64>) = (Vec::new(), None);
    while started.iter().any(Option::is_none) {
        let arrivals = jobs.iter().map(|job| job.submit).filter(|at| last.is_none_or(|last| *at > last));
        // A start that was promised for a time at which nothing else happens is one too.
        let due = world.state.next_due().and_then(|due| due.elapsed).map(|at| at.0 / SECOND);
        let due = due.filter(|at| last.is_none_or(|last| *at > last) && *at > 0);
        let next = running.iter().map(|(end, _)| *end).chain(arrivals).chain(due).min();
        let now = next.expect("somebody waits for something");
        (last, world.now) = (Some(now), now * SECOND);
        world.apply(Command::Tick);
        let over: Vec<_> = running.extract_if(.., |(end, _)| *end == now).collect();
        over.into_iter().for_each(|(_, seq)| succeed(&mut world, session, seq, 0));
        for job in jobs.iter().filter(|job| job.submit == now) {
            world.submit(timed(job));
        }
        while !world.round().is_empty() {}
        assert_eq!(world.plan(), Plan::default(), "planning twice adds nothing: {order}, {backfill}");
        let row = world.state.session(session).unwrap();
        for allocation in row.allocations.values() {
            let place = allocation.job.0 as usize - 1;
            if started[place].is_none() {
                started[place] = Some(now);
                running.push((now + jobs[place].run, allocation.seq));
            }
        }
    }
    started.into_iter().flatten().collect()
}

const SECOND: u64 = 1_000_000;

pub(super) fn timed(job: &Job) -> JobSpec {
    let mut task = TaskSpec::new("t", Work::Run(vec!["true".to_owned()]));
    task.resources = Resources::cores(job.cores);
    let estimate = Some(Duration::from_secs(job.estimate));
    task.timing = model::Timing { estimate, ..Default::default() }.boxed();
    JobSpec::of("", vec![task])
}

/// After so many seconds, by its worker's clock.
fn succeed(world: &mut World, session: SessionId, seq: u64, seconds: u64) {
    end(world, session, seq, Verdict::Succeeded, seconds * 1_000);
}

impl World {
    pub(super) fn policy(&mut self, order: Order, backfill: Backfill) {
        let spec = QueueSpec {
            name: "default".to_owned(),
            order: Some(order),
            backfill: Some(backfill),
            ..QueueSpec::default()
        };
        assert_eq!(self.write(Op::PutQueue(spec)), machine::Reply::Done);
    }
}

/// The example of the design page: ten processors, exact estimates.
const TEXTBOOK: [Job; 5] =
    [exact(0, 6, 10), exact(1, 8, 10), exact(2, 10, 5), exact(3, 2, 30), exact(4, 2, 5)];

#[test]
fn five_jobs_start_when_the_textbook_says() {
    let starts = |order, backfill| starts(10, &TEXTBOOK, order, backfill);
    assert_eq!(starts(Order::Fifo, Backfill::None), [0, 10, 20, 25, 25]);
    assert_eq!(starts(Order::Fifo, Backfill::Easy), [0, 10, 33, 3, 4]);
    assert_eq!(starts(Order::Fifo, Backfill::Conservative), [0, 10, 20, 25, 4]);
    assert_eq!(starts(Order::Sjf, Backfill::None), [0, 15, 10, 20, 15]);
}

#[test]
fn the_shortest_goes_first() {
    let bursts = [exact(0, 1, 24), exact(0, 1, 3), exact(0, 1, 3)];
    assert_eq!(starts(1, &bursts, Order::Fifo, Backfill::FirstFit), [0, 24, 27]);
    assert_eq!(starts(1, &bursts, Order::Sjf, Backfill::FirstFit), [6, 0, 3]);
}

#[test]
fn a_promise_stands_in_the_state_and_moves_up_when_something_ends_early() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut w = World::new();
        let session = w.session("w", 4);
        w.policy(Order::Fifo, backfill);
        w.submit(timed(&exact(0, 4, 100)));
        assert_eq!(w.round().len(), 1);
        let waits = w.submit(timed(&exact(0, 3, 10)));
        w.round();
        let promised = |w: &World| {
            let queue = w.state.queue_named("default").unwrap();
            queue.promises.get(&(waits, 0)).map(|promise| promise.at.0 / SECOND)
        };
        assert_eq!(promised(&w), Some(100), "{backfill}");
        let told = explain(&w.state, TaskId { job: waits, number: 0 }).unwrap();
        assert_eq!(told.expected_start, Some(model::Timestamp(100 * SECOND)));
        assert!(w.plan().is_empty(), "{backfill}");
        // It runs over: twice the time is expected then.
        w.now = 130 * SECOND;
        let later = w.submit(timed(&exact(0, 4, 10)));
        w.round();
        assert_eq!(promised(&w), Some(200), "{backfill}");
        w.now = 150 * SECOND;
        succeed(&mut w, session, 1, 150);
        assert_eq!(w.round(), [format!("{waits}.0@w")], "{backfill}");
        assert_eq!(promised(&w), None);
        let _ = later;
    }
}

/// Found by the random events: the task was placed there again and again, and each time refused.
#[test]
fn a_promise_on_a_worker_that_takes_no_more_work_is_made_anew_elsewhere() {
    let mut w = World::new();
    let cordoned = w.session("w1", 4);
    w.policy(Order::Fifo, Backfill::Conservative);
    w.submit(timed(&exact(0, 4, 10)));
    assert_eq!(w.round(), ["j1.0@w1"]);
    let waits = w.submit(timed(&exact(0, 4, 10)));
    w.round();
    w.write(Op::Cordon { worker: "w1".to_owned() });
    w.now = 10 * SECOND;
    succeed(&mut w, cordoned, 1, 10);
    assert_eq!(w.round(), [""; 0]);
    assert!(w.state.queue_named("default").unwrap().promises.is_empty());
    w.session("w2", 4);
    assert_eq!(w.round(), [format!("{waits}.0@w2")]);
}

#[test]
fn what_would_delay_the_first_waits_even_in_another_queue() {
    let mut w = World::new();
    w.session("w", 4);
    w.policy(Order::Fifo, Backfill::Easy);
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), weight: Some(1_000), ..Default::default() }));
    w.submit(timed(&exact(0, 3, 100)));
    let first = w.submit(timed(&exact(0, 4, 10)));
    assert_eq!(w.round().len(), 1);
    // One core is free, and taken for longer than until the first one starts it would delay that.
    let other = |seconds| timed(&exact(0, 1, seconds)).with(|job| job.queue = "other".to_owned());
    w.submit(other(200));
    assert_eq!(w.round(), [""; 0]);
    let short = w.submit(other(90));
    assert_eq!(w.round(), [format!("{short}.0@w")]);
    assert!(w.state.queue_named("default").unwrap().promises.contains_key(&(first, 0)));
}

#[test]
fn nothing_overtakes_where_nothing_may() {
    let mut w = World::new();
    w.session("w", 4);
    w.policy(Order::Priority, Backfill::None);
    w.submit(timed(&exact(0, 3, 10)));
    let first = w.submit(timed(&exact(0, 2, 10)));
    let small = w.submit(timed(&exact(0, 1, 1)));
    assert_eq!(w.round().len(), 1);
    let told = explain(&w.state, TaskId { job: small, number: 0 }).unwrap();
    assert!(told.summary.contains("lets nothing overtake"), "{told:?}");
    assert_eq!(told.reasons[0].fix, format!("wait, or `baton job set {small} --priority 1`"));
    w.policy(Order::Priority, Backfill::FirstFit);
    assert_eq!(w.round(), [format!("{small}.0@w")]);
    let _ = first;
}

#[test]
fn a_new_order_ranks_what_waits_already() {
    let mut w = World::new();
    w.session("w", 1);
    w.submit(timed(&exact(0, 1, 100)));
    assert_eq!(w.round().len(), 1);
    let jobs: Vec<JobId> = [30, 20, 10].map(|run| w.submit(timed(&exact(0, 1, run)))).to_vec();
    w.policy(Order::Sjf, Backfill::FirstFit);
    let order = |w: &World| -> Vec<JobId> {
        let mut keys: Vec<_> = w.state.ready().values().flatten().collect();
        keys.sort();
        keys.into_iter().map(|key| key.job).collect()
    };
    assert_eq!(order(&w), [jobs[2], jobs[1], jobs[0]]);
    w.policy(Order::Priority, Backfill::FirstFit);
    assert_eq!(order(&w), jobs);
}

#[test]
fn run_times_are_learnt_by_name_where_somebody_goes_by_them() {
    let mut w = World::new();
    let session = w.session("w", 1);
    w.policy(Order::Sjf, Backfill::Easy);
    let named = || {
        JobSpec::of("", vec![TaskSpec::new("t", Work::Run(vec!["x".to_owned()]))])
            .with(|job| job.name = "report".to_owned())
    };
    let estimate = |w: &World| w.state.estimate(&named(), &named().tasks[0]).map(|time| time.as_secs());
    for (run, expected) in [(10, 10), (20, 15), (40, 30)] {
        w.submit(named());
        assert_eq!(w.round().len(), 1);
        w.now += run * SECOND;
        let seq = *w.state.session(session).unwrap().allocations.first_key_value().unwrap().0;
        succeed(&mut w, session, seq, run);
        assert_eq!(estimate(&w), Some(expected));
    }
}

fn any_jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (0u64..40, 1u64..9, 1u64..30, 0u64..3).prop_map(|(submit, cores, run, over)| Job {
        submit,
        cores,
        run,
        estimate: run * (1 + over),
    });
    prop::collection::vec(job, 1..14).prop_map(|mut jobs| {
        jobs.sort_by_key(|job| job.submit);
        jobs
    })
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({}, {}, {}, {})", self.submit, self.cores, self.run, self.estimate)
    }
}

proptest! {
    #![proptest_config(config(60))]

    /// With exact estimates nothing that is backfilled delays anybody who came before: under conservative no job starts later
    /// than under first come, first served; under EASY the first one that waits does not.
    #[test]
    fn backfill_delays_nobody_who_was_promised(mut jobs in any_jobs()) {
        jobs.iter_mut().for_each(|job| job.estimate = job.run);
        let strict = starts(8, &jobs, Order::Fifo, Backfill::None);
        let conservative = starts(8, &jobs, Order::Fifo, Backfill::Conservative);
        for (place, (late, early)) in strict.iter().zip(&conservative).enumerate() {
            prop_assert!(early <= late, "job {} at {} and not at {}", place, early, late);
        }
        let easy = starts(8, &jobs, Order::Fifo, Backfill::Easy);
        // The first that has to wait is promised what strict order gives it.
        if let Some(first) = (0..jobs.len()).find(|place| strict[*place] > jobs[*place].submit) {
            prop_assert!(easy[first] <= strict[first]);
        }
    }

    /// Whatever the estimates are worth, everything runs in the end, and never more than there is room for.
    #[test]
    fn everything_starts_some_time(
        jobs in any_jobs(),
        order in 0..Order::ALL.len(),
        backfill in 0..Backfill::ALL.len(),
    ) {
        // Its tasks stand still in between, and it promises nothing.
        prop_assume!(Order::ALL[order] != Order::RoundRobin);
        let found = starts(8, &jobs, Order::ALL[order], Backfill::ALL[backfill]);
        let used = |at: u64| -> u64 {
            let runs = |(start, job): &(&u64, &Job)| **start <= at && at < **start + job.run;
            found.iter().zip(&jobs).filter(runs).map(|(_, job)| job.cores).sum()
        };
        for at in &found {
            prop_assert!(used(*at) <= 8);
        }
    }
}

/// Those beyond as many as may be skipped were not looked at: none of them is known to find no room, and nothing drains for them.
#[test]
fn what_nobody_has_looked_at_does_not_starve() {
    for backfill in [Backfill::Conservative, Backfill::Easy] {
        let mut w = World::new();
        let session = w.session("w", 4);
        w.policy(Order::Fifo, backfill);
        w.submit(timed(&exact(0, 2, 100)));
        w.round();
        let wide = w.submit(timed(&exact(0, 4, 100)));
        (0..10).for_each(|_| _ = w.submit(timed(&exact(0, 1, 200))));
        let few = Budget { skips_max: 4, ..Budget::default() };
        for seconds in [0, 61] {
            wait(&mut w, seconds);
            let made = plan(&w.state, &mut Scratch::default(), &Overlay::default(), few);
            let drained = made.reservations.iter().filter(|reservation| reservation.job != wide).count();
            assert_eq!((made.placements.len(), drained), (0, 0), "{backfill}: {made:?}");
            w.apply(Command::Place(made));
        }
        let promise = &w.state.queue(0).unwrap().promises[&(wide, 0)];
        assert_eq!((promise.session, promise.at.0), (session, 100 * SECOND), "{backfill}");
    }
}
