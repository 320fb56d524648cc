//! Claims: a worker takes ready tasks itself. Nothing but who asks is different from a plan.

use model::SessionId;

use crate::apply::place::{eligible, take};
use crate::apply::write::within;
use crate::eligible::Ineligible;
use crate::state::State;
use crate::{CLAIMS_MAX, Placement, Rejection, Reply};

pub(crate) fn apply(state: &mut State, id: SessionId, placements: &[Placement]) -> Result<Reply, Rejection> {
    if state.session(id).is_none_or(|session| session.ended) {
        return Err(Rejection::SessionEnded { session: id });
    }
    within(placements.len() as u64, CLAIMS_MAX as u64, "claims", "the placements of a claim")?;
    let (mut taken, mut dropped) = (0, 0);
    for placement in placements {
        if placement.session == id && claimable(state, placement).is_ok() {
            take(state, placement);
            taken += 1;
        } else {
            dropped += 1;
        }
    }
    Ok(Reply::Placed { taken, dropped })
}

/// Whether the worker may take these tasks now.
pub fn claimable(state: &State, placement: &Placement) -> Result<(), Ineligible> {
    let queue = state.job(placement.job).and_then(|job| state.queue(job.queue));
    if placement.held || !queue.is_some_and(|queue| queue.policy.may_be_claimed()) {
        return Err(Ineligible::NotClaimed);
    }
    eligible(state, placement)
}
