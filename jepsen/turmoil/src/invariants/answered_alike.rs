//! A write that is repeated under its request id is answered alike, unless it is refused as too old to be known, and no
//! two requests get the same job.

use std::collections::BTreeMap;

use machine::{Rejection, Reply};
use model::{JobId, RequestId};

use super::{Found, Invariant};
use crate::history::Event;

#[derive(Default)]
pub struct AnsweredAlike {
    replies: BTreeMap<RequestId, Reply>,
    jobs: BTreeMap<JobId, RequestId>,
}

impl Invariant for AnsweredAlike {
    fn name(&self) -> &'static str {
        "answered alike"
    }

    fn hear(&mut self, event: &Event, found: &mut Found) {
        let Event::WriteDone { write, .. } = event else { return };
        let (request, reply) = (write.request, &write.reply);
        if matches!(reply.rejection(), Some(Rejection::RequestExpired { .. })) {
            return;
        }
        let first = self.replies.entry(request).or_insert_with(|| reply.clone());
        if first != reply {
            found.push(format!("{request} was answered {first:?}, and now {reply:?}"));
        }
        if let Some(job) = write.job() {
            let owner = *self.jobs.entry(job).or_insert(request);
            if owner != request {
                found.push(format!("{request} is answered with job {job}, which is that of {owner}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::heard;
    use super::*;
    use crate::history::Acknowledged;

    #[test]
    fn another_answer_and_another_requests_job_are_found() {
        let mut invariant = AnsweredAlike::default();
        let mut answered = |request, job| {
            let reply = Reply::Submitted { job: JobId(job) };
            let write = Acknowledged { request: RequestId(request), index: 1, reply };
            heard(&mut invariant, Event::WriteDone { call: 1, write }).len()
        };
        assert_eq!((answered(1, 1), answered(2, 2), answered(1, 1)), (0, 0, 0));
        assert_eq!(answered(1, 3), 1);
        assert_eq!(answered(4, 2), 1);
    }
}
