//! What is known of a call before its body is looked at, and how its failure goes back.

use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use tracing::debug;
use wire::error::{FORWARDED, Failure};

use crate::api::Api;
use crate::deadline::Deadline;

/// Metadata of every reply: this replica's wall clock in microseconds, from which clients learn their own offset.
const CLOCK: &str = "baton-clock";

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
        let mut response = Response::new(result.map_err(|failure| Status::from(self.refuse(failure)))?);
        if let Ok(clock) = self.shared.clock.wall().0.to_string().parse() {
            response.metadata_mut().insert(CLOCK, clock);
        }
        Ok(response)
    }
}
