//! Submits: one, or many over a stream. Both go the same way.

use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use machine::{Op, Reply, Write};
use model::settings::Limits;
use model::validate::validate;
use model::{JobId, JobSpec, RequestId, SpecError};
use tonic::{Request, Response, Status};
use wire::convert;
use wire::error::Failure;
use wire::v1;
use wire::v1::submit_result::Outcome;

use crate::api::call::Call;
use crate::api::write::{Done, Headed, Journey, SendOn, encode, unexpected};
use crate::api::{Api, Replies, Running};

const SEND: SendOn<v1::SubmitRequest, v1::SubmitReply> =
    |mut leader, request| async move { leader.submit(request).await }.boxed();

type Submitting = Journey<v1::SubmitRequest, v1::SubmitReply>;

/// While it is here its spec is in the write only, which has it in the form that is worked with.
impl Headed for v1::SubmitRequest {
    fn header(&mut self) -> &mut Option<v1::WriteHeader> {
        &mut self.header
    }

    fn to_send(&self, write: &Write) -> v1::SubmitRequest {
        let spec = match &write.op {
            Op::Submit { spec, .. } => Some(spec.as_ref().into()),
            _ => self.spec.clone(),
        };
        v1::SubmitRequest { header: self.header.clone(), spec }
    }
}

impl Api {
    pub async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.submit_one(call, Box::new(request.into_inner())).await;
        self.answer(result)
    }

    /// Answers as they come. A client that sends faster than they do is not read from until some have gone.
    pub fn submit_stream(
        &self,
        request: Request<impl Stream<Item = Result<v1::SubmitRequest, Status>> + Send + 'static>,
    ) -> Replies<v1::SubmitResult> {
        let call = Call::of(self, request.metadata());
        let in_flight_max = self.shared.config.limits.submits_per_stream_max;
        let api = self.clone();
        request
            .into_inner()
            .take_until(self.stopped())
            .map(move |message| {
                let (api, call, message) = (api.clone(), call.of_message(&api), message.map(Box::new));
                async move { Ok(api.submit_in_stream(call, message?).await) }
            })
            .buffer_unordered(in_flight_max)
            .boxed()
    }

    async fn submit_in_stream(&self, call: Call, message: Box<v1::SubmitRequest>) -> v1::SubmitResult {
        let sent_id = message.header.as_ref().map(|header| header.request_id.clone()).unwrap_or_default();
        match self.submit_one(call, message).await {
            Ok(reply) => {
                let request_id = reply.request_id.clone();
                v1::SubmitResult { request_id, outcome: Some(Outcome::Accepted(reply)) }
            }
            Err(failure) => {
                let failure = self.refuse(failure);
                // As the client wrote it, even if it is no id: the client matches answers by it.
                let known = failure.request_id.map(|id| id.to_string()).filter(|_| sent_id.is_empty());
                v1::SubmitResult {
                    request_id: known.unwrap_or(sent_id),
                    outcome: Some(Outcome::Refused(failure.into())),
                }
            }
        }
    }

    async fn submit_one(
        &self,
        call: Call,
        mut message: Box<v1::SubmitRequest>,
    ) -> Result<v1::SubmitReply, Failure> {
        let id = self.name(message.as_mut())?;
        let running = self.running_by(&call.deadline).await;
        let journey = running.and_then(|running| self.prepare(running, call, id, message));
        match self.carry(journey.map_err(|failure| failure.request(id))?).await? {
            Done::There(reply) => Ok(reply),
            Done::Here(written) => match written.reply {
                Reply::Submitted { job } => {
                    Ok(v1::SubmitReply { request_id: id.to_string(), job: job.0, index: written.index })
                }
                other => Err(unexpected(&other).request(id)),
            },
        }
    }

    fn prepare(
        &self,
        running: &Running,
        call: Call,
        id: RequestId,
        mut message: Box<v1::SubmitRequest>,
    ) -> Result<Box<Submitting>, Failure> {
        let limits = running.replica.read(|state| state.settings().limits.clone());
        let mut spec = Arc::new(read_spec(message.spec.take().unwrap_or_default(), &limits)?);
        self.shared.specs.lock().share(&mut spec);
        let op = Op::Submit { job: JobId(0), spec: spec.clone() };
        let write = self.as_write(id, message.header().get_or_insert_default(), op)?;
        // The spec is a part of the write.
        if write.bytes as u64 > limits.spec_bytes_max {
            check_size(&spec, &limits)?;
        }
        Ok(Box::new(Journey { call, message: *message, write, send: SEND }))
    }
}

/// The spec, or everything that is wrong with it.
fn read_spec(spec: v1::JobSpec, limits: &Limits) -> Result<JobSpec, Failure> {
    let (spec, mut errors) = convert::read_job(spec);
    // Stand-ins for what could not be read may be wrong in ways that the client's spec is not.
    let shapes_known =
        !errors.iter().any(|error| error.path.ends_with("array") || error.path.ends_with("each_line"));
    for error in validate(&spec, limits) {
        let of_shape = error.path.contains(".after_each[");
        let said = errors.iter().any(|unreadable| unreadable.path == error.path);
        if !said && (shapes_known || !of_shape) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(spec) } else { Err(Failure::invalid(&errors)) }
}

fn check_size(spec: &JobSpec, limits: &Limits) -> Result<(), Failure> {
    let (bytes, limit) = (encode(spec)?.len() as u64, limits.spec_bytes_max);
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("{bytes} bytes are above the limit spec_bytes_max = {limit}");
    Err(Failure::invalid(&[SpecError { path: "tasks".to_owned(), message }]))
}

#[cfg(test)]
mod tests {
    use model::{TaskSpec, Work};

    use super::*;

    #[test]
    fn unreadable_and_invalid_fields_are_named_together_and_once() {
        let unreadable = v1::TaskSpec { name: "a b".to_owned(), ..Default::default() };
        let valid = v1::TaskSpec::from(&TaskSpec::new("c", Work::Noop));
        let cyclic = v1::TaskSpec { after: vec!["c".to_owned()], ..valid };
        let spec =
            v1::JobSpec { queue: "x y".to_owned(), tasks: vec![unreadable, cyclic], ..Default::default() };
        let failure = read_spec(spec, &Limits::default()).unwrap_err();
        let paths: Vec<&str> = failure.message.lines().filter_map(|line| line.split(": ").next()).collect();
        assert_eq!(paths, ["tasks[0]", "queue", "tasks[0].name", "tasks[1].after[0]"]);
    }

    #[test]
    fn a_spec_above_its_limit_names_the_limit() {
        let spec = JobSpec::of("big", vec![TaskSpec::new("a", Work::Script("x".repeat(100)))]);
        let limits = Limits { spec_bytes_max: 100, ..Limits::default() };
        let failure = check_size(&spec, &limits).unwrap_err();
        assert!(failure.message.contains("spec_bytes_max = 100"), "{}", failure.message);
        assert!(check_size(&spec, &Limits::default()).is_ok());
        let bytes = encode(&spec).unwrap().len() as u64;
        assert!(check_size(&spec, &Limits { spec_bytes_max: bytes, ..Limits::default() }).is_ok());
        assert!(check_size(&spec, &Limits { spec_bytes_max: bytes - 1, ..Limits::default() }).is_err());
    }
}
