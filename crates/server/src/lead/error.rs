//! Why the leader's task did not do what was asked, and whether it may have happened all the same.

use std::time::Duration;

use leader_core::Answer;
use tonic::Code;
use wire::error::{Failure, Happened, code};

use crate::lead::Written;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// `leader`: API address of the replica that leads, if it is known.
    #[error("this replica does not lead")]
    NotLeader { leader: Option<String> },
    #[error("too many writes wait")]
    Overloaded { retry_after: Duration },
    #[error("no quorum of replicas answers this leader")]
    NoQuorum,
    #[error("a write of {bytes} bytes is above the limit of {max}")]
    TooLarge { bytes: usize, max: usize },
    #[error("whether the write was done is not known: {reason}")]
    Unknown { reason: String },
}

impl WriteError {
    pub fn happened(&self) -> Happened {
        match self {
            WriteError::NotLeader { .. }
            | WriteError::Overloaded { .. }
            | WriteError::NoQuorum
            | WriteError::TooLarge { .. } => Happened::No,
            WriteError::Unknown { .. } => Happened::Maybe,
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        let message = error.to_string();
        match error {
            WriteError::NotLeader { leader } => Failure::not_leader(leader),
            WriteError::Overloaded { retry_after } => Failure::overloaded(retry_after, message),
            WriteError::NoQuorum => Failure::no_leader(message),
            WriteError::TooLarge { .. } => Failure::new(code::LIMIT, Code::InvalidArgument, message)
                .fix("submit it in parts, or keep large inputs elsewhere and refer to them by `url`"),
            WriteError::Unknown { .. } => Failure::no_leader(message).maybe_happened(),
        }
    }
}

/// The leader's answer as the waiting caller gets it.
pub(super) fn answer(answer: Answer, leader: Option<String>) -> Result<Written, WriteError> {
    match answer {
        Answer::Written { index, reply } => Ok(Written { index, reply }),
        Answer::NotLeader => Err(WriteError::NotLeader { leader }),
        Answer::NoQuorum => Err(WriteError::NoQuorum),
        Answer::Overloaded { retry_after } => Err(WriteError::Overloaded { retry_after }),
        Answer::TooLarge { bytes, max } => Err(WriteError::TooLarge { bytes, max }),
        Answer::Unknown => {
            Err(WriteError::Unknown { reason: "leadership changed while it was written".to_owned() })
        }
    }
}

/// Why there is no output to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    #[error("this replica does not lead")]
    NotLeader { leader: Option<String> },
    #[error("job j{job} is unknown")]
    UnknownJob { job: u64 },
    #[error("job j{job} has no task {task}")]
    UnknownTask { job: u64, task: u32 },
    #[error("the task has not been given to a worker yet")]
    NotPlaced,
    #[error("attempt {attempt} of the task is not known; the last one is {last}")]
    UnknownAttempt { attempt: u32, last: u32 },
    #[error("the output is on worker `{worker}`, which is gone")]
    WorkerGone { worker: String },
    /// Its session lives: it is expected back.
    #[error("the output is on worker `{worker}`, which is not connected")]
    WorkerAway { worker: String },
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Failure {
        let message = error.to_string();
        match error {
            FetchError::NotLeader { leader } => Failure::not_leader(leader),
            FetchError::UnknownJob { .. } => Failure::new(code::UNKNOWN_JOB, Code::NotFound, message),
            FetchError::UnknownTask { .. } => Failure::new(code::UNKNOWN_TASK, Code::NotFound, message),
            FetchError::NotPlaced => Failure::new(code::NOT_FOUND, Code::NotFound, message)
                .fix("`baton explain` tells what it waits for"),
            FetchError::UnknownAttempt { .. } => Failure::new(code::NOT_FOUND, Code::NotFound, message),
            FetchError::WorkerGone { .. } => Failure::new(code::NOT_FOUND, Code::NotFound, message)
                .fix("start that worker again with its data directory"),
            FetchError::WorkerAway { .. } => Failure::new(code::NOT_FOUND, Code::NotFound, message)
                .fix("read it again when the worker is back"),
        }
    }
}
