//! States, kinds, verdicts and reasons as words: the same as in the serde form.

use model::{Reason, Verdict};
use serde::de::DeserializeOwned;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};

/// Reads a word of one of the model's enums.
pub(crate) fn read<T: DeserializeOwned>(text: &str, what: &str) -> Result<T, String> {
    let words: StrDeserializer<'_, Error> = text.into_deserializer();
    T::deserialize(words).map_err(|error| format!("not a {what}: {error}"))
}

pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded => "succeeded",
        Verdict::Failed => "failed",
        Verdict::Lost => "lost",
        Verdict::Cancelled => "cancelled",
    }
}

pub(crate) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Exited => "exited",
        Reason::TimedOut => "timed_out",
        Reason::Cancelled => "cancelled",
        Reason::NotStarted => "not_started",
        Reason::OutOfMemory => "out_of_memory",
        Reason::LeaseEnded => "lease_ended",
        Reason::WorkerLost => "worker_lost",
        Reason::Unsupported => "unsupported",
        Reason::WaitedTooLong => "waited_too_long",
    }
}
