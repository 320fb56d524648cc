//! The one file that reads a clock.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)] // clocks are read here
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    #[allow(clippy::disallowed_methods)] // clocks are read here
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// `count` of anything per second since the start.
    pub fn rate(self, count: u64) -> f64 {
        count as f64 / self.elapsed().as_secs_f64().max(1e-9)
    }
}
