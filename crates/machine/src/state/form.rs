//! How jobs and their groups are written: flat, and without what is empty. A snapshot of a million waiting jobs would
//! else be mostly the names of what they lack.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::views::{Counts, JobState};
use model::{Actor, ClassId, Elapsed, JobId, JobSpec, Lean, RunSet};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Stamp;
use crate::state::jobs::{Cause, Dependent, Group, Hold, Job, Live, On, OutcomeRun, TaskRow};
use crate::state::queues::QueueId;
use crate::state::rare::{GroupRare, JobRare};
use crate::state::users::UserId;

#[derive(Serialize, Deserialize)]
#[serde(remote = "Job", rename = "Job")]
struct JobForm {
    id: JobId,
    spec: Arc<JobSpec>,
    actor: Arc<Actor>,
    submitted: Stamp,
    queue: QueueId,
    #[serde(default, skip_serializing_if = "is_default")]
    user: UserId,
    #[serde(default, skip_serializing_if = "is_default")]
    priority: i32,
    #[serde(default, skip_serializing_if = "is_default")]
    paused: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    cancelled: bool,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    cancelling: RunSet,
    #[serde(default, skip_serializing_if = "is_default")]
    cancels: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    reopening: u32,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    after: Lean<Vec<JobId>>,
    #[serde(default, skip_serializing_if = "is_default")]
    waiting: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    hold: Hold,
    #[serde(default, skip_serializing_if = "is_default")]
    open: bool,
    groups: Box<[Group]>,
    #[serde(default, skip_serializing_if = "is_default")]
    settled: u32,
    #[serde(getter = "Job::counts", default, serialize_with = "without_zeros")]
    counts: Counts,
    state: JobState,
    #[serde(default, skip_serializing_if = "is_default")]
    finished: Option<Stamp>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    dependents: Lean<Vec<Dependent>>,
    #[serde(default, skip_serializing_if = "is_default")]
    results_bytes: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Group", rename = "Group")]
struct GroupForm {
    #[serde(default, skip_serializing_if = "is_default")]
    first: u32,
    // A getter, so that a group is made by way of this form: not all fields are its own.
    #[serde(getter = "length")]
    len: u32,
    class: ClassId,
    #[serde(default, skip_serializing_if = "is_default")]
    gang: bool,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    after: Lean<Vec<On>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    each: Lean<Vec<u32>>,
    #[serde(default, skip_serializing_if = "is_default")]
    waiting: u32,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    dependents: Lean<Vec<u32>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    each_dependents: Lean<Vec<u32>>,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    blocked: RunSet,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    ready: RunSet,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    delayed: Lean<BTreeMap<u32, Elapsed>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    live: Lean<BTreeMap<u32, Live>>,
    #[serde(default, skip_serializing_if = "is_default")]
    live_len: u32,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    stopping: Lean<RunSet>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    arrived: Lean<RunSet>,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    succeeded: RunSet,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    failed: RunSet,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    cancelled: RunSet,
    #[serde(default, skip_serializing_if = "RunSet::is_empty")]
    skipped: RunSet,
    #[serde(default, skip_serializing_if = "is_default")]
    rank: i64,
    ready_since: Elapsed,
    passed_since: Elapsed,
    #[serde(default, skip_serializing_if = "is_default")]
    settled: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    cause: Option<Box<Cause>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    later: Lean<Vec<RunSet>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    began: Lean<RunSet>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    rows: Lean<BTreeMap<u32, TaskRow>>,
    #[serde(default, skip_serializing_if = "Lean::is_empty")]
    outcomes: Lean<BTreeMap<u32, OutcomeRun>>,
    #[serde(default, skip_serializing_if = "is_default")]
    earlier_len: u32,
}

fn length(group: &Group) -> u32 {
    group.len
}

fn without_zeros<S: Serializer>(counts: &Counts, s: S) -> Result<S::Ok, S::Error> {
    let Counts { blocked, delayed, ready, running, succeeded, failed, cancelled, skipped } = *counts;
    let all = [
        ("blocked", blocked),
        ("delayed", delayed),
        ("ready", ready),
        ("running", running),
        ("succeeded", succeeded),
        ("failed", failed),
        ("cancelled", cancelled),
        ("skipped", skipped),
    ];
    let some = || all.iter().filter(|(_, count)| *count > 0);
    let mut map = s.serialize_map(Some(some().count()))?;
    some().try_for_each(|(name, count)| map.serialize_entry(name, count))?;
    map.end()
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<JobForm> for Job {
    fn from(form: JobForm) -> Job {
        let rare = JobRare {
            cancelling: form.cancelling,
            cancels: form.cancels,
            reopening: form.reopening,
            after: form.after,
            waiting: form.waiting,
            hold: form.hold,
            dependents: form.dependents,
            results_bytes: form.results_bytes,
        };
        Job {
            id: form.id,
            spec: form.spec,
            actor: form.actor,
            submitted: form.submitted,
            queue: form.queue,
            user: form.user,
            priority: form.priority,
            paused: form.paused,
            cancelled: form.cancelled,
            open: form.open,
            state: form.state,
            groups: form.groups,
            settled: form.settled,
            counts: form.counts.into(),
            finished: form.finished,
            rare: rare.into(),
        }
    }
}

impl From<GroupForm> for Group {
    fn from(form: GroupForm) -> Group {
        let rare = GroupRare {
            after: form.after,
            each: form.each,
            dependents: form.dependents,
            each_dependents: form.each_dependents,
            delayed: form.delayed,
            stopping: form.stopping,
            arrived: form.arrived,
            failed: form.failed,
            cancelled: form.cancelled,
            skipped: form.skipped,
            cause: form.cause,
            later: form.later,
            began: form.began,
            rows: form.rows,
            earlier_len: form.earlier_len,
        };
        Group {
            first: form.first,
            len: form.len,
            class: form.class,
            gang: form.gang,
            settled: form.settled,
            waiting: form.waiting,
            live_len: form.live_len,
            blocked: form.blocked,
            ready: form.ready,
            live: form.live,
            succeeded: form.succeeded,
            rank: form.rank,
            ready_since: form.ready_since,
            passed_since: form.passed_since,
            outcomes: form.outcomes,
            rare: rare.into(),
        }
    }
}

impl Serialize for Job {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        JobForm::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for Job {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Job, D::Error> {
        JobForm::deserialize(d)
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        GroupForm::serialize(self, s)
    }
}

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Group, D::Error> {
        GroupForm::deserialize(d)
    }
}
