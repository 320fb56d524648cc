//! How an attempt ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Blob, Timestamp, Token};

/// How an attempt counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Succeeded,
    /// Its own fault: counts against `retry.max`.
    Failed,
    /// Its worker's fault: counts against `retry.lost_max`.
    Lost,
    /// Ended because somebody asked, or before it began.
    Cancelled,
}

/// What ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It ended by itself: see exit code or signal.
    Exited,
    TimedOut,
    Cancelled,
    /// It could not be started: no such binary, no such directory, a file whose hash differs.
    NotStarted,
    OutOfMemory,
    /// The lease ended, so the keeper stopped it.
    LeaseEnded,
    /// The worker or its keeper is gone.
    WorkerLost,
    /// The worker does not have the function, the secret or the kind asked for.
    Unsupported,
    /// It was not placed within its `start_within`: there was no attempt.
    WaitedTooLong,
}

/// The whole record of an attempt, or of the end of a task that waited too long for one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Outcome {
    pub verdict: Verdict,
    pub reason: Reason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why, in words, or the last of its output. At most `tail_bytes_max`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The file named by `BATON_RESULT`, if it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Box<Blob>>,
    /// By the log's clock; without an attempt when it ended.
    pub placed: Timestamp,
    /// By the worker's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
    /// By the worker's clock, or the log's if the worker is lost.
    pub ended: Timestamp,
    #[serde(default, with = "crate::time::duration")]
    pub cpu_time: Duration,
    /// Bytes.
    #[serde(default)]
    pub memory_peak: u64,
    /// Empty, and the token zero, without an attempt.
    pub worker: String,
    pub token: Token,
    /// From 1; 0 without an attempt.
    pub attempt: u32,
    pub round: u32,
}
