//! What waits to be proposed. Three lanes: workers (reports, sessions), control (every client's write but submits) and
//! submits. The workers' lane goes first and clients cannot fill it, so that load never holds up a report.

use std::collections::VecDeque;
use std::time::Duration;

use model::Moment;

/// Bytes of one entry, but for a single command that is larger.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
pub const SUBMITS_QUEUED_MAX: usize = 16_384;
pub const SUBMITS_QUEUED_BYTES_MAX: usize = 32 << 20;
pub const CONTROLS_QUEUED_MAX: usize = 4_096;
pub const CONTROLS_QUEUED_BYTES_MAX: usize = 8 << 20;
/// A worker whose reports do not fit here is disconnected, and says them again when it is back.
pub const REPORTS_QUEUED_MAX: usize = 65_536;
pub const REPORTS_QUEUED_BYTES_MAX: usize = 64 << 20;

/// First in, first out, bounded by count and bytes.
#[derive(Debug)]
pub struct Lane<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
}

impl<T> Lane<T> {
    pub fn new(count_max: usize, bytes_max: usize) -> Lane<T> {
        Lane { items: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub fn has_room(&self, bytes: usize) -> bool {
        self.items.len() < self.count_max && self.bytes + bytes <= self.bytes_max
    }

    pub fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back((item, bytes));
    }

    /// Bytes of the next one.
    pub fn next_bytes(&self) -> Option<usize> {
        self.items.front().map(|(_, bytes)| *bytes)
    }

    /// The next one if it fits in `room`; what is larger than any entry fits where nothing else is.
    pub fn pop_within(&mut self, room: &mut Room) -> Option<T> {
        let bytes = self.items.front()?.1;
        if !room.take(bytes) {
            return None;
        }
        self.bytes -= bytes;
        self.items.pop_front().map(|(item, _)| item)
    }

    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.bytes = 0;
        self.items.drain(..).map(|(item, _)| item)
    }

    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.items.retain(|(item, _)| keep(item));
        self.bytes = self.items.iter().map(|(_, bytes)| bytes).sum();
    }
}

/// What is left of an entry.
#[derive(Debug)]
pub struct Room {
    left: usize,
    untouched: bool,
}

impl Default for Room {
    fn default() -> Room {
        Room { left: ENTRY_BYTES_MAX, untouched: true }
    }
}

impl Room {
    pub fn left(&self) -> usize {
        self.left
    }

    /// Keeps so many bytes for what comes last; what comes before goes into the next entry instead.
    pub fn reserve(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.untouched = false;
    }

    pub fn take(&mut self, bytes: usize) -> bool {
        if bytes > self.left && !self.untouched {
            return false;
        }
        self.left = self.left.saturating_sub(bytes);
        self.untouched = false;
        true
    }
}

/// How fast a lane empties, measured while it has something in it.
#[derive(Debug, Default)]
pub struct DrainRate {
    since: Option<Moment>,
    drained: u64,
    per_second: f64,
}

const RATE_WINDOW: Duration = Duration::from_millis(100);
const RETRY_AFTER_UNMEASURED: Duration = Duration::from_millis(100);
const RETRY_AFTER_MIN: Duration = Duration::from_millis(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

impl DrainRate {
    /// `left` is what still waits.
    pub fn drained(&mut self, count: usize, left: usize, now: Moment) {
        self.drained += count as u64;
        let since = *self.since.get_or_insert(now);
        let window = now.since(since);
        if window >= RATE_WINDOW {
            let measured = self.drained as f64 / window.as_secs_f64();
            self.per_second =
                if self.per_second == 0.0 { measured } else { (self.per_second + measured) / 2.0 };
            (self.since, self.drained) = (Some(now), 0);
        }
        if left == 0 {
            // An idle time must not look like a slow one.
            (self.since, self.drained) = (None, 0);
        }
    }

    /// When so many will have been drained.
    pub fn retry_after(&self, queued: usize) -> Duration {
        if self.per_second < 1.0 {
            return RETRY_AFTER_UNMEASURED;
        }
        Duration::from_secs_f64(queued as f64 / self.per_second).clamp(RETRY_AFTER_MIN, RETRY_AFTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_cut_where_the_next_would_not_fit() {
        let mut lane = Lane::new(10, 1 << 20);
        for (item, bytes) in [("a", 20_000), ("b", 10_000), ("c", 10_000), ("huge", 500_000), ("d", 1)] {
            lane.push(item, bytes);
        }
        let mut entry = || {
            let mut room = Room::default();
            std::iter::from_fn(|| lane.pop_within(&mut room)).collect::<Vec<_>>()
        };
        assert_eq!(entry(), ["a", "b"]);
        assert_eq!(entry(), ["c"]);
        assert_eq!(entry(), ["huge"]);
        assert_eq!(entry(), ["d"]);
        assert_eq!(lane.bytes, 0);
    }

    #[test]
    fn a_lane_is_full_by_count_or_by_bytes() {
        let mut lane = Lane::new(2, 100);
        assert!(lane.has_room(100) && !lane.has_room(101));
        lane.push((), 1);
        lane.push((), 1);
        assert!(!lane.has_room(1));
    }

    #[test]
    fn retry_after_follows_the_measured_rate() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.retry_after(5_000), RETRY_AFTER_UNMEASURED);
        for step in 0..=10 {
            rate.drained(100, 1, Moment(step * 50_000));
        }
        // 100 in every 50 ms are 2,000 a second; the first window counts one more.
        let after = rate.retry_after(1_000);
        assert!(after > Duration::from_millis(400) && after < Duration::from_millis(520), "{after:?}");
        assert_eq!(rate.retry_after(1_000_000), RETRY_AFTER_MAX);
        rate.drained(100, 0, Moment(550_000));
        rate.drained(1, 1, Moment(99_000_000));
        assert!(rate.retry_after(1_000) < Duration::from_millis(520));
    }
}
