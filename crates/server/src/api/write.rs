//! Writes: validated here, done by the leader, wherever the call came in.
//!
//! A write has its request id before it is first tried. So a try whose end is unknown may be repeated: the state
//! does it once and answers the repeat alike.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use machine::{Op, Reply, Write};
use model::{JobId, NodeId, RequestId, SpecError};
use serde::Serialize;
use tokio::sync::SemaphorePermit;
use tonic::{Request, Response, Status};
use tracing::{Instrument, debug_span};
use wire::convert;
use wire::error::{Failure, Happened, code};
use wire::v1;
use xxhash_rust::xxh3::xxh3_64;

use crate::api::call::Call;
use crate::api::forward::{Leader, marked, silent, told};
use crate::api::{Api, Running};
use crate::lead::Written;

/// Between the first two tries, unless leadership changes before; it doubles from try to try.
const RETRY_PAUSE: Duration = Duration::from_millis(15);
/// However long nobody leads: so many waiting writes must not keep a replica busy with trying in vain.
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);
/// What a client is told when this process has its fill of writes.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Of a write in the log, beside its operation and its actor's words: names of fields, ids, hash.
const FRAME_BYTES: usize = 96;

/// In which the room for writes under way is counted.
pub const WRITE_BYTES_UNIT: usize = 1_024;

/// A request that carries a header.
pub trait Headed: Clone + Send + Sync + 'static {
    fn header(&mut self) -> &mut Option<v1::WriteHeader>;

    /// As it is sent on to the leader.
    fn to_send(&self, _: &Write) -> Self {
        self.clone()
    }
}

macro_rules! headed {
    ($($message:ident),*) => {
        $(impl Headed for v1::$message {
            fn header(&mut self) -> &mut Option<v1::WriteHeader> {
                &mut self.header
            }
        })*
    };
}
headed!(
    CancelRequest,
    JobsRequest,
    RetryRequest,
    SetJobRequest,
    QueueRequest,
    PutQueueRequest,
    PutBookingRequest,
    BookingRequest,
    PutPeriodicRequest,
    PeriodicRequest,
    ClaimRequest,
    WorkerRequest,
    UpgradeRequest,
    PutSettingsRequest,
    PutSettingRequest
);

/// The RPC that sends the request on.
pub type SendOn<M, R> = fn(Leader, Request<M>) -> BoxFuture<'static, Result<Response<R>, Status>>;

/// A write on its way: what came in and what it means.
pub struct Journey<M, R> {
    pub call: Call,
    pub message: M,
    pub write: Weighed,
    pub send: SendOn<M, R>,
}

/// A write and the bytes that it takes in the log.
pub struct Weighed {
    pub write: Write,
    pub bytes: usize,
}

/// What a write came to: applied under this replica's lead, or as the leader told us.
pub enum Done<R> {
    Here(Written),
    There(R),
}

impl Api {
    /// Every write but submit.
    pub async fn change<M: Headed>(
        &self,
        request: Request<M>,
        read: impl FnOnce(M) -> Result<Op, Vec<SpecError>> + Send,
        send: SendOn<M, v1::ChangeReply>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let call = Call::of(self, request.metadata());
        let mut message = request.into_inner();
        let result = async {
            let id = self.name(&mut message)?;
            let op = read(message.clone()).map_err(|errors| Failure::invalid(&errors).request(id))?;
            let write = self.as_write(id, message.header().get_or_insert_default(), op)?;
            match self.carry(Box::new(Journey { call, message, write, send })).await? {
                Done::There(reply) => Ok(reply),
                Done::Here(written) => changed(id, written),
            }
        };
        self.answer(result.await)
    }

    /// Sees to it that the message has a request id, and returns it.
    pub fn name<M: Headed>(&self, message: &mut M) -> Result<RequestId, Failure> {
        let header = message.header().get_or_insert_default();
        let sent = convert::request_id(header).map_err(|errors| Failure::invalid(&errors))?;
        Ok(sent.unwrap_or_else(|| {
            let id = self.shared.requests.next(self.shared.clock.wall());
            header.request_id = id.to_string();
            id
        }))
    }

    pub fn as_write(&self, id: RequestId, header: &v1::WriteHeader, op: Op) -> Result<Weighed, Failure> {
        weigh(id, header, op).map_err(|failure| failure.request(id))
    }

    /// Tries until it is done, refused for good, or late. What is large is in boxes, here and below: a stream has a thousand
    /// of these in flight, and moves each as a whole.
    pub async fn carry<M: Headed, R>(&self, journey: Box<Journey<M, R>>) -> Result<Done<R>, Failure> {
        let id = journey.write.write.request;
        let span = debug_span!("write", request = %id, forwarded = journey.call.forwarded);
        let work = async {
            let _room = self.make_room(journey.write.bytes)?;
            self.try_until_late(&journey).await
        };
        work.instrument(span).await.map_err(|failure| failure.request(id))
    }

    /// Room for a write, by count and by bytes; it is given back when what is returned is dropped.
    fn make_room(&self, bytes: usize) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), Failure> {
        let limits = &self.shared.config.limits;
        let full = |limit: String| {
            Failure::overloaded(RETRY_AFTER, format!("this replica has {limit} of writes under way"))
        };
        let place = self.shared.writes.try_acquire();
        let place =
            place.map_err(|_| full(format!("writes_in_flight_max = {}", limits.writes_in_flight_max)))?;
        let units = u32::try_from(bytes.div_ceil(WRITE_BYTES_UNIT)).unwrap_or(u32::MAX);
        let room = self.shared.write_bytes.try_acquire_many(units);
        let room = room
            .map_err(|_| full(format!("write_bytes_in_flight_max = {}", limits.write_bytes_in_flight_max)))?;
        Ok((place, room))
    }

    async fn try_until_late<M: Headed, R>(&self, journey: &Journey<M, R>) -> Result<Done<R>, Failure> {
        let (id, deadline) = (journey.write.write.request, &journey.call.deadline);
        let (mut maybe, mut tries, mut last) = (false, 0, None);
        loop {
            // Before the try: a leader that comes during it is not to be waited for.
            let leader = self.running().ok().and_then(Running::leader_id);
            // One that has only just been elected may need a moment more.
            tries = if leader == last { tries + 1 } else { 0 };
            last = leader;
            let failure = match self.try_once(journey).await {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            maybe |= failure.happened == Happened::Maybe;
            let hopeless = journey.call.forwarded || !is_passing(&failure);
            if hopeless || deadline.left() <= RETRY_PAUSE {
                return Err(if maybe { after_unknown(failure) } else { failure });
            }
            // What is left after the last pause is for the answer.
            let limit = deadline.left().saturating_sub(RETRY_PAUSE);
            self.pause(leader, retry_pause(id, tries).min(limit)).boxed().await;
        }
    }

    /// Until another leads than `leader`, or this replica has begun or ceased to; at most for so long.
    async fn pause(&self, leader: Option<NodeId>, limit: Duration) {
        let Ok(running) = self.running() else { return tokio::time::sleep(limit).await };
        let mut leadership = running.replica.leadership();
        leadership.mark_unchanged();
        let mut changes = running.replica.changes();
        let is_another = |status: &replica::Status| status.leader.as_ref().map(|member| member.id) != leader;
        tokio::select! {
            _ = leadership.changed() => {}
            _ = changes.wait_for(is_another) => {}
            () = tokio::time::sleep(limit) => {}
        }
    }

    async fn try_once<M: Headed, R>(&self, journey: &Journey<M, R>) -> Result<Done<R>, Failure> {
        let running = self.running()?;
        if journey.call.forwarded || running.leads() {
            return self.try_here(journey).await.map(Done::Here);
        }
        self.try_there(running, journey).boxed().await.map(Done::There)
    }

    async fn try_there<M: Headed, R>(
        &self,
        running: &Running,
        journey: &Journey<M, R>,
    ) -> Result<R, Failure> {
        let leader =
            running.leader_address().ok_or_else(|| Failure::no_leader("the cluster has no leader"))?;
        self.shared.metrics.writes_forwarded.add(1);
        let deadline = &journey.call.deadline;
        let request = marked(journey.message.to_send(&journey.write.write), Some(deadline));
        let sent = deadline.run((journey.send)(self.shared.leaders.at(&leader)?, request)).await;
        match sent {
            Some(Ok(reply)) => Ok(reply.into_inner()),
            Some(Err(status)) => Err(told(&leader, &status)),
            None => Err(silent(&leader)),
        }
    }

    async fn try_here<M: Headed, R>(&self, journey: &Journey<M, R>) -> Result<Written, Failure> {
        let running = self.running()?;
        running.until_leads(journey.call.deadline.left()).await;
        let began = self.shared.clock.moment();
        let Weighed { write, bytes } = &journey.write;
        let written = journey.call.deadline.run(running.lead.write(Box::new(write.clone()), *bytes)).await;
        match written {
            Some(Ok(written)) => {
                self.shared.metrics.commit.observe(self.shared.clock.moment().since(began));
                refused(written)
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(Failure::no_leader("no quorum of replicas took the write in time").maybe_happened()),
        }
    }
}

// The state's refusal is as final as its consent.
fn refused(written: Written) -> Result<Written, Failure> {
    match written.reply {
        Reply::Rejected(rejection) => Err((*rejection).into()),
        reply => Ok(Written { reply, ..written }),
    }
}

/// Doubled from try to try, and another for each write so that not all come at once.
fn retry_pause(id: RequestId, tries: u32) -> Duration {
    let longest = RETRY_PAUSE.saturating_mul(1 << tries.min(6)).min(RETRY_PAUSE_MAX);
    let chance = xxh3_64(&[&id.0.to_le_bytes()[..], &tries.to_le_bytes()[..]].concat()) % 1_000;
    longest / 2 + longest.mul_f64(chance as f64 / 2_000.0)
}

/// Whether the same write may do better in a moment, here or at another replica.
fn is_passing(failure: &Failure) -> bool {
    matches!(failure.code.as_str(), code::NO_LEADER | code::NOT_LEADER | code::UNAVAILABLE)
}

/// The failure of the last try where an earlier one may have been done: only the state's own answer speaks for both,
/// since they had one request id.
fn after_unknown(failure: Failure) -> Failure {
    // What is expired was forgotten, done or not.
    let is_of_this_try = is_passing(&failure)
        || matches!(failure.code.as_str(), code::OVERLOADED | code::REQUEST_EXPIRED | code::REPLICAS);
    if is_of_this_try { failure.maybe_happened() } else { failure }
}

fn changed(id: RequestId, written: Written) -> Result<v1::ChangeReply, Failure> {
    let changed = match written.reply {
        Reply::Changed { tasks } => tasks,
        Reply::Placed { taken, .. } => taken.into(),
        Reply::Done => 0,
        Reply::Submitted { .. } | Reply::SessionOpened(_) | Reply::Reported { .. } | Reply::Rejected(_) => {
            return Err(unexpected(&written.reply).request(id));
        }
    };
    Ok(v1::ChangeReply { request_id: id.to_string(), changed, index: written.index })
}

/// An answer of another kind than the write's.
pub fn unexpected(reply: &Reply) -> Failure {
    let message = format!("the write was answered by {reply:?}");
    Failure::new(code::INTERNAL, tonic::Code::Internal, message).maybe_happened()
}

/// The form in which a spec is logged.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    // Room for most of them, so that it does not grow by and by.
    let mut bytes = Vec::with_capacity(1_024);
    let written = value.serialize(&mut rmp_serde::Serializer::new(&mut bytes).with_struct_map());
    written.map(|()| bytes).map_err(|error| {
        Failure::new(code::INTERNAL, tonic::Code::Internal, format!("the write cannot be encoded: {error}"))
    })
}

/// The hash is of the operation as it was asked for: the job's id is chosen later.
fn weigh(id: RequestId, header: &v1::WriteHeader, op: Op) -> Result<Weighed, Failure> {
    debug_assert!(!matches!(&op, Op::Submit { job, .. } if *job != JobId(0)));
    let actor = convert::actor(header).map_err(|errors| Failure::invalid(&errors))?;
    let encoded = encode(&op)?;
    let words = actor.tenant.len() + actor.user.len() + actor.via.len();
    let trace = actor.trace.as_ref().map_or(0, |trace| trace.as_str().len() + 8);
    let bytes = encoded.len() + words + trace + FRAME_BYTES;
    Ok(Weighed { write: Write { request: id, body_hash: xxh3_64(&encoded), actor, op }, bytes })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use machine::Rejection;
    use model::{EnvValue, JobSpec, TaskSpec, Work};

    use super::*;

    #[test]
    fn only_the_states_answer_speaks_for_an_earlier_try_of_unknown_end() {
        let of_this_try = [
            Failure::overloaded(RETRY_AFTER, "a full lane"),
            Failure::no_leader("none"),
            Failure::not_leader(None),
            Failure::new(code::REPLICAS, tonic::Code::FailedPrecondition, "one is too old"),
        ];
        for failure in of_this_try {
            assert_eq!(failure.happened, Happened::No);
            assert_eq!(after_unknown(failure).happened, Happened::Maybe);
        }
        let of_the_state = Failure::from(Rejection::UnknownJob { job: JobId(9) });
        assert_eq!(after_unknown(of_the_state).happened, Happened::No);
    }

    #[test]
    fn the_pause_grows_to_its_end_and_differs_between_writes() {
        let pause = |id, tries| retry_pause(RequestId(id), tries);
        for id in 0..100 {
            assert!(pause(id, 0) >= RETRY_PAUSE / 2 && pause(id, 0) <= RETRY_PAUSE);
            assert!(pause(id, 40) >= RETRY_PAUSE_MAX / 2 && pause(id, 40) <= RETRY_PAUSE_MAX);
        }
        assert_ne!(pause(1, 5), pause(2, 5));
    }

    #[test]
    fn a_write_weighs_what_it_takes_in_the_log() {
        let mut large = TaskSpec::new("a", Work::Run(vec!["x".to_owned()]));
        large.env.insert("A".to_owned(), EnvValue::Plain("x".repeat(300 << 10)));
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
        let header = v1::WriteHeader { user: "somebody".to_owned(), traceparent, ..Default::default() };
        let ops = [
            Op::Cordon { worker: "w".to_owned() },
            Op::Submit { job: JobId(0), spec: Arc::new(JobSpec::of("j", vec![large])) },
            Op::Pause { jobs: (0..1_000).map(|n| JobId(1 << 40 | n)).collect() },
        ];
        for op in ops {
            let Weighed { mut write, bytes } = weigh(RequestId(u128::MAX), &header, op).unwrap();
            if let Op::Submit { job, .. } = &mut write.op {
                *job = JobId(u64::MAX);
            }
            let real = encode(&write).unwrap().len();
            assert!(bytes >= real && bytes < real + 64, "{bytes} for {real}");
        }
    }
}
