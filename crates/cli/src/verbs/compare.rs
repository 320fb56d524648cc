//! A workload under several policies, on as many cores as there are.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use whatif::{Figures, Policy, Run, Workload};

use super::live;
use crate::app::App;
use crate::fault::Fault;
use crate::output::progress::Rounds;

/// So many tasks are simulated at once, or one workload: each takes some 400 bytes meanwhile.
const TASKS_AT_ONCE: usize = 3_000_000;

/// What came of each policy, in their order. `keeps`: with every task, and not only the figures.
pub fn all(
    app: &App,
    doing: &str,
    (workload, cores): (&Workload, u64),
    policies: &[Policy],
    keeps: bool,
) -> Result<Vec<(Run, Figures)>, Fault> {
    let progress = Rounds::new(&app.face);
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some((place, policy)) = take(&next, policies) {
            let total = policies.len();
            progress.begin(&format!("{} ({} of {total})", policy.name, place + 1), 1);
            let ran = whatif::run(workload, cores, policy).map(|ran| figured(workload, ran, keeps));
            if ran.is_err() {
                // Nobody begins another.
                next.store(total, Ordering::Relaxed);
            }
            runs.lock().unwrap_or_else(PoisonError::into_inner).push((place, ran));
        }
    };
    thread::scope(|scope| {
        (0..at_once(workload, policies)).for_each(|_| drop(scope.spawn(work)));
    });
    progress.clear();
    let mut runs = runs.into_inner().unwrap_or_else(PoisonError::into_inner);
    runs.sort_by_key(|(place, _)| *place);
    let runs = runs.into_iter();
    runs.map(|(place, ran)| ran.map_err(|broken| live::broken(doing, &policies[place], &broken))).collect()
}

fn take<'p>(next: &AtomicUsize, policies: &'p [Policy]) -> Option<(usize, &'p Policy)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    Some((place, policies.get(place)?))
}

/// A million jobs under a dozen policies need not all be kept.
fn figured(workload: &Workload, mut ran: Run, keeps: bool) -> (Run, Figures) {
    let figures = whatif::figures(workload, &ran);
    if !keeps {
        (ran.tasks, ran.queue) = (Vec::new(), Vec::new());
    }
    (ran, figures)
}

fn at_once(workload: &Workload, policies: &[Policy]) -> usize {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let room = TASKS_AT_ONCE / workload.tasks().count().max(1);
    cores.min(policies.len()).min(room.max(1))
}
