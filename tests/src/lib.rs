//! End to end: real `baton` processes on loopback, driven through the public client and the command line, killed with
//! real signals. What the tasks write themselves is the witness.
//!
//! Tests wait for conditions and bound a hang with one generous patience; none of them measures time.

pub mod cli;
pub mod cluster;
pub mod garbage;
pub mod jobs;
pub mod ledger;
pub mod load;
pub mod process;
