//! What the tasks of a job ask for, as far as the state knows it now.

use machine::{Job, State};
use model::views::{Asked, AskedJob, EstimateFrom, JobView};
use model::{JobId, Timestamp};
use wire::v1;

/// A job of a list.
pub enum Listed {
    Plain(JobView),
    Asked(AskedJob),
}

impl From<&Listed> for v1::Job {
    fn from(listed: &Listed) -> v1::Job {
        match listed {
            Listed::Plain(job) => job.into(),
            Listed::Asked(job) => job.into(),
        }
    }
}

/// The job as it was found, with what its tasks ask for if that is wanted.
pub fn listed(state: &State, job: JobView, with_asked: bool) -> Listed {
    if !with_asked {
        return Listed::Plain(job);
    }
    let (not_before, asked) = of_job(state, job.id);
    Listed::Asked(AskedJob { job, not_before, asked })
}

fn of_job(state: &State, id: JobId) -> (Option<Timestamp>, Vec<Asked>) {
    let Some(job) = state.job(id) else { return (None, Vec::new()) };
    let delayed = job.spec.delay.map(|delay| job.submitted.wall.plus(delay));
    let asked = (0..job.groups.len()).map(|place| of_group(state, job, place)).collect();
    (job.spec.start_at.or(delayed), asked)
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
