//! A task is not tried more often in a round than its two budgets allow.

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct RetriesBounded {
    looked: u64,
}

impl Invariant for RetriesBounded {
    fn name(&self) -> &'static str {
        "retries are bounded"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for job in step.jobs().into_iter().filter_map(|id| step.state.job(id)) {
            for (place, group) in job.groups.iter().enumerate() {
                let retry = &job.task_spec(place).retry;
                for (position, row) in &group.rows {
                    self.looked += 1;
                    if row.failures > retry.max + 1 || row.lost > retry.lost_max + 1 {
                        let (failures, lost, number) = (row.failures, row.lost, group.first + position);
                        found.push(format!(
                            "{}.{number} failed {failures} times and was lost {lost} times",
                            job.id
                        ));
                    }
                }
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
