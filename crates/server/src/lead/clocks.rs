//! Whether the voters agree what time it is.

use replica::{Replica, Status};

use crate::clock::Clock;

/// Whether a majority of the voters, this replica among them, have wall clocks within the tolerated difference of this
/// one's.
pub fn agree(replica: &Replica, clock: &Clock) -> bool {
    let tolerated = replica.read(|state| state.limits().clock_skew_max_s);
    // The others were measured against the clock of replication; this process's own may be put off for a test.
    let own = i128::from(clock.wall().0) - i128::from(replica.env().wall().0);
    is_majority(&replica.status(), own, i128::from(tolerated) * 1_000_000)
}

fn is_majority(status: &Status, own: i128, tolerated: i128) -> bool {
    let voters = status.voters().count();
    let near = |id| {
        id == status.id
            || status
                .clock_offsets
                .get(&id)
                .is_some_and(|offset| (i128::from(*offset) - own).abs() <= tolerated)
    };
    let agreeing = status.voters().filter(|voter| near(voter.id)).count();
    agreeing * 2 > voters
}
