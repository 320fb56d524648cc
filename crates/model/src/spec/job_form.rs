//! How a job is read and written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{JobSpec, JobTemplate, OnDisconnect, Placement, QUEUE_DEFAULT, TaskSpec, is_default};
use crate::{JobId, Lean, Timestamp};

/// A job as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JobForm {
    #[serde(rename = "job", default)]
    name: String,
    #[serde(default = "queue_default")]
    queue: String,
    #[serde(default)]
    priority: i32,
    #[serde(default)]
    labels: Lean<BTreeMap<String, String>>,
    #[serde(default, with = "crate::time::optional_duration")]
    delay: Option<Duration>,
    #[serde(default)]
    start_at: Option<Timestamp>,
    #[serde(default)]
    on_disconnect: OnDisconnect,
    #[serde(default)]
    placement: Placement,
    #[serde(default)]
    after: Lean<Vec<JobId>>,
    tasks: Vec<TaskSpec>,
}

fn queue_default() -> String {
    QUEUE_DEFAULT.to_owned()
}

impl From<JobForm> for JobSpec {
    fn from(form: JobForm) -> JobSpec {
        let JobForm {
            name,
            queue,
            priority,
            labels,
            delay,
            start_at,
            on_disconnect,
            placement,
            after,
            tasks,
        } = form;
        let template =
            JobTemplate { queue, priority, labels, delay, start_at, on_disconnect, placement, after };
        JobSpec::from_template(name, tasks, template)
    }
}

/// A job as it is written, in the same form.
#[derive(Serialize)]
pub(super) struct JobWritten<'a> {
    #[serde(rename = "job", skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "is_queue_default")]
    queue: &'a str,
    #[serde(skip_serializing_if = "is_default")]
    priority: i32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    delay: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    on_disconnect: OnDisconnect,
    #[serde(skip_serializing_if = "is_default")]
    placement: Placement,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    after: &'a [JobId],
    tasks: &'a [TaskSpec],
}

fn is_queue_default(queue: &str) -> bool {
    queue == QUEUE_DEFAULT
}

impl<'a> From<&'a JobSpec> for JobWritten<'a> {
    fn from(job: &'a JobSpec) -> JobWritten<'a> {
        JobWritten {
            name: &job.name,
            queue: &job.queue,
            priority: job.priority,
            labels: &job.labels,
            delay: job.delay,
            start_at: job.start_at,
            on_disconnect: job.on_disconnect,
            placement: job.placement,
            after: &job.after,
            tasks: &job.tasks,
        }
    }
}
