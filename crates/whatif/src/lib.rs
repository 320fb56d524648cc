//! What-if runs: a workload in virtual time, over the state and the planner of the leader itself, under one policy after the
//! other. Nothing here decides where a task runs; what is found out is what a cluster would do whose workers need no time to
//! start a task and whose estimates are those of the workload.

mod figures;
mod generate;
mod page;
mod policy;
mod random;
mod run;
mod swf;
mod wfcommons;
mod workload;

pub use figures::{BOUND_S, Figures, figures};
pub use generate::{Generator, generate};
pub use page::render;
pub use policy::{NAMES, Policy};
pub use run::{Ran, Run, run};
pub use swf::read_swf;
pub use wfcommons::read_wfcommons;
pub use workload::{Job, Malformed, Task, Workload};
