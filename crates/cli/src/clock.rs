//! The clocks of the command line: the one file that reads any.

#![allow(clippy::disallowed_methods)] // This is the place that the bans point to.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Timestamp;

pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(model::time::micros(since))
}

/// Runs from when it was made.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
