//! Request ids for clients that send none.

use std::sync::atomic::{AtomicU64, Ordering};

use model::{RequestId, Timestamp};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Mints ULIDs: the time in milliseconds, then 80 bits that no other process and no other call has.
#[derive(Debug)]
pub struct RequestIds {
    seed: u64,
    made: AtomicU64,
}

impl RequestIds {
    /// `seed` is chance: no two processes have the same.
    pub fn new(seed: u64) -> RequestIds {
        RequestIds { seed, made: AtomicU64::new(0) }
    }

    pub fn next(&self, now: Timestamp) -> RequestId {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        let chance = xxh3_128_with_seed(&count.to_le_bytes(), self.seed);
        let ms = u128::from(now.0 / 1_000) & ((1 << 48) - 1);
        RequestId(ms << 80 | chance >> 48)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_carry_their_time_and_differ() {
        let (one, other) = (RequestIds::new(1), RequestIds::new(2));
        let now = Timestamp(1_700_000_000_123_456);
        let ids: BTreeSet<RequestId> = (0..100).flat_map(|_| [one.next(now), other.next(now)]).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| id.unix_ms() == 1_700_000_000_123));
    }
}
