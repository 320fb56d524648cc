//! A switch that takes this replica off its peers' network, as a pulled cable would, while clients and workers reach
//! it as before. For playing and for tests: a process of production has none.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::env::{Connection, Listener};

/// Cut, it ends every connection to and from peers and lets no new one come to be, until it is healed.
#[derive(Clone, Debug)]
pub struct Cut {
    is_cut: Arc<watch::Sender<bool>>,
}

impl Default for Cut {
    fn default() -> Cut {
        Cut { is_cut: Arc::new(watch::Sender::new(false)) }
    }
}

impl Cut {
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub fn heal(&self) {
        self.is_cut.send_replace(false);
    }

    /// A connection that ends when this is cut; refused while it is.
    pub(crate) fn through(&self, connection: Connection) -> io::Result<Connection> {
        let mut switch = self.is_cut.subscribe();
        if *switch.borrow() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let severed = async move { drop(switch.wait_for(|is_cut| *is_cut).await) };
        Ok(Box::new(Severable { connection, severed: Some(severed.boxed()) }))
    }

    pub(crate) fn listener(&self, listener: Box<dyn Listener>) -> Box<dyn Listener> {
        Box::new(Door { listener, cut: self.clone() })
    }
}

struct Door {
    listener: Box<dyn Listener>,
    cut: Cut,
}

impl Listener for Door {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        async move {
            loop {
                let (connection, from) = self.listener.accept().await?;
                // Whoever comes while it is cut is hung up on.
                if let Ok(connection) = self.cut.through(connection) {
                    return Ok((connection, from));
                }
            }
        }
        .boxed()
    }
}

struct Severable {
    connection: Connection,
    /// Gone once it has resolved: what was severed does not heal, a new connection is made.
    severed: Option<BoxFuture<'static, ()>>,
}

impl Severable {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Some(severed) = &mut self.severed {
            if severed.poll_unpin(cx).is_pending() {
                return Ok(());
            }
            self.severed = None;
        }
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_read(cx, buf)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::env::{Env, Listen, Real};

    #[tokio::test]
    async fn a_cut_ends_what_is_open_and_refuses_what_is_new_until_it_is_healed() {
        let cut = Cut::default();
        let (here, there) = (Real::new().with_cut(cut.clone()), Real::new());
        let listen = || Listen::Address("127.0.0.1:0".to_owned());
        let mut inside = here.listen(listen()).await.unwrap();
        let mut outside = there.listen(listen()).await.unwrap();
        let (inside_at, outside_at) =
            (inside.local_addr().unwrap().to_string(), outside.local_addr().unwrap().to_string());

        let mut out = here.connect(outside_at.clone()).await.unwrap();
        let (mut out_end, _) = outside.accept().await.unwrap();
        out.write_all(b"before").await.unwrap();
        let mut word = [0; 6];
        out_end.read_exact(&mut word).await.unwrap();
        let mut peer = there.connect(inside_at.clone()).await.unwrap();
        let (mut peer_end, _) = inside.accept().await.unwrap();

        // One waits for bytes while the cable is pulled: it must not wait for ever.
        let (read, ()) = futures::future::join(peer_end.read(&mut word), async { cut.cut() }).await;
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(out.write(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let error = here.connect(outside_at.clone()).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NetworkUnreachable);
        drop(peer_end);
        assert_eq!(peer.read(&mut word).await.unwrap(), 0);

        // Whoever comes meanwhile is hung up on; the first that gets through comes after the heal.
        let mut early = there.connect(inside_at.clone()).await.unwrap();
        let hung_up = async {
            let ended = early.read(&mut [0; 1]).await;
            cut.heal();
            let late = there.connect(inside_at).await.unwrap();
            (ended, late)
        };
        let (accepted, (ended, mut late)) = futures::future::join(inside.accept(), hung_up).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        late.write_all(b"after!").await.unwrap();
        accepted.unwrap().0.read_exact(&mut word).await.unwrap();
        assert_eq!(&word, b"after!");
        assert!(here.connect(outside_at).await.is_ok());
        assert!(out.write(b"x").await.is_err(), "what was severed healed");
    }
}
