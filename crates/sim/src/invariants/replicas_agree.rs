//! Equal indexes have equal digests, on whichever replica, however often it was restarted.

use std::collections::BTreeMap;

use model::LogIndex;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct ReplicasAgree {
    digests: BTreeMap<LogIndex, u64>,
    looked: u64,
}

impl Invariant for ReplicasAgree {
    fn name(&self) -> &'static str {
        "replicas agree"
    }

    fn applied_by_each(&mut self, step: &Step, found: &mut Found) {
        self.looked += 1;
        let digest = step.state.digest();
        let first = *self.digests.entry(step.index).or_insert(digest);
        if first != digest {
            found.push(format!(
                "replica {} has {digest:016x} at {}, not {first:016x}",
                step.replica, step.index
            ));
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}
