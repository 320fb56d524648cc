//! The seam to the world: clocks, chance, sockets, tasks and the way out. [`Real`] is the process; a simulation
//! brings its own, and then nothing here starts a thread or reads a clock of the machine.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Moment, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::cut::Cut;

/// A byte stream between two replicas.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub type Connection = Box<dyn Io>;

pub trait Listener: Send {
    fn local_addr(&self) -> io::Result<SocketAddr>;
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>>;
}

/// Where peers are listened for.
#[derive(Debug)]
pub enum Listen {
    /// `host:port`; port 0 lets the kernel choose.
    Address(String),
    /// Bound before, so that its port could be told to others.
    Bound(std::net::TcpListener),
}

pub trait Env: Send + Sync + 'static {
    fn now(&self) -> Moment;
    fn wall(&self) -> Timestamp;
    fn random(&self) -> u64;
    /// `address` is `host:port`; the name is resolved anew each time.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>>;
    fn listen(&self, listen: Listen) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
    /// Runs a task on `runtime`.
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()>;
    /// Whether Raft gets a runtime of its own and the log a thread of its own.
    fn has_threads(&self) -> bool;
    /// Runs what would block: a snapshot being written or read.
    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Ends the process: the disk failed, or this replica must not go on. Returns only in tests.
    fn stop(&self, reason: &str);
}

/// Runs `work` where it may block and returns what it returns.
pub async fn offload<T: Send + 'static>(env: &Arc<dyn Env>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = tokio::sync::oneshot::channel();
    env.block(Box::new(move || drop(send.send(work())))).await;
    receive.await.expect("the work runs to its end before `block` returns")
}

/// How far the wall clock of this process is put off, in microseconds: for fault tests. Copies are one and the same, so
/// that all clocks of a process move together, also while it runs.
#[derive(Clone, Debug, Default)]
pub struct WallOffset(Arc<AtomicI64>);

impl WallOffset {
    pub fn of_us(us: i64) -> WallOffset {
        WallOffset(Arc::new(AtomicI64::new(us)))
    }

    pub fn us(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set_us(&self, us: i64) {
        self.0.store(us, Ordering::Relaxed);
    }
}

type StopHook = Box<dyn Fn(&str) + Send + Sync>;

/// The process, its machine and its network.
pub struct Real {
    started: std::time::Instant,
    wall_offset: WallOffset,
    on_stop: Option<StopHook>,
    cut: Option<Cut>,
}

impl Default for Real {
    fn default() -> Real {
        Real::new()
    }
}

// The one file of this crate that reads clocks and chance, spawns, and ends the process.
#[allow(clippy::disallowed_methods)]
impl Real {
    pub fn new() -> Real {
        Real {
            started: std::time::Instant::now(),
            wall_offset: WallOffset::default(),
            on_stop: None,
            cut: None,
        }
    }

    /// With a wall clock that is off by so much.
    pub fn with_wall_offset(self, wall_offset: WallOffset) -> Real {
        Real { wall_offset, ..self }
    }

    /// Calls `on_stop` where the process would be aborted.
    pub fn with_stop_hook(on_stop: impl Fn(&str) + Send + Sync + 'static) -> Real {
        Real { on_stop: Some(Box::new(on_stop)), ..Real::new() }
    }

    /// Connections to and from peers end when `cut` is cut.
    pub fn with_cut(self, cut: Cut) -> Real {
        Real { cut: Some(cut), ..self }
    }
}

#[allow(clippy::disallowed_methods)]
impl Env for Real {
    fn now(&self) -> Moment {
        Moment::default().plus(self.started.elapsed())
    }

    fn wall(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall = Timestamp::default().plus(since.unwrap_or_default());
        Timestamp(wall.0.saturating_add_signed(self.wall_offset.us()))
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        let cut = self.cut.clone();
        async move {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            match cut {
                Some(cut) => cut.through(Box::new(stream)),
                None => Ok(Box::new(stream) as Connection),
            }
        }
        .boxed()
    }

    fn listen(&self, listen: Listen) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let cut = self.cut.clone();
        async move {
            let listener = match listen {
                Listen::Address(address) => tokio::net::TcpListener::bind(address).await?,
                Listen::Bound(bound) => {
                    bound.set_nonblocking(true)?;
                    tokio::net::TcpListener::from_std(bound)?
                }
            };
            let listener = Box::new(listener) as Box<dyn Listener>;
            Ok(match cut {
                Some(cut) => cut.listener(listener),
                None => listener,
            })
        }
        .boxed()
    }

    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        runtime.spawn(task)
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        tokio::task::spawn_blocking(work)
            .map(|done| {
                if let Err(error) = done
                    && error.is_panic()
                {
                    std::panic::resume_unwind(error.into_panic());
                }
            })
            .boxed()
    }

    fn stop(&self, reason: &str) {
        tracing::error!(reason, "this replica stops");
        match &self.on_stop {
            Some(hook) => hook(reason),
            // No destructor may run: what is in memory may differ from what is on disk.
            None => {
                eprintln!("baton: this replica stops: {reason}");
                std::process::abort()
            }
        }
    }
}

impl Listener for tokio::net::TcpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        tokio::net::TcpListener::local_addr(self)
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        async move {
            let (stream, from) = tokio::net::TcpListener::accept(self).await?;
            // Without it Nagle and delayed acknowledgements cost 44 ms per commit.
            stream.set_nodelay(true)?;
            Ok((Box::new(stream) as Connection, from))
        }
        .boxed()
    }
}
