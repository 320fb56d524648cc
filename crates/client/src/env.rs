//! The clock and the chance of a client: the one file that reads either.

#![allow(clippy::disallowed_methods)] // This is the place that the bans point to.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::RequestId;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt};

/// A point in this process's monotonic time by which something must be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(wait: Duration) -> Deadline {
        let now = Instant::now();
        Deadline(now.checked_add(wait).unwrap_or(now + Duration::from_secs(365 * 24 * 3600)))
    }

    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }
}

pub fn unix_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub fn chance() -> SmallRng {
    rand::make_rng()
}

/// A new ULID: the time in milliseconds, then 80 bits of chance.
pub fn ulid(unix_us: i64, rng: &mut impl Rng) -> RequestId {
    let ms = u128::from(unix_us.max(0) as u64 / 1_000) & ((1 << 48) - 1);
    let random: u128 = rng.random::<u128>() >> 48;
    RequestId(ms << 80 | random)
}

/// Somewhere between half of `base` and the whole of it.
pub fn jitter(base: Duration, rng: &mut impl Rng) -> Duration {
    base.mul_f64(rng.random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_carries_its_time_and_never_repeats() {
        let mut rng = chance();
        let (a, b) = (ulid(1_700_000_000_123_456, &mut rng), ulid(1_700_000_000_123_456, &mut rng));
        assert_eq!(a.unix_ms(), 1_700_000_000_123);
        assert_ne!(a, b);
        assert_eq!(a.to_string().parse(), Ok(a));
    }
}
