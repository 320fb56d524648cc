//! Many submits over one stream, with a bounded number of them in flight. When the stream breaks, what is
//! unanswered is sent again through another replica under the same request ids.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::{self, Stream};
use model::{JobId, JobSpec, RequestId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use wire::error::{Failure, Happened, code};
use wire::v1;
use wire::v1::submit_result::Outcome;

use crate::call::explain;
use crate::env::Deadline;
use crate::error::{backoff, is_passing};
use crate::writes::submit_request;
use crate::{Client, Error, Submitted};

struct Pipe<I> {
    client: Client,
    specs: std::iter::Enumerate<I>,
    window: usize,
    /// Sent and unanswered: its place in the input, and what was sent.
    pending: BTreeMap<RequestId, (usize, v1::SubmitRequest)>,
    open: Option<Open>,
    tries: u32,
    /// Set when the deadline has passed without an answer: everything pending fails with it.
    failed: Option<Failure>,
}

struct Open {
    outbound: mpsc::Sender<v1::SubmitRequest>,
    inbound: Streaming<v1::SubmitResult>,
}

/// An answer, with the place of its spec in the input.
pub type Answer = (usize, Result<Submitted, Error>);

impl Client {
    /// Submits all of `specs`, at most `window` unanswered at a time. Answers come in any order.
    pub fn submit_many<I>(
        &self,
        specs: I,
        window: usize,
    ) -> impl Stream<Item = Answer> + Send + Unpin + use<I>
    where
        I: IntoIterator<Item = JobSpec>,
        I::IntoIter: Send,
    {
        let pipe = Pipe {
            client: self.clone(),
            specs: specs.into_iter().enumerate(),
            window: window.max(1),
            pending: BTreeMap::new(),
            open: None,
            tries: 0,
            failed: None,
        };
        Box::pin(stream::unfold(
            pipe,
            |mut pipe| async move { pipe.next().await.map(|answer| (answer, pipe)) },
        ))
    }
}

impl<I: Iterator<Item = JobSpec>> Pipe<I> {
    async fn next(&mut self) -> Option<Answer> {
        let deadline = Deadline::after(self.client.shared.options.deadline);
        loop {
            if let Some(failure) = &self.failed {
                let (id, (place, _)) = self.pending.pop_first()?;
                let failure = Failure { request_id: Some(id), ..failure.clone() };
                return Some((place, Err(Error::of(failure))));
            }
            self.fill();
            if self.pending.is_empty() {
                return None;
            }
            if let Err(failure) = self.ensure_open().await {
                self.again(failure, deadline).await;
                continue;
            }
            match self.receive().await {
                Ok(result) => {
                    self.tries = 0;
                    if let Some(answer) = self.settle(result).await {
                        return Some(answer);
                    }
                }
                Err(failure) => self.again(failure, deadline).await,
            }
        }
    }

    async fn ensure_open(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Ok(());
        }
        // All that is pending fits in the channel, so that sending never waits.
        let (outbound, queue) = mpsc::channel(2 * self.window + 1);
        for (_, request) in self.pending.values() {
            let _ = outbound.try_send(request.clone());
        }
        let (_, mut stub) = self.client.shared.stub()?;
        let reply =
            stub.submit_stream(ReceiverStream::new(queue)).await.map_err(|status| explain(&status))?;
        self.open = Some(Open { outbound, inbound: reply.into_inner() });
        Ok(())
    }

    fn fill(&mut self) {
        while self.pending.len() < self.window {
            let Some((place, spec)) = self.specs.next() else { return };
            let id = self.client.mint();
            let request = submit_request(self.client.header(id), &spec);
            if let Some(open) = &self.open {
                let _ = open.outbound.try_send(request.clone());
            }
            self.pending.insert(id, (place, request));
        }
    }

    async fn receive(&mut self) -> Result<v1::SubmitResult, Failure> {
        let open = self.open.as_mut().expect("opened before receiving");
        match open.inbound.message().await {
            Ok(Some(result)) => Ok(result),
            Ok(None) => {
                Err(Failure::new(code::UNAVAILABLE, Code::Unavailable, "the replica ended the stream"))
            }
            Err(status) => Err(explain(&status)),
        }
    }

    async fn settle(&mut self, result: v1::SubmitResult) -> Option<Answer> {
        let id: RequestId = result.request_id.parse().ok()?;
        let (place, request) = self.pending.remove(&id)?;
        match result.outcome? {
            Outcome::Accepted(reply) => {
                let submitted = Submitted { job: JobId(reply.job), request_id: id, index: reply.index };
                Some((place, Ok(submitted)))
            }
            Outcome::Refused(error) => {
                let failure = Failure { request_id: Some(id), ..Failure::from(error) };
                if !is_passing(&failure) {
                    return Some((place, Err(Error::of(failure))));
                }
                self.pending.insert(id, (place, request.clone()));
                let wait = failure.retry_after.unwrap_or(Duration::from_millis(20));
                tokio::time::sleep(self.client.shared.jitter(wait)).await;
                let sent = self.open.as_ref().is_some_and(|open| open.outbound.try_send(request).is_ok());
                if !sent {
                    self.open = None;
                }
                None
            }
        }
    }

    async fn again(&mut self, failure: Failure, deadline: Deadline) {
        self.open = None;
        if !is_passing(&failure) || deadline.has_passed() {
            self.failed = Some(Failure { happened: Happened::Maybe, ..failure });
            return;
        }
        let shared = &self.client.shared;
        shared.move_on(shared.current().0);
        self.tries += 1;
        tokio::time::sleep(shared.jitter(backoff(self.tries, &failure))).await;
    }
}
