//! A submit that was acknowledged is never lost.

use std::collections::BTreeMap;

use machine::state::State;
use machine::{Reply, Write};
use model::{JobId, LogIndex, RequestId};

use super::{Found, Invariant};

#[derive(Default)]
pub struct AcknowledgedSurvives {
    jobs: BTreeMap<JobId, (RequestId, LogIndex)>,
}

impl Invariant for AcknowledgedSurvives {
    fn name(&self) -> &'static str {
        "an acknowledged submit survives"
    }

    fn acknowledged(&mut self, write: &Write, index: LogIndex, reply: &Reply, _: &mut Found) {
        if let Reply::Submitted { job } = reply {
            self.jobs.insert(*job, (write.request, index));
        }
    }

    fn at_end(&mut self, state: &State, found: &mut Found) {
        for (job, (request, index)) in &self.jobs {
            let is_known = state.job(*job).is_some() || state.tombstone(*job).is_some();
            if !is_known || *index > state.index() {
                found.push(format!("{job} of request {request}, acknowledged at {index}, is gone"));
            }
        }
    }

    fn looked(&self) -> u64 {
        self.jobs.len() as u64
    }
}
