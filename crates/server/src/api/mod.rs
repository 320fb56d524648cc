//! The public API, `baton.v1`: any replica takes any call.

mod adapt;
mod asked;
mod call;
mod claim;
mod cluster;
mod elected;
mod forward;
mod logs;
mod periodic;
mod read;
mod readiness;
mod service;
mod submit;
mod upgrade;
mod watch;
mod workers;
mod write;

use std::sync::{Arc, OnceLock};

use futures::stream::BoxStream;
use machine::SharedSpecs;
use model::{LogIndex, Moment};
use parking_lot::Mutex;
use replica::{Env, Replica};
use tokio::sync::{Semaphore, watch as signal};
use tonic::Status;
use wire::error::Failure;

use crate::clock::Clock;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::http::Demand;
use crate::lead::Lead;
use crate::metrics::Metrics;
use crate::request::RequestIds;
use crate::ring::Ring;
use forward::Leaders;

pub type Replies<T> = BoxStream<'static, Result<T, Status>>;

/// What the services share. Copies are the same.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

pub struct Shared {
    pub config: Config,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// Set once this replica has found its cluster.
    running: OnceLock<Running>,
    started: signal::Sender<bool>,
    /// As last tried.
    readiness: Mutex<Result<(), String>>,
    /// What ready tasks ask for, as last counted.
    pub demand: Mutex<Option<(Moment, Demand)>>,
    requests: RequestIds,
    /// Of submits that came by here.
    specs: Mutex<SharedSpecs>,
    leaders: Leaders,
    writes: Semaphore,
    /// Room for writes, in units of [`write::WRITE_BYTES_UNIT`].
    write_bytes: Semaphore,
    watches: Arc<Semaphore>,
    logs: Arc<Semaphore>,
    stopping: signal::Receiver<bool>,
}

/// The parts that exist once the replica runs.
pub struct Running {
    pub replica: Arc<Replica>,
    pub lead: Lead,
    pub ring: Ring,
    /// The newest entry, while there is anything to claim.
    pub claims: signal::Receiver<Option<LogIndex>>,
}

impl Api {
    pub fn new(
        config: Config,
        env: Arc<dyn Env>,
        metrics: Arc<Metrics>,
        stopping: signal::Receiver<bool>,
    ) -> Api {
        let limits = config.limits.clone();
        let shared = Shared {
            demand: Mutex::new(None),
            requests: RequestIds::new(env.random()),
            specs: Mutex::default(),
            leaders: Leaders::new(limits.message_bytes_max, env.clone()),
            writes: Semaphore::new(limits.writes_in_flight_max),
            write_bytes: Semaphore::new(limits.write_bytes_in_flight_max / write::WRITE_BYTES_UNIT),
            watches: Arc::new(Semaphore::new(limits.watches_max)),
            logs: Arc::new(Semaphore::new(limits.logs_max)),
            running: OnceLock::new(),
            started: signal::channel(false).0,
            readiness: Mutex::new(Err("it was not tried yet".to_owned())),
            config,
            clock: Clock::of(env),
            metrics,
            stopping,
        };
        Api { shared: Arc::new(shared) }
    }

    /// From now on calls are served.
    pub fn set_running(&self, running: Running) {
        let _ = self.shared.running.set(running);
        self.shared.started.send_replace(true);
    }

    /// Resolves when calls are served.
    pub async fn started(&self) {
        let mut started = self.shared.started.subscribe();
        // The sender lives in `self`: an error cannot be.
        let _ = started.wait_for(|started| *started).await;
    }

    /// The running parts, waited for as long as the call may take.
    async fn running_by(&self, deadline: &Deadline) -> Result<&Running, Failure> {
        if self.shared.running.get().is_none() {
            deadline.run(self.started()).await;
        }
        self.running()
    }

    pub fn running(&self) -> Result<&Running, Failure> {
        self.shared.running.get().ok_or_else(|| {
            let config = &self.shared.config;
            let peers: Vec<&str> = config.peers.iter().map(|peer| peer.name.as_str()).collect();
            Failure::no_leader(format!(
                "replica {} is starting: it looks for its peers {}",
                config.name,
                peers.join(", ")
            ))
        })
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Resolves when this process is about to stop.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stopping = self.shared.stopping.clone();
        async move { drop(stopping.wait_for(|stopping| *stopping).await) }
    }
}
