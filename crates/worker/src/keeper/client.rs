//! The worker's end of the keeper's socket: starts a keeper where there is none, and passes messages on.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::SOCKET;
use super::protocol::{Notice, Request, decode, encode};
use crate::sys;

const START_TRIES: u32 = 500;
const START_PAUSE: Duration = Duration::from_millis(10);
const READ_BYTES: usize = 64 << 10;

/// How to start a keeper. The worker appends `--data-dir PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeeperProgram {
    pub program: PathBuf,
    pub arguments: Vec<String>,
}

impl Default for KeeperProgram {
    /// The hidden verb `keeper` of the running binary, even if its file has been replaced meanwhile. Another program than
    /// `baton` answers to it by [`crate::keeper::run_if_asked`].
    fn default() -> KeeperProgram {
        KeeperProgram { program: PathBuf::from("/proc/self/exe"), arguments: vec!["keeper".to_owned()] }
    }
}

/// A connection, and the keeper if this process started it.
pub struct Connection {
    stream: UnixStream,
    pub child: Option<Child>,
}

pub async fn connect(program: &KeeperProgram, data_dir: &Path) -> io::Result<Connection> {
    if let Ok(stream) = dial(data_dir).await {
        return Ok(Connection { stream, child: None });
    }
    let mut child = start(program, data_dir)?;
    for _ in 0..START_TRIES {
        if let Ok(stream) = dial(data_dir).await {
            return Ok(Connection { stream, child: Some(child) });
        }
        if let Some(status) = child.try_wait()? {
            let log = data_dir.join(LOG);
            return Err(io::Error::other(format!("the keeper ended with {status}; see {}", log.display())));
        }
        tokio::time::sleep(START_PAUSE).await;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the keeper was started but does not answer"))
}

async fn dial(data_dir: &Path) -> io::Result<UnixStream> {
    let directory = File::open(data_dir)?;
    UnixStream::connect(sys::short_path(&directory).join(SOCKET)).await
}

const LOG: &str = "keeper.log";

fn start(program: &KeeperProgram, data_dir: &Path) -> io::Result<Child> {
    let log = File::options().create(true).append(true).open(data_dir.join(LOG))?;
    let mut command = Command::new(&program.program);
    command.args(&program.arguments).arg("--data-dir").arg(data_dir);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    sys::detach(&mut command);
    command.spawn()
}

impl Connection {
    /// Passes requests from `requests` and notices to `tell`, until either side is gone.
    pub async fn pass(self, requests: mpsc::UnboundedReceiver<Request>, tell: impl Fn(Notice)) {
        let (read, write) = self.stream.into_split();
        tokio::select! {
            _ = receive(read, tell) => {}
            _ = send(write, requests) => {}
        }
    }
}

async fn receive(mut stream: OwnedReadHalf, tell: impl Fn(Notice)) -> io::Result<()> {
    let (mut buffer, mut chunk) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        buffer.extend(&chunk[..count]);
        for notice in decode(&mut buffer).map_err(io::Error::other)? {
            tell(notice);
        }
    }
}

async fn send(mut stream: OwnedWriteHalf, mut requests: mpsc::UnboundedReceiver<Request>) -> io::Result<()> {
    while let Some(request) = requests.recv().await {
        let mut bytes = encode(&request);
        while let Ok(more) = requests.try_recv() {
            bytes.extend(encode(&more));
        }
        stream.write_all(&bytes).await?;
    }
    stream.shutdown().await
}
