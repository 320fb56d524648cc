//! Connections to a gRPC port, from peers, clients or whoever else finds it: what does not speak HTTP/2 is logged and
//! closed, and a listener that fails is given a pause.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use model::Moment;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use crate::env::{Connection, Listener};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Out of descriptors, for one: it passes, and a busy loop would not help.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two warnings of one port: who sends garbage in a loop must not fill the disk.
const WARN_EVERY: Duration = Duration::from_secs(1);

/// What connects to `port`, for as long as it is asked for.
pub fn connections(
    listener: Box<dyn Listener>,
    port: &'static str,
    now: impl Fn() -> Moment + Send + Sync + 'static,
) -> impl Stream<Item = io::Result<Accepted>> {
    let warnings = Arc::new(Warnings { port, now: Box::new(now), told: Mutex::default() });
    futures::stream::unfold((listener, warnings), |(mut listener, warnings)| async move {
        loop {
            match listener.accept().await {
                Ok((connection, from)) => {
                    let accepted = Accepted { connection, from, matched: 0, warnings: warnings.clone() };
                    return Some((Ok(accepted), (listener, warnings)));
                }
                Err(error) => {
                    warnings.warn(&format!("a connection cannot be accepted: {error}"), None);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// What one port has to complain of.
struct Warnings {
    port: &'static str,
    now: Box<dyn Fn() -> Moment + Send + Sync>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    last: Option<Moment>,
    unsaid: u64,
}

impl Warnings {
    fn warn(&self, what: &str, from: Option<SocketAddr>) {
        let mut told = self.told.lock();
        let now = (self.now)();
        if told.last.is_some_and(|last| now.since(last) < WARN_EVERY) {
            told.unsaid += 1;
            return;
        }
        let from = from.map(tracing::field::display);
        tracing::warn!(port = self.port, from, unsaid = told.unsaid, "{what}");
        *told = Told { last: Some(now), unsaid: 0 };
    }
}

pub struct Accepted {
    connection: Connection,
    from: SocketAddr,
    /// Bytes of the preface that have come.
    matched: usize,
    warnings: Arc<Warnings>,
}

impl Connected for Accepted {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.from
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(cx, buf))?;
        let read = &buf.filled()[before..];
        let expected = &PREFACE[self.matched..];
        let compared = read.len().min(expected.len());
        if read[..compared] != expected[..compared] {
            self.warnings.warn("what came is not HTTP/2; the connection is closed", Some(self.from));
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        self.matched += compared;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_port_complains_once_a_second_and_counts_the_rest() {
        let clock = Arc::new(AtomicU64::new(0));
        let told = clock.clone();
        let now = Box::new(move || Moment(told.load(Ordering::Relaxed)));
        let warnings = Warnings { port: "peer", now, told: Mutex::default() };
        let mut unsaid = Vec::new();
        for at in [0, 1, 999_999, 1_000_000, 1_500_000, 5_000_000] {
            clock.store(at, Ordering::Relaxed);
            warnings.warn("garbage", None);
            unsaid.push(warnings.told.lock().unsaid);
        }
        assert_eq!(unsaid, [0, 1, 2, 0, 1, 0]);
    }
}
