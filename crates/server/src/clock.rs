//! The clocks of this process: the one file of this crate that reads them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::time::micros;
use model::{Moment, Timestamp};
use replica::WallOffset;

/// Set to a number of milliseconds, the wall clock of this process is off by as much: for fault tests.
pub const OFFSET_VARIABLE: &str = "BATON_CLOCK_OFFSET_MS";

/// Copies tell the same time.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    wall_offset: WallOffset,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

#[allow(clippy::disallowed_methods)]
impl Clock {
    pub fn new() -> Clock {
        Clock { started: Instant::now(), wall_offset: WallOffset::default() }
    }

    /// As [`Clock::new`], with the wall clock put off by what the environment says.
    pub fn from_env() -> Clock {
        let ms = std::env::var(OFFSET_VARIABLE).ok().and_then(|text| text.trim().parse::<i64>().ok());
        Clock::new().with_wall_offset_ms(ms.unwrap_or(0))
    }

    pub fn with_wall_offset_ms(self, ms: i64) -> Clock {
        Clock { wall_offset: WallOffset::of_us(ms.saturating_mul(1_000)), ..self }
    }

    /// What moves the wall clock of all copies.
    pub fn wall_offset(&self) -> &WallOffset {
        &self.wall_offset
    }

    /// Monotonic: since this clock was made.
    pub fn moment(&self) -> Moment {
        Moment(micros(self.started.elapsed()))
    }

    pub fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(micros(since).saturating_add_signed(self.wall_offset.us()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_moves_the_wall_clock_and_nothing_else() {
        let clock = Clock::new();
        let off = clock.clone().with_wall_offset_ms(-3_600_000);
        let (true_time, off_time) = (clock.wall(), off.wall());
        assert!(true_time.since(off_time).as_secs() > 3_000, "{true_time} {off_time}");
        assert!(clock.moment() <= clock.moment());
        let copy = off.clone();
        off.wall_offset().set_us(0);
        assert!(true_time.since(copy.wall()).is_zero(), "a copy moves with it");
    }
}
