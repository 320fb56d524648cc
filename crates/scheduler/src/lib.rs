//! Decides where ready tasks run. Pure: reads the state, returns a plan, changes nothing.
//!
//! In the order of each queue, first fit over request classes: what does not fit now is passed over by what does, as far
//! as the queue's backfill allows, and not for longer than `starve_after`, when a worker drains for it. Queues take turns by
//! weighted deficit round robin. Applying a plan and planning again adds nothing.

mod ahead;
mod backfill;
mod bookings;
pub mod claim;
mod drains;
mod explain;
mod fit;
mod gang;
mod held;
mod overlay;
mod place;
mod preempt;
mod queues;
pub mod realtime;
mod reserve;
mod slices;
mod takers;
mod turns;

pub use ahead::{Ahead, Asked, Over, frees_anybody, plan_new};
pub use explain::explain;
pub use held::{HELD_RUN_TIME_MAX, recalls};
pub use overlay::Overlay;

use machine::{Plan, State};

use crate::place::Round;

/// What one evaluation may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub placements_max: usize,
    /// Tasks of one queue that are passed by, one by one, for what comes after them.
    pub skips_max: usize,
}

/// Placements of one plan: one log entry, and one round's work.
pub const PLACEMENTS_PER_PLAN_MAX: usize = 512;

/// Tasks beyond so many get no promise, and start none before those.
pub const SKIPS_PER_PLAN_MAX: usize = 512;

/// Times that a round is made anew since somebody starves, for whom a worker drains on which others were promised a start.
const DRAINS_MAX: usize = 3;

impl Default for Budget {
    fn default() -> Budget {
        Budget { placements_max: PLACEMENTS_PER_PLAN_MAX, skips_max: SKIPS_PER_PLAN_MAX }
    }
}

/// Kept between evaluations to save work. A fresh one gives the same plan.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Classes that found no room as of `(index, overlay)`: nothing has changed for them since.
    full: Option<(model::LogIndex, u64)>,
    /// The last plan was full, and there is more.
    more: bool,
}

impl Scratch {
    /// Whether the last plan ended because it was full.
    pub fn has_more(&self) -> bool {
        self.more
    }
}

/// The placements and reservations that the state, and what is in flight, allow now.
pub fn plan(state: &State, scratch: &mut Scratch, overlay: &Overlay, budget: Budget) -> Plan {
    let as_of = Some((state.index(), overlay.version()));
    scratch.more = false;
    let waits = !state.ready().is_empty() || state.with_suspended().next().is_some();
    if !waits || scratch.full == as_of {
        return Plan::default();
    }
    let mut round = Round::new(state, overlay);
    let mut plan = round.run(budget);
    for _ in 0..DRAINS_MAX {
        let Some(again) = round.with_drains(overlay) else { break };
        round = again;
        plan = round.run(budget);
    }
    scratch.more = round.is_cut_short || plan.placements.len() >= budget.placements_max;
    scratch.full = if !scratch.more && plan.is_empty() { as_of } else { None };
    plan
}

#[cfg(test)]
mod tests;
