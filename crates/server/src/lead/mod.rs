//! The shell around the leader's judgement: it has the clock, the log and the workers' streams, and does what
//! `leader_core` says.
//!
//! One task owns the [`leader_core::Leader`] while this replica leads. Everything reaches it over channels: writes of
//! clients, workers' messages, what was applied, what became of proposals. [`Lead`] is the other end of these.

mod clocks;
mod convert;
mod error;
mod logs;
mod metrics;
mod step;
mod stream;
mod task;

use std::sync::Arc;

use futures::Stream;
use machine::{Reply, Write};
use model::LogIndex;
use model::settings::Failover;
use replica::Replica;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::{Status, Streaming};
use wire::v1;

pub use error::{FetchError, WriteError};
pub use metrics::Metrics;

use crate::clock::Clock;
use crate::lead::logs::Fetching;
use crate::lead::task::{Inbox, Task};

/// Writes on their way to the task; beyond it callers wait, and beyond the leader's lanes they are refused.
const WRITES_WAITING_MAX: usize = 4_096;
/// Workers' messages on their way to the task; beyond it their streams are not read.
const MESSAGES_WAITING_MAX: usize = 8_192;

#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: String,
    pub failover: Failover,
}

/// What a write came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub index: LogIndex,
    /// A rejection is one too.
    pub reply: Reply,
}

/// The way to the leader's task of this replica. Copies are the same; with the last one the task ends.
#[derive(Clone)]
pub struct Lead {
    writes: mpsc::Sender<WriteRequest>,
    messages: mpsc::Sender<(u64, v1::WorkerMessage)>,
    control: mpsc::UnboundedSender<Control>,
    metrics: Arc<Metrics>,
    _task: Arc<AbortOnDrop>,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct WriteRequest {
    write: Box<Write>,
    answer: oneshot::Sender<Result<Written, WriteError>>,
}

/// What is rare and must not wait behind messages.
enum Control {
    Opened { stream: u64, outgoing: mpsc::Sender<Result<v1::LeaderMessage, Status>> },
    Closed { stream: u64 },
    Fetch { wanted: v1::FetchLog, answer: oneshot::Sender<Result<logs::Chunks, FetchError>> },
    CloseFetch { fetch: u64 },
}

/// Starts the task on the runtime of the caller.
pub fn start(
    replica: Arc<Replica>,
    config: Config,
    clock: Clock,
    counts: Arc<crate::metrics::Metrics>,
) -> Lead {
    let (writes, writes_in) = mpsc::channel(WRITES_WAITING_MAX);
    let (messages, messages_in) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (control, control_in) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::default());
    let inbox = Inbox { writes: writes_in, messages: messages_in, control: control_in };
    let task = Task::new(replica.clone(), config, clock, counts, metrics.clone(), inbox);
    let task = replica.env().spawn(&Handle::current(), Box::pin(task.run()));
    Lead { writes, messages, control, metrics, _task: Arc::new(AbortOnDrop(task)) }
}

impl Lead {
    /// Has the write done by this replica, if it leads. The id of a submitted job is chosen by the leader.
    pub async fn write(&self, write: Write) -> Result<Written, WriteError> {
        let (answer, answered) = oneshot::channel();
        let request = WriteRequest { write: Box::new(write), answer };
        if self.writes.send(request).await.is_err() {
            return Err(WriteError::NotLeader { leader: None });
        }
        let lost = || WriteError::Unknown { reason: "this replica is stopping".to_owned() };
        answered.await.map_err(|_| lost())?
    }

    /// The body of `Workers.Attach`. It is driven by whoever reads what it returns, and ends with it.
    pub fn attach(
        &self,
        incoming: Streaming<v1::WorkerMessage>,
    ) -> impl Stream<Item = Result<v1::LeaderMessage, Status>> + Send + 'static {
        stream::attach(incoming, self.messages.clone(), self.control.clone())
    }

    /// The output of an attempt from the worker that has it. Ends with a chunk that says `end`; a chunk that says so
    /// with a note tells why there is no more. An error on the way is one of leadership: another replica goes on.
    pub async fn fetch_log(
        &self,
        wanted: v1::FetchLog,
    ) -> Result<impl Stream<Item = Result<v1::LogsReply, FetchError>> + Send + 'static, FetchError> {
        Fetching::begin(self.control.clone(), wanted).await.map(Fetching::into_stream)
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
