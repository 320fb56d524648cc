//! What a task says about time; its timeout is not among it, that ends attempts.

use std::time::Duration;

/// All relative, and all optional.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// How long an attempt will take, as far as whoever submits it knows.
    pub estimate: Option<Duration>,
    /// From the job's submit until the task should be done. Orders tasks; nothing is ended by it.
    pub deadline: Option<Duration>,
    /// From one such task to the next. Orders tasks; nothing is repeated by it.
    pub period: Option<Duration>,
    /// From when a task is ready until it is placed; one that waits longer is cancelled.
    pub start_within: Option<Duration>,
}

impl Timing {
    /// That of a task that is released every period.
    pub fn periodic(run_time: Duration, deadline: Duration, period: Duration) -> Timing {
        let (estimate, deadline, period) = (Some(run_time), Some(deadline), Some(period));
        Timing { estimate, deadline, period, start_within: None }
    }

    pub fn is_empty(&self) -> bool {
        *self == Timing::default()
    }

    /// Boxed, unless there is nothing to say.
    pub fn boxed(self) -> Option<Box<Timing>> {
        (!self.is_empty()).then(|| Box::new(self))
    }
}
