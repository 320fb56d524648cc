//! The two stamps of an entry. `elapsed` goes on from the last applied one by this leader's monotonic clock and never
//! jumps; `wall` follows the wall clock, but may gain at most [`SLEW_MAX`] on `elapsed` per entry and never goes back.

use std::time::Duration;

use machine::Stamp;
use model::Moment;

use crate::Now;

pub const SLEW_MAX: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub struct Stamper {
    base: Stamp,
    began: Moment,
    last: Stamp,
}

impl Stamper {
    /// `base` is the stamp of the last entry before this leadership.
    pub fn new(base: Stamp, began: Moment) -> Stamper {
        Stamper { base, began, last: base }
    }

    /// The stamp that an entry proposed now would get.
    pub fn peek(&self, now: Now) -> Stamp {
        let elapsed = self.base.elapsed.plus(now.moment.since(self.began)).max(self.last.elapsed);
        let ceiling = self.last.wall.plus(elapsed.since(self.last.elapsed)).plus(SLEW_MAX);
        Stamp { elapsed, wall: now.wall.clamp(self.last.wall, ceiling) }
    }

    pub fn stamp(&mut self, now: Now) -> Stamp {
        self.last = self.peek(now);
        self.last
    }

    /// The same, but the wall clock leaps forward as far as it has to.
    pub fn leap(&mut self, now: Now) -> Stamp {
        self.last = Stamp { wall: now.wall.max(self.last.wall), ..self.peek(now) };
        self.last
    }

    /// How far the log's wall clock stays behind even after a slew.
    pub fn lag(&self, now: Now) -> Duration {
        now.wall.since(self.peek(now).wall)
    }
}

#[cfg(test)]
mod tests {
    use model::{Elapsed, Timestamp};

    use super::*;

    fn at(moment_ms: u64, wall_ms: u64) -> Now {
        Now { moment: Moment(moment_ms * 1000), wall: Timestamp(wall_ms * 1000) }
    }

    fn stamp(elapsed_ms: u64, wall_ms: u64) -> Stamp {
        Stamp { elapsed: Elapsed(elapsed_ms * 1000), wall: Timestamp(wall_ms * 1000) }
    }

    #[test]
    fn elapsed_goes_on_from_the_last_leader_whatever_the_wall_clock_does() {
        let mut stamper = Stamper::new(stamp(70_000, 1_000_000), Moment(5_000_000));
        assert_eq!(stamper.stamp(at(5_000, 900_000)), stamp(70_000, 1_000_000));
        assert_eq!(stamper.stamp(at(6_000, 1_001_000)), stamp(71_000, 1_001_000));
        // Back by an hour: the log's wall clock stands.
        assert_eq!(stamper.stamp(at(7_000, 0)), stamp(72_000, 1_001_000));
    }

    #[test]
    fn wall_gains_half_a_second_per_entry_and_leaps_only_when_told() {
        let mut stamper = Stamper::new(stamp(0, 1_000), Moment(0));
        assert_eq!(stamper.stamp(at(100, 90_000)), stamp(100, 1_600));
        assert_eq!(stamper.lag(at(100, 90_000)), Duration::from_millis(90_000 - 2_100));
        assert_eq!(stamper.leap(at(100, 90_000)), stamp(100, 90_000));
        assert_eq!(stamper.lag(at(150, 90_050)), Duration::ZERO);
    }
}
