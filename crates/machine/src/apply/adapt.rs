//! Queues whose policy the leader changes by itself, by what would have served their history better.

use model::policy::{Adaptation, QueuePolicy};

use crate::apply::queues::{changed, heed, keeps_bookings, named};
use crate::state::State;
use crate::{Rejection, Reply};

/// The policy that was found for the queue, which must be as it was when it was looked at.
pub(crate) fn apply(state: &mut State, name: &str, found: &Adaptation) -> Result<Reply, Rejection> {
    let queue = named(state, name)?;
    let is_same = queue.auto && queue.policy == found.from && found.to != found.from;
    if !is_same || found.to.refusal().or_else(|| found.to.auto_refusal()).is_some() {
        return Err(Rejection::QueueChanged { queue: name.to_owned() });
    }
    let at = state.stamp().wall;
    set(state, name, found.to)?;
    let queue = named(state, name)?;
    let home = queue.adapted.as_ref().map_or(found.from, |last| last.home);
    queue.adapted = Some(Box::new(Adaptation { at, home, ..*found }));
    queue.adaptations += 1;
    changed(state, name)
}

/// Back to the policy that was last set by hand, and no more adaptations.
pub(crate) fn undo(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let Some(home) = named(state, name)?.adapted.as_ref().map(|last| last.home) else {
        return Err(Rejection::NothingToUndo { queue: name.to_owned() });
    };
    set(state, name, home)?;
    let queue = named(state, name)?;
    (queue.auto, queue.adapted) = (false, None);
    changed(state, name)
}

fn set(state: &mut State, name: &str, policy: QueuePolicy) -> Result<(), Rejection> {
    keeps_bookings(state, name, policy)?;
    let queue = named(state, name)?;
    let (id, before) = (queue.id, std::mem::replace(&mut queue.policy, policy));
    heed(state, id, before);
    Ok(())
}
