//! Whether a history could be that of one object that does one thing at a time: each call at one moment between its begin
//! and its end, with the answer that it got.
//!
//! The search is Wing & Gong's (Testing and Verifying Concurrent Objects, 1993): place one call after another, each time
//! one that began before the first end that is still to come, and go back where none fits. It remembers which calls were
//! placed with which state as the result, and never goes there twice (Lowe, Testing for Linearizability, 2017).
//! Calls of which nobody knows double the work each in the worst case, so what needs no try is left out: `search` says what.
//!
//! A history of several objects may be checked object by object (Herlihy & Wing, 1990), which is much faster.

mod placed;
mod register;
mod search;

#[cfg(test)]
mod tests;

use std::hash::Hash;

pub use register::{Register, RegisterOp};

/// What the object does when it is asked one thing at a time.
pub trait Model {
    type State: Clone + Eq + Hash;
    /// Equal ones do the same in every state.
    type Op: PartialEq;

    fn init(&self) -> Self::State;

    /// The state after the operation with the answer it got; None: that answer is impossible here.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// True of an operation that can always come early: where it leaves the state as it is, no later state that allows it
    /// would be changed by it. Such a call is placed as soon as it fits, and nothing is tried in its stead, which saves
    /// most of the work. False is always right.
    fn is_look(&self, _op: &Self::Op) -> bool {
        false
    }

    /// True of an operation that is possible in every state and leads to the same state from all of them. A call of which
    /// nobody knows is not placed right before one. False is always right.
    fn is_blind(&self, _op: &Self::Op) -> bool {
        false
    }
}

/// Times are on any one clock. A call that begins in the same instant in which another ends is concurrent with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<O> {
    pub op: O,
    pub invoked: u64,
    /// None: nobody knows whether it happened; it may at any later time, or never.
    pub completed: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Linearizable,
    /// There is no order. Calls are named by their places in the input.
    Not {
        /// The history is linearizable until this call ends, and no longer with its answer.
        call: usize,
        /// The longest of the orders that came as far as that.
        order: Vec<usize>,
    },
    /// So many steps were tried, and nothing is decided.
    Unknown {
        tried: u64,
    },
}

/// Searches for an order. A step is one of the model, or one comparison with where the search has been; somewhat more than
/// `steps_max` may be tried. Memory grows with the steps, by some hundred bytes each.
///
/// Panics on a call that ended before it began.
pub fn check<M: Model>(model: &M, calls: &[Call<M::Op>], steps_max: u64) -> Outcome {
    search::Search::new(model, calls, steps_max).run()
}
