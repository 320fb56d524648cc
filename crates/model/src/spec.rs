//! What a client submits: a job and its tasks. Immutable once accepted.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::blob;
use crate::size::PARTS;
use crate::time::{format_duration, parse_duration};
use crate::{Blob, Constraint, JobId, Resources, Timestamp};

pub const QUEUE_DEFAULT: &str = "default";

/// A job: one run of one or more tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Groups jobs and is not unique. May be empty.
    #[serde(rename = "job", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(default = "queue_default", skip_serializing_if = "is_queue_default")]
    pub queue: String,
    /// Higher first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Wait so long after acceptance before any task is ready.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    pub delay: Option<Duration>,
    /// Wait until this wall time before any task is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_disconnect: OnDisconnect,
    #[serde(default, skip_serializing_if = "is_default")]
    pub placement: Placement,
    /// Earlier jobs that must have succeeded before any task of this one is ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
    pub tasks: Vec<TaskSpec>,
}

fn queue_default() -> String {
    QUEUE_DEFAULT.to_owned()
}

fn is_queue_default(queue: &str) -> bool {
    queue == QUEUE_DEFAULT
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct TaskSpec {
    pub name: String,
    pub work: Work,
    pub resources: Resources,
    /// Whether the cpu share is a ceiling too.
    pub cpu_limit_hard: bool,
    pub array: Option<ArrayRange>,
    /// One task per line of this text; each sees its line as `BATON_LINE`.
    pub each_line: Option<Box<Blob>>,
    /// All of them succeeded.
    pub after: Vec<Dependency>,
    /// The member with the same index succeeded.
    pub after_each: Vec<String>,
    pub env: BTreeMap<String, EnvValue>,
    pub files: Vec<FileSpec>,
    pub stdin: Option<Box<Blob>>,
    /// Absolute: used as it is. Absent: a fresh one per attempt.
    pub workdir: Option<String>,
    pub retry: Retry,
    /// Per attempt, from its start.
    pub timeout: Option<Duration>,
    pub constraints: Vec<Constraint>,
}

impl TaskSpec {
    pub fn new(name: &str, work: Work) -> TaskSpec {
        TaskSpec {
            name: name.to_owned(),
            work,
            resources: Resources { cpu: PARTS, ..Resources::default() },
            cpu_limit_hard: false,
            array: None,
            each_line: None,
            after: Vec::new(),
            after_each: Vec::new(),
            env: BTreeMap::new(),
            files: Vec::new(),
            stdin: None,
            workdir: None,
            retry: Retry::default(),
            timeout: None,
            constraints: Vec::new(),
        }
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

/// What a task does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// An argument list, run as it is.
    Run(Vec<String>),
    /// A body, run by its `#!` line or by `/bin/sh`.
    Script(String),
    Noop,
    Sleep(Duration),
    /// A function that a worker has registered by name.
    Function(Function),
    Container(Container),
    Wasm(Wasm),
    Service(Service),
}

impl Work {
    pub fn kind(&self) -> Kind {
        match self {
            Work::Run(_) | Work::Script(_) => Kind::Process,
            Work::Noop => Kind::Noop,
            Work::Sleep(_) => Kind::Sleep,
            Work::Function(_) => Kind::Function,
            Work::Container(_) => Kind::Container,
            Work::Wasm(_) => Kind::Wasm,
            Work::Service(_) => Kind::Service,
        }
    }

    /// The one of them that only workers with that function can run.
    pub fn function(&self) -> Option<&str> {
        match self {
            Work::Function(function) => Some(&function.name),
            _ => None,
        }
    }
}

/// The kinds of work; a worker says which it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Process,
    Noop,
    Sleep,
    Container,
    Function,
    Wasm,
    Service,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Process => "process",
            Kind::Noop => "noop",
            Kind::Sleep => "sleep",
            Kind::Container => "container",
            Kind::Function => "function",
            Kind::Wasm => "wasm",
            Kind::Service => "service",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<Blob>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub image: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wasm {
    pub module: Box<Blob>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// A process that is meant to stay up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub run: Vec<String>,
}

/// The indexes of an array, written `0-99` or `0-99:5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ArrayRange {
    pub first: u32,
    pub last: u32,
    pub step: u32,
}

impl ArrayRange {
    pub fn len(self) -> u32 {
        // 0-4294967295 has one more than a u32 holds; limits refuse it long before that matters.
        ((self.last - self.first) / self.step).saturating_add(1)
    }

    pub fn is_empty(self) -> bool {
        false
    }

    pub fn index(self, position: u32) -> u32 {
        self.first + position * self.step
    }

    /// The position of an index, if the array has it.
    pub fn position(self, index: u32) -> Option<u32> {
        let inside =
            self.first <= index && index <= self.last && (index - self.first).is_multiple_of(self.step);
        inside.then(|| (index - self.first) / self.step)
    }
}

impl fmt::Display for ArrayRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)?;
        if self.step == 1 { Ok(()) } else { write!(f, ":{}", self.step) }
    }
}

impl FromStr for ArrayRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (range, step) = text.split_once(':').unwrap_or((text, "1"));
            let (first, last) = range.split_once('-')?;
            let range =
                ArrayRange { first: first.parse().ok()?, last: last.parse().ok()?, step: step.parse().ok()? };
            (range.first <= range.last && range.step > 0).then_some(range)
        };
        parse().ok_or_else(|| format!("`{text}` is not an array range such as 0-99 or 0-99:5"))
    }
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

/// A file laid into the working directory before the attempt starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FileForm", into = "FileForm")]
pub struct FileSpec {
    /// Relative, without `..`.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
    pub content: Blob,
}

pub const FILE_MODE_DEFAULT: u32 = 0o644;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    // The client replaces `from` by the bytes; a server that meets it refuses it with this hint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "ref")]
    reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
}

impl TryFrom<FileForm> for FileSpec {
    type Error = String;
    fn try_from(form: FileForm) -> Result<FileSpec, String> {
        if form.from.is_some() {
            return Err("`from` is read by the client: submit the file with `baton submit`".to_owned());
        }
        let mode = match form.mode {
            None => FILE_MODE_DEFAULT,
            Some(text) => u32::from_str_radix(&text, 8)
                .ok()
                .filter(|mode| *mode <= 0o777)
                .ok_or_else(|| format!("mode `{text}` is not three octal digits such as \"755\""))?,
        };
        let content = Blob::try_from(blob::Form {
            text: form.text,
            base64: form.base64,
            url: form.url,
            reference: form.reference,
            sha256: form.sha256,
            size: form.size,
        })?;
        Ok(FileSpec { to: form.to, mode, content })
    }
}

impl From<FileSpec> for FileForm {
    fn from(file: FileSpec) -> FileForm {
        let content = blob::Form::from(file.content);
        FileForm {
            to: file.to,
            mode: (file.mode != FILE_MODE_DEFAULT).then(|| format!("{:o}", file.mode)),
            from: None,
            text: content.text,
            base64: content.base64,
            url: content.url,
            reference: content.reference,
            sha256: content.sha256,
            size: content.size,
        }
    }
}

/// When to try again. Lost workers do not count against `max`; they have a budget of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Retries after the first attempt, for the task's own failures.
    #[serde(default)]
    pub max: u32,
    #[serde(default)]
    pub backoff: Backoff,
    /// Retries after a lost worker.
    #[serde(default = "lost_max_default")]
    pub lost_max: u32,
}

pub const LOST_MAX_DEFAULT: u32 = 5;

fn lost_max_default() -> u32 {
    LOST_MAX_DEFAULT
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { max: 0, backoff: Backoff::default(), lost_max: LOST_MAX_DEFAULT }
    }
}

/// The wait before a retry: the first, then doubled each time up to the cap. Written `1s..1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure (from 1), before jitter.
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(32);
        self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap)
    }
}

impl FromStr for Backoff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, cap) = text.split_once("..").unwrap_or((text, text));
        let backoff = Backoff { first: parse_duration(first)?, cap: parse_duration(cap)? };
        if backoff.first > backoff.cap {
            return Err(format!("`{text}`: the first wait is longer than the cap"));
        }
        Ok(backoff)
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format!("{}..{}", format_duration(self.first), format_duration(self.cap)))
    }
}

macro_rules! read_from_text {
    ($name:ty) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
read_from_text!(Backoff);
read_from_text!(ArrayRange);

impl Serialize for ArrayRange {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CpuLimit {
    Soft,
    Hard,
}

/// The written form of a task: flat, with exactly one kind of work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    script: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    noop: bool,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    sleep: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    function: Option<Function>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<Container>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wasm: Option<Wasm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Resources>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cpu_limit: Option<CpuLimit>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    array: Option<ArrayRange>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each_line: Option<Box<Blob>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after: Vec<Dependency>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    after_each: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, EnvValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<Box<Blob>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workdir: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    retry: Retry,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    constraints: Vec<Constraint>,
}

impl Form {
    fn take_work(&mut self) -> Result<Work, String> {
        let mut given: Vec<Work> = [
            self.run.take().map(Work::Run),
            self.script.take().map(Work::Script),
            std::mem::take(&mut self.noop).then_some(Work::Noop),
            self.sleep.take().map(Work::Sleep),
            self.function.take().map(Work::Function),
            self.container.take().map(Work::Container),
            self.wasm.take().map(Work::Wasm),
            self.service.take().map(Work::Service),
        ]
        .into_iter()
        .flatten()
        .collect();
        match (given.pop(), given.is_empty()) {
            (Some(work), true) => Ok(work),
            _ => Err(format!(
                "task `{}`: give exactly one of run, script, noop, sleep, function, container, wasm, service",
                self.name
            )),
        }
    }

    fn put_work(&mut self, work: Work) {
        match work {
            Work::Run(argv) => self.run = Some(argv),
            Work::Script(body) => self.script = Some(body),
            Work::Noop => self.noop = true,
            Work::Sleep(duration) => self.sleep = Some(duration),
            Work::Function(function) => self.function = Some(function),
            Work::Container(container) => self.container = Some(container),
            Work::Wasm(wasm) => self.wasm = Some(wasm),
            Work::Service(service) => self.service = Some(service),
        }
    }
}

impl TryFrom<Form> for TaskSpec {
    type Error = String;
    fn try_from(mut form: Form) -> Result<TaskSpec, String> {
        let work = form.take_work()?;
        let mut resources = form.resources.unwrap_or_default();
        if resources.cpu == 0 {
            resources.cpu = PARTS;
        }
        Ok(TaskSpec {
            name: form.name,
            work,
            resources,
            cpu_limit_hard: form.cpu_limit == Some(CpuLimit::Hard),
            array: form.array,
            each_line: form.each_line,
            after: form.after,
            after_each: form.after_each,
            env: form.env,
            files: form.files,
            stdin: form.stdin,
            workdir: form.workdir,
            retry: form.retry,
            timeout: form.timeout,
            constraints: form.constraints,
        })
    }
}

impl From<TaskSpec> for Form {
    fn from(task: TaskSpec) -> Form {
        let mut form = Form {
            name: task.name,
            resources: (task.resources != Resources::cores(1)).then_some(task.resources),
            cpu_limit: task.cpu_limit_hard.then_some(CpuLimit::Hard),
            array: task.array,
            each_line: task.each_line,
            after: task.after,
            after_each: task.after_each,
            env: task.env,
            files: task.files,
            stdin: task.stdin,
            workdir: task.workdir,
            retry: task.retry,
            timeout: task.timeout,
            constraints: task.constraints,
            ..Form::default()
        };
        form.put_work(task.work);
        form
    }
}

impl JobSpec {
    /// A job with these tasks and defaults in everything else.
    pub fn of(name: &str, tasks: Vec<TaskSpec>) -> JobSpec {
        JobSpec {
            name: name.to_owned(),
            queue: queue_default(),
            priority: 0,
            labels: BTreeMap::new(),
            delay: None,
            start_at: None,
            on_disconnect: OnDisconnect::default(),
            placement: Placement::default(),
            after: Vec::new(),
            tasks,
        }
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
         "retry":{"max":3,"backoff":"1s..1m","lost_max":5},"timeout":"10m","constraints":["zone=eu"]},
        {"name":"shard","script":"exit 0","array":"0-99:5","after":["fetch","j7"]},
        {"name":"post","sleep":"5s","after_each":["shard"]},{"name":"n","noop":true}]}"#;

    #[test]
    fn export_then_read_changes_nothing_in_any_form() {
        let spec: JobSpec = serde_json::from_str(JOB).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), spec);
        let binary = rmp_serde::to_vec_named(&spec).unwrap();
        assert_eq!(rmp_serde::from_slice::<JobSpec>(&binary).unwrap(), spec);
        assert_eq!(spec.tasks[1].count(), 20);
        assert_eq!(spec.tasks[1].array_index(19), Some(95));
        assert_eq!(spec.tasks[1].after[1], Dependency::Job(JobId(7)));
    }

    #[test]
    fn a_string_is_not_an_argument_list() {
        let error = serde_json::from_str::<TaskSpec>(r#"{"name":"a","run":"echo hi"}"#).unwrap_err();
        assert!(error.to_string().contains("expected a sequence"), "{error}");
        let error = serde_json::from_str::<TaskSpec>(r#"{"name":"a","noop":true,"run":["x"]}"#).unwrap_err();
        assert!(error.to_string().contains("exactly one"), "{error}");
    }

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let backoff: Backoff = "1s..10s".parse().unwrap();
        let waits: Vec<u64> = (1..=6).map(|n| backoff.after(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.after(u32::MAX).as_secs(), 10);
    }

    #[test]
    fn lines_are_counted_as_people_count_them() {
        let count = |text: &str| lines(text.as_bytes()).count();
        assert_eq!((count(""), count("a"), count("a\n"), count("a\n\nb\r\n")), (0, 1, 1, 3));
    }
}
