//! The worker's judgement, pure: what to start, when to stop, what to report, whom to talk to.
//!
//! `Core::step(event, now)` takes what happened and returns what to do, in order. `Core::next_due` says when it
//! wants an `Event::Tick` at the latest. Nothing here reads a clock, a file, a socket or chance.
//!
//! Invariants:
//! - Each number of a session is started at most once, finished or not: [`Saved`] keeps a watermark and its gaps.
//! - Nothing is started without a lease, and what runs is killed when it ends, unless its job says `keep`.
//!   A lease counts from the moment the renewal that was answered was sent.
//! - A report stays in the outbox until the leader says that it is committed; a new leader gets it again.
//! - A message with a lower term than one seen before changes nothing.
//! - What lasts changes only by a [`Record`], and each is handed out as [`Action::Save`] before what depends on it,
//!   so a worker that restarts and replays them goes on where it was.

mod aloha;
mod chance;
mod core;
mod event;
mod lanes;
mod link;
mod mutants;
mod order;
mod outbox;
mod report;
mod saved;

#[cfg(test)]
mod stories;

pub use self::core::{Config, Core};
pub use aloha::{Aloha, SLOT};
pub use event::{Action, Event, Fetch, Hello, Hold, Leave, Message, Outgoing, Refusal, Welcome};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use order::{Gang, Order};
pub use outbox::{BATCH_BYTES_MAX, BATCH_REPORTS_MAX, BATCHES_IN_FLIGHT_MAX, Batch, STARTED_DELAY};
pub use report::{Ended, News, Report};
pub use saved::{GAPS_MAX, Record, Saved, Session, Stop, Taken};
