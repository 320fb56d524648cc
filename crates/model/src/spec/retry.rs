//! When a task is tried again.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::{format_duration, parse_duration};

/// When to try again. Lost workers do not count against `max`; they have a budget of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Retries after the first attempt, for the task's own failures.
    #[serde(default)]
    pub max: u32,
    #[serde(default)]
    pub backoff: Backoff,
    /// Retries after a lost worker.
    #[serde(default = "lost_max_default")]
    pub lost_max: u32,
}

pub const LOST_MAX_DEFAULT: u32 = 5;

fn lost_max_default() -> u32 {
    LOST_MAX_DEFAULT
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { max: 0, backoff: Backoff::default(), lost_max: LOST_MAX_DEFAULT }
    }
}

/// The wait before a retry: the first, then doubled each time up to the cap. Written `1s..1m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure (from 1), before jitter.
    pub fn after(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(32);
        self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.cap)
    }
}

impl FromStr for Backoff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, cap) = text.split_once("..").unwrap_or((text, text));
        let backoff = Backoff { first: parse_duration(first)?, cap: parse_duration(cap)? };
        if backoff.first > backoff.cap {
            return Err(format!("`{text}`: the first wait is longer than the cap"));
        }
        Ok(backoff)
    }
}

impl Serialize for Backoff {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&format!("{}..{}", format_duration(self.first), format_duration(self.cap)))
    }
}

read_from_text!(Backoff);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_cap() {
        let backoff: Backoff = "1s..10s".parse().unwrap();
        let waits: Vec<u64> = (1..=6).map(|n| backoff.after(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
        assert_eq!(backoff.after(u32::MAX).as_secs(), 10);
    }
}
