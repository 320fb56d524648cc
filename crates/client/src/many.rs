//! Many submits over one stream, with a bounded number of them in flight. When the stream breaks, what is
//! unanswered is sent again through another replica under the same request ids.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, Stream};
use futures::{FutureExt, StreamExt};
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
use crate::writes::{is_misdated, submit_request};
use crate::{Client, Error, Submitted};

/// Where a replica that has too much to do does not say for how long.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);

struct Pipe<I> {
    client: Client,
    specs: std::iter::Enumerate<I>,
    window: usize,
    /// Without an answer that is final.
    pending: BTreeMap<RequestId, Pending>,
    /// Those of them that a replica had no room for, each until it may be sent again.
    delayed: FuturesUnordered<BoxFuture<'static, RequestId>>,
    open: Option<Open>,
    tries: u32,
    /// Set when the deadline has passed without an answer: everything pending fails with it.
    failed: Option<Failure>,
}

struct Pending {
    /// In the input.
    place: usize,
    request: v1::SubmitRequest,
    /// Over how many streams: after the second nobody knows what became of it over the first.
    sent: u32,
    is_renamed: bool,
    is_delayed: bool,
}

struct Open {
    outbound: mpsc::Sender<v1::SubmitRequest>,
    inbound: Streaming<v1::SubmitResult>,
}

enum Heard {
    Result(v1::SubmitResult),
    /// A delayed submit may be sent again.
    Due(RequestId),
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
            delayed: FuturesUnordered::new(),
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
                let (id, pending) = self.pending.pop_first()?;
                let failure = Failure { request_id: Some(id), ..failure.clone() };
                return Some((pending.place, Err(Error::of(failure))));
            }
            self.fill();
            if self.pending.is_empty() {
                return None;
            }
            if let Err(failure) = self.ensure_open().await {
                self.again(failure, deadline).await;
                continue;
            }
            match self.receive(deadline).await {
                Ok(Heard::Due(id)) => self.repeat(id),
                Ok(Heard::Result(result)) => {
                    if let Some(answer) = self.settle(result, deadline).await {
                        self.tries = 0;
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
        for pending in self.pending.values_mut().filter(|pending| !pending.is_delayed) {
            pending.sent += 1;
            let _ = outbound.try_send(pending.request.clone());
        }
        let (_, mut stub) = self.client.shared.stub()?;
        let reply =
            stub.submit_stream(ReceiverStream::new(queue)).await.map_err(|status| explain(&status))?;
        self.client.shared.learn_clock(reply.metadata());
        self.open = Some(Open { outbound, inbound: reply.into_inner() });
        Ok(())
    }

    fn fill(&mut self) {
        while self.pending.len() < self.window {
            let Some((place, spec)) = self.specs.next() else { return };
            let id = self.client.mint();
            let request = submit_request(self.client.header(id), &spec);
            self.send(id, Pending { place, request, sent: 0, is_renamed: false, is_delayed: false });
        }
    }

    /// Over the stream that is open, else over the next.
    fn send(&mut self, id: RequestId, mut pending: Pending) {
        if let Some(open) = &self.open {
            pending.sent += 1;
            if open.outbound.try_send(pending.request.clone()).is_err() {
                self.open = None;
            }
        }
        self.pending.insert(id, pending);
    }

    /// What comes next: an answer, or the time to send something again. A replica that gives no answer for long may be
    /// cut off: another is asked then.
    async fn receive(&mut self, deadline: Deadline) -> Result<Heard, Failure> {
        let unavailable = |why| Failure::new(code::UNAVAILABLE, Code::Unavailable, why);
        let limit = self.client.shared.share(deadline.left());
        let is_asked = self.pending.len() > self.delayed.len();
        let open = self.open.as_mut().expect("opened before receiving");
        tokio::select! {
            biased;
            Some(id) = self.delayed.next() => Ok(Heard::Due(id)),
            answer = open.inbound.message() => match answer {
                Ok(Some(result)) => Ok(Heard::Result(result)),
                Ok(None) => Err(unavailable("the replica ended the stream")),
                Err(status) => Err(explain(&status)),
            },
            () = tokio::time::sleep(limit), if is_asked => {
                Err(unavailable("the replica gave no answer in time").maybe_happened())
            }
        }
    }

    async fn settle(&mut self, result: v1::SubmitResult, deadline: Deadline) -> Option<Answer> {
        let id: RequestId = result.request_id.parse().ok()?;
        let pending = self.pending.remove(&id)?;
        let place = pending.place;
        match result.outcome? {
            Outcome::Accepted(reply) => {
                let submitted = Submitted { job: JobId(reply.job), request_id: id, index: reply.index };
                Some((place, Ok(submitted)))
            }
            Outcome::Refused(error) => {
                let failure = Failure { request_id: Some(id), ..Failure::from(error) };
                if is_misdated(&failure) && pending.sent == 1 && !pending.is_renamed {
                    self.rename(pending);
                    return None;
                }
                if !is_passing(&failure) {
                    return Some((place, Err(Error::of(failure))));
                }
                self.put_off(id, pending, failure, deadline).await;
                None
            }
        }
    }

    /// The id was made by a clock that is off; by now the cluster's is known.
    fn rename(&mut self, pending: Pending) {
        let id = self.client.mint();
        let header = Some(self.client.header(id));
        let request = v1::SubmitRequest { header, ..pending.request };
        self.send(id, Pending { request, sent: 0, is_renamed: true, ..pending });
    }

    /// A refusal that may pass: after a while over the same stream if only there was too much, else elsewhere. The
    /// others are not held up.
    async fn put_off(&mut self, id: RequestId, pending: Pending, failure: Failure, deadline: Deadline) {
        if failure.code != code::OVERLOADED || deadline.has_passed() {
            self.pending.insert(id, pending);
            return self.again(failure, deadline).await;
        }
        let wait = self.client.shared.jitter(failure.retry_after.unwrap_or(OVERLOAD_PAUSE));
        self.delayed.push(async move { tokio::time::sleep(wait).await }.map(move |()| id).boxed());
        self.pending.insert(id, Pending { is_delayed: true, ..pending });
    }

    fn repeat(&mut self, id: RequestId) {
        if let Some(pending) = self.pending.remove(&id) {
            self.send(id, Pending { is_delayed: false, ..pending });
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (Pipe<std::iter::Empty<JobSpec>>, RequestId, Pending) {
        let client = Client::connect(["127.0.0.1:1", "127.0.0.1:2"]);
        let pipe = Pipe {
            specs: std::iter::empty().enumerate(),
            window: 1,
            pending: BTreeMap::new(),
            delayed: FuturesUnordered::new(),
            open: None,
            tries: 0,
            failed: None,
            client,
        };
        let id = pipe.client.mint();
        let request = v1::SubmitRequest { header: Some(pipe.client.header(id)), spec: None };
        (pipe, id, Pending { place: 0, request, sent: 1, is_renamed: false, is_delayed: false })
    }

    #[tokio::test]
    async fn a_refusal_for_want_of_a_leader_is_taken_elsewhere_and_not_for_ever() {
        let (mut pipe, id, pending) = pipe();
        let in_time = Deadline::after(Duration::from_secs(60));
        pipe.put_off(id, pending, Failure::no_leader("cut off"), in_time).await;
        assert_eq!((pipe.client.shared.current().0, pipe.pending.len()), (1, 1));
        assert!(pipe.failed.is_none());
        let pending = pipe.pending.remove(&id).unwrap();
        pipe.put_off(id, pending, Failure::no_leader("cut off"), Deadline::after(Duration::ZERO)).await;
        let (place, answer) = pipe.next().await.unwrap();
        assert_eq!((place, answer.unwrap_err().code()), (0, code::NO_LEADER));
        assert!(pipe.next().await.is_none());
    }

    #[tokio::test]
    async fn what_there_was_no_room_for_is_sent_again_in_its_time_and_holds_nothing_up() {
        let (mut pipe, id, pending) = pipe();
        let other = pipe.client.mint();
        let request = pending.request.clone();
        let after = Pending { place: 1, request, sent: 1, is_renamed: false, is_delayed: false };
        pipe.pending = BTreeMap::from([(id, pending), (other, after)]);
        let result =
            |id: RequestId, outcome| v1::SubmitResult { request_id: id.to_string(), outcome: Some(outcome) };
        let refused = |wait| {
            result(id, Outcome::Refused(Failure::overloaded(Duration::from_millis(wait), "full").into()))
        };
        let in_time = Deadline::after(Duration::from_secs(60));
        assert!(pipe.settle(refused(3_600_000), in_time).await.is_none());
        let accepted = result(other, Outcome::Accepted(v1::SubmitReply::default()));
        assert_eq!(pipe.settle(accepted, in_time).await.unwrap().0, 1);
        assert!(pipe.pending[&id].is_delayed && pipe.delayed.next().now_or_never().is_none());

        pipe.delayed.clear();
        assert!(pipe.settle(refused(1), in_time).await.is_none());
        assert_eq!(pipe.delayed.next().await, Some(id));
        pipe.repeat(id);
        assert!(!pipe.pending[&id].is_delayed);
    }

    #[tokio::test]
    async fn an_id_made_by_a_clock_that_is_off_is_made_anew_once() {
        let (mut pipe, id, pending) = pipe();
        pipe.pending.insert(id, pending);
        let expired = Failure::new(code::REQUEST_EXPIRED, Code::FailedPrecondition, "ahead");
        let refused = |id: RequestId| v1::SubmitResult {
            request_id: id.to_string(),
            outcome: Some(Outcome::Refused(expired.clone().into())),
        };
        let deadline = Deadline::after(Duration::from_secs(60));
        assert!(pipe.settle(refused(id), deadline).await.is_none());
        let renamed = *pipe.pending.keys().next().unwrap();
        assert_ne!(renamed, id);
        let header = pipe.pending[&renamed].request.header.as_ref().unwrap();
        assert_eq!(header.request_id, renamed.to_string());
        let (_, answer) = pipe.settle(refused(renamed), deadline).await.unwrap();
        assert_eq!(answer.unwrap_err().code(), code::REQUEST_EXPIRED);
    }
}
