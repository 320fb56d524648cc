//! What apply answers: a reply per command, effects for the leader, events for watchers.

use std::time::Duration;

use model::settings::Lease;
use model::views::{JobState, TaskState, WorkerState};
use model::{JobId, Lean, RequestId, Run, Seq, SessionId, SpecError};
use serde::{Deserialize, Serialize};

/// The outcome of one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// One per command, in order.
    pub replies: Vec<Reply>,
    pub effects: Vec<Effect>,
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Done,
    Submitted {
        job: JobId,
    },
    /// How many tasks a cancel or a retry touched or will touch.
    Changed {
        tasks: u64,
    },
    /// How many placements of a plan were taken, and how many had become ineligible.
    Placed {
        taken: u32,
        dropped: u32,
    },
    SessionOpened(Box<Opened>),
    /// Every report of the batch is settled; those of these placements came too late and counted for nothing.
    Reported {
        fenced: Lean<Vec<Seq>>,
    },
    Rejected(Box<Rejection>),
}

/// A new session.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Opened {
    pub session: SessionId,
    pub lease: Lease,
}

impl Reply {
    /// Why nothing was done, if nothing was.
    pub fn rejection(&self) -> Option<&Rejection> {
        match self {
            Reply::Rejected(why) => Some(why),
            _ => None,
        }
    }
}

impl From<Rejection> for Reply {
    fn from(why: Rejection) -> Reply {
        Reply::Rejected(Box::new(why))
    }
}

/// Why a command changed nothing. Replicated: every replica says the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    #[error("the cluster is bootstrapped already")]
    Bootstrapped,
    #[error("the cluster is not bootstrapped yet")]
    NotBootstrapped,
    #[error("job {job} is unknown")]
    UnknownJob { job: JobId },
    #[error("job {job} is so old that its outcome is forgotten")]
    JobTooOld { job: JobId },
    #[error("job {job} has no task {task}")]
    UnknownTask { job: JobId, task: String },
    #[error("queue `{queue}` is unknown")]
    UnknownQueue { queue: String },
    #[error("worker `{worker}` is unknown")]
    UnknownWorker { worker: String },
    #[error("booking `{booking}` is unknown")]
    UnknownBooking { booking: String },
    #[error("periodic set `{set}` is unknown")]
    UnknownPeriodic { set: String },
    #[error("queue `{queue}` is a slot of the periodic set `{set}`, which nobody else may use or change")]
    QueueOwned { queue: String, set: String },
    #[error("session {session} has ended")]
    SessionEnded { session: SessionId },
    #[error("a worker called `{worker}` is live; stop it, or give this one another name")]
    WorkerLive { worker: String },
    #[error("queue `{queue}` still has {jobs} unfinished jobs; cancel or move them first")]
    QueueInUse { queue: String, jobs: u64 },
    #[error(
        "queue `{queue}` has nothing to undo: the cluster has not changed its policy by itself, or it was set by hand since"
    )]
    NothingToUndo { queue: String },
    #[error("queue `{queue}` is not as it was when it was looked at")]
    QueueChanged { queue: String },
    #[error("the queue `default` cannot be deleted")]
    QueueDefault,
    #[error("{what} would be above the limit {limit} = {max}")]
    Limit { limit: String, max: u64, what: String },
    #[error("only tenant `default` is accepted, not `{tenant}`")]
    Tenant { tenant: String },
    #[error("job {job} is {state}; only unfinished jobs can be changed")]
    JobFinished { job: JobId, state: JobState },
    #[error("nothing of job {job} can be retried: no task of it has failed or was cancelled")]
    NothingToRetry { job: JobId },
    #[error("task `{task}` of {job} has begun; its dependencies no longer matter")]
    TaskBegun { job: JobId, task: String },
    #[error("this would close a cycle: {path}")]
    Cycle { path: String },
    #[error("the spec is not valid: {}", join(.errors))]
    Invalid { errors: Vec<SpecError> },
    #[error("request {request} was used before for something else")]
    RequestConflict { request: RequestId },
    #[error("request {request} is outside the window in which repeats are recognised; it was not done")]
    RequestExpired { request: RequestId },
    #[error(
        "request {request} is stamped {ahead:?} ahead of the cluster's clock; correct the client's clock"
    )]
    RequestAhead { request: RequestId, ahead: Duration },
    #[error(
        "the cluster is at behaviour level {now} and cannot go back to {level}: what was written since means something else there"
    )]
    LevelBack { level: u32, now: u32 },
    #[error("behaviour level {level} is unknown; the highest that this version knows is {max}")]
    LevelUnknown { level: u32, max: u32 },
    #[error("an id that is not above the last one")]
    StaleId,
}

fn join(errors: &[SpecError]) -> String {
    errors.iter().map(SpecError::to_string).collect::<Vec<_>>().join("; ")
}

/// A hint for the leader. If it is lost, the next leader reads the same off the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Effect {
    /// A new allocation: send the order.
    Run {
        session: SessionId,
        seq: Seq,
    },
    /// The allocation is Stopping.
    Stop {
        session: SessionId,
        seq: Seq,
    },
    /// The allocation stands still from now on, or goes on.
    Switch {
        session: SessionId,
        seq: Seq,
    },
    SessionOpened {
        session: SessionId,
    },
    SessionEnded {
        session: SessionId,
    },
    /// There may be something to place that there was not before.
    Wake,
}

/// What watchers see. Named by (index of the entry, position in it).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Event {
    Job {
        job: JobId,
        state: JobState,
    },
    /// `tasks` are task numbers of `job`.
    Tasks {
        job: JobId,
        tasks: Run,
        state: TaskState,
        attempt: u32,
        worker: Option<String>,
    },
    Worker {
        worker: String,
        state: WorkerState,
    },
    Queue {
        queue: String,
    },
}
