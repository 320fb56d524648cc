//! Capacity that is kept for a queue, or from everybody, for a time.

use machine::BookingSpec;
use model::Timestamp;
use model::policy::{Backfill, Mode};

use super::*;

fn seconds(count: u64) -> u64 {
    count * 1_000_000
}

/// So many times so many cores, from so many seconds after the beginning on.
fn book(w: &mut World, queue: Option<&str>, from: u64, length: u64, count: u32, cores: u64) {
    let spec = BookingSpec {
        name: "b".to_owned(),
        queue: queue.map(str::to_owned),
        from: Some(Timestamp(seconds(from))),
        length: Duration::from_secs(length),
        count,
        resources: Resources::cores(cores),
        ..BookingSpec::default()
    };
    assert_eq!(w.write(Op::PutBooking(spec)), machine::Reply::Done);
}

fn put(w: &mut World, name: &str, backfill: Backfill) {
    let put = QueueSpec { name: name.to_owned(), backfill: Some(backfill), ..QueueSpec::default() };
    assert_eq!(w.write(Op::PutQueue(put)), machine::Reply::Done);
}

fn taking(cores: u64, seconds: Option<u64>, queue: &str) -> JobSpec {
    let mut spec = job(cores);
    let estimate = seconds.map(Duration::from_secs);
    spec.tasks[0].timing = model::Timing { estimate, ..model::Timing::default() }.boxed();
    spec.queue = queue.to_owned();
    spec
}

#[test]
fn who_may_still_run_then_leaves_room_for_it() {
    let mut w = World::new();
    w.session("a", 4);
    put(&mut w, "q", Backfill::FirstFit);
    book(&mut w, Some("q"), 100, 50, 1, 3);
    w.submit(taking(2, None, "default"));
    w.submit(taking(1, None, "default"));
    w.submit(taking(3, Some(99), "default"));
    w.submit(taking(2, Some(101), "default"));
    assert_eq!(w.round(), ["j2.0@a", "j3.0@a"], "the other core, and what is over by then");
    let why = explain(&w.state, TaskId { job: JobId(1), number: 0 }).unwrap();
    assert!(!why.hopeless);
    end(&mut w, SessionId(1), 2, Verdict::Succeeded, 5_000);
    assert_eq!(w.round(), Vec::<String>::new());
    let why = explain(&w.state, TaskId { job: JobId(1), number: 0 }).unwrap();
    assert_eq!(why.reasons[0].code, "booked", "{why:?}");
    // For whom it is may have it, before it begins too.
    w.submit(taking(3, None, "q"));
    assert_eq!(w.round(), ["j5.0@a"]);
}

#[test]
fn what_is_booked_stays_free_until_it_is_over() {
    let mut w = World::new();
    w.session("a", 2);
    w.session("b", 2);
    book(&mut w, None, 0, 60, 1, 2);
    w.submit(taking(2, Some(1), "default"));
    w.submit(taking(2, Some(1), "default"));
    assert_eq!(w.round(), ["j1.0@b"], "all of the first worker is booked for nobody");
    let due = w.state.next_due().and_then(|due| due.wall);
    assert_eq!(due, Some(Timestamp(seconds(60))));
    w.now = seconds(60);
    w.apply(Command::Tick);
    assert_eq!(w.round(), ["j2.0@a"]);
}

#[test]
fn promises_are_made_around_it() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut w = World::new();
        let a = w.session("a", 4);
        put(&mut w, "default", backfill);
        w.submit(taking(4, Some(10), "default"));
        assert_eq!(w.round(), ["j1.0@a"]);
        book(&mut w, None, 30, 20, 1, 2);
        // It would fit after the first, but not end before what is booked begins.
        let wide = w.submit(taking(4, Some(25), "default"));
        let short = w.submit(taking(4, Some(15), "default"));
        w.round();
        let promised = |w: &World, id| {
            let queue = w.state.queue_named("default").unwrap();
            queue.promises.get(&(id, 0)).map(|promise| promise.at.0 / 1_000_000)
        };
        assert_eq!(promised(&w, wide), Some(50), "{backfill}");
        w.now = seconds(10);
        end(&mut w, a, 1, Verdict::Succeeded, 10_000);
        assert_eq!(w.round(), [format!("{short}.0@a")], "{backfill}: it delays nobody");
        assert_eq!(promised(&w, wide), Some(50), "{backfill}");
        w.now = seconds(25);
        end(&mut w, a, 2, Verdict::Succeeded, 15_000);
        assert_eq!(w.round(), Vec::<String>::new());
        w.now = seconds(50);
        w.apply(Command::Tick);
        assert_eq!(w.round(), [format!("{wide}.0@a")]);
    }
}

#[test]
fn gangs_claims_and_work_sent_along_heed_it() {
    let mut w = World::new();
    let a = w.session("a", 2);
    w.session("b", 2);
    book(&mut w, None, 100, 10, 4, 1);
    let mut members = task(1);
    members.set_gang(4);
    let mut gang = JobSpec::of("", vec![members]);
    w.submit(gang.clone());
    assert_eq!(w.round(), Vec::<String>::new());
    gang.tasks[0].timing =
        model::Timing { estimate: Some(Duration::from_secs(90)), ..model::Timing::default() }.boxed();
    w.submit(gang);
    assert_eq!(w.round().len(), 4);
    for session in [1, 2] {
        (1..=2).for_each(|seq| end(&mut w, SessionId(session), seq, Verdict::Succeeded, 1_000));
    }
    let claimed = QueueSpec { name: "pool".to_owned(), mode: Some(Mode::Claim), ..QueueSpec::default() };
    w.write(Op::PutQueue(claimed));
    w.submit(taking(2, None, "pool"));
    let short = w.submit(taking(2, Some(50), "pool"));
    let offered = crate::claim::offer(&w.state, a).draw(0);
    assert_eq!(offered.iter().map(|placement| placement.job).collect::<Vec<_>>(), [short]);
    // What comes with its submit is left to a round, which looks at how long it takes.
    let spec = taking(2, None, "default");
    let new = plan_new(&w.state, &Overlay::default(), &[], &[(JobId(9), &spec)], 8);
    assert!(new.plan.is_empty() && !new.is_whole);
}

proptest! {
    #![proptest_config(config(100))]

    /// With estimates that hold, others never use more than is left beside what is booked, in all its time; and whoever it is for finds
    /// it free when it begins.
    #[test]
    fn nobody_is_where_it_is_booked(
        jobs in prop::collection::vec((1u64..4, 1u64..20, 0u64..30, any::<bool>()), 1..20),
        (from, length, count, cores) in (0u64..60, 1u64..40, 1u32..3, 1u64..4),
        backfill in prop::sample::select(Backfill::ALL),
    ) {
        let mut w = World::new();
        w.session("a", 4);
        w.session("b", 4);
        put(&mut w, "q", Backfill::FirstFit);
        put(&mut w, "default", backfill);
        book(&mut w, Some("q"), from, length, count, cores);
        let own = w.state.queue_named("q").unwrap().id;
        let booked: Vec<(String, Resources)> =
            w.state.bookings().next().unwrap().parts.iter().map(|(name, part)| (name.clone(), part.clone())).collect();
        let mut jobs: Vec<_> = jobs.into_iter().collect();
        jobs.sort_by_key(|(_, _, at, _)| *at);
        let mut jobs = jobs.into_iter().peekable();
        let mut ends: Vec<(u64, SessionId, u64)> = Vec::new();
        for now in 0..300 {
            w.now = seconds(now);
            w.apply(Command::Tick);
            for (_, session, seq) in ends.extract_if(.., |(at, ..)| *at <= now) {
                end(&mut w, session, seq, Verdict::Succeeded, 1_000);
            }
            while let Some((cores, lasts, _, is_own)) = jobs.next_if(|(_, _, at, _)| *at <= now) {
                // Those whom it is for come when it has begun.
                let queue = if is_own && now >= from { "q" } else { "default" };
                w.submit(taking(cores, Some(lasts), queue));
            }
            for _ in 0..3 {
                let plan = w.plan();
                let taken = (plan.placements.len() + plan.switches.len()) as u32;
                let reply = w.apply(Command::Place(plan));
                prop_assert_eq!(reply, machine::Reply::Placed { taken, dropped: 0 });
            }
            for session in w.state.sessions() {
                for allocation in session.allocations.values() {
                    if !ends.iter().any(|(_, id, seq)| (*id, *seq) == (session.id, allocation.seq)) {
                        let job = w.state.job(allocation.job).unwrap();
                        let lasts = job.task_spec(0).timing.as_ref().and_then(|timing| timing.estimate).unwrap();
                        ends.push((now + lasts.as_secs(), session.id, allocation.seq));
                    }
                }
            }
            if (from..from + length).contains(&now) {
                for (worker, part) in &booked {
                    let session = w.state.session(w.state.worker(worker).unwrap().session.unwrap()).unwrap();
                    let others = session.allocations.values().filter(|row| row.queue != own);
                    let others: u64 = others.map(|row| row.resources.cpu).sum();
                    prop_assert!(others + part.cpu <= 40_000, "{} and {} on {worker} at {now}", others, part.cpu);
                }
            }
        }
        prop_assert_eq!(w.state.bookings().count(), 0);
        prop_assert_eq!(w.state.unfinished_jobs(), 0, "all find room in the end");
    }
}
