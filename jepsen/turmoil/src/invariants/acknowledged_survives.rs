//! A job whose submit was acknowledged is known to every replica at the end.

use std::collections::BTreeMap;

use model::JobId;

use super::{Final, Found, Invariant};
use crate::history::Event;

#[derive(Default)]
pub struct AcknowledgedSurvives {
    /// By job: the index of its acknowledgement.
    jobs: BTreeMap<JobId, u64>,
}

impl Invariant for AcknowledgedSurvives {
    fn name(&self) -> &'static str {
        "what is acknowledged survives"
    }

    fn hear(&mut self, event: &Event, found: &mut Found) {
        match event {
            Event::WriteDone { write, .. } => {
                if let Some(job) = write.job() {
                    self.jobs.entry(job).or_insert(write.index);
                }
            }
            Event::ReadDone { lacks: Some(job), .. } => {
                found.push(format!("job {job} is acknowledged, and a later read does not have it"));
            }
            Event::ReadDone { lacks: None, .. } | Event::WriteAsked { .. } | Event::ReadAsked { .. } => {}
        }
    }

    fn end(&mut self, states: &[Final], found: &mut Found) {
        for state in states {
            let lost = self.jobs.iter().filter(|(job, _)| !state.jobs.contains(job));
            for (job, index) in lost {
                found.push(format!("{} does not know job {job}, acknowledged at {index}", state.name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use machine::Reply;
    use model::RequestId;

    use super::super::stage::heard;
    use super::*;
    use crate::history::Acknowledged;

    #[test]
    fn a_job_that_is_lost_is_found() {
        let mut invariant = AcknowledgedSurvives::default();
        for (job, index) in [(JobId(1), 5), (JobId(2), 6)] {
            let write = Acknowledged { request: RequestId(1), index, reply: Reply::Submitted { job } };
            assert_eq!(heard(&mut invariant, Event::WriteDone { call: 1, write }), Found::new());
        }
        let state = |name: &str, jobs: &[u64]| Final {
            name: name.into(),
            jobs: jobs.iter().map(|job| JobId(*job)).collect(),
            unfinished: 0,
        };
        let mut found = Found::new();
        invariant.end(&[state("n1", &[1, 2, 3]), state("n2", &[1])], &mut found);
        assert_eq!(found, ["n2 does not know job j2, acknowledged at 6"]);
        let read = Event::ReadDone { call: 2, index: 7, lacks: Some(JobId(1)) };
        assert_eq!(heard(&mut invariant, read).len(), 1);
    }
}
