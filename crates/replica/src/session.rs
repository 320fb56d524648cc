//! The requests of one session of replication with a peer.
//!
//! Raft ends a session by letting go of its answers, and begins another that draws on the same state. The connection
//! may hold the request stream of the old one for long after that, when the peer does not answer for one, and go on
//! asking it for requests: what it got would be missing from the new session, or be of entries that are purged by then.
//! So the stream belongs to the session and is gone when that is; the connection has only a way to it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt};
use parking_lot::Mutex;

struct Slot<S> {
    /// Until the session is over.
    stream: Option<S>,
    /// Who waits for the next request.
    waker: Option<Waker>,
}

/// Lives as long as the session.
pub struct Session<S>(Arc<Mutex<Slot<S>>>);

/// For the connection: ends with the session.
pub struct Requests<S>(Arc<Mutex<Slot<S>>>);

impl<S> Session<S> {
    pub fn of(stream: S) -> (Session<S>, Requests<S>) {
        let slot = Arc::new(Mutex::new(Slot { stream: Some(stream), waker: None }));
        (Session(slot.clone()), Requests(slot))
    }
}

impl<S> Drop for Session<S> {
    fn drop(&mut self) {
        let Slot { stream, waker } =
            std::mem::replace(&mut *self.0.lock(), Slot { stream: None, waker: None });
        // The next session waits for what this one holds.
        drop(stream);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<S: Stream + Unpin> Stream for Requests<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let mut slot = self.0.lock();
        slot.waker = Some(cx.waker().clone());
        match &mut slot.stream {
            Some(stream) => stream.poll_next_unpin(cx),
            None => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_requests_are_gone_with_their_session_whoever_still_asks_for_them() {
        let held = Arc::new(());
        let holder = held.clone();
        let endless = futures::stream::iter(1..=2).chain(futures::stream::pending()).inspect(move |_| {
            let _ = &holder;
        });
        let (session, mut requests) = Session::of(endless);
        assert_eq!(requests.next().await, Some(1));
        let waiting = async {
            assert_eq!(requests.next().await, Some(2));
            requests.next().await
        };
        let mut waiting = std::pin::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(session);
        assert_eq!(Arc::strong_count(&held), 1, "what the stream held is free at once");
        assert_eq!(waiting.await, None);
    }
}
