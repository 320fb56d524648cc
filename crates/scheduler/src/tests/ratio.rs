//! The highest response ratio next.

use super::backfill::{exact, starts, timed};
use super::*;
use model::policy::{Backfill, Order};

/// Processes A to E of Stallings, Operating Systems, chapter 9: arrivals and service times, and the schedule given there.
#[test]
fn five_processes_start_when_the_textbook_says() {
    let jobs = [exact(0, 1, 3), exact(2, 1, 6), exact(4, 1, 4), exact(6, 1, 5), exact(8, 1, 2)];
    assert_eq!(starts(1, &jobs, Order::Hrrn, Backfill::None), [0, 3, 9, 15, 13]);
    assert_eq!(starts(1, &jobs, Order::Sjf, Backfill::None), [0, 3, 11, 15, 9]);
}

/// Short ones come as fast as they are done. By the shortest first the long one waits for all of them; here only until it has
/// waited for as many times its length as a short one waits for its own.
#[test]
fn a_long_task_does_not_starve_behind_short_ones() {
    let mut jobs = vec![exact(0, 1, 2), exact(0, 1, 20)];
    jobs.extend((0..14).map(|nth| exact(nth * 2 + 1, 1, 2)));
    let long = |order| starts(1, &jobs, order, Backfill::None)[1];
    assert_eq!((long(Order::Sjf), long(Order::Hrrn)), (30, 10));
}

#[test]
fn what_has_no_estimate_is_last() {
    let mut w = World::new();
    w.policy(Order::Hrrn, Backfill::FirstFit);
    w.submit(job(1));
    for estimate in [100, 2, 1] {
        w.submit(timed(&backfill::Job { submit: 0, cores: 1, run: 1, estimate }));
    }
    wait(&mut w, 10);
    w.session("a", 4);
    assert_eq!(w.round(), ["j4.0@a", "j3.0@a", "j2.0@a", "j1.0@a"]);
}

proptest! {
    #![proptest_config(config(100))]

    /// With what `explain` counts before each, whatever has been submitted when, of whatever class.
    #[test]
    fn they_start_in_the_order_of_their_ratios(
        jobs in prop::collection::vec((0u64..100, 1u64..3, 1u64..2_000), 1..30),
        later in 0u64..1_000,
    ) {
        let mut w = World::new();
        w.policy(Order::Hrrn, Backfill::FirstFit);
        for (after, cores, estimate) in &jobs {
            w.now += after * 1_000_000;
            w.submit(timed(&backfill::Job { submit: 0, cores: *cores, run: 1, estimate: *estimate }));
        }
        wait(&mut w, later);
        let before = |w: &World, job| {
            let why = explain(&w.state, TaskId { job: JobId(job), number: 0 }).unwrap();
            why.reasons.iter().find(|reason| reason.code == "behind_others").map_or(0, |reason| reason.count)
        };
        w.session("a", 100);
        let told: Vec<u64> = (1..=w.jobs).map(|job| before(&w, job)).collect();
        let placed: Vec<u64> = w.plan().placements.iter().map(|placement| placement.job.0).collect();
        for (place, job) in placed.iter().enumerate() {
            prop_assert_eq!(told[*job as usize - 1], place as u64, "{:?} {:?}", told, placed);
        }
        // And no later one by more than the part of an estimate that is not told apart.
        let ratio = |job: u64| {
            let since = w.state.stamp().elapsed.since(w.state.job(JobId(job)).unwrap().submitted.elapsed);
            since.as_secs_f64() / jobs[job as usize - 1].2 as f64
        };
        for pair in placed.windows(2) {
            prop_assert!(ratio(pair[0]) * (1.0 + 1.0 / 16.0) + 1e-9 >= ratio(pair[1]), "{:?}", placed);
        }
    }
}
