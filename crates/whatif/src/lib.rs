//! What-if runs: a workload in virtual time, over the state and the planner of the leader itself, under one policy after the
//! other. Nothing here decides where a task runs; what is found out is what a cluster would do whose workers need no time to
//! start a task and whose estimates are those of the workload.

mod adapt;
mod advice;
mod figures;
mod generate;
mod history;
mod notes;
mod page;
mod past;
mod policy;
mod random;
mod recent;
mod replay;
mod run;
mod swf;
mod wfcommons;
mod workload;

pub use adapt::{ADAPT_TASKS_MAX, adapt, cores};
pub use advice::{Advice, GAIN_MIN, TASKS_MIN, advise, candidates};
pub use figures::{BOUND_S, Figures, figures};
pub use generate::{Generator, generate};
pub use history::{
    History, PastJob, PastRun, PastTask, VERSION as HISTORY_VERSION, history_head, history_line, read_history,
};
pub use notes::notes;
pub use page::{gantt, render};
pub use policy::{NAMES, Policy};
pub use recent::Recent;
pub use replay::{Facts, Replay, replay};
pub use run::{Broken, Ran, Run, run};
pub use swf::read_swf;
pub use wfcommons::read_wfcommons;
pub use workload::{Job, Malformed, Task, Workload};
