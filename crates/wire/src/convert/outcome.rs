//! How attempts ended.

use std::time::Duration;

use model::time::micros;
use model::{Outcome, Reason, Timestamp, Token, Verdict};

use super::{Errors, Malformed, Path, at, blob, word};
use crate::v1;

impl From<&Outcome> for v1::Outcome {
    fn from(outcome: &Outcome) -> v1::Outcome {
        v1::Outcome {
            verdict: word::verdict(outcome.verdict).to_owned(),
            reason: word::reason(outcome.reason).to_owned(),
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            message: outcome.message.clone(),
            result: blob::write_optional(&outcome.result),
            placed_unix_us: outcome.placed.0,
            started_unix_us: outcome.started.map(|at| at.0),
            ended_unix_us: outcome.ended.0,
            cpu_time_us: micros(outcome.cpu_time),
            memory_peak: outcome.memory_peak,
            worker: outcome.worker.clone(),
            token: outcome.token.0,
            attempt: outcome.attempt,
            round: outcome.round,
        }
    }
}

impl TryFrom<v1::Outcome> for Outcome {
    type Error = Malformed;
    fn try_from(outcome: v1::Outcome) -> Result<Outcome, Malformed> {
        let mut errors = Errors::default();
        let outcome = read(&mut errors, &"", outcome);
        errors.finish(outcome)
    }
}

pub(crate) fn read(errors: &mut Errors, path: Path<'_>, outcome: v1::Outcome) -> Outcome {
    let (verdict, reason) = read_end(errors, path, &outcome.verdict, &outcome.reason);
    Outcome {
        verdict,
        reason,
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        message: outcome.message,
        result: blob::read_optional(errors, &at(path, "result"), outcome.result),
        placed: Timestamp(outcome.placed_unix_us),
        started: outcome.started_unix_us.map(Timestamp),
        ended: Timestamp(outcome.ended_unix_us),
        cpu_time: Duration::from_micros(outcome.cpu_time_us),
        memory_peak: outcome.memory_peak,
        worker: outcome.worker,
        token: Token(outcome.token),
        attempt: outcome.attempt,
        round: outcome.round,
    }
}

/// Verdict and reason from their words.
pub(crate) fn read_end(
    errors: &mut Errors,
    path: Path<'_>,
    verdict: &str,
    reason: &str,
) -> (Verdict, Reason) {
    let verdict = errors.take(at(path, "verdict"), word::read(verdict, "verdict"), Verdict::Failed);
    let reason = errors.take(at(path, "reason"), word::read(reason, "reason"), Reason::Exited);
    (verdict, reason)
}
