//! A typed client of Baton. It takes any replicas' addresses, goes on with another when one is gone, tries again
//! what may be tried again (a write under the same request id is done at most once), and gives model types back.
//!
//! ```no_run
//! # async fn example() -> Result<(), client::Error> {
//! let client = client::Client::connect(["127.0.0.1:7070", "127.0.0.1:7071"]);
//! let task = model::TaskSpec::new("hello", model::Work::Run(vec!["echo".into(), "hello".into()]));
//! let submitted = client.submit(&model::JobSpec::of("hello", vec![task])).await?;
//! println!("{}", submitted.job);
//! # Ok(())
//! # }
//! ```

mod call;
mod env;
mod error;
mod logs;
mod many;
mod reads;
mod watch;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use model::RequestId;

pub use call::Options;
pub use env::Deadline;
pub use error::Error;
pub use logs::{LogChunk, LogStream, LogsOf};
pub use reads::{JobFilter, Page, Read, TaskFilter};
pub use watch::{Event, Position, Watched};
pub use wire::error::{Failure, Happened, code};
pub use writes::{
    Booking, Changed, Edge, JobChange, PeriodicSet, PeriodicTask, QueueChange, Submitted, Target,
};

/// Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<call::Shared>,
    /// Whether reads may answer from the asked replica's own state at once.
    stale: bool,
    /// For the next write instead of a new one.
    request_id: Option<RequestId>,
}

impl Client {
    /// Connects lazily: nothing is sent before the first call.
    pub fn connect<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Client {
        Client::with(Options::new(addresses.into_iter().map(Into::into).collect()))
    }

    pub fn with(options: Options) -> Client {
        Client { shared: call::Shared::new(options), stale: false, request_id: None }
    }

    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// The same cluster with another deadline for each call, over connections of its own.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        let options = self.shared.options.clone();
        let patience = options.patience.min(deadline);
        Client { shared: call::Shared::new(Options { deadline, patience, ..options }), ..self.clone() }
    }

    /// A client whose reads answer at once from the asked replica's own state; they say as of which index.
    pub fn stale(&self) -> Client {
        Client { stale: true, ..self.clone() }
    }

    /// A client whose writes carry this request id: repeated, they are done once and answered alike.
    pub fn with_request_id(&self, id: RequestId) -> Client {
        Client { request_id: Some(id), ..self.clone() }
    }

    /// A new request id.
    pub fn mint(&self) -> RequestId {
        self.shared.mint()
    }
}
