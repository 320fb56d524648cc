//! A replica process from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use replica::env::Listener;
use replica::{Env, Listen, Real, Replica, Seams, SnapshotThresholds, WallOffset};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic_health::ServingStatus;
use tracing::{info, info_span, warn};
use wire::v1::baton_server::BatonServer;
use wire::v1::workers_server::WorkersServer;

use crate::api::{Api, Running};
use crate::clock;
use crate::config::{self, Addresses, Config, Error, Listeners};
use crate::follow::Follower;
use crate::metrics::Metrics;
use crate::{http, lead};

/// How long another replica may take to take over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How long calls under way may take to end once the process is told to stop.
const FAREWELL: Duration = Duration::from_secs(2);
/// Of a connection that is silent: then it is asked whether anybody is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a replica process runs: on sockets of this machine, or in a simulation.
pub struct Place {
    pub addresses: Addresses,
    pub api: Box<dyn Listener>,
    pub http: Option<std::net::TcpListener>,
    /// Clocks, chance, and the way to the API of whoever leads.
    pub env: Arc<dyn Env>,
    pub replica: replica::Config,
    pub seams: Seams,
}

/// A running replica process. Dropped, it stops without farewell.
pub struct Server {
    addresses: Addresses,
    api: Api,
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Error>>,
}

/// Runs a replica until `shutdown` resolves or it cannot go on.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let mut server = Server::start(config).await?;
    tokio::select! {
        failed = server.failed() => {
            server.shutdown().await;
            Err(failed)
        }
        () = shutdown => {
            server.shutdown().await;
            Ok(())
        }
    }
}

impl Server {
    /// Returns when the ports are bound. The replica looks for its peers behind; until it has found them calls are
    /// answered by saying so.
    pub async fn start(config: Config) -> Result<Server, Error> {
        let listeners = Listeners::bind(&config)?;
        Server::start_on(config, listeners).await
    }

    /// On sockets that were bound before.
    pub async fn start_on(config: Config, listeners: Listeners) -> Result<Server, Error> {
        let listen = |source| Error::Listen { flag: config::LISTEN, address: config.listen.clone(), source };
        let addresses = listeners.addresses().map_err(listen)?;
        let api = tokio::net::TcpListener::from_std(listeners.api).map_err(listen)?;
        // The others measure the clock that this process goes by.
        let offset = clock::offset();
        let place = Place {
            replica: replica_config(&config, &addresses, listeners.peer)?,
            addresses,
            api: Box::new(api),
            http: listeners.http,
            env: Arc::new(real(&offset)),
            seams: seams(&config, &offset),
        };
        Server::start_at(config, place).await
    }

    /// In the given place: the addresses of the configuration are not looked at.
    pub async fn start_at(config: Config, place: Place) -> Result<Server, Error> {
        let Place { addresses, api: listener, http, env, replica, seams } = place;
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(config, env, Arc::new(Metrics::default()), stopping.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(bring_up(api.clone(), replica, seams, stopping.clone()));
        tasks.spawn(serve_grpc(api.clone(), listener, stopping.clone()));
        if let Some(listener) = http {
            tasks.spawn(http::serve(api.clone(), listener, stopping));
        }
        info!(api = %addresses.api, peer = %addresses.peer, http = ?addresses.http, "listening");
        Ok(Server { addresses, api, stop, tasks })
    }

    /// Once it has found its cluster.
    pub fn replica(&self) -> Option<Arc<Replica>> {
        self.api.running().ok().map(|running| running.replica.clone())
    }

    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Waits until the replica has found its cluster; nobody may lead yet.
    pub async fn started(&mut self) -> Result<(), Error> {
        let api = self.api.clone();
        tokio::select! {
            failed = self.failed() => Err(failed),
            () = api.started() => Ok(()),
        }
    }

    /// Returns when this process cannot go on, and why.
    pub async fn failed(&mut self) -> Error {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(panicked)) => return Error::Stopped { why: panicked.to_string() },
                None => return Error::Stopped { why: "nothing is served any more".to_owned() },
            }
        }
    }

    /// Hands leadership over, ends streams, lets calls under way end, stops the replica and frees its data directory.
    pub async fn shutdown(mut self) {
        self.api.step_down(HAND_OVER).await;
        self.stop.send_replace(true);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, ended).await.is_err() {
            warn!("calls were still under way and are cut off");
            self.tasks.shutdown().await;
        }
        if let Ok(running) = self.api.running() {
            running.replica.shutdown().await;
        }
        info!("stopped");
    }
}

fn replica_config(
    config: &Config,
    addresses: &Addresses,
    listener: std::net::TcpListener,
) -> Result<replica::Config, Error> {
    let peers = config.peers.iter();
    Ok(replica::Config {
        peer_listen: Listen::Bound(listener),
        advertise_raft: config::advertised(config, config::PEER_LISTEN, addresses.peer)?,
        advertise_api: config::advertised(config, config::LISTEN, addresses.api)?,
        peers: peers
            .map(|peer| replica::Peer { name: peer.name.clone(), raft_addr: peer.address.clone() })
            .collect(),
        failover: config.failover,
        snapshots: SnapshotThresholds::of_log_bytes(config.snapshot_log_bytes),
        level_max: config.level_max,
        ..replica::Config::new(&config.cluster, &config.name, config.data_dir.clone())
    })
}

fn real(offset: &WallOffset) -> Real {
    Real::new().with_wall_offset(offset.clone())
}

fn seams(config: &Config, offset: &WallOffset) -> Seams {
    let env = match config.cut.clone() {
        Some(cut) => real(offset).with_cut(cut),
        None => real(offset),
    };
    hooked(Seams { env: Arc::new(env), ..Seams::default() }, config, offset)
}

#[cfg(feature = "chaos")]
fn hooked(seams: Seams, config: &Config, offset: &WallOffset) -> Seams {
    config.chaos.replica.arm(seams, offset)
}

#[cfg(not(feature = "chaos"))]
fn hooked(seams: Seams, _: &Config, _: &WallOffset) -> Seams {
    seams
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    drop(stopping.wait_for(|stopping| *stopping).await);
}

/// Starts the replica, then everything that needs it; ends with it.
async fn bring_up(
    api: Api,
    config: replica::Config,
    seams: Seams,
    stopping: watch::Receiver<bool>,
) -> Result<(), Error> {
    let shared = api.shared();
    let replica = tokio::select! {
        replica = Replica::start_with(config, seams) => Arc::new(replica?),
        () = stopped(stopping.clone()) => return Ok(()),
    };
    let limits = &shared.config.limits;
    let follower = Follower::new(replica.clone(), limits.events_max, shared.metrics.clone());
    let config = lead::Config {
        cluster: shared.config.cluster.clone(),
        failover: shared.config.failover,
        level: shared.config.level_max,
        #[cfg(feature = "chaos")]
        mutant: shared.config.chaos.leader,
    };
    let lead = lead::start(replica.clone(), config, shared.clock.clone(), shared.metrics.clone())
        .map_err(replica::StartError::Runtime)?;
    let lead_ended = lead.ended();
    api.set_running(Running { replica, lead, ring: follower.ring.clone(), claims: follower.claims() });
    // A process that can only half of its work must not look alive: started again, it can all of it.
    tokio::select! {
        () = follower.run() => Err(Error::Stopped { why: "what it applies is no longer told".to_owned() }),
        never = api.adapt_queues() => match never {},
        () = lead_ended => Err(Error::Stopped { why: "the task that leads has ended".to_owned() }),
        () = stopped(stopping) => Ok(()),
    }
}

async fn serve_grpc(
    api: Api,
    listener: Box<dyn Listener>,
    stopping: watch::Receiver<bool>,
) -> Result<(), Error> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| Error::Serve { what: "the API", source };
    let clock = api.shared().clock.clone();
    let connections = replica::connections(listener, "api", move || clock.moment());
    let limits = api.shared().config.limits.clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(wire::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| failed(error.into()))?;
    let bytes_max = limits.message_bytes_max;
    let serving = tonic::transport::Server::builder()
        .trace_fn(|request| info_span!("call", name = request.uri().path()))
        .max_concurrent_streams(limits.calls_per_connection_max)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_connection_window_size(16 << 20)
        .initial_stream_window_size(4 << 20)
        .add_service(health_service)
        .add_service(reflection)
        .add_service(
            BatonServer::new(api.clone())
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(4 * bytes_max),
        )
        .add_service(WorkersServer::new(api.clone()).max_decoding_message_size(bytes_max))
        .serve_with_incoming_shutdown(Box::pin(connections), stopped(stopping.clone()));
    tokio::select! {
        served = serving => served.map_err(|error| failed(error.into())),
        () = tell_health(api, health, stopping) => Ok(()),
    }
}

const HEALTH_EVERY: Duration = Duration::from_millis(250);

/// Tries every while whether this replica can serve, and tells gRPC's health service. Never ends.
async fn tell_health(
    api: Api,
    health: tonic_health::server::HealthReporter,
    stopping: watch::Receiver<bool>,
) {
    let services = ["", "baton.v1.Baton", "baton.v1.Workers"];
    let mut told = None;
    loop {
        let ready = api.try_readiness().await.is_ok() && !*stopping.borrow();
        if told != Some(ready) {
            let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            for service in services {
                health.set_service_status(service, status).await;
            }
            told = Some(ready);
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}
