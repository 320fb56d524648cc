//! A worker's stream. Nothing is spawned for it: reading what comes in is driven by sending what goes out, so that both
//! end together.

use std::sync::atomic::{AtomicU64, Ordering};

use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::debug;
use wire::v1;

use crate::lead::Control;

/// Messages that a worker may be behind; a slower one is disconnected.
const OUTGOING_MAX: usize = 16_384;

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
    messages: mpsc::Sender<(u64, v1::WorkerMessage)>,
    control: mpsc::UnboundedSender<Control>,
) -> impl Stream<Item = Result<v1::LeaderMessage, Status>> + Send + 'static {
    let stream = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    let (outgoing, outgoing_in) = mpsc::channel(OUTGOING_MAX);
    let guard = Guard { stream, control };
    // Before the first message, so that the task knows the stream when that comes.
    drop(guard.control.send(Control::Opened { stream, outgoing }));
    ReceiverStream::new(outgoing_in).take_until(read(incoming, messages, guard))
}

async fn read(
    mut incoming: Streaming<v1::WorkerMessage>,
    messages: mpsc::Sender<(u64, v1::WorkerMessage)>,
    guard: Guard,
) {
    loop {
        match incoming.message().await {
            Ok(Some(message)) => {
                if messages.send((guard.stream, message)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                debug!(stream = guard.stream, %status, "a worker's stream broke");
                return;
            }
        }
    }
}
