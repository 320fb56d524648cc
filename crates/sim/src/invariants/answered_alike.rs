//! A request is done once and answered alike, however often it is sent.

use std::collections::BTreeMap;

use machine::{Reply, Write};
use model::{JobId, LogIndex, RequestId};

use super::{Found, Invariant};

#[derive(Default)]
pub struct AnsweredAlike {
    answers: BTreeMap<RequestId, Reply>,
    jobs: BTreeMap<JobId, RequestId>,
    repeated: u64,
}

impl Invariant for AnsweredAlike {
    fn name(&self) -> &'static str {
        "a request is answered alike"
    }

    fn acknowledged(&mut self, write: &Write, _: LogIndex, reply: &Reply, found: &mut Found) {
        let request = write.request;
        if let Some(before) = self.answers.insert(request, reply.clone()) {
            self.repeated += 1;
            if before != *reply {
                found.push(format!("request {request} was answered {before:?}, then {reply:?}"));
            }
        }
        if let Reply::Submitted { job } = reply {
            let other = self.jobs.insert(*job, request).filter(|other| *other != request);
            if let Some(other) = other {
                found.push(format!("{job} answers requests {other} and {request}"));
            }
        }
    }

    fn looked(&self) -> u64 {
        self.repeated
    }
}
