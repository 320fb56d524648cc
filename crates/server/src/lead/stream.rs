//! A worker's stream. Nothing is spawned for it: reading what comes in is driven by sending what goes out, so that both
//! end together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{Instrument, Span, debug, field, info, info_span, warn};
use wire::v1;
use wire::v1::leader_message::Message as ToWorker;
use wire::v1::worker_message::Message as FromWorker;

use crate::clock::Clock;
use crate::lead::{Arrival, Control};

/// Messages that a worker may be behind; a slower one is disconnected.
const OUTGOING_MAX: usize = 16_384;

/// For a stream's first word: what says nothing is no worker, and is not kept.
const HELLO_MAX: Duration = Duration::from_secs(10);

static LAST: AtomicU64 = AtomicU64::new(0);

/// Tells the task when the stream is dropped, for whatever reason.
struct Guard {
    stream: u64,
    control: mpsc::UnboundedSender<Control>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The task may have ended.
        drop(self.control.send(Control::Closed { stream: self.stream }));
    }
}

pub(super) fn attach(
    incoming: Streaming<v1::WorkerMessage>,
    messages: mpsc::Sender<Arrival>,
    control: mpsc::UnboundedSender<Control>,
    clock: Clock,
) -> impl Stream<Item = Result<v1::LeaderMessage, Status>> + Send + 'static {
    let stream = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let (outgoing, outgoing_in) = mpsc::channel(OUTGOING_MAX);
    let guard = Guard { stream, control };
    // Before the first message, so that the task knows the stream when that comes.
    drop(guard.control.send(Control::Opened { stream, outgoing }));
    let span = info_span!("session", stream, worker = field::Empty, session = field::Empty);
    let told = span.clone();
    ReceiverStream::new(outgoing_in)
        .inspect(move |message| note_welcome(&told, message))
        .take_until(read(incoming, messages, guard, clock).instrument(span))
}

fn note_welcome(span: &Span, message: &Result<v1::LeaderMessage, Status>) {
    if let Ok(v1::LeaderMessage { term, message: Some(ToWorker::Welcome(welcome)), .. }) = message {
        span.record("session", welcome.session);
        span.in_scope(|| info!(term, "a worker is attached"));
    }
}

/// The first message, which says who the worker is.
async fn introduction(incoming: &mut Streaming<v1::WorkerMessage>) -> Option<v1::WorkerMessage> {
    match tokio::time::timeout(HELLO_MAX, incoming.message()).await {
        Ok(Ok(Some(message))) => {
            if let Some(FromWorker::Hello(hello)) = &message.message {
                Span::current().record("worker", hello.worker.as_str());
            }
            Some(message)
        }
        Ok(Ok(None)) => None,
        Ok(Err(status)) => {
            debug!(%status, "a worker's stream broke before its first word");
            None
        }
        Err(_) => {
            warn!(waited = ?HELLO_MAX, "a worker's stream said nothing and is closed");
            None
        }
    }
}

async fn read(
    mut incoming: Streaming<v1::WorkerMessage>,
    messages: mpsc::Sender<Arrival>,
    guard: Guard,
    clock: Clock,
) {
    let Some(hello) = introduction(&mut incoming).await else { return };
    let arrival = |message| Arrival { stream: guard.stream, message, at: clock.moment() };
    if messages.send(arrival(hello)).await.is_err() {
        return;
    }
    loop {
        match incoming.message().await {
            Ok(Some(message)) => {
                if messages.send(arrival(message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                info!("a worker's stream has ended");
                return;
            }
            Err(status) => {
                info!(%status, "a worker's stream broke");
                return;
            }
        }
    }
}
