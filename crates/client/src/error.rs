//! Why a call failed, what was tried, and whether the write may have happened.

use std::fmt;
use std::time::Duration;

use model::RequestId;
use wire::error::{Failure, Happened, code};

#[derive(Clone, Debug)]
pub struct Error {
    pub failure: Failure,
    /// What did not work on the way: address and why, the last of each address.
    pub tried: Vec<(String, String)>,
}

impl Error {
    pub fn of(failure: Failure) -> Error {
        Error { failure, tried: Vec::new() }
    }

    /// A message of a replica that this client cannot read.
    pub fn unreadable(what: impl fmt::Display) -> Error {
        let message = format!("a replica's answer cannot be read: {what}");
        Error::of(Failure::new(code::INTERNAL, tonic::Code::Internal, message).maybe_happened())
    }

    pub fn happened(&self) -> Happened {
        self.failure.happened
    }

    pub fn code(&self) -> &str {
        &self.failure.code
    }

    pub fn request_id(&self) -> Option<RequestId> {
        self.failure.request_id
    }

    /// Whether no replica could be reached, or none of them leads.
    pub fn is_unavailable(&self) -> bool {
        is_passing(&self.failure)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.failure.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

/// Whether the same call may do better in a moment. Sent again under its request id it is done at most once.
pub fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), code::NO_LEADER | code::NOT_LEADER | code::OVERLOADED | code::UNAVAILABLE)
}

/// The wait before the `tries`-th try (from 1), before jitter; what the replica asked for if that is more.
pub fn backoff(tries: u32, failure: &Failure) -> Duration {
    let doubled = Duration::from_millis(10).saturating_mul(1 << tries.min(7));
    doubled.min(Duration::from_secs(1)).max(failure.retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_second_but_not_below_what_was_asked() {
        let failure = Failure::no_leader("none");
        let waits: Vec<u128> = (0..9).map(|n| backoff(n, &failure).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        let busy = Failure::overloaded(Duration::from_secs(3), "busy");
        assert_eq!(backoff(1, &busy), Duration::from_secs(3));
    }

    #[test]
    fn only_what_passes_is_tried_again() {
        assert!(is_passing(&Failure::not_leader(None)));
        assert!(!is_passing(&Failure::new(code::CONFLICT, tonic::Code::AlreadyExists, "x")));
    }
}
