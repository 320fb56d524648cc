//! What a client submits: a job and its tasks. Immutable once accepted.

/// Read as a text that is parsed.
macro_rules! read_from_text {
    ($name:ty) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

mod array;
mod file;
mod form;
mod job_form;
mod retry;
mod timing;
mod work;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use array::ArrayRange;
pub use file::{FILE_MODE_DEFAULT, FileSpec};
use form::{Form, Written};
use job_form::{JobForm, JobWritten};
pub use retry::{Backoff, LOST_MAX_DEFAULT, Retry};
pub use timing::Timing;
pub use work::{Container, Function, Kind, Service, Wasm, Work};

use crate::size::PARTS;
use crate::{Blob, Constraint, JobId, Lean, Resources, Timestamp};

pub const QUEUE_DEFAULT: &str = "default";

/// A job: one run of one or more tasks.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "JobForm")]
pub struct JobSpec {
    /// Groups jobs and is not unique. May be empty.
    pub name: String,
    pub tasks: Vec<TaskSpec>,
    template: Arc<JobTemplate>,
}

/// What jobs that are submitted one after the other mostly have in common. A spec is read and changed as if it had these
/// itself.
#[derive(Clone, Debug, PartialEq)]
pub struct JobTemplate {
    pub queue: String,
    /// Higher first.
    pub priority: i32,
    pub labels: Lean<BTreeMap<String, String>>,
    /// Wait so long after acceptance before any task is ready.
    pub delay: Option<Duration>,
    /// Wait until this wall time before any task is ready.
    pub start_at: Option<Timestamp>,
    pub on_disconnect: OnDisconnect,
    pub placement: Placement,
    /// Earlier jobs that must have succeeded before any task of this one is ready.
    pub after: Lean<Vec<JobId>>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a running attempt does when its worker has lost the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// Killed when the lease ends, so that no second one can run beside it.
    #[default]
    Stop,
    /// Runs on without a lease, fenced by its token.
    Keep,
}

/// Which of the workers that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The fullest, so that large tasks find room (best fit).
    #[default]
    Pack,
    /// The emptiest.
    Spread,
}

/// One entry of a job's `tasks`: one task, or an array of them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Form")]
pub struct TaskSpec {
    pub name: String,
    pub work: Work,
    template: Arc<TaskTemplate>,
}

/// What tasks mostly have in common but for their work. A spec is read and changed as if it had these itself.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskTemplate {
    /// With its anti-affinities.
    pub resources: Resources,
    /// What would do as well in their place, in this order.
    pub alternatives: Lean<Vec<Resources>>,
    /// Whether the cpu share is a ceiling too.
    pub cpu_limit_hard: bool,
    pub array: Option<ArrayRange>,
    /// The members of `array`, from 0 on by ones, start together or not at all, and succeed together.
    pub gang: bool,
    /// One task per line of this text; each sees its line as `BATON_LINE`.
    pub each_line: Option<Box<Blob>>,
    /// All of them succeeded.
    pub after: Lean<Vec<Dependency>>,
    /// The member with the same index succeeded.
    pub after_each: Lean<Vec<String>>,
    pub env: Lean<BTreeMap<String, EnvValue>>,
    pub files: Lean<Vec<FileSpec>>,
    pub stdin: Option<Box<Blob>>,
    /// Absolute: used as it is. Absent: a fresh one per attempt.
    pub workdir: Lean<String>,
    pub retry: Retry,
    /// Per attempt, from its start.
    pub timeout: Option<Duration>,
    /// Nothing, for most.
    pub timing: Option<Box<Timing>>,
    pub constraints: Lean<Vec<Constraint>>,
}

impl Default for TaskTemplate {
    fn default() -> TaskTemplate {
        TaskTemplate {
            resources: Resources { cpu: PARTS, ..Resources::default() },
            alternatives: Lean::default(),
            cpu_limit_hard: false,
            array: None,
            gang: false,
            each_line: None,
            after: Lean::default(),
            after_each: Lean::default(),
            env: Lean::default(),
            files: Lean::default(),
            stdin: None,
            workdir: Lean::default(),
            retry: Retry::default(),
            timeout: None,
            timing: None,
            constraints: Lean::default(),
        }
    }
}

impl Default for JobTemplate {
    fn default() -> JobTemplate {
        JobTemplate {
            queue: QUEUE_DEFAULT.to_owned(),
            priority: 0,
            labels: Lean::default(),
            delay: None,
            start_at: None,
            on_disconnect: OnDisconnect::default(),
            placement: Placement::default(),
            after: Lean::default(),
        }
    }
}

macro_rules! has_a_template {
    ($spec:ty, $template:ty) => {
        impl Deref for $spec {
            type Target = $template;

            fn deref(&self) -> &$template {
                &self.template
            }
        }

        impl DerefMut for $spec {
            /// A copy of its own, where another spec has the same.
            fn deref_mut(&mut self) -> &mut $template {
                Arc::make_mut(&mut self.template)
            }
        }

        impl $spec {
            /// The same, changed.
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }
        }
    };
}

has_a_template!(JobSpec, JobTemplate);
has_a_template!(TaskSpec, TaskTemplate);

/// Keeps one where both are alike.
fn share<T: PartialEq>(mine: &mut Arc<T>, other: &Arc<T>) {
    if !Arc::ptr_eq(mine, other) && *mine == *other {
        *mine = other.clone();
    }
}

impl TaskSpec {
    pub fn new(name: &str, work: Work) -> TaskSpec {
        TaskSpec::from_template(name.to_owned(), work, TaskTemplate::default())
    }

    pub fn from_template(name: String, work: Work, template: TaskTemplate) -> TaskSpec {
        TaskSpec { name, work, template: Arc::new(template) }
    }

    pub fn timing(&self) -> Timing {
        self.timing.as_deref().copied().unwrap_or_default()
    }

    /// How many tasks this entry stands for.
    pub fn count(&self) -> u32 {
        let lines = self.each_line.as_ref().and_then(|blob| blob.inline_bytes()).map(|b| lines(b).count());
        match (self.array, lines) {
            (Some(array), _) => array.len(),
            (None, Some(lines)) => lines as u32,
            (None, None) => 1,
        }
    }

    /// Has it be a gang of so many members.
    pub fn set_gang(&mut self, members: u32) {
        self.array = Some(ArrayRange { first: 0, last: members.saturating_sub(1), step: 1 });
        self.gang = true;
    }

    /// How many members the gang has that it is; `None`: it is none.
    pub fn gang_size(&self) -> Option<u32> {
        self.gang.then(|| self.count())
    }

    pub fn is_array(&self) -> bool {
        self.array.is_some() || self.each_line.is_some()
    }

    /// `BATON_ARRAY_INDEX` of the member at `position`.
    pub fn array_index(&self, position: u32) -> Option<u32> {
        match self.array {
            Some(array) => Some(array.index(position)),
            None => self.each_line.is_some().then_some(position),
        }
    }
}

/// The lines of a text without their ends; a last line end makes no empty line.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let some = !bytes.is_empty();
    body.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(move |_| some)
}

/// What a task waits for: a task of its job by name, or an earlier job by id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dependency {
    Task(String),
    Job(JobId),
}

/// Whether a text would be read as a job id, and so cannot name a task.
pub fn is_job_id(text: &str) -> bool {
    text.starts_with('j') && text.parse::<JobId>().is_ok()
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dependency::Task(name) => f.write_str(name),
            Dependency::Job(job) => write!(f, "{job}"),
        }
    }
}

impl From<&str> for Dependency {
    fn from(text: &str) -> Dependency {
        match text.parse() {
            Ok(job) if is_job_id(text) => Dependency::Job(job),
            _ => Dependency::Task(text.to_owned()),
        }
    }
}

/// The value of an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    Plain(String),
    /// Read on the worker from its secrets directory; only the name is ever logged.
    Secret {
        secret: String,
    },
}

impl Serialize for JobSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        JobWritten::from(self).serialize(s)
    }
}

impl Serialize for TaskSpec {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        Written::from(self).serialize(s)
    }
}

impl Serialize for Dependency {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Dependency {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Dependency::from(String::deserialize(d)?.as_str()))
    }
}

impl JobSpec {
    /// A job with these tasks and defaults in everything else.
    pub fn of(name: &str, tasks: Vec<TaskSpec>) -> JobSpec {
        JobSpec::from_template(name.to_owned(), tasks, JobTemplate::default())
    }

    pub fn from_template(name: String, tasks: Vec<TaskSpec>, template: JobTemplate) -> JobSpec {
        JobSpec { name, tasks, template: Arc::new(template) }
    }

    /// Keeps once what is alike in this spec and another. It changes nothing that can be seen, but memory.
    pub fn share(&mut self, other: &JobSpec) {
        share(&mut self.template, &other.template);
        let pairs = self.tasks.iter_mut().zip(&other.tasks);
        pairs.for_each(|(task, other)| share(&mut task.template, &other.template));
    }

    /// How many tasks, arrays counted through.
    pub fn tasks_count(&self) -> u64 {
        self.tasks.iter().map(|task| u64::from(task.count())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = r#"{"job":"nightly","queue":"reports","priority":3,"after":["j4"],"tasks":[
        {"name":"fetch","run":["./fetch.sh","--day"],"resources":{"cpu":1.5,"memory":"512MiB","gpu":0.5},
         "files":[{"to":"fetch.sh","mode":"755","text":"exit 0\n"}],"env":{"A":"b","S":{"secret":"key"}},
         "retry":{"max":3,"backoff":"1s..1m","lost_max":5},"timeout":"10m","estimate":"2m","deadline":"1h","start_within":"90s","constraints":["zone=eu"],
         "anti_affinity":["db","web"],"alternatives":[{"cpu":1,"tpu":1}]},
        {"name":"shard","script":"exit 0","array":"0-99:5","after":["fetch","j7"]},
        {"name":"post","sleep":"5s","after_each":["shard"]},{"name":"n","noop":true},{"name":"g","noop":true,"gang":4}]}"#;

    #[test]
    fn export_then_read_changes_nothing_in_any_form() {
        let spec: JobSpec = serde_json::from_str(JOB).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), spec);
        let binary = rmp_serde::to_vec_named(&spec).unwrap();
        assert_eq!(rmp_serde::from_slice::<JobSpec>(&binary).unwrap(), spec);
        assert_eq!((spec.tasks[4].gang_size(), spec.tasks[1].gang_size()), (Some(4), None));
        assert_eq!(spec.tasks[0].timing().start_within, Some(Duration::from_secs(90)));
        assert_eq!(spec.tasks[1].count(), 20);
        assert_eq!(spec.tasks[1].array_index(19), Some(95));
        assert_eq!(spec.tasks[1].after[1], Dependency::Job(JobId(7)));
    }

    #[test]
    fn a_string_is_not_an_argument_list() {
        let error = serde_json::from_str::<TaskSpec>(r#"{"name":"a","run":"echo hi"}"#).unwrap_err();
        assert!(error.to_string().contains("expected a sequence"), "{error}");
        let error = serde_json::from_str::<TaskSpec>(r#"{"name":"a","noop":true,"workdir":""}"#).unwrap_err();
        assert!(error.to_string().contains("absolute, or absent"), "{error}");
        let error = serde_json::from_str::<TaskSpec>(r#"{"name":"a","noop":true,"run":["x"]}"#).unwrap_err();
        assert!(error.to_string().contains("exactly one"), "{error}");
    }

    #[test]
    fn lines_are_counted_as_people_count_them() {
        let count = |text: &str| lines(text.as_bytes()).count();
        assert_eq!((count(""), count("a"), count("a\n"), count("a\n\nb\r\n")), (0, 1, 1, 3));
    }
}
