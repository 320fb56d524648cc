//! The clocks of this process: those of the `Env` that its replica runs in.

use std::fmt;
use std::sync::Arc;

use model::{Moment, Timestamp};
use replica::{Env, Real, WallOffset};

/// Set to a number of milliseconds, the wall clock of this process is off by as much: for fault tests.
pub const OFFSET_VARIABLE: &str = "BATON_CLOCK_OFFSET_MS";

/// By how much the environment puts the wall clock off.
pub fn offset() -> WallOffset {
    let ms = std::env::var(OFFSET_VARIABLE).ok().and_then(|text| text.trim().parse::<i64>().ok());
    WallOffset::of_us(ms.unwrap_or(0).saturating_mul(1_000))
}

/// Copies tell the same time.
#[derive(Clone)]
pub struct Clock {
    env: Arc<dyn Env>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::new()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {:?}", self.moment(), self.wall())
    }
}

impl Clock {
    /// The machine's.
    pub fn new() -> Clock {
        Clock::of(Arc::new(Real::new()))
    }

    pub fn of(env: Arc<dyn Env>) -> Clock {
        Clock { env }
    }

    /// Monotonic.
    pub fn moment(&self) -> Moment {
        self.env.now()
    }

    pub fn wall(&self) -> Timestamp {
        self.env.wall()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_moves_the_wall_clock_and_nothing_else() {
        let clock = Clock::new();
        let offset = WallOffset::of_us(-3_600_000_000);
        let off = Clock::of(Arc::new(Real::new().with_wall_offset(offset.clone())));
        let (true_time, off_time) = (clock.wall(), off.wall());
        assert!(true_time.since(off_time).as_secs() > 3_000, "{true_time} {off_time}");
        assert!(clock.moment() <= clock.moment());
        let copy = off.clone();
        offset.set_us(0);
        assert!(true_time.since(copy.wall()).is_zero(), "a copy moves with it");
    }
}
