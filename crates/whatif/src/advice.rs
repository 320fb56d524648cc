//! Which policy a queue would have fared best under.

use std::cmp::Ordering;
use std::time::Duration;

use model::policy::{Backfill, Order, QueuePolicy};
use model::time::format_duration;

use crate::figures::Figures;
use crate::policy::{NAMES, Policy};
use crate::workload::Workload;

/// Fewer tasks say nothing.
pub const TASKS_MIN: u64 = 20;
/// A mean wait that is better by less than this part of the present one is no reason to change anything.
pub const GAIN_MIN: f64 = 0.05;

/// A longest wait that is shorter by this part of the present one is a reason, if the mean is longer by `GAIN_MIN` at the most.
/// From what is advised for its mean nothing leads back for its longest wait, and the other way round.
pub const LONGEST_GAIN_MIN: f64 = 0.5;

/// How long a wait that adds one to a priority may be, where nothing was said: minutes for people, hours for nights.
const AGEINGS: [Duration; 3] =
    [Duration::from_secs(60), Duration::from_secs(600), Duration::from_secs(3_600)];

/// A policy under which the longest wait is more than so many times the present one is no better, whatever its mean.
const LONGEST_MAX: f64 = 2.0;

/// What the figures speak for. Places are those of the figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Advice {
    /// There are too few tasks to say anything.
    TooFew,
    /// Nothing is better by enough. The best of the others, and by which part of the present mean wait it is better.
    Keep { best: Option<(usize, f64)> },
    /// The best, and by which part of the present mean wait it is better.
    Change { to: usize, gain: f64 },
    /// The one whose longest wait is shortest, and by which part of the present one.
    Shorten { to: usize, gain: f64 },
}

/// The present policy, then every other order and backfill that could make a difference to the workload.
pub fn candidates(present: &QueuePolicy, workload: &Workload) -> Vec<Policy> {
    let mut all = vec![named(*present)];
    let estimates = workload.has_estimates();
    for order in Order::ALL.iter().filter(|order| tells_apart(**order, workload, estimates)) {
        // What makes use of estimates without any is first fit.
        let backfills = Backfill::ALL.iter().filter(|backfill| {
            estimates || !QueuePolicy { backfill: **backfill, ..QueuePolicy::default() }.promises()
        });
        for backfill in backfills {
            let policy = changed(present, *order, *backfill);
            if policy != *present && policy.refusal().is_none() {
                all.push(named(policy));
            }
        }
    }
    // Who gives way to whom is said by priorities as they are: nothing ages there unless somebody says so.
    let may_age = present.order == Order::Priority && present.ageing.is_zero() && !present.preempt;
    if may_age && tells_apart(Order::Priority, workload, estimates) {
        all.extend(AGEINGS.map(|ageing| named(QueuePolicy { ageing, ..*present })));
    }
    all
}

/// What the queue's policy becomes when its order and its backfill are set.
fn changed(present: &QueuePolicy, order: Order, backfill: Backfill) -> QueuePolicy {
    match order {
        order if order == present.order => QueuePolicy { backfill, ..*present },
        order => QueuePolicy { order, backfill, mode: present.mode, ..QueuePolicy::default() },
    }
}

/// By the name that there is for it, else by its order and its backfill.
fn named(queue: QueuePolicy) -> Policy {
    let known =
        NAMES.iter().filter_map(|name| name.parse::<Policy>().ok()).find(|known| known.queue == queue);
    known.unwrap_or_else(|| {
        let ageing = match queue.ageing {
            ageing if ageing.is_zero() => String::new(),
            ageing => format!(", +1 each {}", format_duration(ageing)),
        };
        Policy { name: format!("{}{ageing}/{}", queue.order, queue.backfill), queue }
    })
}

/// Whether the order could make another one of the workload than the order of submits does.
fn tells_apart(order: Order, workload: &Workload, estimates: bool) -> bool {
    match order {
        Order::Fifo => true,
        Order::Priority => workload.has_priorities(),
        Order::Sjf | Order::Hrrn => estimates,
        Order::Edf | Order::Dms => workload.has_deadlines(),
        Order::Rms => workload.has_periods(),
        Order::Fair => workload.has_users(),
        Order::CriticalPath => estimates && workload.has_chains(),
        // There are as many of them as quanta, and how long a slice should be is not for a replay to say.
        Order::RoundRobin => false,
    }
}

/// By mean wait, then by longest wait, then by place, among those under which nobody pays for it too dearly. The first of the
/// figures are those of the present policy.
pub fn advise(figures: &[Figures]) -> Advice {
    let Some(present) = figures.first().filter(|present| present.tasks >= TASKS_MIN) else {
        return Advice::TooFew;
    };
    let fair = |place: &usize| is_bearable(&figures[*place], present);
    let best = (1..figures.len()).filter(fair).min_by(|one, other| better(&figures[*one], &figures[*other]));
    let Some(best) = best else { return shorter(figures, present).unwrap_or(Advice::Keep { best: None }) };
    let less = present.mean_wait_s - figures[best].mean_wait_s;
    let gain = if present.mean_wait_s > 0.0 { less / present.mean_wait_s } else { 0.0 };
    if gain >= GAIN_MIN {
        Advice::Change { to: best, gain }
    } else {
        shorter(figures, present).unwrap_or(Advice::Keep { best: Some((best, gain)) })
    }
}

/// Under which nobody waits for nearly as long as somebody does now, and the others not much longer.
fn shorter(figures: &[Figures], present: &Figures) -> Option<Advice> {
    let most = present.max_wait_s * (1.0 - LONGEST_GAIN_MIN);
    let is_shorter = |place: &usize| {
        let one = &figures[*place];
        let is_cheap = one.mean_wait_s <= present.mean_wait_s * (1.0 + GAIN_MIN);
        present.max_wait_s > 0.0 && one.max_wait_s <= most && is_cheap && is_bearable(one, present)
    };
    let by_longest = |one: &usize, other: &usize| {
        let longest = figures[*one].max_wait_s.total_cmp(&figures[*other].max_wait_s);
        longest.then_with(|| better(&figures[*one], &figures[*other]))
    };
    let to = (1..figures.len()).filter(is_shorter).min_by(by_longest)?;
    Some(Advice::Shorten { to, gain: 1.0 - figures[to].max_wait_s / present.max_wait_s })
}

/// No more deadlines are missed, and nobody waits for more than twice as long as anybody does now.
fn is_bearable(one: &Figures, present: &Figures) -> bool {
    one.deadline_misses <= present.deadline_misses && one.max_wait_s <= present.max_wait_s * LONGEST_MAX
}

fn better(one: &Figures, other: &Figures) -> Ordering {
    // A mean of equal waits in another order differs in its last digits.
    let micros = |seconds: f64| (seconds * 1e6).round() as u64;
    let mean = micros(one.mean_wait_s).cmp(&micros(other.mean_wait_s));
    mean.then_with(|| micros(one.max_wait_s).cmp(&micros(other.max_wait_s)))
}

#[cfg(test)]
mod tests {
    use model::policy::Mode;

    use super::*;
    use crate::generate::{Generator, generate};
    use crate::workload::{Job, Task};

    fn figures(mean_wait_s: f64, max_wait_s: f64) -> Figures {
        let workload = Workload::default();
        let run = crate::run::Run { policy: "p".to_owned(), cores: 1, tasks: Vec::new(), queue: Vec::new() };
        Figures { tasks: 20, mean_wait_s, max_wait_s, ..crate::figures::figures(&workload, &run) }
    }

    #[test]
    fn the_shortest_mean_wait_is_advised_and_of_equals_the_one_whose_longest_is_shorter() {
        let of = [figures(100.0, 500.0), figures(90.0, 700.0), figures(80.0, 900.0), figures(80.0, 600.0)];
        assert_eq!(advise(&of), Advice::Change { to: 3, gain: 0.2 });
    }

    #[test]
    fn a_small_gain_is_no_reason_to_change_and_neither_is_a_loss() {
        assert_eq!(advise(&[figures(100.0, 1.0), figures(95.0, 1.0)]), Advice::Change { to: 1, gain: 0.05 });
        assert!(matches!(
            advise(&[figures(100.0, 1.0), figures(95.1, 1.0)]),
            Advice::Keep { best: Some((1, _)) }
        ));
        assert_eq!(
            advise(&[figures(100.0, 1.0), figures(150.0, 1.0)]),
            Advice::Keep { best: Some((1, -0.5)) }
        );
        assert_eq!(advise(&[figures(0.0, 0.0), figures(0.0, 0.0)]), Advice::Keep { best: Some((1, 0.0)) });
        assert_eq!(advise(&[figures(1.0, 1.0)]), Advice::Keep { best: None });
    }

    #[test]
    fn what_misses_more_deadlines_or_lets_somebody_wait_twice_as_long_is_no_better() {
        let late = Figures { deadline_misses: 1, ..figures(10.0, 100.0) };
        let of = [figures(100.0, 500.0), late, figures(20.0, 1_001.0), figures(60.0, 1_000.0)];
        assert_eq!(advise(&of), Advice::Change { to: 3, gain: 0.4 });
    }

    #[test]
    fn half_the_longest_wait_is_a_reason_if_the_mean_is_hardly_longer() {
        let of = [figures(100.0, 500.0), figures(104.0, 250.0), figures(105.0, 200.0), figures(105.1, 100.0)];
        assert_eq!(advise(&of), Advice::Shorten { to: 2, gain: 0.6 });
        assert_eq!(
            advise(&[figures(100.0, 500.0), figures(100.0, 251.0)]),
            Advice::Keep { best: Some((1, 0.0)) }
        );
        // There is no way back to what had the shorter mean.
        assert_eq!(advise(&[of[2].clone(), of[0].clone()]), Advice::Keep { best: None });
    }

    #[test]
    fn priorities_that_differ_may_age_unless_something_was_said_of_it() {
        let job = |priority| {
            let task = Task::new("t", 1, Duration::from_secs(1));
            Job { submit: Duration::ZERO, user: "ann".to_owned(), priority, tasks: vec![task] }
        };
        let workload = Workload { jobs: vec![job(0), job(1)], ..Workload::default() };
        let present = QueuePolicy::default();
        let aged = |present: &QueuePolicy| {
            let policies = candidates(present, &workload);
            policies
                .into_iter()
                .filter(|policy| !policy.queue.ageing.is_zero())
                .map(|policy| policy.name)
                .collect::<Vec<_>>()
        };
        let names = [
            "priority, +1 each 1m/first-fit",
            "priority, +1 each 10m/first-fit",
            "priority, +1 each 1h/first-fit",
        ];
        assert_eq!(aged(&present), names);
        assert!(aged(&QueuePolicy { preempt: true, ..present }).is_empty());
        assert!(aged(&QueuePolicy { order: Order::Fifo, ..present }).is_empty());
        let said = QueuePolicy { ageing: Duration::from_secs(60), ..present };
        assert!(
            candidates(&said, &workload)
                .iter()
                .all(|policy| [Duration::ZERO, said.ageing].contains(&policy.queue.ageing))
        );
    }

    #[test]
    fn few_tasks_say_nothing() {
        let few = Figures { tasks: 19, ..figures(100.0, 1.0) };
        assert_eq!(advise(&[few, figures(1.0, 1.0)]), Advice::TooFew);
        assert_eq!(advise(&[]), Advice::TooFew);
    }

    fn names(present: &QueuePolicy, workload: &Workload) -> Vec<String> {
        candidates(present, workload).into_iter().map(|policy| policy.name).collect()
    }

    #[test]
    fn only_what_can_make_a_difference_is_tried() {
        let task = |estimate: Option<u64>| {
            let estimate = estimate.map(Duration::from_secs);
            Task { estimate, ..Task::new("t", 1, Duration::from_secs(1)) }
        };
        let job = |tasks| Job { submit: Duration::ZERO, user: "ann".to_owned(), priority: 0, tasks };
        let present = QueuePolicy::default();
        let plain = Workload { jobs: vec![job(vec![task(None)])], ..Workload::default() };
        let found = names(&present, &plain);
        assert_eq!(found[0], "priority");
        assert!(found.contains(&"fcfs".to_owned()) && found.contains(&"first-fit".to_owned()), "{found:?}");
        for absent in ["sjf", "easy", "edf", "fair", "critical-path"] {
            assert!(!found.contains(&absent.to_owned()), "{absent}: {found:?}");
        }
        let known = Workload { jobs: vec![job(vec![task(Some(3))])], ..Workload::default() };
        let found = names(&present, &known);
        assert!(found.contains(&"easy-sjf".to_owned()) && !found.contains(&"fair".to_owned()), "{found:?}");
        let users = generate(&Generator { jobs: 50, cores: 8, load: 0.5, seed: 1 });
        assert!(names(&present, &users).contains(&"easy-fair".to_owned()));
    }

    #[test]
    fn the_present_policy_is_first_and_not_tried_twice() {
        let workload = generate(&Generator { jobs: 50, cores: 8, load: 0.5, seed: 1 });
        let present = "easy-sjf".parse::<Policy>().unwrap().queue;
        let found = names(&present, &workload);
        assert_eq!(found[0], "easy-sjf");
        assert_eq!(found.iter().filter(|name| *name == "easy-sjf").count(), 1);
        // Ageing stays when the backfill of a priority queue changes, and goes with the order.
        let aged = QueuePolicy { ageing: Duration::from_secs(60), ..QueuePolicy::default() };
        let found = candidates(&aged, &workload);
        assert!(found.iter().all(|one| one.queue.ageing.is_zero() == (one.queue.order != Order::Priority)));
        assert!(found.iter().all(|one| one.queue.refusal().is_none()));
    }

    #[test]
    fn where_workers_claim_only_what_they_can_keep_to_is_tried() {
        let workload = generate(&Generator { jobs: 50, cores: 8, load: 0.5, seed: 1 });
        let present = QueuePolicy { mode: Mode::Claim, ..QueuePolicy::default() };
        let found = candidates(&present, &workload);
        assert!(found.len() > 1);
        let plain = |one: &Policy| one.queue.mode == Mode::Claim && one.queue.backfill == Backfill::FirstFit;
        assert!(found.iter().all(plain), "{found:?}");
    }
}
