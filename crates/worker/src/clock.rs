//! The clocks of this crate: read here and nowhere else.

use std::time::{Duration, UNIX_EPOCH};

use model::time::micros;
use model::{Moment, Timestamp};
use nix::time::{ClockId, clock_gettime};

/// The time since boot, suspended time included: the worker and its keeper see the same, and a lease cannot
/// sleep through its end.
pub fn moment() -> Moment {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("Linux has had CLOCK_BOOTTIME since 2.6.39");
    Moment(micros(Duration::from(now)))
}

#[allow(clippy::disallowed_methods)] // The one place of this crate where the wall clock is read.
pub fn wall() -> Timestamp {
    let now = std::time::SystemTime::now();
    Timestamp(micros(now.duration_since(UNIX_EPOCH).unwrap_or_default()))
}
