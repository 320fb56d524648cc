//! What is known of a call before its body is looked at, and how its failure goes back.

use model::Timestamp;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use tracing::debug;
use wire::error::{CLOCK, FORWARDED, Failure, code};

use crate::api::Api;
use crate::deadline::Deadline;

#[derive(Clone, Debug)]
pub struct Call {
    pub deadline: Deadline,
    /// Another replica sent it on, taking this one for the leader.
    pub forwarded: bool,
}

impl Call {
    pub fn of(api: &Api, metadata: &MetadataMap) -> Call {
        Call {
            deadline: Deadline::of_call(&api.shared.clock, metadata),
            forwarded: metadata.contains_key(FORWARDED),
        }
    }

    /// A message of a stream: each has its own time.
    pub fn of_message(&self, api: &Api) -> Call {
        Call { deadline: Deadline::after(&api.shared.clock, crate::deadline::DEFAULT), ..self.clone() }
    }
}

impl Api {
    /// Counts a failure.
    pub fn refuse(&self, failure: Failure) -> Failure {
        debug!(code = %failure.code, message = %failure.message, happened = ?failure.happened, "call refused");
        self.shared.metrics.calls_refused.add(&failure.code, 1);
        failure
    }

    pub fn answer<T>(&self, result: Result<T, Failure>) -> Result<Response<T>, Status> {
        match result {
            Ok(reply) => {
                let mut response = Response::new(reply);
                tell_clock(response.metadata_mut(), self.shared.clock.wall());
                Ok(response)
            }
            // With an error, too: a client whose request ids are refused for their time has nothing else to learn from.
            Err(failure) => {
                let of_cluster =
                    (failure.code == code::REQUEST_EXPIRED).then(|| self.cluster_clock()).flatten();
                let mut status = Status::from(self.refuse(failure));
                tell_clock(status.metadata_mut(), of_cluster.unwrap_or_else(|| self.shared.clock.wall()));
                Err(status)
            }
        }
    }

    /// As of the last entry, which may be the very one that the id was refused by: this replica's own clock may be what
    /// misled the client.
    fn cluster_clock(&self) -> Option<Timestamp> {
        let running = self.shared.running.get()?;
        Some(running.replica.read(|state| state.stamp().wall))
    }
}

fn tell_clock(metadata: &mut MetadataMap, clock: Timestamp) {
    if let Ok(clock) = clock.0.to_string().parse() {
        metadata.insert(CLOCK, clock);
    }
}
