//! How long the state is held and waited for: a pause of apply is a pause of everything behind it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::time::micros;

#[derive(Debug, Default)]
pub struct Held {
    /// For applying one entry.
    pub apply: Pauses,
    /// By an entry, until whoever reads the state is done.
    pub apply_wait: Pauses,
    /// To freeze the state for a snapshot; nothing is applied meanwhile.
    pub freeze: Pauses,
}

/// Pauses counted by how long they were.
#[derive(Debug, Default)]
pub struct Pauses {
    /// One per bound, and one for all above.
    counts: [AtomicU64; Pauses::BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Pauses {
    /// Microseconds, each included.
    pub const BOUNDS_US: [u64; 13] =
        [20, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

    pub(crate) fn record(&self, took: Duration) {
        let us = micros(took);
        let place = Pauses::BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many lie above the bound before and not above this one; the last: above all bounds.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_under_the_first_bound_that_it_does_not_exceed() {
        let pauses = Pauses::default();
        for us in [5_000, 5_001, 2_000_000, 1] {
            pauses.record(Duration::from_micros(us));
        }
        let counts: Vec<u64> = pauses.counts().collect();
        let of_five_ms = Pauses::BOUNDS_US.iter().position(|bound| *bound == 5_000).unwrap();
        assert_eq!((counts[0], counts[of_five_ms], counts[of_five_ms + 1]), (1, 1, 1));
        assert_eq!((counts.last(), counts.iter().sum()), (Some(&1), 4_u64));
        assert_eq!(pauses.sum(), Duration::from_micros(2_010_002));
    }
}
