//! The state keeps its own invariants: `machine::check`.

use machine::check;
use machine::state::State;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct Sound {
    looked: u64,
}

/// It costs as much as the state is large.
const EVERY: u64 = 16;

impl Invariant for Sound {
    fn name(&self) -> &'static str {
        "the state is sound"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        if step.index.is_multiple_of(EVERY) {
            self.looked += 1;
            found.extend(check::broken(step.state));
        }
    }

    fn at_end(&mut self, state: &State, found: &mut Found) {
        found.extend(check::broken(state));
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
