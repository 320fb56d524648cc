//! A worker process: the shell around `worker-core`, with executors and the keeper.
//!
//! The loop is in `shell`; `processes` lays attempts out and sums them up; the `keeper`, a process of its own, holds
//! them. Clocks are read in `clock`, and every call that only Linux has is in `sys`.

mod address;
mod cgroup;
mod claims;
mod clock;
mod config;
mod convert;
mod environment;
mod executor;
mod fetch;
mod finish;
pub mod fleet;
mod home;
mod journal;
pub mod keeper;
mod link;
mod logs;
mod prepare;
mod processes;
mod shell;
mod span;
mod spares;
mod start;
mod sys;

pub use config::{Config, KeeperProgram, LogLimits, detect_capacity};
pub use executor::{Attempt, Context, Executor, Stopping};
pub use home::HomeError;
pub use shell::{Left, WorkerError};
pub use start::{Handle, StartError, Worker, WorkerBuilder};
pub use sys::raise_open_files;
#[cfg(feature = "chaos")]
pub use worker_core::Mutant;
pub use worker_core::{Ended, Order, Refusal};
