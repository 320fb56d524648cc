//! Starts that are promised to gangs.

use std::collections::BTreeMap;

use model::policy::{Backfill, Order};
use proptest::sample::select;

use super::backfill::{exact, timed};
use super::gangs::counts;
use super::*;

const SECOND: u64 = 1_000_000;

/// So many members that take so long.
fn gang(members: u32, cores: u64, seconds: u64) -> JobSpec {
    let mut spec = timed(&exact(0, cores, seconds));
    spec.tasks[0].set_gang(members);
    spec
}

fn promised(w: &World, job: JobId) -> Option<u64> {
    w.state.queues().find_map(|queue| queue.promises.get(&(job, 0)).map(|promise| promise.at.0 / SECOND))
}

fn rest(w: &mut World) {
    w.apply(Command::Tick);
    w.round();
    assert!(w.plan().is_empty(), "planning twice adds nothing: {:?}", w.plan());
}

#[test]
fn the_first_is_promised_when_all_members_have_room_and_nothing_delays_them() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut w = World::new();
        let (one, two) = (w.session("a", 2), w.session("b", 2));
        w.policy(Order::Fifo, backfill);
        w.submit(timed(&exact(0, 2, 50)));
        w.submit(timed(&exact(0, 1, 100)));
        rest(&mut w);
        let wide = w.submit(gang(4, 1, 10));
        let long = w.submit(timed(&exact(0, 1, 101)));
        let short = w.submit(timed(&exact(0, 1, 100)));
        rest(&mut w);
        // One core is free until the second task ends.
        assert_eq!((counts(&w, long), counts(&w, short)), ((1, 0), (0, 1)), "{backfill}");
        assert_eq!(promised(&w, wide), Some(100), "{backfill}");
        let told = explain(&w.state, TaskId { job: wide, number: 3 }).unwrap();
        assert_eq!(told.expected_start, Some(model::Timestamp(100 * SECOND)), "{backfill}");
        w.now = 50 * SECOND;
        let first =
            w.state.sessions().find(|row| row.allocations.values().any(|row| row.job.0 == 1)).unwrap();
        let (first, other) = (first.id, if first.id == one { two } else { one });
        end(&mut w, first, 1, Verdict::Succeeded, 50_000);
        rest(&mut w);
        // What would go on beyond it has to wait, even on the worker that is empty.
        assert_eq!((counts(&w, wide), counts(&w, long)), ((4, 0), (1, 0)), "{backfill}");
        w.now = 90 * SECOND;
        end(&mut w, other, 1, Verdict::Succeeded, 90_000);
        end(&mut w, other, 2, Verdict::Succeeded, 90_000);
        rest(&mut w);
        assert_eq!((counts(&w, wide), promised(&w, wide)), ((0, 4), None), "{backfill}");
    }
}

#[test]
fn each_has_its_place_in_time_and_keeps_it() {
    let mut w = World::new();
    let sessions: Vec<SessionId> = (0..3).map(|n| w.session(&format!("w{n}"), 2)).collect();
    w.policy(Order::Fifo, Backfill::Conservative);
    (0..3).for_each(|_| _ = w.submit(timed(&exact(0, 2, 100))));
    rest(&mut w);
    let (one, two) = (w.submit(gang(3, 2, 10)), w.submit(gang(4, 1, 10)));
    let single = w.submit(timed(&exact(0, 2, 20)));
    rest(&mut w);
    let all = |w: &World| [one, two, single].map(|job| promised(w, job));
    // Beside the second one, which needs two of the three workers.
    assert_eq!(all(&w), [Some(100), Some(110), Some(110)]);
    let promise = w.state.queue(0).unwrap().promises[&(two, 0)].clone();
    assert_eq!(promise.others.len(), 3, "{promise:?}");
    // What ends early moves up who gains by it and nobody down.
    w.now = 60 * SECOND;
    end(&mut w, sessions[0], 1, Verdict::Succeeded, 60_000);
    rest(&mut w);
    assert_eq!(counts(&w, single), (0, 1));
    assert_eq!(all(&w), [Some(100), Some(110), None]);
    w.now = 80 * SECOND;
    end(&mut w, sessions[0], 2, Verdict::Succeeded, 20_000);
    end(&mut w, sessions[1], 1, Verdict::Succeeded, 80_000);
    rest(&mut w);
    assert_eq!((counts(&w, two), all(&w)), ((0, 4), [Some(100), None, None]));
}

#[test]
fn one_that_its_queue_may_not_run_is_promised_nothing() {
    for backfill in [Backfill::Easy, Backfill::Conservative] {
        let mut w = World::new();
        w.session("a", 4);
        w.policy(Order::Fifo, backfill);
        let max = |w: &mut World, running_max| {
            let name = "default".to_owned();
            drop(w.write(Op::PutQueue(QueueSpec { name, running_max, ..QueueSpec::default() })));
        };
        w.submit(timed(&exact(0, 3, 10)));
        rest(&mut w);
        let wide = w.submit(gang(3, 1, 10));
        rest(&mut w);
        assert_eq!(promised(&w, wide), Some(10), "{backfill}");
        max(&mut w, Some(2));
        rest(&mut w);
        assert_eq!(promised(&w, wide), None, "{backfill}");
        let other = w.submit(timed(&exact(0, 1, 1_000)));
        rest(&mut w);
        assert_eq!(counts(&w, other), (0, 1), "{backfill}");
    }
}

/// Whoever is promised a start waits for it; what ends before that goes on going before, however long that takes.
#[test]
fn nothing_drains_for_who_is_promised_a_start() {
    for members in [1, 2] {
        let mut w = World::new();
        let sessions = [w.session("a", 4), w.session("b", 4)];
        w.policy(Order::Fifo, Backfill::Easy);
        (0..2).for_each(|_| _ = w.submit(timed(&exact(0, 3, 1_000))));
        rest(&mut w);
        let wide = if members == 1 { w.submit(timed(&exact(0, 4, 10))) } else { w.submit(gang(2, 4, 10)) };
        rest(&mut w);
        for now in [100, 200] {
            w.now = now * SECOND;
            let short = w.submit(timed(&exact(0, 1, 50)));
            rest(&mut w);
            assert_eq!((promised(&w, wide), counts(&w, short)), (Some(1_000), (0, 1)), "{members}, {now}");
        }
        // What was promised could not be kept: by now it has waited for long enough.
        w.now = 1_000 * SECOND;
        rest(&mut w);
        let drain = sessions.iter().filter(|id| w.state.session(**id).unwrap().reserved.is_some()).count();
        assert_eq!((drain, promised(&w, wide)), (members, Some(2_000)), "{members}");
    }
}

/// A plan is made before it is applied, and what it starts ends by as much later than it was made for.
#[test]
fn a_place_that_is_missed_by_the_time_that_a_plan_takes_is_not_lost_to_those_behind_it() {
    for members in [1, 2] {
        let mut w = World::new();
        (0..members).for_each(|n| _ = w.session(&format!("w{n}"), 4));
        w.policy(Order::Fifo, Backfill::Conservative);
        let wide = |seconds| if members == 1 { timed(&exact(0, 4, seconds)) } else { gang(2, 4, seconds) };
        let [_, one, two] = [wide(100), wide(10), wide(10)].map(|spec| w.submit(spec));
        let plan = w.plan();
        w.now += 5_000;
        w.apply(Command::Place(plan));
        rest(&mut w);
        assert_eq!([one, two].map(|job| promised(&w, job)), [Some(100), Some(110)], "{members}");
        let first = |job| w.state.queues().find_map(|queue| queue.promises.get(&(job, 0))?.first);
        assert_eq!([one, two].map(first), [None, None], "nobody was put off: {members}");
    }
}

/// The first of one queue is not put off for ever by the first ones of another, each of which is promised a start before it.
#[test]
fn who_is_put_off_again_and_again_by_another_queue_has_a_worker_drain() {
    let mut w = World::new();
    let sessions = [w.session("w1", 4), w.session("w2", 4)];
    w.policy(Order::Fifo, Backfill::Easy);
    let other =
        QueueSpec { name: "other".to_owned(), backfill: Some(Backfill::Easy), ..QueueSpec::default() };
    w.write(Op::PutQueue(other));
    // Three cores of each are always in use, one after the other.
    w.submit(timed(&exact(0, 3, 10)));
    rest(&mut w);
    w.now = 5 * SECOND;
    (0..60).for_each(|_| _ = w.submit(timed(&exact(0, 3, 10))));
    rest(&mut w);
    let wide = w.submit(timed(&exact(0, 4, 10)).with(|job| job.queue = "other".to_owned()));
    rest(&mut w);
    let mut ends: BTreeMap<u64, (SessionId, u64)> = BTreeMap::new();
    while counts(&w, wide).0 > 0 && w.now < 200 * SECOND {
        for session in sessions {
            for (seq, row) in &w.state.session(session).unwrap().allocations {
                ends.insert(row.expected.0, (session, *seq));
            }
        }
        let (at, (session, seq)) = ends.pop_first().unwrap();
        w.now = at;
        w.apply(Command::Tick);
        end(&mut w, session, seq, Verdict::Succeeded, 10_000);
        rest(&mut w);
    }
    assert!(w.now < 100 * SECOND, "it has waited until {}", w.now / SECOND);
}

/// What runs takes longer than it should, so that the promise comes in vain and is followed by a later one.
#[test]
fn what_was_promised_first_is_remembered_from_level_3_on() {
    for level in [2, 3] {
        let mut w = World::founded(Settings::default(), level);
        w.session("w", 4);
        w.policy(Order::Fifo, Backfill::Easy);
        w.submit(timed(&exact(0, 3, 10)));
        rest(&mut w);
        w.now = 5 * SECOND;
        let wide = w.submit(timed(&exact(0, 4, 10)));
        rest(&mut w);
        assert_eq!((promised(&w, wide), w.reserved("w")), (Some(10), None));
        w.now = 70 * SECOND;
        w.apply(Command::Tick);
        w.round();
        assert_eq!((promised(&w, wide), w.reserved("w")), (Some(80), Some((wide, 0))), "level {level}");
        assert!(w.plan().is_empty(), "{:?}", w.plan());
        let row = w.state.queues().find_map(|queue| queue.promises.get(&(wide, 0)));
        assert_eq!(row.and_then(|promise| promise.first), (level == 3).then_some(Elapsed(10 * SECOND)));
    }
}

#[test]
fn nothing_drains_for_a_gang_that_waits_for_its_queue() {
    let mut w = World::new();
    w.session("a", 4);
    let name = "default".to_owned();
    w.write(Op::PutQueue(QueueSpec { name, running_max: Some(2), ..QueueSpec::default() }));
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), ..QueueSpec::default() }));
    let other = |spec: JobSpec| spec.with(|job| job.queue = "other".to_owned());
    w.submit(gang(3, 1, 10));
    w.submit(job(1));
    w.submit(other(job(2)));
    rest(&mut w);
    // One like it waits for room, and came later.
    let waits = w.submit(other(gang(3, 1, 10)));
    wait(&mut w, 61);
    rest(&mut w);
    assert_eq!(w.reserved("a").map(|(job, _)| job), Some(waits));
}

/// What goes before it and stays beyond its time would keep its queue from running it.
#[test]
fn the_ceiling_of_its_queue_is_kept_for_a_gang_that_is_first() {
    let mut w = World::new();
    let session = w.session("a", 8);
    w.policy(Order::Fifo, Backfill::Easy);
    let name = "default".to_owned();
    w.write(Op::PutQueue(QueueSpec { name, running_max: Some(4), ..QueueSpec::default() }));
    w.submit(timed(&exact(0, 6, 10)));
    rest(&mut w);
    let wide = w.submit(gang(2, 3, 10));
    let long = [(); 2].map(|()| w.submit(timed(&exact(0, 1, 1_000))));
    rest(&mut w);
    assert_eq!((promised(&w, wide), long.map(|job| counts(&w, job))), (Some(10), [(0, 1), (1, 0)]));
    w.now = 10 * SECOND;
    end(&mut w, session, 1, Verdict::Succeeded, 10_000);
    rest(&mut w);
    assert_eq!(counts(&w, wide), (0, 2));
}

/// A gang that waits only for its queue is not given a time, at which it would have to wait beside room for it.
#[test]
fn a_gang_starts_as_soon_as_its_queue_may_run_it() {
    let mut w = World::new();
    let (_, two) = (w.session("a", 4), w.session("b", 1));
    w.policy(Order::Fifo, Backfill::Conservative);
    w.write(Op::PutQueue(QueueSpec { name: "other".to_owned(), ..QueueSpec::default() }));
    let name = "default".to_owned();
    w.write(Op::PutQueue(QueueSpec { name, running_max: Some(2), ..QueueSpec::default() }));
    let elsewhere = |mut spec: JobSpec, worker: &str| {
        spec.tasks[0].constraints =
            vec![model::Constraint::Equals { label: "name".to_owned(), value: worker.to_owned() }].into();
        spec
    };
    w.submit(elsewhere(timed(&exact(0, 2, 100)), "a").with(|job| job.queue = "other".to_owned()));
    w.submit(elsewhere(timed(&exact(0, 1, 50)), "b"));
    rest(&mut w);
    let wide = w.submit(elsewhere(gang(2, 1, 10), "a"));
    rest(&mut w);
    assert_eq!((counts(&w, wide), promised(&w, wide)), ((2, 0), None));
    w.now = 50 * SECOND;
    end(&mut w, two, 1, Verdict::Succeeded, 50_000);
    rest(&mut w);
    assert_eq!(counts(&w, wide), (0, 2));
}

/// One member's place is none for the others.
#[test]
fn a_promise_of_another_backfill_is_not_kept_as_if_it_were_whole() {
    let mut w = World::new();
    w.session("a", 2);
    w.session("b", 2);
    w.policy(Order::Fifo, Backfill::Easy);
    (0..2).for_each(|_| _ = w.submit(timed(&exact(0, 2, 100))));
    rest(&mut w);
    let wide = w.submit(gang(4, 1, 10));
    let late = w.plan();
    w.policy(Order::Fifo, Backfill::Conservative);
    w.apply(Command::Place(late));
    rest(&mut w);
    assert_eq!(w.state.queue(0).unwrap().promises[&(wide, 0)].others.len(), 3);
}

/// How wide, on how many cores each, and how long; when it comes.
type Asked = (u32, u64, u64, u64);

/// Runs all on these workers; asserts that whoever was promised a start has begun by then, as estimates are exact.
fn keeps_promises(workers: &[u64], jobs: &[Asked], backfill: Backfill) {
    let settings = Settings {
        limits: model::settings::Limits { starve_after_s: 100_000, ..Default::default() },
        ..Default::default()
    };
    let mut w = World::with(settings);
    for (number, cores) in workers.iter().enumerate() {
        w.session(&format!("w{number}"), *cores);
    }
    w.policy(Order::Fifo, backfill);
    let (mut lengths, mut first) = (BTreeMap::new(), BTreeMap::<JobId, u64>::new());
    let mut coming = jobs.to_vec();
    coming.sort_by_key(|(.., at)| *at);
    let mut coming = std::collections::VecDeque::from(coming);
    let mut running: BTreeMap<(SessionId, u64), u64> = BTreeMap::new();
    loop {
        let due = w.state.next_due().and_then(|due| due.elapsed).map(|at| at.0);
        let due = due.filter(|at| *at > w.now);
        let comes = coming.front().map(|(.., at)| at * SECOND);
        let Some(now) = running.values().copied().chain(due).chain(comes).min() else { break };
        w.now = now.max(w.now);
        w.apply(Command::Tick);
        let over: Vec<_> = running.extract_if(.., |_, end| *end <= w.now).map(|(key, _)| key).collect();
        over.into_iter().for_each(|(session, seq)| end(&mut w, session, seq, Verdict::Succeeded, 0));
        while let Some((members, cores, seconds, _)) = coming.pop_front_if(|(.., at)| *at * SECOND <= w.now) {
            let spec =
                if members == 1 { timed(&exact(0, cores, seconds)) } else { gang(members, cores, seconds) };
            let before = w.jobs;
            w.submit_if_it_fits(spec);
            lengths.extend((w.jobs > before).then_some((JobId(w.jobs), seconds)));
        }
        w.round();
        assert!(w.plan().is_empty(), "planning twice adds nothing, {backfill}: {:?}", w.plan());
        for queue in w.state.queues() {
            for ((job, _), promise) in &queue.promises {
                let kept = first.entry(*job).or_insert(promise.at.0);
                assert!(promise.at.0 <= *kept, "{backfill}: {job} was promised {kept}, now {promise:?}");
            }
        }
        for (job, at) in &first {
            let waits = w.state.job(*job).is_some_and(|job| job.counts().ready > 0);
            let is_late = w.now >= *at && waits;
            assert!(!is_late, "{backfill}: {job} was promised {at} and waits at {}", w.now);
        }
        for session in w.state.sessions() {
            for (seq, row) in &session.allocations {
                running.entry((session.id, *seq)).or_insert(w.now + lengths[&row.job] * SECOND);
            }
        }
    }
    let waiting: Vec<JobId> = w.state.jobs().filter(|job| !job.is_finished()).map(|job| job.id).collect();
    assert_eq!(waiting, [], "{backfill}");
}

proptest! {
    #![proptest_config(config(200))]

    /// Neither the first nor anybody who has a place in time starts later than it was promised.
    #[test]
    fn promises_are_kept_where_estimates_are_exact(
        workers in prop::collection::vec(1u64..5, 1..5),
        jobs in prop::collection::vec((1u32..5, 1u64..4, 1u64..12, 0u64..30), 1..25),
        backfill in select(vec![Backfill::Easy, Backfill::Conservative]),
    ) {
        let widest = *workers.iter().max().unwrap();
        let jobs: Vec<Asked> =
            jobs.into_iter().map(|(members, cores, seconds, at)| (members, cores.min(widest), seconds, at)).collect();
        keeps_promises(&workers, &jobs, backfill);
    }
}
