//! Seeded bugs. A net that has never caught anything proves nothing.

use leader_core::Leader;
#[cfg(feature = "mutants")]
use leader_core::leases::Mutant;
use machine::state::State;
use worker_core::Core;

/// Which bugs are in; one of the state at a time. Without the feature `mutants` they do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutants {
    /// A leader renews leases although no quorum answers it.
    pub renew_without_quorum: bool,
    /// A new leader ends every session that it finds.
    pub expire_on_election: bool,
    /// The end of an attempt counts for its task, whoever owns that by now.
    pub no_fence_on_finish: bool,
    /// A snapshot leaves out which requests were done.
    pub requests_not_in_snapshot: bool,
    /// Every eighth allocation goes on taking what it took.
    pub capacity_not_released: bool,
    /// Every eighth allocation gives back twice what it took.
    pub capacity_released_twice: bool,
    /// A group is set free when the one that it waits for has merely begun.
    pub dependency_on_stale_state: bool,
    /// Each replica takes the placements of a plan in an order of its own.
    pub hash_order: bool,
    /// Every fourth release of a periodic task is made again.
    pub released_twice: bool,
    /// A worker starts an order again that comes again.
    pub start_twice: bool,
}

impl Mutants {
    #[cfg(feature = "mutants")]
    pub(crate) fn arm_leader(self, leader: &mut Leader) {
        if self.renew_without_quorum {
            leader.mutate(Mutant::RenewWithoutQuorum);
        }
        if self.expire_on_election {
            leader.mutate(Mutant::ExpireOnElection);
        }
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) fn arm_leader(self, _: &mut Leader) {}

    #[cfg(feature = "mutants")]
    pub(crate) fn arm_state(self, state: &mut State) {
        let all = [
            (self.no_fence_on_finish, machine::Mutant::NoFenceOnFinish),
            (self.requests_not_in_snapshot, machine::Mutant::RequestsNotInSnapshot),
            (self.capacity_not_released, machine::Mutant::CapacityNotReleased),
            (self.capacity_released_twice, machine::Mutant::CapacityReleasedTwice),
            (self.dependency_on_stale_state, machine::Mutant::DependencyOnStaleState),
            (self.hash_order, machine::Mutant::HashOrder),
            (self.released_twice, machine::Mutant::ReleasedTwice),
        ];
        state.mutate(all.into_iter().find(|(is_in, _)| *is_in).map(|(_, mutant)| mutant));
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) fn arm_state(self, _: &mut State) {}

    #[cfg(feature = "mutants")]
    pub(crate) fn arm_worker(self, core: &mut Core) {
        core.mutate(self.start_twice.then_some(worker_core::Mutant::StartTwice));
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) fn arm_worker(self, _: &mut Core) {}
}
