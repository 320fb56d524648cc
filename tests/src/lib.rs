//! End to end: real `baton` processes on loopback, driven through the public client, killed with real signals.

pub mod cluster;
pub mod jobs;
pub mod ledger;
