//! Neither time of the log goes back, whoever leads, and the elapsed time does not run faster than time does.

use std::collections::BTreeMap;

use machine::Stamp;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct TimeGoesOn {
    /// The stamp after each entry.
    stamps: BTreeMap<u64, Stamp>,
}

impl Invariant for TimeGoesOn {
    fn name(&self) -> &'static str {
        "time goes on"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        let stamp = step.state.stamp();
        if let Some((_, before)) = self.stamps.last_key_value()
            && (stamp.elapsed < before.elapsed || stamp.wall < before.wall)
        {
            found.push(format!("{before:?} is followed by {stamp:?}"));
        }
        if stamp.elapsed.0 > step.now {
            found.push(format!("{:?} have elapsed after {} us", stamp.elapsed, step.now));
        }
        self.stamps.insert(step.index, stamp);
    }

    fn applied_by_each(&mut self, step: &Step, found: &mut Found) {
        let first = self.stamps.get(&step.index).copied();
        if first.is_some_and(|first| first != step.state.stamp()) {
            found.push(format!("replica {} has another time at {}", step.replica, step.index));
        }
    }

    fn looked(&self) -> u64 {
        self.stamps.len() as u64
    }
}
