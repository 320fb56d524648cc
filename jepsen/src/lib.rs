//! Jepsen-style tests of Baton, in Rust: real replicas and workers in network namespaces, real partitions and kills, a
//! history that Jepsen's own tools can read, and checkers that judge it afterwards. What it claims is in `README.md`.
//!
//! `world` is what is tested, `workload` uses it, `nemesis` breaks it, `history` remembers both, `checks` judges.

pub mod checks;
pub mod clock;
pub mod edn;
pub mod history;
pub mod ledger;
pub mod nemesis;
pub mod net;
pub mod report;
pub mod run;
pub mod watcher;
pub mod workload;
pub mod world;
