//! Seeded bugs. Without the feature `mutants` none is ever in, and what asks for one is compiled to nothing.

use crate::core::Core;

/// A bug that the simulation or the fault-injection suite must catch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// An order that comes again is started again, although its number is known. So that one comes again: a leader that
    /// the worker returns to is told of no number.
    StartTwice,
}

#[cfg(feature = "mutants")]
impl Mutant {
    pub const ALL: [(&'static str, Mutant); 1] = [("start-twice", Mutant::StartTwice)];
}

impl Core {
    /// Plants a bug.
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
