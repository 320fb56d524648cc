//! The earliest deadline first, on one slot.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Admission, Miss, Periodic, Steps, Strength, Test, Unanswered};

pub(super) fn one_slot(
    set: &[Periodic],
    preemptive: bool,
    admission: &mut Admission,
) -> Result<(), Unanswered> {
    // The utilisation alone decides; it was asked before.
    if preemptive && set.iter().all(|task| task.deadline == task.period) {
        admission.accepted = true;
        let asked = admission.tests.last_mut().expect("the utilisation");
        (asked.strength, asked.source) = (Strength::Exact, "Liu & Layland 1973");
        return Ok(());
    }
    let miss = first_miss(set, !preemptive)?;
    admission.tests.push(Test {
        name: if preemptive { "processor demand" } else { "processor demand with blocking" },
        source: if preemptive {
            "Baruah, Rosier & Howell 1990"
        } else {
            "Jeffay, Stanat & Martel 1991; George, Rivierre & Spuri 1996"
        },
        strength: Strength::Exact,
        value: miss.as_ref().map_or(1.0, |miss| miss.needed as f64 / miss.deadline as f64),
        bound: 1.0,
        holds: miss.is_none(),
    });
    admission.accepted = miss.is_none();
    admission.miss = miss;
    Ok(())
}

/// The first deadline t by which more work is due than there is time, everything released at 0: the sum of
/// max(0, floor((t - D) / T) + 1) C, and without preemption the longest of those due later, less one unit that it began before.
pub(super) fn first_miss(set: &[Periodic], with_blocking: bool) -> Result<Option<Miss>, Unanswered> {
    let mut steps = Steps::new();
    let mut deadlines: BinaryHeap<Reverse<(u64, usize)>> =
        set.iter().enumerate().map(|(place, task)| Reverse((task.deadline, place))).collect();
    let blocking = Blocking::of(set, with_blocking);
    let end = busy_period(set, blocking.longest(), &mut steps)?;
    let mut due = 0u64;
    while let Some(Reverse((at, place))) = deadlines.pop() {
        if at > end {
            break;
        }
        steps.take(1)?;
        due = due.saturating_add(set[place].cost);
        deadlines.push(Reverse((at.saturating_add(set[place].period), place)));
        // All that is due at one time counts together.
        if deadlines.peek().is_some_and(|Reverse((next, _))| *next == at) {
            continue;
        }
        let needed = due.saturating_add(blocking.after(at));
        if needed > at {
            return Ok(Some(Miss { task: place, deadline: at, needed }));
        }
    }
    Ok(None)
}

/// For how long there may be work without a pause; without end for a set that is overloaded.
fn busy_period(set: &[Periodic], blocking: u64, steps: &mut Steps) -> Result<u64, Unanswered> {
    if !super::utilisation(set).at_most(1) {
        return Ok(u64::MAX);
    }
    // With all of the time taken, what was begun before is never made up for; but all repeats.
    let longest = set.iter().map(|task| task.deadline).max().unwrap_or(0);
    let cap = super::hyperperiod(set.iter()).saturating_add(longest.max(blocking));
    let mut length = set.iter().map(|task| task.cost).fold(blocking, u64::saturating_add);
    loop {
        steps.take(set.len())?;
        let work = set.iter().map(|task| length.div_ceil(task.period).saturating_mul(task.cost));
        let next = work.fold(blocking, u64::saturating_add);
        if next <= length || next > cap {
            return Ok(next.min(cap));
        }
        length = next;
    }
}

/// What of later deadlines may hold the slot, by deadline.
struct Blocking {
    /// Deadlines ascending, each with the longest of those from it on.
    longest: Vec<(u64, u64)>,
}

impl Blocking {
    fn of(set: &[Periodic], with_blocking: bool) -> Blocking {
        let mut longest: Vec<(u64, u64)> = match with_blocking {
            true => set.iter().map(|task| (task.deadline, task.cost - 1)).collect(),
            false => Vec::new(),
        };
        longest.sort_unstable();
        let mut most = 0;
        for (_, cost) in longest.iter_mut().rev() {
            most = most.max(*cost);
            *cost = most;
        }
        Blocking { longest }
    }

    fn longest(&self) -> u64 {
        self.longest.first().map_or(0, |(_, cost)| *cost)
    }

    fn after(&self, at: u64) -> u64 {
        let later = self.longest.partition_point(|(deadline, _)| *deadline <= at);
        self.longest.get(later).map_or(0, |(_, cost)| *cost)
    }
}
