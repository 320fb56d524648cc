//! The shell around the leader's judgement: it has the clock, the log and the workers' streams, and does what
//! `leader_core` says.
//!
//! One task owns the [`leader_core::Leader`] while this replica leads. Everything reaches it over channels: writes of
//! clients, workers' messages, what was applied, what became of proposals. [`Lead`] is the other end of these.

mod clocks;
mod convert;
mod error;
mod held;
mod logs;
mod metrics;
mod step;
mod stream;
mod task;

use std::io;
use std::sync::Arc;

use futures::Stream;
use machine::{Reply, Write};
use model::settings::Failover;
use model::{LogIndex, Moment};
use replica::Replica;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
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
    /// The behaviour level that a cluster is founded with.
    pub level: u32,
    #[cfg(feature = "chaos")]
    pub mutant: Option<leader_core::leases::Mutant>,
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
    messages: mpsc::Sender<Arrival>,
    clock: Clock,
    control: mpsc::UnboundedSender<Control>,
    metrics: Arc<Metrics>,
    /// Closed when the task ends, for whatever reason.
    lives: watch::Receiver<()>,
    _task: Arc<Home>,
}

/// Where the task runs. It has a thread of its own: behind the streams of thousands of submits, each of which is read for
/// milliseconds at a time, workers' reports would wait for ten times as long as they may.
struct Home {
    task: JoinHandle<()>,
    /// None in a simulation, which has one for everything.
    runtime: Option<Runtime>,
}

impl Drop for Home {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(runtime) = self.runtime.take() {
            // This may itself be a task, which must not wait.
            runtime.shutdown_background();
        }
    }
}

/// A worker's message as it was read off its stream.
struct Arrival {
    stream: u64,
    message: v1::WorkerMessage,
    at: Moment,
}

struct WriteRequest {
    write: Box<Write>,
    /// In the log.
    bytes: usize,
    answer: oneshot::Sender<Result<Written, WriteError>>,
}

/// What is rare and must not wait behind messages.
enum Control {
    Opened { stream: u64, outgoing: mpsc::Sender<Result<v1::LeaderMessage, Status>> },
    Closed { stream: u64 },
    Fetch { wanted: v1::FetchLog, answer: oneshot::Sender<Result<logs::Chunks, FetchError>> },
    CloseFetch { fetch: u64 },
}

/// Starts the task.
pub fn start(
    replica: Arc<Replica>,
    config: Config,
    clock: Clock,
    counts: Arc<crate::metrics::Metrics>,
) -> io::Result<Lead> {
    let runtime = replica.env().has_threads().then(runtime).transpose()?;
    let handle = runtime.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone());
    let (writes, writes_in) = mpsc::channel(WRITES_WAITING_MAX);
    let (messages, messages_in) = mpsc::channel(MESSAGES_WAITING_MAX);
    let (control, control_in) = mpsc::unbounded_channel();
    let metrics = Arc::new(Metrics::default());
    let inbox = Inbox { writes: writes_in, messages: messages_in, control: control_in };
    let task = Task::new(replica.clone(), config, clock.clone(), counts, metrics.clone(), inbox);
    let (running, lives) = told_of_end(task.run());
    let task = replica.env().spawn(&handle, Box::pin(running));
    Ok(Lead { writes, messages, clock, control, metrics, lives, _task: Arc::new(Home { task, runtime }) })
}

fn runtime() -> io::Result<Runtime> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(1).thread_name("lead").enable_all().build()
}

/// The work, and a channel that is closed when it ends: by itself, by a panic, or by being dropped.
fn told_of_end<F: Future<Output = ()>>(work: F) -> (impl Future<Output = ()>, watch::Receiver<()>) {
    let (ends, lives) = watch::channel(());
    let work = async move {
        let _ends = ends;
        work.await;
    };
    (work, lives)
}

impl Lead {
    /// Has the write done by this replica, if it leads. The id of a submitted job is chosen by the leader. `bytes` is
    /// what the write takes in the log: entries are cut by it.
    pub async fn write(&self, write: Box<Write>, bytes: usize) -> Result<Written, WriteError> {
        let (answer, answered) = oneshot::channel();
        let request = WriteRequest { write, bytes, answer };
        if self.writes.send(request).await.is_err() {
            return Err(WriteError::NotLeader { leader: None });
        }
        let lost = || WriteError::Unknown { reason: "this replica is stopping".to_owned() };
        answered.await.map_err(|_| lost())?
    }

    /// Resolves when the task has ended: nothing leads here any more, even if Raft says that this replica does.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut lives = self.lives.clone();
        async move { while lives.changed().await.is_ok() {} }
    }

    /// The body of `Workers.Attach`. It is driven by whoever reads what it returns, and ends with it.
    pub fn attach(
        &self,
        incoming: Streaming<v1::WorkerMessage>,
    ) -> impl Stream<Item = Result<v1::LeaderMessage, Status>> + Send + 'static {
        stream::attach(incoming, self.messages.clone(), self.control.clone(), self.clock.clone())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_task_is_told_even_if_it_panicked() {
        let (running, mut lives) = told_of_end(async {
            tokio::task::yield_now().await;
            panic!("a bug");
        });
        assert_eq!(lives.has_changed().ok(), Some(false));
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(running);
        assert!(lives.changed().await.is_err());
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_panic());
    }
}
