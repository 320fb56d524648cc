//! What the tasks of a job ask for, as far as the state knows it now.

use model::views::{Asked, AskedJob, EstimateFrom, JobView};

use crate::state::State;
use crate::state::jobs::Job;

impl State {
    /// The job as it was found, with what its tasks ask for; that is nothing if the job is gone since.
    pub fn asked_of(&self, view: JobView) -> AskedJob {
        let Some(job) = self.job(view.id) else {
            return AskedJob { job: view, not_before: None, asked: Vec::new() };
        };
        let delayed = job.spec.delay.map(|delay| job.submitted.wall.plus(delay));
        let asked = (0..job.groups.len()).map(|place| of_group(self, job, place)).collect();
        AskedJob { job: view, not_before: job.spec.start_at.or(delayed), asked }
    }
}

fn of_group(state: &State, job: &Job, place: usize) -> Asked {
    let spec = job.task_spec(place);
    let timing = spec.timing();
    let from = match spec.timeout {
        _ if timing.estimate.is_some() => EstimateFrom::Given,
        // Where runs took just as long, it is the same to say so.
        timeout if timeout.is_some() && timeout == state.estimate_of(job, place) => EstimateFrom::Timeout,
        _ => EstimateFrom::Learnt,
    };
    Asked {
        resources: spec.resources.clone(),
        gang: spec.gang,
        estimate: state.estimate_of(job, place).map(|time| (time, from)),
        deadline: timing.deadline,
        after_each: spec.after_each.to_vec(),
    }
}
