//! Output of an attempt, live. When a replica goes, the stream goes on through another from the bytes it has.

use model::TaskId;
use tonic::{Code, Streaming};
use wire::error::{Failure, code};
use wire::v1;

use crate::call::{Stub, explain};
use crate::env::Deadline;
use crate::error::{backoff, is_passing};
use crate::{Client, Error};

/// Whose output, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogsOf {
    pub task: TaskId,
    /// 0: the last one.
    pub attempt: u32,
    /// Until the attempt ends.
    pub follow: bool,
    pub stdout_offset: u64,
    pub stderr_offset: u64,
}

impl LogsOf {
    pub fn task(task: TaskId) -> LogsOf {
        LogsOf { task, attempt: 0, follow: false, stdout_offset: 0, stderr_offset: 0 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    pub stream: LogStream,
    /// Of the first byte in its stream.
    pub offset: u64,
    pub data: Vec<u8>,
    /// Why output is missing, in words.
    pub note: String,
    /// No more will come.
    pub end: bool,
    pub attempt: u32,
}

/// An open stream of output. `next` until it gives `None`.
pub struct Logs {
    client: Client,
    of: LogsOf,
    inbound: Option<Streaming<v1::LogsReply>>,
    ended: bool,
}

impl Client {
    pub fn logs(&self, of: LogsOf) -> Logs {
        Logs { client: self.clone(), of, inbound: None, ended: false }
    }
}

impl Logs {
    /// What comes next; `None` after the end. Bytes come once and in order per stream, over reconnects too.
    pub async fn next(&mut self) -> Result<Option<LogChunk>, Error> {
        if self.ended {
            return Ok(None);
        }
        // From the first failure after something has arrived: a task may be silent for as long as it likes.
        let (mut failing, mut tries) = (None, 0);
        loop {
            let failure = match self.receive().await {
                Ok(Some(reply)) => match self.take(reply) {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => {
                        (failing, tries) = (None, 0);
                        continue;
                    }
                },
                Ok(None) => {
                    self.ended = true;
                    return Ok(None);
                }
                Err(failure) => failure,
            };
            self.inbound = None;
            let shared = &self.client.shared;
            let (place, address) = shared.current();
            let deadline = failing.get_or_insert_with(|| Deadline::after(shared.options.deadline));
            if !is_passing(&failure) || deadline.has_passed() {
                self.ended = true;
                return Err(Error { tried: vec![(address.to_owned(), failure.message.clone())], failure });
            }
            shared.move_on(place);
            tries += 1;
            tokio::time::sleep(shared.jitter(backoff(tries, &failure))).await;
        }
    }

    async fn receive(&mut self) -> Result<Option<v1::LogsReply>, Failure> {
        let inbound = match &mut self.inbound {
            Some(inbound) => inbound,
            empty => empty.insert(open(&self.client, self.of).await?),
        };
        match inbound.message().await {
            Ok(Some(reply)) => Ok(Some(reply)),
            // A replica says the end in words; a stream that only stops was cut.
            Ok(None) if self.of.follow => {
                Err(Failure::new(code::UNAVAILABLE, Code::Unavailable, "the replica ended the stream"))
            }
            Ok(None) => Ok(None),
            Err(status) => Err(explain(&status)),
        }
    }

    /// The new part of a chunk; `None` if there is nothing new in it.
    fn take(&mut self, reply: v1::LogsReply) -> Option<LogChunk> {
        if reply.attempt != 0 {
            // From here on it is this attempt, even if a later one begins.
            self.of.attempt = reply.attempt;
        }
        let stream = match reply.stream() {
            v1::logs_reply::Stream::Stdout => LogStream::Stdout,
            v1::logs_reply::Stream::Stderr => LogStream::Stderr,
        };
        let seen = match stream {
            LogStream::Stdout => &mut self.of.stdout_offset,
            LogStream::Stderr => &mut self.of.stderr_offset,
        };
        let skip =
            usize::try_from(seen.saturating_sub(reply.offset)).unwrap_or(usize::MAX).min(reply.data.len());
        let data = reply.data[skip..].to_vec();
        *seen = (*seen).max(reply.offset + reply.data.len() as u64);
        self.ended |= reply.end;
        let is_news = !data.is_empty() || !reply.note.is_empty() || reply.end;
        is_news.then_some(LogChunk {
            stream,
            offset: reply.offset + skip as u64,
            data,
            note: reply.note,
            end: reply.end,
            attempt: reply.attempt,
        })
    }
}

async fn open(client: &Client, of: LogsOf) -> Result<Streaming<v1::LogsReply>, Failure> {
    let (_, mut stub): (usize, Stub) = client.shared.stub()?;
    let request = v1::LogsRequest {
        job: of.task.job.0,
        task: of.task.number,
        attempt: of.attempt,
        follow: of.follow,
        stdout_offset: of.stdout_offset,
        stderr_offset: of.stderr_offset,
    };
    client.shared.opened(stub.logs(request)).await
}

#[cfg(test)]
mod tests {
    use model::JobId;

    use super::*;

    fn reply(offset: u64, data: &[u8]) -> v1::LogsReply {
        v1::LogsReply { offset, data: data.to_vec().into(), attempt: 2, ..v1::LogsReply::default() }
    }

    #[test]
    fn bytes_come_once_over_a_reconnect() {
        let task = TaskId { job: JobId(1), number: 0 };
        let mut logs = Client::connect(["127.0.0.1:1"]).logs(LogsOf::task(task));
        assert_eq!(logs.take(reply(0, b"hello ")).unwrap().data, b"hello ");
        assert_eq!(logs.take(reply(0, b"hello world")).unwrap().data, b"world");
        assert_eq!(logs.take(reply(0, b"hello")), None);
        assert_eq!((logs.of.stdout_offset, logs.of.attempt), (11, 2));
        // A gap is passed on: the offset tells.
        assert_eq!(logs.take(reply(20, b"x")).unwrap().offset, 20);
    }
}
