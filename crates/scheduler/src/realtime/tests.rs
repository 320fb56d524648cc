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

#[test]
fn only_the_hyperbolic_bound_accepts_a_product_of_exactly_two() {
    let found = preemptive(&implicit(&[(6, 10), (5, 20)]), Priority::Rms);
    assert_eq!(held(&found), ["utilisation", "hyperbolic bound", "response times"]);
    assert_eq!(found.tests[2].value, 2.0);
    assert_eq!(responses(&found), [6, 17]);
}

#[test]
fn response_times_accept_what_both_bounds_refuse() {
    let found = preemptive(&implicit(&[(1, 4), (2, 6), (3, 10)]), Priority::Rms);
    assert_eq!(held(&found), ["utilisation", "response times"]);
    assert_eq!(responses(&found), [1, 3, 10]);
    let harmonic = preemptive(&implicit(&[(1, 2), (1, 4), (2, 8)]), Priority::Rms);
    assert!(harmonic.accepted);
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
    let large = implicit(&[(1, 3), (1_999_999_999, 5_999_999_989), (1, 1_000_000_007)]);
    let how = on(Priority::Edf, false, 1);
    assert!(!admit(&large, how).unwrap().accepted);
    // Nearly all of the time is taken, and the busy period ends only where the periods meet.
    let endless =
        set(&[(1, 2, 2), (499_999_999, 1_000_000_007, 1_000_000_006), (1, 9_999_999_967, 9_999_999_966)]);
    let answer = admit(&endless, on(Priority::Edf, true, 1));
    assert!(answer == Err(Unanswered::TooLong) || answer.is_ok_and(|found| !found.tests.is_empty()));
}

/// Misses of the set when all is released at once, over two hyperperiods, one unit of time after the other.
fn misses(tasks: &[Periodic], how: How) -> u64 {
    let end = 2 * tasks.iter().fold(1, |all, task| all / gcd(all, task.period) * task.period);
    let rank = fixed::order(tasks, how.priority);
    let mut jobs: Vec<(u64, u64, usize)> = Vec::new();
    let (mut missed, mut running): (u64, Option<usize>) = (0, None);
    for now in 0..end {
        for (place, task) in tasks.iter().enumerate().filter(|(_, task)| now % task.period == 0) {
            jobs.push((now + task.deadline, task.cost, place));
        }
        let key = |job: &(u64, u64, usize)| match how.priority {
            Priority::Edf => (job.0, job.2 as u64),
            _ => (rank.iter().position(|place| *place == job.2).unwrap() as u64, job.0),
        };
        let kept = running.filter(|_| !how.preemptive);
        let next = kept.or_else(|| (0..jobs.len()).min_by_key(|place| key(&jobs[*place])));
        let Some(place) = next else { continue };
        jobs[place].1 -= 1;
        running = Some(place);
        if jobs[place].1 == 0 {
            missed += u64::from(now + 1 > jobs[place].0);
            jobs.remove(place);
            running = None;
        }
    }
    missed + jobs.iter().filter(|(deadline, ..)| *deadline <= end).count() as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn any_set() -> impl Strategy<Value = Vec<Periodic>> {
    let task = prop::sample::select(vec![2u64, 3, 4, 5, 6, 8, 10, 12]).prop_flat_map(|period| {
        (1..=period).prop_flat_map(move |deadline| (1..=deadline, Just(period), Just(deadline)))
    });
    prop::collection::vec(task, 1..5).prop_map(|figures| set(&figures))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted meets every deadline; and with preemption, what is refused misses one.
    #[test]
    fn the_tests_say_what_happens(tasks in any_set(), which in 0usize..3, is_preemptive: bool) {
        let how = on(Priority::ALL[which].1, is_preemptive, 1);
        let found = admit(&tasks, how).unwrap();
        let missed = misses(&tasks, how);
        prop_assert!(!found.accepted || missed == 0, "accepted, and {} misses", missed);
        prop_assert!(!is_preemptive || found.accepted || missed > 0, "refused for nothing: {:?}", found);
        prop_assert_eq!(found.accepted, found.miss.is_none());
    }
}
