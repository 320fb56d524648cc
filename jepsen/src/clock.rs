//! The driver's clock: nanoseconds since the run began. It also notices when this machine stood still, since a judgement
//! on leases is worth nothing then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    // The one place where the driver reads a clock.
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Clock {
        Clock { began: Instant::now() }
    }

    /// Nanoseconds since the start.
    #[allow(clippy::disallowed_methods)]
    pub fn now(self) -> u64 {
        Instant::now().duration_since(self.began).as_nanos() as u64
    }
}

const TICK: Duration = Duration::from_millis(50);

/// The longest time for which the driver itself was not run.
#[derive(Clone, Default)]
pub struct Stall {
    longest: Arc<AtomicU64>,
}

impl Stall {
    /// Looks on until it is dropped with the task that runs it.
    pub async fn watch(self, clock: Clock) {
        let mut last = clock.now();
        loop {
            tokio::time::sleep(TICK).await;
            let now = clock.now();
            let late = (now - last).saturating_sub(TICK.as_nanos() as u64);
            self.longest.fetch_max(late, Ordering::Relaxed);
            last = now;
        }
    }

    pub fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.load(Ordering::Relaxed))
    }
}
