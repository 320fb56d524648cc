//! Jobs of a list, with or without what their tasks ask for.

use machine::State;
use model::views::{AskedJob, JobView};
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
    if with_asked { Listed::Asked(state.asked_of(job)) } else { Listed::Plain(job) }
}
