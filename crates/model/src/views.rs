//! What reads return: plain pictures of the state, the same for API, CLI and pages.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::policy::{Adaptation, Order};
use crate::{
    Actor, Capacity, JobId, Kind, LogIndex, NodeId, Outcome, QueuePolicy, Resources, SessionId, TaskId, Term,
    Timestamp,
};

/// Where a task is in its round. The last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Waits for other tasks or jobs.
    Blocked,
    /// Waits for a time: a delayed start or a retry's backoff.
    Delayed,
    /// Waits for a worker.
    Ready,
    /// Given to a worker that has not yet said that it started.
    Placed,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    /// Never run, because something it waited for did not succeed.
    Skipped,
}

impl TaskState {
    pub const ALL: [TaskState; 9] = [
        TaskState::Blocked,
        TaskState::Delayed,
        TaskState::Ready,
        TaskState::Placed,
        TaskState::Running,
        TaskState::Succeeded,
        TaskState::Failed,
        TaskState::Cancelled,
        TaskState::Skipped,
    ];

    pub fn is_final(self) -> bool {
        matches!(self, TaskState::Succeeded | TaskState::Failed | TaskState::Cancelled | TaskState::Skipped)
    }

    pub fn name(self) -> &'static str {
        match self {
            TaskState::Blocked => "blocked",
            TaskState::Delayed => "delayed",
            TaskState::Ready => "ready",
            TaskState::Placed => "placed",
            TaskState::Running => "running",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
            TaskState::Cancelled => "cancelled",
            TaskState::Skipped => "skipped",
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a job is. The last three are final until a retry opens the next round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Nothing of it has been placed yet.
    Waiting,
    Running,
    /// Unfinished, and nothing more of it is placed until it is resumed.
    Paused,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    pub fn is_final(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }

    pub fn name(self) -> &'static str {
        match self {
            JobState::Waiting => "waiting",
            JobState::Running => "running",
            JobState::Paused => "paused",
            JobState::Succeeded => "succeeded",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Tasks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    pub blocked: u64,
    pub delayed: u64,
    pub ready: u64,
    /// Placed or running.
    pub running: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub skipped: u64,
}

impl Counts {
    pub fn total(&self) -> u64 {
        self.unfinished() + self.finished()
    }

    pub fn unfinished(&self) -> u64 {
        self.blocked + self.delayed + self.ready + self.running
    }

    pub fn finished(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.skipped
    }

    pub fn add(&mut self, other: &Counts) {
        self.blocked += other.blocked;
        self.delayed += other.delayed;
        self.ready += other.ready;
        self.running += other.running;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.skipped += other.skipped;
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobView {
    pub id: JobId,
    pub name: String,
    pub state: JobState,
    pub queue: String,
    pub priority: i32,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub actor: Actor,
    pub submitted: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Timestamp>,
    pub counts: Counts,
    pub groups: Vec<GroupView>,
    /// Earlier jobs that all of it waits for, or waited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<JobId>,
}

/// One entry of a job's `tasks`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    pub name: String,
    /// Number of its first task.
    pub first: u32,
    pub len: u32,
    pub is_array: bool,
    pub counts: Counts,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// A job with what its tasks ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedJob {
    pub job: JobView,
    /// Nothing of it was to start before, by its delay or its time of start.
    pub not_before: Option<Timestamp>,
    /// Of each of its groups.
    pub asked: Vec<Asked>,
}

/// What the tasks of a group ask for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    pub resources: Resources,
    pub gang: bool,
    /// How long an attempt will take, as far as is known now, and from where.
    pub estimate: Option<(Duration, EstimateFrom)>,
    /// From the submit of the job.
    pub deadline: Option<Duration>,
    /// Of what the group waits for those that its members wait for one by one.
    pub after_each: Vec<String>,
}

/// Where an estimate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EstimateFrom {
    /// The task says it.
    Given,
    /// Earlier runs of the same names took so long.
    Learnt,
    /// It takes no longer, for it is ended then.
    Timeout,
}

impl EstimateFrom {
    pub const ALL: [EstimateFrom; 3] = [EstimateFrom::Given, EstimateFrom::Learnt, EstimateFrom::Timeout];

    pub fn name(self) -> &'static str {
        match self {
            EstimateFrom::Given => "given",
            EstimateFrom::Learnt => "learnt",
            EstimateFrom::Timeout => "timeout",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    pub id: TaskId,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub array_index: Option<u32>,
    pub state: TaskState,
    /// Attempts so far, through all rounds.
    pub attempt: u32,
    /// From 1.
    pub round: u32,
    /// Where it runs now or ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Outcome>,
    /// Why it was skipped or waits, in words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    Live,
    /// Live, takes no new work.
    Cordoned,
    /// Live, takes no new work and leaves when it is idle.
    Draining,
    /// It has no session.
    Gone,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerState::Live => "live",
            WorkerState::Cordoned => "cordoned",
            WorkerState::Draining => "draining",
            WorkerState::Gone => "gone",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerView {
    pub name: String,
    pub state: WorkerState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    pub capacity: Capacity,
    pub used: Resources,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub functions: Vec<String>,
    /// Attempts on it now.
    pub attempts: u64,
    /// How it holds tasks to their limits: `cgroup v2`, `rlimits`.
    #[serde(default)]
    pub isolation: String,
}

/// Capacity that only one queue may use for a time, or nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookingView {
    pub name: String,
    /// Whose tasks may use it. `None`: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    pub from: Timestamp,
    pub to: Timestamp,
    /// By the cluster's clock.
    pub has_begun: bool,
    pub parts: Vec<BookingPartView>,
}

/// What is booked of one worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BookingPartView {
    pub worker: String,
    pub resources: Resources,
    /// What the queue uses there now.
    pub used: Resources,
    /// It is live, and has what is booked beside what others use now.
    pub is_free: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    pub name: String,
    pub weight: u32,
    pub paused: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    pub counts: Counts,
    pub unfinished_jobs: u64,
    /// Decayed dominant-resource-seconds.
    pub usage: f64,
    #[serde(default)]
    pub policy: QueuePolicy,
    /// The cluster sets order and backfill by itself, by what would have served its history better.
    #[serde(default)]
    pub auto: bool,
    /// The last time that it did, unless the policy was set by hand since; and how often it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted: Option<Adaptation>,
    #[serde(default)]
    pub adaptations: u64,
    /// How long its oldest ready task has waited.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::time::optional_duration")]
    pub oldest_wait: Option<Duration>,
    /// Tasks that were stopped for others of a higher priority.
    #[serde(default)]
    pub preempted: u64,
    /// Time slices that ended because others waited.
    #[serde(default)]
    pub suspensions: u64,
    /// Running tasks that stand still now.
    #[serde(default)]
    pub suspended: u64,
    /// Tasks with a deadline that succeeded or failed within it, and after it.
    #[serde(default)]
    pub deadlines_met: u64,
    #[serde(default)]
    pub deadlines_missed: u64,
    /// Those who share it, where its order is `fair` or was; by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserView>,
}

/// Periodic tasks that were admitted together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodicView {
    pub name: String,
    /// `rms`, `dms`, `edf`.
    pub order: Order,
    /// Tasks that run at a time; each task has a slot of its own.
    pub slots: u32,
    /// A task stands still while one that comes before it, on its slot, runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemptive: bool,
    /// The tests that it passed, in words.
    pub admitted: Vec<String>,
    /// When all of its tasks were released first.
    pub since: Timestamp,
    pub tasks: Vec<PeriodicTaskView>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeriodicTaskView {
    pub name: String,
    /// C, T and D.
    #[serde(with = "crate::time::duration")]
    pub run_time: Duration,
    #[serde(with = "crate::time::duration")]
    pub period: Duration,
    #[serde(with = "crate::time::duration")]
    pub deadline: Duration,
    /// Of which it is a job at each release.
    pub queue: String,
    pub released: u64,
    /// Releases without a job: nobody led at the time, the job before had not ended, or a limit was reached.
    pub skipped: u64,
    /// Jobs that ended within their deadline, and after it.
    pub met: u64,
    pub missed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<JobId>,
    /// Of its next release, by the cluster's clock.
    pub next: Timestamp,
}

/// A user of a queue that its users share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserView {
    /// `(others)`: those who came when there were too many to be told apart.
    pub name: String,
    /// Relative to other users, 1 to 10,000.
    pub weight: u32,
    /// Jobs in the hot state.
    pub jobs: u64,
    /// Dominant share of the cluster now, 0 to 1.
    pub share: f64,
    /// Its mean over the time before, of which what lies one half-life back counts half; 0 to 1.
    pub past_share: f64,
}

/// Why a task does not run: every reason, most telling first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub task: TaskId,
    pub name: String,
    pub state: TaskState,
    /// One sentence.
    pub summary: String,
    /// No worker that is known could take it, however idle: it waits for a change of the workers, or for ever.
    #[serde(default)]
    pub hopeless: bool,
    pub reasons: Vec<ReasonView>,
    /// When it will have started, if what runs takes no longer than expected; of tasks in a queue that backfills by estimates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_start: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReasonView {
    /// A stable word: `does_not_fit`, `queue_paused`.
    pub code: String,
    pub message: String,
    /// How many workers or tasks it holds for.
    pub count: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
    /// What would mend it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    pub id: NodeId,
    pub name: String,
    pub raft_address: String,
    pub api_address: String,
    /// `leader`, `follower`, `learner`, `unreachable`.
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<LogIndex>,
    /// The highest behaviour level that it knows; absent when it did not answer, or does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level_max: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterView {
    pub cluster: String,
    pub answered_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub term: Term,
    pub last_log: LogIndex,
    pub committed: LogIndex,
    pub applied: LogIndex,
    pub snapshot: LogIndex,
    pub level: u32,
    /// The highest that the replica that answered knows; 0: it does not say.
    pub level_max: u32,
    pub digest: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    pub members: Vec<MemberView>,
    pub workers_live: u64,
    pub workers_known: u64,
    pub unfinished_jobs: u64,
    pub counts: Counts,
    pub version: String,
}
