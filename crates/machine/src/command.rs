//! What may change the state: entries of commands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use model::policy::{Adaptation, Backfill, Mode, Order};
use model::{
    Actor, Blob, Capacity, Constraint, Dependency, Elapsed, JobId, JobSpec, Kind, NodeId, Pace, Reason,
    RequestId, Resources, Run, RunSet, Seq, SessionId, Settings, Timestamp, Token, Verdict,
};
use serde::{Deserialize, Serialize};

use crate::state::queues::{Promise, QueueId};

/// One entry of the log: a batch of commands under one stamp.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub stamp: Stamp,
    pub commands: Vec<Command>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands at {:?}", self.commands.len(), self.stamp.elapsed)
    }
}

/// The two times of an entry, written by the leader. Apply never lets either go back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    pub elapsed: Elapsed,
    pub wall: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// The first command of a cluster; a later one is rejected.
    Bootstrap(Bootstrap),
    /// What a client asked for.
    Write(Write),
    Place(Plan),
    OpenSession(OpenSession),
    EndSession {
        session: SessionId,
    },
    Report(ReportBatch),
    /// Fires what is due and goes on with chores.
    Tick,
    /// At most `count` releases of periodic tasks that are due, as jobs with ids from `first` on, which is above every one
    /// before.
    Release {
        first: JobId,
        count: u32,
    },
    /// Lets the wall clock leap forward to the entry's stamp.
    SetClock,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    pub cluster: String,
    pub settings: Settings,
    /// Grows at every restore, so that tokens never go back.
    pub epoch: u64,
    /// The first node id that no replica has had.
    pub next_node: NodeId,
    /// The behaviour version of the cluster; what was written before there was more than one says none.
    #[serde(default = "first_level")]
    pub level: u32,
}

fn first_level() -> u32 {
    1
}

/// A client's write. The same request id is answered alike; with another body it is a conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Write {
    pub request: RequestId,
    /// Hash of the validated operation.
    pub body_hash: u64,
    pub actor: Actor,
    pub op: Op,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// `job` is the proposer's choice: above every id before.
    Submit {
        job: JobId,
        spec: Arc<JobSpec>,
    },
    Cancel {
        targets: Vec<Target>,
    },
    Pause {
        jobs: Vec<JobId>,
    },
    Resume {
        jobs: Vec<JobId>,
    },
    /// Opens the next round of what failed, and unless `failed_only` of what was cancelled.
    Retry {
        targets: Vec<Target>,
        failed_only: bool,
    },
    SetJob {
        job: JobId,
        change: JobChange,
    },
    PutQueue(QueueSpec),
    PauseQueue {
        name: String,
    },
    ResumeQueue {
        name: String,
    },
    DeleteQueue {
        name: String,
    },
    /// The leader's own, for a queue that is `auto`: what would have served it better. Done only as long as the queue is as
    /// it was looked at. The time is that of the entry, and `home` is what the state knows.
    Adapt {
        queue: String,
        adaptation: Box<Adaptation>,
    },
    /// Sets the policy that was last set by hand, and the queue is `auto` no more.
    UndoAdapt {
        queue: String,
    },
    /// Raises the behaviour version of the cluster; every replica has to know it.
    Upgrade {
        level: u32,
    },
    Cordon {
        worker: String,
    },
    Uncordon {
        worker: String,
    },
    Drain {
        worker: String,
    },
    /// Forgets a worker that has no session.
    ForgetWorker {
        worker: String,
    },
    PutSettings(Box<Settings>),
    /// Changes one setting and leaves the others as they are then.
    PutSetting {
        /// As in `limits.queues_max`.
        path: String,
        value: String,
    },
    /// Makes the booking, or one of that name anew.
    PutBooking(BookingSpec),
    DeleteBooking {
        name: String,
    },
    /// Releases the tasks of the set from now on. One of that name is replaced.
    PutPeriodic(Box<PeriodicSpec>),
    /// No more releases; what was released goes on.
    DeletePeriodic {
        name: String,
    },
    /// A worker takes ready tasks of queues that are claimed: the first claim in the log wins, task by task.
    Claim {
        session: SessionId,
        /// At most [`CLAIMS_MAX`], all of the session, and none sent ahead.
        placements: Vec<Placement>,
    },
}

/// Capacity that only one queue may use for a time, or nobody: whole workers by name, or `count` times `resources` of workers
/// with room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookingSpec {
    pub name: String,
    /// Whose tasks may use it. `None`: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// `None`: from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// 1s to 366 days.
    #[serde(with = "model::time::duration")]
    pub length: Duration,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workers: Vec<String>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u32,
    /// Of each, on one worker.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// What its workers are to be like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
}

/// Periodic tasks that were found to meet their deadlines: whoever proposes it has tested them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodicSpec {
    pub name: String,
    /// `Rms`, `Dms` or `Edf`.
    pub order: Order,
    /// 1 to 64.
    pub slots: u32,
    /// A task stands still while one that comes before it, on its slot, runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preemptive: bool,
    /// The tests that it passed, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub admitted: Vec<String>,
    /// 1 to 256.
    pub tasks: Vec<PeriodicTaskSpec>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeriodicTaskSpec {
    pub name: String,
    /// C, T and D: `C <= D <= T`, and a period is at least 100 ms.
    #[serde(with = "model::time::duration")]
    pub run_time: Duration,
    #[serde(with = "model::time::duration")]
    pub period: Duration,
    #[serde(with = "model::time::duration")]
    pub deadline: Duration,
    /// Below `slots`.
    pub slot: u32,
    /// What is submitted at each release: one task, with its estimate, its deadline and its period.
    pub job: Arc<JobSpec>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Placements of one claim.
pub const CLAIMS_MAX: usize = 64;

/// Tasks of a job by number; `None` is all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub job: JobId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tasks: Option<RunSet>,
}

impl Target {
    pub fn job(job: JobId) -> Target {
        Target { job, tasks: None }
    }
}

/// What may change while tasks of the job wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobChange {
    pub priority: Option<i32>,
    pub queue: Option<String>,
    pub add_after: Vec<Edge>,
    pub remove_after: Vec<Edge>,
}

/// `task` of this job (`None`: every task) waits for `on`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    pub on: Dependency,
}

/// A queue is made, or changed: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSpec {
    pub name: String,
    /// Share of the capacity relative to other queues, 1 to 10,000. A new queue has `WEIGHT_DEFAULT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Tasks of the queue that may be placed at once. A new queue has no such ceiling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_max: Option<u32>,
    /// Takes the ceiling away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_running_max: bool,
    /// Which ready task comes first. A new queue goes by priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Waiting so long adds one to a priority, 10ms to 30 days; zero: waiting adds nothing. An order that goes by something
    /// else takes it away.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "model::time::optional_duration")]
    pub ageing: Option<Duration>,
    /// What may go before the first one. A new queue lets whatever fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backfill: Option<Backfill>,
    /// Whether running tasks give way to those of a higher priority. A new queue does without; so does another order than by
    /// priority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempt: Option<bool>,
    /// A time slice of the order `round-robin`, 10ms to 24h. One without has 1s; so has no other order any.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "model::time::optional_duration")]
    pub quantum: Option<Duration>,
    /// Who gives its tasks to workers. A new queue has the leader do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether the cluster sets order and backfill by itself, by what would have served its history better. A new queue has
    /// them left as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto: Option<bool>,
    /// Weights of users relative to each other, 1 to 10,000, for the order `fair`. Who is not named keeps its own; a user
    /// that is new has `WEIGHT_DEFAULT`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, u32>,
}

pub const WEIGHT_DEFAULT: u32 = 100;
pub const WEIGHT_MAX: u32 = 10_000;

/// Why this is no weight, with the nearest that is one.
#[must_use]
pub fn weight_refusal(weight: u32) -> Option<String> {
    let nearest = weight.clamp(1, WEIGHT_MAX);
    (nearest != weight).then(|| format!("{weight} is not 1 to {WEIGHT_MAX}; the nearest is {nearest}"))
}

/// The placements of one evaluation. Each is checked again when applied; what is no longer eligible is dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub placements: Vec<Placement>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// Promises that have changed, of queues that backfill by estimates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub promises: Vec<Promised>,
    /// Queues whose promises were moved up as far as they go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compressed: Vec<QueueId>,
    /// What makes room for somebody of a higher priority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preemptions: Vec<Preemption>,
    /// What stands still from now on, and what goes on. Before the placements, which may need the room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<Switch>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.placements.is_empty()
            && self.reservations.is_empty()
            && self.promises.is_empty()
            && self.compressed.is_empty()
            && self.preemptions.is_empty()
            && self.switches.is_empty()
    }
}

/// Tasks `tasks` of `job` on `session`, one after the other in one allocation that takes the resources of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    pub job: JobId,
    /// Task numbers, all of one group.
    pub tasks: Run,
    pub session: SessionId,
    /// Sent ahead: beyond the capacity, started by the worker when it has room.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// What it asks for: 0: the first choice; from 1 on: its alternatives.
    #[serde(default, skip_serializing_if = "is_first_choice")]
    pub alternative: u8,
}

fn is_first_choice(alternative: &u8) -> bool {
    *alternative == 0
}

/// `session` takes no other task until this one has been placed or no longer waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    pub session: SessionId,
    pub job: JobId,
    pub task: u32,
}

/// Allocation `seq` of `session` is stopped for this task, and its tasks wait again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preemption {
    pub session: SessionId,
    pub seq: Seq,
    pub job: JobId,
    pub task: u32,
}

/// The time slice of allocation `seq` of `session` is over, or it begins another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    pub session: SessionId,
    pub seq: Seq,
    pub to: Pace,
}

/// What the next task of a group is promised from now on; `None`: nothing any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    pub job: JobId,
    pub group: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise: Option<Promise>,
}

/// A worker process registers. `session` is the proposer's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenSession {
    pub session: SessionId,
    pub worker: String,
    /// Hash of the secret in the worker's data directory: only its owner may take the name over.
    pub secret_hash: u64,
    pub capacity: Capacity,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    #[serde(default)]
    pub functions: Vec<String>,
    /// How it holds tasks to their limits.
    #[serde(default)]
    pub isolation: String,
}

/// What a worker has to say, in the order in which it happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportBatch {
    pub session: SessionId,
    pub reports: Vec<Report>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub seq: Seq,
    pub token: Token,
    /// Task numbers.
    pub tasks: Run,
    pub news: News,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Started {
        at: Timestamp,
    },
    Ended(Box<Ended>),
    /// Given back unstarted: no attempt is counted as failed or lost.
    Recalled,
}

/// How an attempt ended, as its worker saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub verdict: Verdict,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<Blob>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    #[serde(default, with = "model::time::duration")]
    pub cpu_time: Duration,
    #[serde(default)]
    pub memory_peak: u64,
}
