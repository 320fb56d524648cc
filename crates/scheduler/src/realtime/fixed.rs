//! Fixed priorities: rate and deadline monotonic, on one slot.

use super::ratio::Ratio;
use super::{
    Admission, How, Miss, Periodic, Priority, Steps, Strength, Test, Unanswered, density, hyperperiod,
    utilisation,
};

pub(super) fn one_slot(set: &[Periodic], how: How, admission: &mut Admission) -> Result<(), Unanswered> {
    if how.preemptive {
        let bounds = bounds(set, how.priority);
        admission.accepted = bounds.iter().any(|test| test.holds);
        admission.tests.extend(bounds);
    }
    let (responses, miss) = responses(set, how)?;
    admission.responses = responses;
    admission.tests.push(Test {
        name: if how.preemptive { "response times" } else { "response times with blocking" },
        source: if how.preemptive {
            "Joseph & Pandya 1986"
        } else {
            "Davis, Burns, Bril & Lukkien 2007; in whole units of time"
        },
        strength: if how.preemptive { Strength::Exact } else { Strength::Sufficient },
        value: miss.as_ref().map_or_else(|| worst(set, &admission.responses), lateness),
        bound: 1.0,
        holds: miss.is_none(),
    });
    admission.accepted |= miss.is_none();
    admission.miss = miss;
    Ok(())
}

fn lateness(miss: &Miss) -> f64 {
    miss.needed as f64 / miss.deadline as f64
}

/// The largest response time as a part of its deadline.
fn worst(set: &[Periodic], responses: &[Option<u64>]) -> f64 {
    let part =
        |(task, response): (&Periodic, &Option<u64>)| response.map(|r| r as f64 / task.deadline as f64);
    set.iter().zip(responses).filter_map(part).fold(0.0, f64::max)
}

/// The bounds that are asked before anything longer, as far as they hold for this order of priorities.
fn bounds(set: &[Periodic], priority: Priority) -> Vec<Test> {
    let n = set.len() as f64;
    let liu_layland = if set.is_empty() { 1.0 } else { n * (2f64.powf(1.0 / n) - 1.0) };
    let implicit = set.iter().all(|task| task.deadline == task.period);
    let sufficient = |name, source, value: f64, bound: f64, holds| {
        let strength = Strength::Sufficient;
        Test { name, source, strength, value, bound, holds }
    };
    // With deadlines before the periods, the density stands in for the utilisation: only in the order of deadlines.
    if !implicit {
        let value = density(set).value();
        let holds = priority == Priority::Dms && value + 1e-12 < liu_layland;
        let name = "Liu & Layland bound of the density";
        return vec![sufficient(name, "Liu & Layland 1973, with C / D", value, liu_layland, holds)];
    }
    let load = utilisation(set).value();
    let product = set.iter().map(|task| Ratio::new(task.cost + task.period, task.period));
    let product = product.fold(Ratio::new(1, 1), Ratio::times);
    vec![
        // The bound is no fraction but for one task, and then it is 1.
        sufficient(
            "Liu & Layland bound",
            "Liu & Layland 1973",
            load,
            liu_layland,
            set.len() < 2 || load + 1e-12 < liu_layland,
        ),
        sufficient(
            "hyperbolic bound",
            "Bini, Buttazzo & Buttazzo 2003",
            product.value(),
            2.0,
            product.at_most(2),
        ),
    ]
}

/// Places in the order of priority.
pub(super) fn order(set: &[Periodic], priority: Priority) -> Vec<usize> {
    let mut order: Vec<usize> = (0..set.len()).collect();
    order.sort_by_key(|place| (priority_of(&set[*place], priority), *place));
    order
}

/// The lower, the earlier.
fn priority_of(task: &Periodic, priority: Priority) -> u64 {
    match priority {
        Priority::Rms => task.period,
        Priority::Dms | Priority::Edf => task.deadline,
    }
}

type Responses = (Vec<Option<u64>>, Option<Miss>);

fn responses(set: &[Periodic], how: How) -> Result<Responses, Unanswered> {
    let order = order(set, how.priority);
    let mut steps = Steps::new();
    let mut responses = vec![None; set.len()];
    for (rank, place) in order.iter().enumerate() {
        let response = if how.preemptive {
            preemptive(set, &order[..rank], *place, &mut steps)?
        } else {
            // Of one priority the one that was released before goes first, whichever that is.
            let level = |other: &usize| priority_of(&set[*other], how.priority);
            let last = order.iter().rposition(|other| level(other) == level(place)).unwrap_or(rank);
            let (mut above, below) = (order[..=last].to_vec(), &order[last + 1..]);
            above.retain(|other| other != place);
            not_preemptive(set, &above, *place, below, &mut steps)?
        };
        let deadline = set[*place].deadline;
        responses[*place] = Some(response).filter(|response| *response <= deadline);
        if response > deadline {
            return Ok((responses, Some(Miss { task: *place, deadline, needed: response })));
        }
    }
    Ok((responses, None))
}

/// R = C + sum over those above of ceil(R / T) C; the first value beyond the deadline if there is none within it.
fn preemptive(set: &[Periodic], above: &[usize], place: usize, steps: &mut Steps) -> Result<u64, Unanswered> {
    let task = &set[place];
    let mut response = task.cost;
    loop {
        steps.take(above.len())?;
        let others =
            above.iter().map(|other| demand(response.div_ceil(set[*other].period), set[*other].cost));
        let next = others.fold(task.cost, u64::saturating_add);
        if next == response || next > task.deadline {
            return Ok(next);
        }
        response = next;
    }
}

/// Of every instance in the longest busy period that begins just after the longest task of those below: it waits for that one,
/// for its earlier instances, and for whatever of those above is released until it starts.
fn not_preemptive(
    set: &[Periodic],
    above: &[usize],
    place: usize,
    below: &[usize],
    steps: &mut Steps,
) -> Result<u64, Unanswered> {
    let task = &set[place];
    let blocking = below.iter().map(|other| set[*other].cost - 1).max().unwrap_or(0);
    let busy = busy_period(set, above, task, blocking, steps)?;
    let mut worst = 0;
    for instance in 0..busy.div_ceil(task.period) {
        let earlier = demand(instance, task.cost).saturating_add(blocking);
        let release = instance.saturating_mul(task.period);
        let mut start = earlier;
        loop {
            steps.take(above.len())?;
            let released = |other: &usize| demand(start / set[*other].period + 1, set[*other].cost);
            let next = above.iter().map(released).fold(earlier, u64::saturating_add);
            if next == start {
                break;
            }
            start = next;
            if start.saturating_sub(release) > task.deadline {
                return Ok(start - release + task.cost);
            }
        }
        // Where all before it is done earlier than it is released, it waits for nobody.
        worst = worst.max(start.saturating_sub(release) + task.cost);
        if worst > task.deadline {
            break;
        }
    }
    Ok(worst)
}

fn busy_period(
    set: &[Periodic],
    above: &[usize],
    task: &Periodic,
    blocking: u64,
    steps: &mut Steps,
) -> Result<u64, Unanswered> {
    // With all of the time taken, what was begun before is never made up for; but all repeats.
    let cap = hyperperiod(above.iter().map(|other| &set[*other]).chain([task])).saturating_add(blocking);
    let mut length = blocking + task.cost;
    loop {
        steps.take(above.len())?;
        let own = demand(length.div_ceil(task.period), task.cost);
        let others = above.iter().map(|other| demand(length.div_ceil(set[*other].period), set[*other].cost));
        let next = others.fold(blocking.saturating_add(own), u64::saturating_add);
        if next == length || next > cap {
            return Ok(next.min(cap));
        }
        length = next;
    }
}

fn demand(times: u64, cost: u64) -> u64 {
    times.saturating_mul(cost)
}

/// Who misses first if everything is released at once; of an overloaded set too.
pub(super) fn first_miss(set: &[Periodic], priority: Priority) -> Option<Miss> {
    let how = How { priority, preemptive: true, slots: 1, global: false };
    responses(set, how).ok().and_then(|(_, miss)| miss)
}
