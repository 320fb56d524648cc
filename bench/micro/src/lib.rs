//! Fixed loads for the pure rooms, made alike at every run: no clock, no chance. The benches measure how long they take,
//! `counted` and `budgets` how many instructions.

pub mod budget;
pub mod callgrind;
pub mod classes;
pub mod load;
pub mod promises;
pub mod world;

pub use load::{LOADS, Load};
pub use world::{Step, World};

/// The one that `baton` has: allocations cost what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
