//! Seeded bugs. Without the feature `mutants` none is ever in, and what asks for one is compiled to nothing.

use model::JobId;

use crate::Placement;
use crate::state::State;
use crate::state::sessions::Allocation;

/// A bug that the simulation or the fault-injection suite must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "mutants"),
    expect(dead_code, reason = "most are named in what is not compiled then")
)]
pub enum Mutant {
    /// The end of an attempt counts for its task, whoever owns that by now.
    NoFenceOnFinish,
    /// Who has a state from a snapshot does again what was done before it.
    RequestsNotInSnapshot,
    /// Every eighth allocation of a session goes on taking what it took.
    CapacityNotReleased,
    /// Every eighth allocation of a session gives back what it took twice.
    CapacityReleasedTwice,
    /// What waits for a group is set free when that has merely begun.
    DependencyOnStaleState,
    /// The placements of a plan are taken in an order that is another on every replica.
    HashOrder,
    /// Every fourth release of a periodic task is due again after it.
    ReleasedTwice,
}

#[cfg(feature = "mutants")]
impl Mutant {
    pub const ALL: [(&'static str, Mutant); 7] = [
        ("no-fence-on-finish", Mutant::NoFenceOnFinish),
        ("requests-not-in-snapshot", Mutant::RequestsNotInSnapshot),
        ("capacity-not-released", Mutant::CapacityNotReleased),
        ("capacity-released-twice", Mutant::CapacityReleasedTwice),
        ("dependency-on-stale-state", Mutant::DependencyOnStaleState),
        ("hash-order", Mutant::HashOrder),
        ("released-twice", Mutant::ReleasedTwice),
    ];
}

impl State {
    /// Plants a bug. It is no part of the state: one that is thawed from rows has none.
    #[cfg(feature = "mutants")]
    pub fn mutate(&mut self, mutant: Option<Mutant>) {
        self.mutant = mutant;
    }

    #[cfg(feature = "mutants")]
    pub(crate) fn has_bug(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) fn has_bug(&self, _: Mutant) -> bool {
        false
    }
}

/// The placements in the order of a hash with a seed of its own, if that bug is in.
#[cfg(feature = "mutants")]
#[allow(clippy::disallowed_types)] // That its order can be seen is the bug.
pub(crate) fn reordered(state: &State, placements: &[Placement]) -> Option<Vec<Placement>> {
    let by_place = || placements.iter().copied().enumerate().collect::<std::collections::HashMap<_, _>>();
    state.has_bug(Mutant::HashOrder).then(|| by_place().into_values().collect())
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn reordered(_: &State, _: &[Placement]) -> Option<Vec<Placement>> {
    None
}

/// How often an allocation gives back what it took: once, but for bugs.
#[cfg(feature = "mutants")]
pub(crate) fn times_released(state: &State, allocation: &Allocation) -> u32 {
    if !allocation.seq.is_multiple_of(8) {
        1
    } else if state.has_bug(Mutant::CapacityNotReleased) {
        0
    } else if state.has_bug(Mutant::CapacityReleasedTwice) {
        2
    } else {
        1
    }
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn times_released(_: &State, _: &Allocation) -> u32 {
    1
}

/// A group has begun: what waits for it waits no longer, if that bug is in.
#[cfg(feature = "mutants")]
pub(crate) fn has_begun(state: &mut State, id: JobId, place: usize) {
    use crate::apply::parts;
    use crate::chores::Change;
    use crate::state::jobs::On;

    if !state.has_bug(Mutant::DependencyOnStaleState) {
        return;
    }
    let Some(job) = state.job(id) else { return };
    let dependents: Vec<u32> = job.groups[place].dependents.iter().copied().collect();
    for dependent in dependents {
        state.rekeyed(id, [dependent], |job| {
            let holds = |on: &On| match on {
                On::Group(other) => {
                    let counts = job.groups[*other as usize].counts();
                    counts.running + counts.finished() == 0
                }
                On::Job(_) => true,
            };
            let holding = job.groups[dependent as usize].after.iter().filter(|on| holds(on)).count();
            job.groups[dependent as usize].waiting = holding as u32;
        });
        let Some(job) = state.job(id) else { return };
        let release = parts::chore(job, Some(dependent as usize), Change::Release);
        state.chores.push_back(release);
    }
}

#[cfg(not(feature = "mutants"))]
pub(crate) fn has_begun(_: &mut State, _: JobId, _: usize) {}
