//! What clients asked and were answered, in real order.

use machine::Reply;
use model::{JobId, RequestId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A write is about to be tried; the same call may be tried more than once.
    WriteAsked {
        call: u64,
    },
    WriteDone {
        call: u64,
        write: Acknowledged,
    },
    ReadAsked {
        call: u64,
    },
    /// Answered from the state as of `index`. `lacks`: a job that was acknowledged before and is not there.
    ReadDone {
        call: u64,
        index: u64,
        lacks: Option<JobId>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    pub request: RequestId,
    pub index: u64,
    pub reply: Reply,
}

impl Acknowledged {
    pub fn job(&self) -> Option<JobId> {
        match &self.reply {
            Reply::Submitted { job } => Some(*job),
            _ => None,
        }
    }
}
