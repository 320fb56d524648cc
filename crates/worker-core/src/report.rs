//! What the worker has to say of an attempt. Mirrors what the state takes; the shell converts.

use std::time::Duration;

use model::{Blob, JobId, Reason, Run, Seq, Timestamp, Token, Verdict};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub seq: Seq,
    pub token: Token,
    pub job: JobId,
    /// Task numbers.
    pub tasks: Run,
    pub news: News,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum News {
    Started {
        at: Timestamp,
    },
    Ended(Box<Ended>),
    /// Given back unstarted. `tasks` is everything where the order never came.
    Recalled,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub verdict: Verdict,
    pub reason: Reason,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub message: String,
    pub result: Option<Box<Blob>>,
    pub started: Option<Timestamp>,
    pub ended: Timestamp,
    #[serde(with = "model::time::duration")]
    pub cpu_time: Duration,
    pub memory_peak: u64,
}

impl Ended {
    pub fn new(verdict: Verdict, reason: Reason, message: &str, ended: Timestamp) -> Ended {
        Ended {
            verdict,
            reason,
            exit_code: None,
            signal: None,
            message: message.to_owned(),
            result: None,
            started: None,
            ended,
            cpu_time: Duration::ZERO,
            memory_peak: 0,
        }
    }

    pub fn succeeded(started: Option<Timestamp>, ended: Timestamp) -> Ended {
        Ended { started, ..Ended::new(Verdict::Succeeded, Reason::Exited, "", ended) }
    }
}

impl Report {
    /// What it takes in the log, roughly, as the leader counts it: bounds batches.
    pub(crate) fn bytes(&self) -> usize {
        const SHORT: usize = 70;
        const FIXED: usize = 220;
        match &self.news {
            News::Started { .. } | News::Recalled => SHORT,
            News::Ended(ended) => {
                let result =
                    ended.result.as_ref().and_then(|blob| blob.inline_bytes()).map_or(0, <[u8]>::len);
                FIXED + ended.message.len() + result * 4 / 3
            }
        }
    }
}
