//! Work that runs inside the worker: sleeping, and functions of the program that the worker is built into.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::time::format_duration;
use model::{AttemptId, Blob, BlobSource, Reason, Timestamp, Token, Verdict, Work};
use tokio::sync::watch;
use worker_core::{Ended, Order};

use crate::clock;

/// One attempt, as an executor sees it.
#[derive(Clone)]
pub struct Attempt {
    pub order: Arc<Order>,
    /// Number of the task.
    pub task: u32,
    pub started: Timestamp,
    pub stopping: Stopping,
    /// A larger result is dropped.
    pub result_bytes_max: u64,
}

impl Attempt {
    pub fn id(&self) -> AttemptId {
        self.order.attempt_of(self.task)
    }

    pub fn succeeded(&self) -> Ended {
        Ended::succeeded(Some(self.started), clock::wall())
    }

    pub fn failed(&self, reason: Reason, message: &str) -> Ended {
        let ended = Ended::new(Verdict::Failed, reason, message, clock::wall());
        Ended { started: Some(self.started), ..ended }
    }
}

/// Tells an attempt that it should end.
#[derive(Clone, Debug)]
pub struct Stopping(watch::Receiver<Stage>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    #[default]
    Running,
    Stopping,
    Killed,
}

impl Stopping {
    pub fn is_asked(&self) -> bool {
        *self.0.borrow() >= Stage::Stopping
    }

    /// Waits until it is asked to end.
    pub async fn asked(&mut self) {
        // The worker itself is gone: that, too, is an end.
        let _ = self.0.wait_for(|stage| *stage >= Stage::Stopping).await;
    }
}

/// Runs attempts of one kind of work inside the worker.
pub trait Executor: Send + Sync + 'static {
    /// Runs one attempt to its end. Dropped when it is killed, or when a grace after being asked to stop is over,
    /// if [`Executor::is_abortable`].
    fn run(&self, attempt: Attempt) -> BoxFuture<'static, Ended>;

    /// Whether dropping the future ends the work. If not, the attempt counts as running until it returns.
    fn is_abortable(&self, _attempt: &Attempt) -> bool {
        true
    }
}

/// Sleeps.
pub struct Sleep;

impl Executor for Sleep {
    fn run(&self, mut attempt: Attempt) -> BoxFuture<'static, Ended> {
        let Work::Sleep(duration) = attempt.order.spec.work else {
            return std::future::ready(attempt.failed(Reason::Unsupported, "not a sleep")).boxed();
        };
        async move {
            tokio::select! {
                () = tokio::time::sleep(duration) => attempt.succeeded(),
                () = attempt.stopping.asked() => attempt.failed(Reason::Exited, "stopped"),
            }
        }
        .boxed()
    }
}

/// What a registered function is told beside its input.
#[derive(Clone)]
pub struct Context {
    pub id: AttemptId,
    pub token: Token,
    pub array_index: Option<u32>,
    pub line: Option<String>,
    pub stopping: Stopping,
}

type Outcome = Result<Vec<u8>, String>;
type Async = Arc<dyn Fn(Vec<u8>, Context) -> BoxFuture<'static, Outcome> + Send + Sync>;
type Blocking = Arc<dyn Fn(Vec<u8>, Context) -> Outcome + Send + Sync>;

/// The functions of a worker, by name.
#[derive(Default)]
pub struct Functions {
    table: BTreeMap<String, Callable>,
}

#[derive(Clone)]
enum Callable {
    Async(Async),
    Blocking(Blocking),
}

impl Functions {
    pub fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    pub fn register<F, R>(&mut self, name: &str, function: F)
    where
        F: Fn(Vec<u8>, Context) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let boxed: Async = Arc::new(move |input, context| function(input, context).boxed());
        self.table.insert(name.to_owned(), Callable::Async(boxed));
    }

    pub fn register_blocking<F>(&mut self, name: &str, function: F)
    where
        F: Fn(Vec<u8>, Context) -> Outcome + Send + Sync + 'static,
    {
        self.table.insert(name.to_owned(), Callable::Blocking(Arc::new(function)));
    }

    fn find(&self, attempt: &Attempt) -> Option<&Callable> {
        self.table.get(attempt.order.spec.work.function()?)
    }
}

impl Executor for Functions {
    fn run(&self, attempt: Attempt) -> BoxFuture<'static, Ended> {
        let Some(callable) = self.find(&attempt).cloned() else {
            let name = attempt.order.spec.work.function().unwrap_or_default();
            let message = format!("this worker has no function `{name}`");
            return std::future::ready(attempt.failed(Reason::Unsupported, &message)).boxed();
        };
        async move {
            let input = match input(&attempt) {
                Ok(input) => input,
                Err(why) => return attempt.failed(Reason::NotStarted, &why),
            };
            let context = Context {
                id: attempt.id(),
                token: attempt.order.token,
                array_index: attempt.order.array_index_of(attempt.task),
                line: attempt.order.line_of(attempt.task).map(str::to_owned),
                stopping: attempt.stopping.clone(),
            };
            let outcome = match callable {
                Callable::Async(function) => function(input, context).await,
                Callable::Blocking(function) => {
                    match tokio::task::spawn_blocking(move || function(input, context)).await {
                        Ok(outcome) => outcome,
                        Err(error) => Err(match error.try_into_panic() {
                            Ok(panic) => panic_message(panic.as_ref()),
                            Err(error) => error.to_string(),
                        }),
                    }
                }
            };
            record(&attempt, outcome)
        }
        .boxed()
    }

    /// A thread cannot be ended from outside.
    fn is_abortable(&self, attempt: &Attempt) -> bool {
        !matches!(self.find(attempt), Some(Callable::Blocking(_)))
    }
}

fn input(attempt: &Attempt) -> Result<Vec<u8>, String> {
    let Work::Function(function) = &attempt.order.spec.work else { return Ok(Vec::new()) };
    let Some(blob) = &function.input else { return Ok(Vec::new()) };
    match &blob.source {
        BlobSource::Inline(bytes) => Ok(bytes.clone()),
        BlobSource::Url(url) => Err(format!("the input of a function is given in line, not by `{url}`")),
        BlobSource::Ref(name) => Err(format!("this worker cannot resolve `ref: {name}`")),
    }
}

fn record(attempt: &Attempt, outcome: Outcome) -> Ended {
    match outcome {
        Err(message) => attempt.failed(Reason::Exited, &message),
        Ok(bytes) if bytes.is_empty() => attempt.succeeded(),
        Ok(bytes) => Ended { result: Some(Box::new(Blob::inline(bytes))), ..attempt.succeeded() },
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}

/// Ends an attempt that runs inside the worker.
#[derive(Debug)]
pub struct Control(watch::Sender<Stage>);

impl Control {
    pub fn stop(&self) {
        self.0.send_if_modified(|stage| {
            std::mem::replace(stage, Stage::Stopping.max(*stage)) < Stage::Stopping
        });
    }

    pub fn kill(&self) {
        self.0.send_replace(Stage::Killed);
    }
}

pub fn control() -> (Control, Stopping) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Control(sender), Stopping(receiver))
}

/// Runs an attempt under its timeout, its stops and its panics.
pub async fn supervise(
    executor: Arc<dyn Executor>,
    mut attempt: Attempt,
    control: Arc<Control>,
    grace: Duration,
) -> Ended {
    let is_abortable = executor.is_abortable(&attempt);
    let own = attempt.clone();
    // Called inside, too: an executor may panic before it returns its future.
    let run = AssertUnwindSafe(async move { executor.run(own).await }).catch_unwind();
    tokio::pin!(run);
    let or_panic = |attempt: &Attempt, ended: Result<Ended, Box<dyn Any + Send>>| {
        ended.unwrap_or_else(|panic| attempt.failed(Reason::Exited, &panic_message(panic.as_ref())))
    };
    let timeout = attempt.order.spec.timeout;
    let timed_out = tokio::select! {
        ended = &mut run => return or_panic(&attempt, ended),
        () = attempt.stopping.asked() => false,
        () = sleep_or_never(timeout) => true,
    };
    control.stop();
    let ended = if is_abortable {
        tokio::select! {
            ended = &mut run => Some(ended),
            () = tokio::time::sleep(grace) => None,
            _ = attempt.stopping.0.wait_for(|stage| *stage == Stage::Killed) => None,
        }
    } else {
        Some(run.await)
    };
    if timed_out {
        let timeout = timeout.map_or_else(String::new, format_duration);
        return attempt.failed(Reason::TimedOut, &format!("it ran longer than its timeout of {timeout}"));
    }
    match ended {
        Some(ended) => or_panic(&attempt, ended),
        None => attempt.failed(Reason::Exited, "stopped"),
    }
}

async fn sleep_or_never(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
