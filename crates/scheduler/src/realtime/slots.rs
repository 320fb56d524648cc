//! Several slots: each task on one of its own, or all on any.

use super::ratio::Ratio;
use super::{Admission, How, Periodic, Priority, Strength, Test, Unanswered, density, one_slot};

/// First fit, the largest utilisation first, with the exact test of each slot.
pub(super) fn partitioned(set: &[Periodic], how: How) -> Result<Admission, Unanswered> {
    let mut order: Vec<usize> = (0..set.len()).collect();
    let load = |task: &Periodic| task.cost as f64 / task.period as f64;
    order.sort_by(|a, b| load(&set[*b]).total_cmp(&load(&set[*a])).then(a.cmp(b)));
    let mut slots: Vec<Vec<usize>> = vec![Vec::new(); how.slots as usize];
    let (mut placed, mut responses) = (vec![None; set.len()], vec![None; set.len()]);
    let mut missed = None;
    for place in order {
        let mut refusal = None;
        for (slot, tasks) in slots.iter_mut().enumerate() {
            // In the order of the set, by which those of one priority take turns.
            let at = tasks.partition_point(|other| *other < place);
            tasks.insert(at, place);
            let admission = one_slot(&pick(set, tasks), how)?;
            if admission.accepted {
                placed[place] = Some(slot as u32);
                let with = tasks.iter().zip(admission.responses);
                with.for_each(|(place, response)| responses[*place] = response);
                break;
            }
            refusal = admission.miss.map(|miss| super::Miss { task: tasks[miss.task], ..miss });
            tasks.remove(at);
            // What an empty slot refuses, the others refuse too: they are empty as well.
            if tasks.is_empty() {
                break;
            }
        }
        if placed[place].is_none() {
            missed = missed.or(refusal.or(Some(super::Miss { task: place, deadline: 0, needed: 0 })));
        }
    }
    let left = placed.iter().filter(|slot| slot.is_none()).count();
    let test = Test {
        name: "partition: first fit, largest first, the exact test on each slot",
        source: "Baruah & Fisher 2006",
        strength: Strength::Sufficient,
        value: left as f64,
        bound: 0.0,
        holds: left == 0,
    };
    let accepted = left == 0;
    Ok(Admission {
        accepted,
        tests: vec![test],
        responses,
        slots: placed,
        miss: missed,
        ..Admission::default()
    })
}

fn pick(set: &[Periodic], places: &[usize]) -> Vec<Periodic> {
    places.iter().map(|place| set[*place].clone()).collect()
}

/// On any slot: the densities together at most m - (m - 1) times the largest.
pub(super) fn global(set: &[Periodic], how: How) -> Result<Admission, Unanswered> {
    if how.priority != Priority::Edf || !how.preemptive {
        return Err(Unanswered::NoTest("on any slot there is a test for preemptive edf only"));
    }
    let slots = u64::from(how.slots);
    let density_of = |place: &usize| Ratio::new(set[*place].cost, set[*place].deadline);
    // Of equals the first.
    let heaviest =
        (0..set.len()).rev().max_by(|a, b| density_of(a).value().total_cmp(&density_of(b).value()));
    let largest = heaviest.as_ref().map_or(Ratio::new(0, 1), density_of);
    let load = density(set);
    let spread = (1..slots).fold(load, |sum, _| sum.plus(largest));
    let implicit = set.iter().all(|task| task.deadline == task.period);
    let test = Test {
        name: if implicit { "utilisation on any slot" } else { "density on any slot" },
        source: "Goossens, Funk & Baruah 2003",
        strength: Strength::Sufficient,
        value: load.value(),
        bound: slots as f64 - (slots - 1) as f64 * largest.value(),
        holds: spread.at_most(slots),
    };
    let accepted = test.holds;
    Ok(Admission {
        accepted,
        tests: vec![test],
        responses: vec![None; set.len()],
        bound_of: heaviest.filter(|_| !accepted),
        ..Admission::default()
    })
}
