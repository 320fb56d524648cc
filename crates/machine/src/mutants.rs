//! Seeded bugs. Without the feature `mutants` none is ever in, and what asks for one is compiled to nothing.

use crate::state::State;

/// A bug that the simulation or the fault-injection suite must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The end of an attempt counts for its task, whoever owns that by now.
    NoFenceOnFinish,
}

#[cfg(feature = "mutants")]
impl Mutant {
    pub const ALL: [(&'static str, Mutant); 1] = [("no-fence-on-finish", Mutant::NoFenceOnFinish)];

    pub fn named(name: &str) -> Option<Mutant> {
        Mutant::ALL.into_iter().find(|(other, _)| *other == name).map(|(_, mutant)| mutant)
    }
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
