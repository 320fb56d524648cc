use proptest::prelude::*;

use super::*;

fn set(figures: &[(u64, u64, u64)]) -> Vec<Periodic> {
    let named = |(place, (cost, period, deadline)): (usize, &(u64, u64, u64))| {
        let (cost, period, deadline) = (*cost, *period, *deadline);
        Periodic { name: format!("t{}", place + 1), cost, period, deadline }
    };
    figures.iter().enumerate().map(named).collect()
}

fn implicit(figures: &[(u64, u64)]) -> Vec<Periodic> {
    set(&figures.iter().map(|(cost, period)| (*cost, *period, *period)).collect::<Vec<_>>())
}

fn on(priority: Priority, preemptive: bool, slots: u32) -> How {
    How { priority, preemptive, slots, global: false }
}

fn preemptive(set: &[Periodic], priority: Priority) -> Admission {
    admit(set, on(priority, true, 1)).unwrap()
}

fn held(admission: &Admission) -> Vec<&str> {
    admission.tests.iter().filter(|test| test.holds).map(|test| test.name).collect()
}

fn responses(admission: &Admission) -> Vec<u64> {
    admission.responses.iter().map(|response| response.unwrap()).collect()
}

#[test]
fn the_liu_layland_bound_accepts_a_light_set() {
    let found = preemptive(&implicit(&[(1, 4), (1, 5), (1, 10)]), Priority::Rms);
    assert!(found.accepted && held(&found).contains(&"Liu & Layland bound"));
    let bounds: Vec<f64> = [2usize, 3, 4]
        .map(|n| preemptive(&implicit(&vec![(1, 100); n]), Priority::Rms).tests[1].bound)
        .to_vec();
    for (bound, known) in bounds.iter().zip([0.8284, 0.7798, 0.7568]) {
        assert!((bound - known).abs() < 5e-5, "{bound}");
    }
}

/// n (2^(1/n) - 1) falls as n grows, and never below ln 2.
#[test]
fn the_liu_layland_bound_goes_down_to_ln_2() {
    let bound = |n: usize| preemptive(&implicit(&vec![(1, 100_000); n]), Priority::Rms).tests[1].bound;
    let bounds = [1, 2, 10, 100, 1_000].map(bound);
    assert!(bounds.is_sorted_by(|more, less| more > less), "{bounds:?}");
    let above = bounds[4] - std::f64::consts::LN_2;
    assert!(above > 0.0 && above < 3e-4, "{above}");
}

#[test]
fn only_the_hyperbolic_bound_accepts_a_product_of_exactly_two() {
    let found = preemptive(&implicit(&[(6, 10), (5, 20)]), Priority::Rms);
    assert_eq!(held(&found), ["utilisation", "hyperbolic bound", "response times"]);
    assert_eq!((found.tests[0].value, found.tests[2].value), (0.85, 2.0));
    assert!((found.tests[1].bound - 0.8284).abs() < 5e-5 && found.tests[1].value == 0.85);
    assert_eq!(responses(&found), [6, 17]);
}

#[test]
fn response_times_accept_what_both_bounds_refuse() {
    let found = preemptive(&implicit(&[(1, 4), (2, 6), (3, 10)]), Priority::Rms);
    assert_eq!(held(&found), ["utilisation", "response times"]);
    assert_eq!(responses(&found), [1, 3, 10]);
    let harmonic = preemptive(&implicit(&[(1, 2), (1, 4), (2, 8)]), Priority::Rms);
    assert!(harmonic.accepted);
    assert_eq!(harmonic.tests[0].value, 1.0);
    assert_eq!(responses(&harmonic), [1, 2, 8]);
}

#[test]
fn edf_accepts_what_rms_misses() {
    let tasks = implicit(&[(2, 5), (4, 7)]);
    let rms = preemptive(&tasks, Priority::Rms);
    assert!(!rms.accepted);
    assert_eq!(rms.miss, Some(Miss { task: 1, deadline: 7, needed: 8 }));
    assert!(preemptive(&tasks, Priority::Edf).accepted);
}

/// Found at random: with all of the time taken the busy period is cut off, and an instance may be released after all before it.
#[test]
fn an_instance_that_all_before_are_done_with_waits_for_nobody() {
    let tasks = implicit(&[(2, 4), (3, 6)]);
    let how = on(Priority::Rms, false, 1);
    let found = admit(&tasks, how).unwrap();
    assert_eq!(found.accepted, misses(&tasks, how) == 0, "{found:?}");
}

#[test]
fn more_work_than_time_is_refused_by_all() {
    let tasks = implicit(&[(3, 4), (3, 5)]);
    for (name, priority) in Priority::ALL {
        for is_preemptive in [true, false] {
            let found = admit(&tasks, on(priority, is_preemptive, 1)).unwrap();
            assert!(!found.accepted, "{name}");
            assert!((found.tests[0].value - 1.35).abs() < 1e-12);
            assert!(found.miss.is_some(), "{name}");
        }
    }
}

#[test]
fn the_order_of_deadlines_accepts_a_density_above_one() {
    let found = preemptive(&set(&[(1, 10, 3), (2, 6, 5), (3, 12, 8)]), Priority::Dms);
    assert!(found.accepted);
    assert_eq!(responses(&found), [1, 3, 6]);
    assert!((found.tests[1].value - 1.1083).abs() < 1e-4 && !found.tests[1].holds);
}

#[test]
fn the_demand_says_when_edf_misses() {
    let found = preemptive(&set(&[(2, 4, 2), (2, 6, 3), (1, 12, 12)]), Priority::Edf);
    assert_eq!((found.accepted, found.miss), (false, Some(Miss { task: 1, deadline: 3, needed: 4 })));
    let tasks = set(&[(1, 4, 2), (2, 8, 6), (1, 8, 4)]);
    assert!((density(&tasks).value() - 1.0833).abs() < 1e-4);
    assert!(preemptive(&tasks, Priority::Edf).accepted);
}

#[test]
fn without_preemption_edf_counts_who_holds_the_slot() {
    let admitted = |figures: &[(u64, u64)]| admit(&implicit(figures), on(Priority::Edf, false, 1)).unwrap();
    assert!(admitted(&[(1, 4), (2, 8), (3, 16)]).accepted);
    let refused = admitted(&[(1, 3), (5, 20)]);
    // In the words of Jeffay, Stanat & Martel at L = 4: one more than the deadline here.
    assert_eq!((refused.accepted, refused.miss.map(|miss| miss.deadline + 1)), (false, Some(4)));
}

#[test]
fn several_slots_take_what_one_cannot() {
    let tasks = implicit(&[(1, 4), (2, 8), (3, 10), (4, 20), (2, 5)]);
    let found = admit(&tasks, How { global: true, ..on(Priority::Edf, true, 2) }).unwrap();
    assert!(found.accepted);
    assert!((found.tests[0].value - 1.4).abs() < 1e-12 && (found.tests[0].bound - 1.6).abs() < 1e-12);
    assert!(!preemptive(&tasks, Priority::Edf).accepted);
    let parted = admit(&tasks, on(Priority::Edf, true, 2)).unwrap();
    assert!(parted.accepted && parted.slots.iter().all(Option::is_some), "{parted:?}");
    let heavy = implicit(&[(6, 10), (6, 10), (6, 10)]);
    let refused = admit(&heavy, on(Priority::Edf, true, 2)).unwrap();
    assert_eq!((refused.accepted, refused.tests[0].value), (false, 1.0));
    assert!(refused.miss.is_some());
}

#[test]
fn figures_that_are_no_task_are_named() {
    let how = on(Priority::Edf, true, 1);
    for figures in [(0, 4, 4), (5, 4, 4), (1, 4, 5), (3, 4, 2), (0, 0, 0)] {
        let tasks = set(&[(1, 4, 4), figures]);
        assert_eq!(admit(&tasks, how), Err(Unanswered::Figures { task: 1 }), "{figures:?}");
    }
    assert!(admit(&[], how).unwrap().accepted);
    let global = How { global: true, ..on(Priority::Rms, true, 2) };
    assert!(matches!(admit(&implicit(&[(1, 2)]), global), Err(Unanswered::NoTest(_))));
}

#[test]
fn periods_that_never_meet_end_in_an_answer() {
    let how = on(Priority::Edf, false, 1);
    let large = implicit(&[(1, 3), (1_999_999_999, 5_999_999_989), (1, 1_000_000_007)]);
    let refused = admit(&large, how).unwrap();
    // The large one may just have begun.
    assert_eq!(refused.miss, Some(Miss { task: 0, deadline: 3, needed: 1 + 1_999_999_998 }));
    assert!(!refused.accepted);
    assert!(admit(&implicit(&[(1, 3), (1, 5_999_999_989), (1, 1_000_000_007)]), how).unwrap().accepted);
    // Nearly all of the time is taken: it is busy for 1,000,000,000, with a deadline at every second unit of it.
    let endless =
        set(&[(1, 2, 2), (499_999_999, 1_000_000_007, 1_000_000_006), (1, 9_999_999_967, 9_999_999_966)]);
    assert_eq!(admit(&endless, on(Priority::Edf, true, 1)), Err(Unanswered::TooLong));
}

/// Released for so long after everything has been once, from `offsets` on, one unit of time after the other: how many deadlines
/// are missed on so many slots, each task on any of them. It knows of the rules only: who goes first, and whether who runs goes on.
fn misses_on(tasks: &[Periodic], how: How, slots: usize, offsets: &[u64]) -> u64 {
    let repeats = tasks.iter().fold(1, |all, task| all / gcd(all, task.period) * task.period);
    let end = offsets.iter().max().unwrap_or(&0) + 2 * repeats;
    let mut jobs: Vec<Job> = Vec::new();
    let mut missed = 0;
    for now in 0..end {
        for (place, task) in tasks.iter().enumerate() {
            if now >= offsets[place] && (now - offsets[place]).is_multiple_of(task.period) {
                jobs.push(Job { place, due: now + task.deadline, left: task.cost, begun: false });
            }
        }
        jobs.sort_by_key(|job| {
            let task = &tasks[job.place];
            let first = match how.priority {
                Priority::Rms => task.period,
                Priority::Dms => task.deadline,
                Priority::Edf => job.due,
            };
            (how.preemptive || !job.begun, first, job.place, job.due)
        });
        for job in jobs.iter_mut().take(slots) {
            (job.left, job.begun) = (job.left - 1, true);
        }
        missed += jobs.iter().filter(|job| job.left == 0 && now + 1 > job.due).count() as u64;
        jobs.retain(|job| job.left > 0);
    }
    missed + jobs.iter().filter(|job| job.due <= end).count() as u64
}

struct Job {
    place: usize,
    due: u64,
    left: u64,
    begun: bool,
}

/// Likewise on one slot, all released at once: with preemption the worst that can be.
fn misses(tasks: &[Periodic], how: How) -> u64 {
    misses_on(tasks, how, 1, &vec![0; tasks.len()])
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Dhall's effect: on any slot the two light ones go first, and the heavy one is late; with a slot of its own it is not.
#[test]
fn what_one_slot_each_can_do_any_slot_cannot() {
    let tasks = implicit(&[(2, 10), (2, 10), (10, 11)]);
    let any = How { global: true, ..on(Priority::Edf, true, 2) };
    let refused = admit(&tasks, any).unwrap();
    assert_eq!((refused.accepted, refused.miss, refused.bound_of), (false, None, Some(2)));
    assert!(misses_on(&tasks, any, 2, &[0; 3]) > 0);
    let parted = admit(&tasks, on(Priority::Edf, true, 2)).unwrap();
    assert_eq!((parted.accepted, parted.slots), (true, vec![Some(1), Some(1), Some(0)]));
    let light = admit(&tasks[..2], any).unwrap();
    assert_eq!((light.accepted, light.bound_of), (true, None), "an answer that is certain names nobody");
}

fn period() -> impl Strategy<Value = u64> {
    prop::sample::select(vec![2u64, 3, 4, 5, 6, 8, 10, 12])
}

/// So many tasks, half of the sets with the deadline of each at its next release; `light` ones ask for a part of that at most.
fn any_set(tasks: std::ops::Range<usize>, light: u64) -> impl Strategy<Value = Vec<Periodic>> {
    let figures =
        move |period: u64, deadline: u64| (1..=(deadline / light).max(1), Just(period), Just(deadline));
    let whole = period().prop_flat_map(move |period| figures(period, period));
    let earlier = period()
        .prop_flat_map(move |period| (1..=period).prop_flat_map(move |deadline| figures(period, deadline)));
    let sets =
        prop_oneof![prop::collection::vec(whole, tasks.clone()), prop::collection::vec(earlier, tasks)];
    sets.prop_map(|figures| set(&figures))
}

fn any_offsets() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0u64..12, 8)
}

const CASES: u32 = 400;

fn cases() -> ProptestConfig {
    // Sets that the test refuses are drawn anew, so that as many are accepted as are counted.
    ProptestConfig {
        cases: CASES,
        max_global_rejects: 50 * CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases())]

    /// Whatever is accepted meets every deadline; and with preemption, what is refused misses one.
    #[test]
    fn the_tests_say_what_happens(tasks in any_set(1..5, 1), which in 0usize..3, is_preemptive: bool) {
        let how = on(Priority::ALL[which].1, is_preemptive, 1);
        let found = admit(&tasks, how).unwrap();
        let missed = misses(&tasks, how);
        prop_assert!(!found.accepted || missed == 0, "accepted, and {} misses", missed);
        prop_assert!(!is_preemptive || found.accepted || missed > 0, "refused for nothing: {:?}", found);
        prop_assert_eq!(found.accepted, found.miss.is_none());
    }

    /// Each by itself: whoever else says so, a test that holds is right, and so is one whose failure is to mean something.
    #[test]
    fn every_test_is_right_by_itself(tasks in any_set(2..6, 2), which in 0usize..3) {
        let how = on(Priority::ALL[which].1, true, 1);
        let missed = misses(&tasks, how);
        for test in admit(&tasks, how).unwrap().tests {
            let (accepts, refuses) = match test.strength {
                Strength::Sufficient => (test.holds, false),
                Strength::Exact => (test.holds, !test.holds),
                Strength::Necessary => (false, !test.holds),
            };
            prop_assert!(!accepts || missed == 0, "{}: {} misses", test, missed);
            prop_assert!(!refuses || missed > 0, "{}: none misses", test);
        }
    }

    /// Whenever each is released for the first time, and without preemption too.
    #[test]
    fn what_is_accepted_meets_its_deadlines_from_any_beginning(
        tasks in any_set(2..5, 2), offsets in any_offsets(), which in 0usize..3, is_preemptive: bool,
    ) {
        let how = on(Priority::ALL[which].1, is_preemptive, 1);
        prop_assume!(admit(&tasks, how).unwrap().accepted);
        prop_assert_eq!(misses_on(&tasks, how, 1, &offsets), 0);
    }

    #[test]
    fn what_is_accepted_on_any_slot_meets_its_deadlines(
        tasks in any_set(2..8, 3), offsets in any_offsets(), slots in 2u32..5,
    ) {
        let how = How { global: true, ..on(Priority::Edf, true, slots) };
        let found = admit(&tasks, how).unwrap();
        prop_assert_eq!((found.bound_of.is_none(), found.miss), (found.accepted, None));
        // With no more tasks than slots there is nothing to be late for.
        prop_assume!(found.accepted && tasks.len() > slots as usize);
        prop_assert_eq!(misses_on(&tasks, how, slots as usize, &vec![0; tasks.len()]), 0);
        prop_assert_eq!(misses_on(&tasks, how, slots as usize, &offsets), 0);
    }

    #[test]
    fn what_is_accepted_in_parts_meets_its_deadlines_on_each_slot(
        tasks in any_set(2..8, 1), offsets in any_offsets(), slots in 2u32..4, which in 0usize..3, is_preemptive: bool,
    ) {
        let how = on(Priority::ALL[which].1, is_preemptive, slots);
        let found = admit(&tasks, how).unwrap();
        prop_assume!(found.accepted);
        for slot in 0..slots {
            let of_slot: Vec<usize> = (0..tasks.len()).filter(|place| found.slots[*place] == Some(slot)).collect();
            let part: Vec<Periodic> = of_slot.iter().map(|place| tasks[*place].clone()).collect();
            let from: Vec<u64> = of_slot.iter().map(|place| offsets[*place]).collect();
            prop_assert_eq!(misses(&part, how), 0);
            prop_assert_eq!(misses_on(&part, how, 1, &from), 0);
        }
        prop_assert!(found.slots.iter().all(|slot| slot.is_some_and(|slot| slot < slots)), "each has a slot");
    }
}
