//! Where Raft's chance comes from in a simulation. Built with `--cfg turmoil` every task that calls into Raft carries
//! a seed, and one seed is one run; otherwise Raft draws from the thread, and these do nothing.

use futures::future::BoxFuture;

#[cfg(turmoil)]
mod seeds {
    use std::cell::Cell;

    thread_local! {
        // A simulation is one thread, and several may run beside each other.
        static NEXT: Cell<u64> = const { Cell::new(0) };
    }

    pub fn begin(seed: u64) {
        NEXT.set(seed);
    }

    pub fn next() -> u64 {
        NEXT.replace(NEXT.get().wrapping_add(1))
    }
}

#[cfg(turmoil)]
pub(crate) use seeds::next;

/// Before a simulation begins on this thread.
#[cfg(turmoil)]
pub fn begin(seed: u64) {
    seeds::begin(seed);
}

#[cfg(not(turmoil))]
pub fn begin(_seed: u64) {}

/// A task that an `Env` of a simulation is about to spawn.
#[cfg(turmoil)]
pub fn carried(task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
    use openraft_rt::deterministic_rng::DeterministicRng;
    Box::pin(DeterministicRng::<openraft_rt_tokio::TokioRuntime>::scope(next(), task))
}

#[cfg(not(turmoil))]
pub fn carried(task: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
    task
}
