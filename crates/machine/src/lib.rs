//! The replicated state machine: commands in, replies, effects and events out. Pure and deterministic: apply
//! reads only the state and the entry.

pub(crate) mod apply;
mod asked;
pub mod check;
pub mod chores;
pub mod command;
mod digest;
pub mod eligible;
pub mod level;
mod mutants;
pub mod paged;
pub mod reply;
mod shared;
pub mod snapshot;
pub mod state;
pub mod views;

pub use apply::claim::claimable;
pub use apply::periodic::TASKS_MAX as PERIODIC_TASKS_MAX;
pub use apply::place::{TASKS_PER_PLACEMENT_MAX, eligible};
pub use apply::preempt::may_give_way;
pub use apply::slices::{key_of, may_resume, may_suspend};
pub use command::{
    BookingSpec, Bootstrap, CLAIMS_MAX, Command, Edge, Ended, Entry, JobChange, News, Op, OpenSession,
    PeriodicSpec, PeriodicTaskSpec, Placement, Plan, Preemption, Promised, QueueSpec, Report, ReportBatch,
    Reservation, Stamp, Switch, Target, Write,
};
pub use eligible::Ineligible;
pub use level::LEVEL;
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use reply::{Applied, Effect, Event, Opened, Rejection, Reply};
pub use shared::SharedSpecs;
pub use snapshot::{Corrupt, Frozen, Row};
pub use state::jobs::{Group, Job};
pub use state::queues::Promise;
pub use state::rank::Learnt;
pub use state::sessions::{Allocation, Phase, Session, Worker};
pub use state::{Due, State};
pub use views::JobFilter;
