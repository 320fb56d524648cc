//! A release of a periodic task is one job or none, in its time, and never while its job of before is there.

use std::collections::BTreeMap;

use machine::state::periodic::{PeriodicSet, PeriodicTask};
use model::JobId;
use model::time::micros;

use super::{Found, Invariant, Step};

/// Of a task, as it was after the entry before.
#[derive(Clone, Copy, Default)]
struct Before {
    released: u64,
    next: u64,
    last: Option<JobId>,
}

#[derive(Default)]
pub struct ReleasedOnce {
    /// By set, its beginning, and task.
    of: BTreeMap<(String, u64, String), Before>,
    looked: u64,
}

impl Invariant for ReleasedOnce {
    fn name(&self) -> &'static str {
        "released once"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for set in step.state.periodic_sets() {
            for task in &set.tasks {
                let key = (set.name.clone(), set.began.elapsed.0, task.name.clone());
                let now = Before { released: task.released, next: task.next, last: task.last };
                let before = self.of.insert(key, now).unwrap_or_default();
                if task.released > before.released {
                    self.looked += 1;
                    found.extend(wrong(step, set, task, before));
                }
                if task.released + task.skipped != task.next {
                    found.push(format!(
                        "{}.{}: not all of {} releases are told",
                        set.name, task.name, task.next
                    ));
                }
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

fn wrong(step: &Step, set: &PeriodicSet, task: &PeriodicTask, before: Before) -> Option<String> {
    let name = format!("{}.{}", set.name, task.name);
    let job = task.last.and_then(|id| step.state.job(id));
    let Some(job) = job else { return Some(format!("{name}: its release is no job")) };
    let number = job.submitted.elapsed.since(set.began.elapsed).as_micros() as u64 / micros(task.period);
    let overlaps = before.last.and_then(|id| step.state.job(id)).is_some_and(|job| !job.is_finished());
    let is_once = task.released == before.released + 1 && number >= before.next && task.next == number + 1;
    (!is_once || overlaps).then(|| {
        let (id, next) = (job.id, before.next);
        format!("{name}: {id} is release {number}, {next} was next, {:?} of before: {overlaps}", before.last)
    })
}
