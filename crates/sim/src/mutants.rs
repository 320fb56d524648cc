//! Seeded bugs. A net that has never caught anything proves nothing.

use leader_core::Leader;
#[cfg(feature = "mutants")]
use leader_core::leases::Mutant;
use machine::state::State;

/// Which bugs are in. Without the feature `mutants` they do nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutants {
    /// A leader renews leases although no quorum answers it.
    pub renew_without_quorum: bool,
    /// A new leader ends every session that it finds.
    pub expire_on_election: bool,
    /// The end of an attempt counts for its task, whoever owns that by now.
    pub no_fence_on_finish: bool,
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
        state.mutate(self.no_fence_on_finish.then_some(machine::Mutant::NoFenceOnFinish));
    }

    #[cfg(not(feature = "mutants"))]
    pub(crate) fn arm_state(self, _: &mut State) {}
}
