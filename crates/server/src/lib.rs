//! A replica process: the shell around the leader's judgement, the gRPC services and the HTTP pages.

mod api;
pub mod clock;
pub mod config;
mod deadline;
mod follow;
mod http;
pub mod lead;
pub mod metrics;
mod request;
mod ring;
mod serve;

#[cfg(feature = "chaos")]
pub use config::Chaos;
pub use config::{Addresses, Config, Error, Limits, Listeners, Peer};
#[cfg(feature = "chaos")]
pub use leader_core::leases::Mutant;
pub use replica::Cut;
pub use serve::{Place, Server, run};
