//! Jobs with what their tasks ask for.

use std::time::Duration;

use model::Timestamp;
use model::views::{Asked, AskedJob, EstimateFrom, JobView};

use super::{Errors, Malformed, duration_us, word};
use crate::v1;

impl From<&AskedJob> for v1::Job {
    fn from(asked: &AskedJob) -> v1::Job {
        v1::Job {
            asked: asked.asked.iter().map(v1::Asked::from).collect(),
            not_before_unix_us: asked.not_before.map(|at| at.0),
            ..v1::Job::from(&asked.job)
        }
    }
}

impl TryFrom<v1::Job> for AskedJob {
    type Error = Malformed;
    fn try_from(mut job: v1::Job) -> Result<AskedJob, Malformed> {
        let mut errors = Errors::default();
        let listed = std::mem::take(&mut job.asked);
        let not_before = job.not_before_unix_us.map(Timestamp);
        let view = JobView::try_from(job)?;
        if listed.len() != view.groups.len() {
            // A replica of an older version passes over what it does not know.
            let (asked, groups) = (listed.len(), view.groups.len());
            errors.refuse("asked", format!("tells of {asked} of {groups} groups: is the replica older?"));
        }
        let read = |(place, one)| asked(&mut errors, &format!("asked[{place}]"), one);
        let asked = listed.into_iter().enumerate().map(read).collect();
        errors.finish(AskedJob { job: view, not_before, asked })
    }
}

impl From<&Asked> for v1::Asked {
    fn from(asked: &Asked) -> v1::Asked {
        v1::Asked {
            resources: Some((&asked.resources).into()),
            gang: asked.gang,
            estimate_us: duration_us(asked.estimate.map(|(time, _)| time)),
            estimate_from: asked.estimate.map_or("", |(_, from)| from.name()).to_owned(),
            deadline_us: duration_us(asked.deadline),
            after_each: asked.after_each.clone(),
        }
    }
}

fn asked(errors: &mut Errors, path: &str, asked: v1::Asked) -> Asked {
    let from = |errors: &mut Errors| {
        let read = word::read(&asked.estimate_from, "source of estimates");
        errors.take(format_args!("{path}.estimate_from"), read, EstimateFrom::Given)
    };
    Asked {
        resources: asked.resources.unwrap_or_default().into(),
        gang: asked.gang,
        estimate: asked.estimate_us.map(|us| (Duration::from_micros(us), from(errors))),
        deadline: asked.deadline_us.map(Duration::from_micros),
        after_each: asked.after_each,
    }
}
