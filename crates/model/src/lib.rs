//! The nouns of Baton: ids, times, resources, job and task specs, settings and limits, and the form
//! in which they are read and written.
//!
//! One serde form serves JSON, YAML, TOML, the log and the snapshots: names are snake_case, enums are
//! lower case, and within v1 the form only grows. Nothing here reads a clock, a file or chance.

pub mod actor;
pub mod blob;
pub mod constraint;
pub mod ids;
pub mod lean;
pub mod outcome;
pub mod policy;
pub mod resources;
pub mod runs;
pub mod settings;
pub mod size;
pub mod spec;
pub mod time;
pub mod validate;
pub mod views;

pub use actor::{Actor, TraceId};
pub use blob::{Blob, BlobSource};
pub use constraint::Constraint;
pub use ids::{AttemptId, ClassId, JobId, LogIndex, NodeId, RequestId, Seq, SessionId, TaskId, Term, Token};
pub use lean::Lean;
pub use outcome::{Outcome, Reason, Verdict};
pub use policy::{Pace, QueuePolicy};
pub use resources::{Capacity, Offer, Resources, UnitShare};
pub use runs::{Run, RunSet};
pub use settings::Settings;
pub use spec::{
    ArrayRange, Dependency, EnvValue, FileSpec, JobSpec, JobTemplate, Kind, OnDisconnect, Placement, Retry,
    TaskSpec, TaskTemplate, Timing, Work,
};
pub use time::{Elapsed, Moment, Timestamp};
pub use validate::SpecError;
