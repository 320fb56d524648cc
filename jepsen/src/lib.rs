//! Jepsen-style tests of Baton, in Rust: real replicas and workers that are killed, frozen, cut off and spoilt, a history that
//! Jepsen's own tools can read, and checkers that judge it afterwards. What it claims is in `README.md`.
//!
//! `ground` is what is tested, `workload` uses it, `nemesis` breaks it, `history`, `ledger` and `trace` remember, `checks`
//! judges, `store` keeps it all, `report` tells it. `sim` and `turmoil` are runs in virtual time.

pub mod availability;
pub mod checks;
pub mod clock;
pub mod drivers;
pub mod edn;
pub mod ground;
pub mod history;
pub mod ledger;
pub mod linear;
pub mod mutants;
pub mod nemesis;
pub mod observe;
pub mod page;
pub mod report;
pub mod run;
pub mod store;
pub mod trace;
pub mod watcher;
pub mod workload;
