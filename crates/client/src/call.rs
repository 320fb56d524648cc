//! One call: over the replicas in turn, again while it may help, until the deadline.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::RequestId;
use rand::rngs::SmallRng;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use wire::error::{CLOCK, Failure, Happened, code};
use wire::v1::baton_client::BatonClient;

use crate::Error;
use crate::env::{self, Deadline};
use crate::error::{backoff, is_passing};

pub type Stub = BatonClient<Channel>;

/// A list of 10,000 tasks with their outcomes has a few MiB.
const REPLY_BYTES_MAX: usize = 64 << 20;

/// For one try while there are other replicas: one that is cut off says so only at the end of the time it is given.
pub const TRY_MAX: Duration = Duration::from_secs(4);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// `host:port` of replicas, any of which will do.
    pub addresses: Vec<String>,
    /// For each call, retries included.
    pub deadline: Duration,
    /// How long to go on while not one replica can be reached. At most the deadline counts.
    pub patience: Duration,
    /// What writes say of who asks; unverified.
    pub user: String,
    pub via: String,
    /// W3C trace context that the attempts of submitted jobs go on in; empty: none.
    pub traceparent: String,
}

impl Options {
    pub fn new(addresses: Vec<String>) -> Options {
        Options {
            addresses,
            deadline: Duration::from_secs(30),
            patience: Duration::from_secs(5),
            user: String::new(),
            via: "api".to_owned(),
            traceparent: String::new(),
        }
    }
}

pub struct Shared {
    pub options: Options,
    /// Which address worked last.
    preferred: AtomicUsize,
    channels: Mutex<BTreeMap<usize, Channel>>,
    chance: Mutex<SmallRng>,
    /// Microseconds to add to our clock to get the cluster's.
    clock_offset: AtomicI64,
}

/// What one call has been through.
struct Journey {
    tries: u32,
    tried: BTreeMap<usize, String>,
    maybe_happened: bool,
    /// The last that a replica said itself: it tells more than that another cannot be reached.
    told: Option<Failure>,
}

impl Shared {
    pub fn new(options: Options) -> Arc<Shared> {
        Arc::new(Shared {
            options,
            preferred: AtomicUsize::new(0),
            channels: Mutex::default(),
            chance: Mutex::new(env::chance()),
            clock_offset: AtomicI64::new(0),
        })
    }

    /// How long to wait for one replica of what is left.
    pub fn share(&self, left: Duration) -> Duration {
        if self.options.addresses.len() > 1 { left.min(TRY_MAX) } else { left }
    }

    /// A new request id, by the cluster's clock as far as it is known.
    pub fn mint(&self) -> RequestId {
        let now = env::unix_us().saturating_add(self.clock_offset.load(Ordering::Relaxed));
        env::ulid(now, &mut *self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn jitter(&self, base: Duration) -> Duration {
        env::jitter(base, &mut *self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The address in use, and its place.
    pub fn current(&self) -> (usize, &str) {
        let place = self.preferred.load(Ordering::Relaxed) % self.options.addresses.len().max(1);
        (place, self.options.addresses.get(place).map_or("", String::as_str))
    }

    /// Gives up on the address at `place`, unless somebody else has moved on already.
    pub fn move_on(&self, place: usize) {
        let next = (place + 1) % self.options.addresses.len().max(1);
        let _ = self.preferred.compare_exchange(place, next, Ordering::Relaxed, Ordering::Relaxed);
        self.channels.lock().unwrap_or_else(PoisonError::into_inner).remove(&place);
    }

    /// A stub for the address in use; an error says why the address is none.
    pub fn stub(&self) -> Result<(usize, Stub), Failure> {
        let (place, address) = self.current();
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = match channels.get(&place) {
            Some(channel) => channel.clone(),
            None => channels.entry(place).or_insert(open(address)?).clone(),
        };
        Ok((place, BatonClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX)))
    }

    /// Makes the call until it works, cannot work, or the deadline passes.
    pub async fn call<Q, A, F, Fut>(
        &self,
        message: Q,
        request_id: Option<RequestId>,
        send: F,
    ) -> Result<A, Error>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let deadline = Deadline::after(self.options.deadline);
        let patience = Deadline::after(self.options.patience);
        let mut journey = Journey { tries: 0, tried: BTreeMap::new(), maybe_happened: false, told: None };
        loop {
            let (place, failure) = match self.try_once(&message, deadline, &send).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            journey.note(place, &failure);
            if !is_passing(&failure) {
                return Err(self.fail(journey, failure, request_id));
            }
            self.move_on(place);
            let wait = journey.wait(self, &failure);
            if deadline.left() <= wait || (journey.told.is_none() && patience.has_passed()) {
                return Err(self.fail(journey, failure, request_id));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_once<Q, A, F, Fut>(
        &self,
        message: &Q,
        deadline: Deadline,
        send: &F,
    ) -> Result<A, (usize, Failure)>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let (place, stub) = self.stub().map_err(|failure| (self.current().0, failure))?;
        let mut request = Request::new(message.clone());
        let left = self.share(deadline.left()).max(Duration::from_millis(1));
        request.set_timeout(left);
        // The replica answers within the timeout it was told; the second of grace lets its own words arrive.
        let answer = tokio::time::timeout(left + Duration::from_secs(1), send(stub, request)).await;
        match answer {
            Ok(Ok(response)) => {
                self.learn_clock(response.metadata());
                Ok(response.into_inner())
            }
            Ok(Err(status)) => {
                self.learn_clock(status.metadata());
                Err((place, explain(&status)))
            }
            Err(_) => {
                let message = format!("no answer within {left:.1?}");
                Err((
                    place,
                    Failure::new(code::UNAVAILABLE, Code::DeadlineExceeded, message).maybe_happened(),
                ))
            }
        }
    }

    /// From what came with a reply or an error.
    pub fn learn_clock(&self, metadata: &MetadataMap) {
        let told = metadata.get(CLOCK).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
        if let Some(told) = told {
            self.clock_offset.store(told.saturating_sub(env::unix_us()), Ordering::Relaxed);
        }
    }

    /// A stream of replies, once the replica has begun it.
    pub async fn opened<A>(
        &self,
        opening: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, Failure> {
        match tokio::time::timeout(self.share(self.options.deadline), opening).await {
            Ok(Ok(reply)) => Ok(reply.into_inner()),
            Ok(Err(status)) => Err(explain(&status)),
            Err(_) => {
                let message = "the replica did not begin to answer in time";
                Err(Failure::new(code::UNAVAILABLE, Code::DeadlineExceeded, message))
            }
        }
    }

    fn fail(&self, mut journey: Journey, mut failure: Failure, request_id: Option<RequestId>) -> Error {
        if let (code::UNAVAILABLE, Some(told)) = (failure.code.as_str(), journey.told.take()) {
            failure = told;
        }
        // A definite answer speaks for all tries, since they had one request id; a passing failure does not.
        // That an id is expired speaks for it, but not for what was done with it before it did.
        let is_of_last_try =
            is_passing(&failure) || matches!(failure.code.as_str(), code::REQUEST_EXPIRED | code::REPLICAS);
        if is_of_last_try && journey.maybe_happened {
            failure.happened = Happened::Maybe;
        }
        failure.request_id = failure.request_id.or(request_id);
        let address = |place: usize| self.options.addresses.get(place).cloned().unwrap_or_default();
        let tried = journey.tried.into_iter().map(|(place, why)| (address(place), why)).collect();
        Error { failure, tried }
    }
}

impl Journey {
    fn note(&mut self, place: usize, failure: &Failure) {
        self.tries += 1;
        self.maybe_happened |= failure.happened == Happened::Maybe;
        if failure.code != code::UNAVAILABLE {
            self.told = Some(failure.clone());
        }
        self.tried.insert(place, failure.message.clone());
    }

    // The first time round nothing is lost by asking the next replica at once.
    fn wait(&self, shared: &Shared, failure: &Failure) -> Duration {
        let replicas = shared.options.addresses.len() as u32;
        let asked_to_wait = failure.retry_after.is_some();
        if self.tries < replicas && !asked_to_wait {
            return Duration::ZERO;
        }
        shared.jitter(backoff(self.tries - self.tries.min(replicas), failure))
    }
}

fn open(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|_| {
        let message = format!("`{address}` is not an address such as 127.0.0.1:7070");
        Failure::new(code::UNAVAILABLE, Code::Unavailable, message)
    })?;
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        // A frozen or cut-off replica is noticed within two seconds, while a call waits on it.
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1));
    Ok(endpoint.connect_lazy())
}

/// The failure in a status, in words that name the cause: tonic's own text is `transport error`.
pub fn explain(status: &Status) -> Failure {
    let mut failure = Failure::from(status);
    let mut cause = std::error::Error::source(status);
    let mut deepest = None;
    while let Some(error) = cause {
        deepest = Some(error.to_string());
        cause = error.source();
    }
    if let Some(text) = deepest {
        let text = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        failure.message = match text.as_str() {
            "" => failure.message,
            "tcp connect error" => "cannot be connected to".to_owned(),
            _ => text,
        };
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refused_connection_is_named_as_such_and_nothing_happened() {
        // Bound and closed again: nobody listens there.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client =
            crate::Client::connect([format!("127.0.0.1:{port}")]).with_deadline(Duration::from_millis(50));
        let error = client.pause_queue("q").await.unwrap_err();
        assert_eq!((error.code(), error.happened()), (code::UNAVAILABLE, Happened::No));
        assert_eq!(error.tried.len(), 1);
        assert!(error.tried[0].1.contains("connection refused"), "{:?}", error.tried);
    }

    #[test]
    fn one_replica_of_several_is_not_given_all_the_time() {
        let with = |addresses: &[&str]| {
            let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
            Shared::new(Options::new(addresses))
        };
        assert_eq!(with(&["a:1", "b:1"]).share(Duration::from_secs(30)), TRY_MAX);
        assert_eq!(with(&["a:1", "b:1"]).share(Duration::from_secs(1)), Duration::from_secs(1));
        assert_eq!(with(&["a:1"]).share(Duration::from_secs(30)), Duration::from_secs(30));
    }

    #[test]
    fn the_clusters_clock_is_learned_from_an_error_too() {
        let shared = Shared::new(Options::new(vec!["a:1".to_owned()]));
        let mut status = Status::failed_precondition("ahead");
        let hour_ago = env::unix_us() - 3_600_000_000;
        status.metadata_mut().insert(CLOCK, hour_ago.to_string().parse().unwrap());
        shared.learn_clock(status.metadata());
        let minted = shared.mint().unix_ms() as i64;
        assert!((minted - hour_ago / 1_000).abs() < 60_000, "{minted}");
    }

    #[test]
    fn a_broken_connection_is_no_answer() {
        let broken = explain(&Status::unknown("stream closed because of a broken pipe"));
        assert!(is_passing(&broken) && broken.happened == Happened::Maybe, "{broken:?}");
        let answered = Failure::new(code::INTERNAL, Code::Internal, "a bug");
        assert!(!is_passing(&explain(&Status::from(answered))));
    }
}
