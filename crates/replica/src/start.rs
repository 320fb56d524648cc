//! How a replica starts: looks at its disk, listens, finds out who it is, and brings Raft up.

use std::future::Future;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use model::settings::Failover;
use openraft::SnapshotPolicy;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::Hooks;
use crate::config::{Config, StartError};
use crate::env::{Env, Listen, Listener, Real};
use crate::identity::{DataDir, Identity};
use crate::log::{LogBackend, LogError, LogStore, SledBackend};
use crate::network::{Network, Transport};
use crate::reads::{Reads, Rounds};
use crate::replica::Server;
use crate::service::{Node, Phase, Running, Services};
use crate::snapshot::SnapshotStore;
use crate::state_machine::{Shared, StateMachine};
use crate::types::{self, NodeId, Raft};
use crate::upkeep::{Compared, Upkeep};
use crate::{accept, bootstrap};

const RAFT_THREADS: usize = 2;

pub(crate) type OpenLog = Box<dyn FnOnce(&Path) -> std::io::Result<Box<dyn LogBackend>> + Send>;

/// What is replaced in tests and simulations.
pub struct Seams {
    pub env: Arc<dyn Env>,
    pub open_log: OpenLog,
    /// Nothing but in the chaos build.
    pub hooks: Hooks,
}

impl Default for Seams {
    fn default() -> Seams {
        Seams {
            env: Arc::new(Real::new()),
            open_log: Box::new(|dir| Ok(Box::new(SledBackend::open(dir)?))),
            hooks: Hooks::default(),
        }
    }
}

/// None in a simulation, which has one for everything.
pub(crate) fn runtime(env: &dyn Env) -> Result<(Option<Runtime>, Handle), StartError> {
    if !env.has_threads() {
        return Ok((None, Handle::current()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RAFT_THREADS)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let handle = runtime.handle().clone();
    Ok((Some(runtime), handle))
}

pub(crate) struct Parts {
    pub upkeep: Arc<Upkeep>,
    pub node: Arc<Node>,
    pub reads: Reads,
    pub rounds: Rounds,
    pub waiting: mpsc::Receiver<oneshot::Sender<Result<u64, String>>>,
    pub failover_limit: Duration,
}

/// Runs a part of the start on the runtime of replication.
async fn on<T: Send + 'static>(
    env: &Arc<dyn Env>,
    runtime: &Handle,
    part: impl Future<Output = T> + Send + 'static,
) -> T {
    let (sender, receiver) = oneshot::channel();
    let task = async move { drop(sender.send(part.await)) };
    let _abort = AbortOnDrop(env.spawn(runtime, Box::pin(task)));
    receiver.await.expect("the start does not panic, and its runtime lives as long as it")
}

/// A start that is given up stops.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a start has found on its disk.
struct Disk {
    data_dir: Arc<DataDir>,
    known: Option<Identity>,
    incarnation: u64,
    /// Of an empty directory: the names of all founders.
    peers: Vec<String>,
}

fn disk_error(config: &Config, what: &'static str) -> impl FnOnce(std::io::Error) -> StartError + use<> {
    let dir = config.data_dir.clone();
    move |source| StartError::DataDir { dir, what, source }
}

fn look(config: &Config, env: &dyn Env) -> Result<Disk, StartError> {
    let data_dir = Arc::new(DataDir::open(&config.data_dir)?);
    let known = data_dir.identity().map_err(disk_error(config, "its identity cannot be read"))?;
    if let Some(known) = known {
        check_names(config, &known)?;
        check_failover(config, &known)?;
        return Ok(Disk { data_dir, incarnation: known.incarnation, known: Some(known), peers: Vec::new() });
    }
    if config.peers.is_empty() {
        return Err(StartError::NoPeers { dir: config.data_dir.clone() });
    }
    let peers = bootstrap::names(&config.name, &config.peers)?;
    let incarnation =
        data_dir.incarnation(env).map_err(disk_error(config, "its incarnation cannot be written"))?;
    Ok(Disk { data_dir, known, incarnation, peers })
}

pub(crate) async fn start(
    config: Config,
    seams: Seams,
    runtime: Handle,
    server: &mut Option<Server>,
) -> Result<Parts, StartError> {
    let Seams { env, open_log, hooks } = seams;
    let disk = look(&config, &*env)?;
    let log = open(&config, &disk.data_dir, open_log, &env, &runtime, &hooks)?;
    let parts = run(config, (env, hooks), disk, log.clone(), runtime, server).await;
    if parts.is_err() {
        // So that the next start finds the directory free.
        log.close().await;
    }
    parts
}

async fn run(
    mut config: Config,
    (env, hooks): (Arc<dyn Env>, Hooks),
    disk: Disk,
    log: LogStore,
    runtime: Handle,
    server: &mut Option<Server>,
) -> Result<Parts, StartError> {
    check_log(&config, disk.known.as_ref(), &log)?;
    let peer_listen = std::mem::replace(&mut config.peer_listen, Listen::Address(String::new()));
    let (listener, bound) = listen(&env, &runtime, peer_listen).await?;
    let node = Arc::new(node(&config, &env, &disk, bound));
    *server = Some(serve(&node, listener, &runtime));
    let transport = Arc::new(Transport::new(env.clone(), runtime.clone()));
    let own = match disk.known {
        Some(known) => Arc::new(known),
        None => found(&config, &node, &transport, &log, &disk.data_dir, &runtime).await?,
    };
    tracing::info!(cluster = %own.cluster, cluster_id = %own.cluster_id, id = own.id, name = %own.name, "replica");

    let snapshots = SnapshotStore::open(disk.data_dir.snapshots());
    let snapshots = Arc::new(snapshots.map_err(disk_error(&config, "its snapshot cannot be read"))?);
    let covered = snapshots.current().and_then(|(meta, _)| meta.last_log_id);
    let tail = log.check_tail(covered);
    tail.map_err(|source| StartError::Log { dir: config.data_dir.clone(), source })?;
    let shared = Arc::new(Shared::default());
    let machine = StateMachine::new(
        shared.clone(),
        snapshots.clone(),
        log.clone(),
        env.clone(),
        (hooks.clone(), config.level_max),
    );
    let election = own.failover.election();
    let network =
        Network { transport: transport.clone(), own: own.clone(), silence_max: election.timeout_max };
    let raft_config = raft_config(&own.cluster, election);
    let (store, identity) = (log.clone(), own.clone());
    let raft = on(&env, &runtime, async move {
        let raft = Raft::new(identity.id, raft_config, network, store, machine).await?;
        initialize(&raft, &identity).await;
        Ok::<_, openraft::errors::Fatal<types::TypeConfig>>(raft)
    })
    .await
    .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
    let checked = check_lease(&shared.state.read(), own.failover);
    if let Err(error) = checked {
        drop(raft.shutdown().await);
        return Err(error);
    }
    let running = Running { raft: raft.clone(), shared: shared.clone(), snapshots: snapshots.clone() };
    drop(node.running.set(running));
    warn_of_another_address(&node, own.id);

    let limit = election.timeout_max;
    let (reads, waiting) = Reads::new();
    let rounds = Rounds { raft: raft.clone(), transport: transport.clone(), own: own.clone(), limit };
    let (data_dir, thresholds, compared) = (disk.data_dir, config.snapshots, Mutex::new(Compared::default()));
    let upkeep =
        Upkeep { env, own, raft, shared, log, snapshots, transport, data_dir, thresholds, compared, hooks };
    Ok(Parts { upkeep: Arc::new(upkeep), node, reads, rounds, waiting, failover_limit: limit * 4 })
}

/// Peers and clients use the addresses of the membership, whatever this start was given.
fn warn_of_another_address(node: &Node, id: NodeId) {
    let members = node.members();
    let Some(own) = members.get(&id) else { return };
    if (&own.raft_address, &own.api_address) != (&node.raft_address, &node.api_address) {
        let (raft, api) = (&node.raft_address, &node.api_address);
        tracing::warn!(member = ?own, raft, api, "the members know this replica under other addresses");
    }
}

fn node(config: &Config, env: &Arc<dyn Env>, disk: &Disk, bound: String) -> Node {
    let advertised = config.advertise_raft.clone();
    Node {
        env: env.clone(),
        cluster: config.cluster.clone(),
        name: config.name.clone(),
        incarnation: disk.incarnation,
        peers: disk.peers.clone(),
        raft_address: if advertised.is_empty() { bound } else { advertised },
        api_address: config.advertise_api.clone(),
        failover: config.failover,
        phase: Mutex::new(match &disk.known {
            Some(known) => Phase::Founded(Arc::new(known.clone())),
            None => Phase::Pristine { seen: [].into() },
        }),
        running: OnceLock::new(),
        led_at_us: AtomicU64::new(env.now().0),
    }
}

/// Waits for the others, then writes down who this replica is.
async fn found(
    config: &Config,
    node: &Arc<Node>,
    transport: &Arc<Transport>,
    log: &LogStore,
    data_dir: &DataDir,
    runtime: &Handle,
) -> Result<Arc<Identity>, StartError> {
    let (founding, through, peers) = (node.clone(), transport.clone(), config.peers.clone());
    let founded = async move { bootstrap::found(&founding, &through, &peers).await };
    let founded = on(&node.env, runtime, founded).await?;
    // The log names its owner first: an identity without its log is refused.
    log.set_owner(founded.owner()).await.map_err(disk_error(config, "its log cannot be written"))?;
    data_dir.set_identity(&founded).map_err(disk_error(config, "its identity cannot be written"))?;
    let founded = Arc::new(founded);
    *node.phase.lock() = Phase::Founded(founded.clone());
    Ok(founded)
}

fn check_names(config: &Config, known: &Identity) -> Result<(), StartError> {
    if config.cluster == known.cluster && config.name == known.name {
        return Ok(());
    }
    Err(StartError::OtherIdentity {
        dir: config.data_dir.clone(),
        name: config.name.clone(),
        cluster: config.cluster.clone(),
        found: known.name.clone(),
        found_cluster: known.cluster.clone(),
    })
}

fn check_failover(config: &Config, known: &Identity) -> Result<(), StartError> {
    if config.failover == known.failover {
        return Ok(());
    }
    let whose = format!("data directory {}'s", config.data_dir.display());
    Err(StartError::OtherFailover { whose, theirs: known.failover.to_string(), own: config.failover })
}

/// A worker must have time to renew its lease twice over a failover, or an election costs it its tasks. Of what the
/// disk holds: later settings are checked when they are applied.
fn check_lease(state: &machine::State, failover: Failover) -> Result<(), StartError> {
    if state.is_bootstrapped() && !state.settings().lease.outlasts(failover.election()) {
        return Err(StartError::LeaseTooShort { failover });
    }
    Ok(())
}

fn open(
    config: &Config,
    data_dir: &DataDir,
    open_log: OpenLog,
    env: &Arc<dyn Env>,
    runtime: &Handle,
    hooks: &Hooks,
) -> Result<LogStore, StartError> {
    let failed = |source| StartError::Log { dir: config.data_dir.clone(), source };
    let backend = open_log(&data_dir.log()).map_err(|error| failed(LogError::from(error)))?;
    LogStore::open(backend, config.snapshots.cached_bytes, env, runtime, hooks).map_err(failed)
}

/// A log without its identity, or another log than the identity's, must not start: it would forget votes and entries
/// that others count on.
fn check_log(config: &Config, known: Option<&Identity>, log: &LogStore) -> Result<(), StartError> {
    let dir = config.data_dir.clone();
    match known {
        None if !log.is_pristine() => Err(StartError::NoIdentity { dir }),
        Some(known) if log.owner() != Some(known.owner()) => Err(StartError::OtherLog { dir }),
        _ => Ok(()),
    }
}

async fn listen(
    env: &Arc<dyn Env>,
    runtime: &Handle,
    peer_listen: Listen,
) -> Result<(Box<dyn Listener>, String), StartError> {
    let address = format!("{peer_listen:?}");
    let listening = {
        let env = env.clone();
        async move {
            let listener = env.listen(peer_listen).await?;
            let bound = listener.local_addr()?.to_string();
            Ok((listener, bound))
        }
    };
    on(env, runtime, listening).await.map_err(|source| StartError::Listen { address, source })
}

fn serve(node: &Arc<Node>, listener: Box<dyn Listener>, runtime: &Handle) -> Server {
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Services(node.clone()).router();
    let env = node.env.clone();
    let serving = async move {
        let connections = Box::pin(accept::connections(listener, "peer", move || env.now()));
        let served = router.serve_with_incoming_shutdown(connections, async { drop(stopped.await) }).await;
        if let Err(error) = served {
            tracing::error!(%error, "peers are no longer served");
        }
    };
    (stop, node.env.spawn(runtime, Box::pin(serving)))
}

fn raft_config(cluster: &str, election: model::settings::Election) -> Arc<openraft::Config> {
    let ms = |duration: Duration| duration.as_millis() as u64;
    let config = openraft::Config {
        cluster_name: cluster.into(),
        heartbeat_interval: ms(election.heartbeat),
        election_timeout_min: ms(election.timeout_min),
        election_timeout_max: ms(election.timeout_max),
        max_payload_entries: 1024,
        max_append_entries: Some(4096),
        // Snapshots, and what of the log stays behind them, are counted in bytes: see `Upkeep::fold`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX / 2,
        purge_batch_size: 1024,
        install_snapshot_timeout: 60_000,
        api_batch_linger_ms: 0,
        enable_pre_vote: Some(true),
        // The state is in memory and the committed mark best effort: a restarted leader stands for election.
        enable_leader_restore: Some(false),
        ..openraft::Config::default()
    };
    Arc::new(config.validate().expect("every preset is a valid configuration"))
}

/// The founder, and only it, gives the cluster its first membership; again if it died before that was written.
async fn initialize(raft: &Raft, own: &Identity) {
    if own.founders.keys().next() != Some(&own.id) {
        return;
    }
    if let Err(error) = raft.initialize(own.founders.clone()).await {
        tracing::debug!(%error, "the cluster has its first membership already");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_refused_when_a_failover_outlasts_the_lease() {
        let mut state = machine::State::default();
        assert!(check_lease(&state, Failover::Wan).is_ok(), "nothing is replicated yet");
        let bootstrap = machine::Bootstrap {
            cluster: "c".into(),
            settings: model::Settings::preset(Failover::Fast),
            epoch: 0,
            next_node: 2,
            level: machine::LEVEL,
        };
        let commands = vec![machine::Command::Bootstrap(bootstrap)];
        state.apply(1, &machine::Entry { stamp: Default::default(), commands });
        assert!(check_lease(&state, Failover::Fast).is_ok());
        let refused = check_lease(&state, Failover::Wan);
        assert!(matches!(refused, Err(StartError::LeaseTooShort { failover: Failover::Wan })));
    }
}
