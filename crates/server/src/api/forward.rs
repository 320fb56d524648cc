//! Connections to the replica that leads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use replica::Env;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use wire::error::{FORWARDED, Failure, code};
use wire::v1::baton_client::BatonClient;

use crate::deadline::Deadline;

pub type Leader = BatonClient<Channel>;

/// Addresses remembered: more than a cluster has replicas.
const CHANNELS_MAX: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One connection per address, made when it is first needed.
pub struct Leaders {
    channels: Mutex<BTreeMap<String, Channel>>,
    message_bytes_max: usize,
    env: Arc<dyn Env>,
}

impl Leaders {
    pub fn new(message_bytes_max: usize, env: Arc<dyn Env>) -> Leaders {
        Leaders { channels: Mutex::default(), message_bytes_max, env }
    }

    pub fn at(&self, address: &str) -> Result<Leader, Failure> {
        let mut channels = self.channels.lock();
        let channel = match channels.get(address) {
            Some(channel) => channel.clone(),
            None => {
                if channels.len() >= CHANNELS_MAX {
                    channels.clear();
                }
                let channel = open(address, self.env.clone())?;
                channels.insert(address.to_owned(), channel.clone());
                channel
            }
        };
        let limit = self.message_bytes_max;
        Ok(BatonClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit))
    }
}

fn open(address: &str, env: Arc<dyn Env>) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| Failure::no_leader(format!("the leader's API address `{address}` is not an address")))?;
    let endpoint = endpoint
        // A leader that is frozen or cut off is noticed while a call waits on it.
        .http2_keep_alive_interval(Duration::from_millis(500))
        .keep_alive_timeout(Duration::from_secs(1))
        .initial_connection_window_size(16 << 20)
        .initial_stream_window_size(4 << 20);
    let address = address.to_owned();
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| {
        let connecting = env.connect(address.clone());
        async move {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
            }
        }
    })))
}

/// The same call again, marked, with what is left of its time.
pub fn marked<T>(message: T, deadline: Option<&Deadline>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    if let Some(deadline) = deadline {
        request.set_timeout(deadline.left().max(Duration::from_millis(1)));
    }
    request
}

/// What the leader said, or that it could not be asked: to the client there is no leader then.
pub fn told(leader: &str, status: &Status) -> Failure {
    let failure = Failure::from(status);
    if failure.code != code::UNAVAILABLE {
        return failure;
    }
    let message = format!("the leader at {leader} cannot be reached: {}", failure.message);
    Failure { happened: failure.happened, ..Failure::no_leader(message) }
}

/// The leader has not answered within the time of the call.
pub fn silent(leader: &str) -> Failure {
    Failure::no_leader(format!("the leader at {leader} did not answer in time")).maybe_happened()
}

#[cfg(test)]
mod tests {
    use wire::error::Happened;

    use super::*;

    /// It reached the client as an internal error, which it does not try again.
    #[test]
    fn a_leader_that_ends_under_the_call_is_no_leader() {
        for status in [Status::unknown("transport error"), Status::internal("h2 protocol error: broken pipe")]
        {
            let failure = told("127.0.0.1:1", &status);
            assert_eq!((failure.code.as_str(), failure.happened), (code::NO_LEADER, Happened::Maybe));
        }
        let own = Status::from(Failure::new(code::INTERNAL, tonic::Code::Internal, "a bug"));
        assert_eq!(told("127.0.0.1:1", &own).code, code::INTERNAL);
    }
}
