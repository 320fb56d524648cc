//! A replica: its start, what may be asked of it, its end.

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::SnapshotPolicy;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::accept;
use crate::bootstrap;
use crate::config::{Config, StartError};
use crate::env::{Env, Listen, Real};
use crate::feed::Subscription;
use crate::identity::{DataDir, Identity};
use crate::log::{LogBackend, LogError, LogStore, SledBackend};
use crate::network::{Network, Transport};
use crate::propose::{self, ProposeError, Proposed};
use crate::reads::{ReadError, Reads, Rounds};
use crate::service::{Node, Phase, Running, Services};
use crate::snapshot::SnapshotStore;
use crate::state_machine::{Shared, StateMachine};
use crate::status::{Leadership, MemberStatus, Status};
use crate::types::{self, NodeId, Raft, seeded};
use crate::upkeep::{Compared, Upkeep};

const RAFT_THREADS: usize = 2;
/// How long peers' streams may take to end at a shutdown.
const FAREWELL: Duration = Duration::from_millis(200);

type OpenLog = Box<dyn FnOnce(&Path) -> std::io::Result<Box<dyn LogBackend>> + Send>;

/// What is replaced in tests and simulations.
pub struct Seams {
    pub env: Arc<dyn Env>,
    pub open_log: OpenLog,
}

impl Default for Seams {
    fn default() -> Seams {
        Seams {
            env: Arc::new(Real::new()),
            open_log: Box::new(|dir| Ok(Box::new(SledBackend::open(dir)?))),
        }
    }
}

pub struct Replica {
    upkeep: Arc<Upkeep>,
    node: Arc<Node>,
    reads: Reads,
    read_limit: Duration,
    transfer_limit: Duration,
    leadership: watch::Receiver<Leadership>,
    changes: watch::Receiver<Status>,
    ending: Mutex<Ending>,
}

/// What goes when the replica goes.
struct Ending {
    tasks: Vec<JoinHandle<()>>,
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    runtime: OwnRuntime,
}

/// Raft, its transport and its timers have threads of their own, so that load on the API never looks like a dead
/// leader. None in a simulation.
struct OwnRuntime(Option<Runtime>);

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        if let Some((_, serving)) = &self.server {
            serving.abort();
        }
    }
}

impl Replica {
    /// Returns when the cluster is founded and Raft runs; nobody may lead yet.
    pub async fn start(config: Config) -> Result<Replica, StartError> {
        Replica::start_with(config, Seams::default()).await
    }

    pub async fn start_with(config: Config, seams: Seams) -> Result<Replica, StartError> {
        let Seams { env, open_log } = seams;
        let (runtime, handle) = runtime(&*env)?;
        let mut ending = Ending { tasks: Vec::new(), server: None, runtime };
        let parts = start(config, env.clone(), open_log, handle.clone(), &mut ending).await?;
        let Parts { upkeep, node, reads, rounds, waiting, failover_limit } = parts;
        let (leadership_sender, leadership) = watch::channel(Leadership::NotLeading);
        let (changes_sender, changes) = watch::channel(upkeep.status());
        ending.tasks.extend([
            env.spawn(&handle, Box::pin(rounds.run(waiting))),
            env.spawn(&handle, Box::pin(upkeep.clone().watch(leadership_sender, changes_sender))),
            env.spawn(&handle, Box::pin(upkeep.clone().fold())),
            env.spawn(&handle, Box::pin(upkeep.clone().compare())),
        ]);
        Ok(Replica {
            upkeep,
            node,
            reads,
            read_limit: failover_limit,
            transfer_limit: failover_limit,
            leadership,
            changes,
            ending: Mutex::new(ending),
        })
    }

    pub fn id(&self) -> NodeId {
        self.upkeep.own.id
    }

    pub fn identity(&self) -> &Identity {
        &self.upkeep.own
    }

    /// Where peers are listened for: the kernel's choice if the port was 0.
    pub fn raft_address(&self) -> &str {
        &self.node.raft_address
    }

    pub fn env(&self) -> &Arc<dyn Env> {
        &self.upkeep.env
    }

    /// Writes an entry, if this replica leads in `term`. It is queued when this returns, so calls made one after the
    /// other enter the log in that order; the future waits until it is applied here.
    pub fn propose(
        &self,
        term: u64,
        entry: machine::Entry,
    ) -> impl Future<Output = Result<Proposed, ProposeError>> + Send + 'static {
        propose::propose(&self.upkeep.raft, term, entry)
    }

    /// Makes the state here linearizable as of this call: returns an index that was committed since, once it is
    /// applied. On any replica.
    pub async fn read_index(&self) -> Result<u64, ReadError> {
        let began = self.upkeep.env.now();
        let index = self.reads.read_index(&*self.upkeep.env, self.read_limit).await?;
        let left = self.read_limit.saturating_sub(self.upkeep.env.now().since(began)).max(Duration::from_millis(1));
        self.wait_applied(index, left).await
    }

    /// Waits until `index` is applied here.
    pub async fn wait_applied(&self, index: u64, limit: Duration) -> Result<u64, ReadError> {
        let mut applied = self.upkeep.shared.applied.subscribe();
        let reached = applied.wait_for(|applied| applied.is_some_and(|id| id.index >= index));
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(id)) => Ok(id.map_or(index, |id| id.index)),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Behind { index, waited: limit }),
        }
    }

    /// Reads the state as it is applied here. Short: apply waits meanwhile. For more take a [`view`](Self::view).
    pub fn read<R>(&self, read: impl FnOnce(&machine::State) -> R) -> R {
        read(&self.upkeep.shared.state.read())
    }

    /// A view of the state that stays as it is.
    pub fn view(&self) -> machine::Frozen {
        self.read(|state| state.freeze())
    }

    /// The index of the last entry applied here.
    pub fn applied_index(&self) -> u64 {
        self.upkeep.shared.applied.borrow().map_or(0, |id| id.index)
    }

    pub fn status(&self) -> Status {
        self.upkeep.status()
    }

    /// The status at every change of role, leader, membership or progress. The newest is what matters: some may be
    /// skipped.
    pub fn changes(&self) -> watch::Receiver<Status> {
        self.changes.clone()
    }

    /// Whether this replica leads; told only once it has applied the first entry of its term.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// How long ago a quorum last acknowledged this leader. None if it does not lead.
    pub fn quorum_acked(&self) -> Option<Duration> {
        crate::status::quorum_acked(&self.upkeep.raft.metrics().borrow_watched().clone())
    }

    /// What is applied here from now on, in order.
    pub fn applied(&self) -> Subscription {
        self.upkeep.shared.feed.subscribe()
    }

    /// Hands leadership to `to`; returns once that one leads.
    pub async fn transfer_leader(&self, to: NodeId) -> Result<(), TransferError> {
        let status = self.status();
        if status.leader.as_ref().map(|leader| leader.id) != Some(self.id()) {
            return Err(TransferError::NotLeader { leader: status.leader });
        }
        if !status.voters().any(|voter| voter.id == to) {
            return Err(TransferError::NotAVoter { id: to });
        }
        let asked = seeded(self.upkeep.raft.trigger().transfer_leader(to)).await;
        asked.map_err(|_| TransferError::Stopped)?;
        let mut changes = self.changes.clone();
        let leads = |status: &Status| status.leader.as_ref().is_some_and(|leader| leader.id == to);
        match tokio::time::timeout(self.transfer_limit, changes.wait_for(leads)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TransferError::Stopped),
            Err(_) => Err(TransferError::TimedOut { waited: self.transfer_limit }),
        }
    }

    /// Takes a snapshot now; returns the index that it covers at least.
    pub async fn snapshot(&self) -> Result<u64, ReadError> {
        let covers = self.applied_index();
        let asked = seeded(self.upkeep.raft.trigger().snapshot()).await;
        asked.map_err(|_| ReadError::Stopped)?;
        let mut changes = self.changes.clone();
        let taken = changes.wait_for(|status| status.snapshot >= covers).await;
        taken.map(|status| status.snapshot).map_err(|_| ReadError::Stopped)
    }

    /// Stops Raft, closes the log, frees the data directory for another start.
    pub async fn shutdown(&self) {
        // Only a panic within Raft can fail here, and that was reported.
        drop(self.upkeep.raft.shutdown().await);
        let (tasks, server, runtime) = {
            let mut ending = self.ending.lock();
            (std::mem::take(&mut ending.tasks), ending.server.take(), ending.runtime.0.take())
        };
        if let Some((stop, mut serving)) = server {
            // The server may have ended on its own.
            let _ = stop.send(());
            if tokio::time::timeout(FAREWELL, &mut serving).await.is_err() {
                serving.abort();
            }
        }
        for task in tasks {
            task.abort();
            drop(task.await);
        }
        self.upkeep.log.close().await;
        drop(OwnRuntime(runtime));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    #[error("this replica does not lead")]
    NotLeader { leader: Option<MemberStatus> },
    #[error("node {id} is not a voter")]
    NotAVoter { id: NodeId },
    #[error("leadership was not taken over within {waited:?}")]
    TimedOut { waited: Duration },
    #[error("this replica is stopping")]
    Stopped,
}

fn runtime(env: &dyn Env) -> Result<(OwnRuntime, Handle), StartError> {
    if !env.has_threads() {
        return Ok((OwnRuntime(None), Handle::current()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RAFT_THREADS)
        .thread_name("raft")
        .enable_all()
        .build()
        .map_err(StartError::Runtime)?;
    let handle = runtime.handle().clone();
    Ok((OwnRuntime(Some(runtime)), handle))
}

struct Parts {
    upkeep: Arc<Upkeep>,
    node: Arc<Node>,
    reads: Reads,
    rounds: Rounds,
    waiting: tokio::sync::mpsc::Receiver<oneshot::Sender<Result<u64, String>>>,
    failover_limit: Duration,
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
        return Ok(Disk { data_dir, incarnation: known.incarnation, known: Some(known), peers: Vec::new() });
    }
    if config.peers.is_empty() {
        return Err(StartError::NoPeers { dir: config.data_dir.clone() });
    }
    let peers = bootstrap::names(&config.name, &config.peers)?;
    let incarnation = data_dir.incarnation(env).map_err(disk_error(config, "its incarnation cannot be written"))?;
    Ok(Disk { data_dir, known, incarnation, peers })
}

async fn start(
    config: Config,
    env: Arc<dyn Env>,
    open_log: OpenLog,
    runtime: Handle,
    ending: &mut Ending,
) -> Result<Parts, StartError> {
    let disk = look(&config, &*env)?;
    let log = open(&config, &disk.data_dir, open_log, &env, &runtime)?;
    let parts = run(config, env, disk, log.clone(), runtime, ending).await;
    if parts.is_err() {
        // So that the next start finds the directory free.
        log.close().await;
    }
    parts
}

async fn run(
    mut config: Config,
    env: Arc<dyn Env>,
    disk: Disk,
    log: LogStore,
    runtime: Handle,
    ending: &mut Ending,
) -> Result<Parts, StartError> {
    check_log(&config, disk.known.as_ref(), &log)?;
    let peer_listen = std::mem::replace(&mut config.peer_listen, Listen::Address(String::new()));
    let (listener, bound) = listen(&env, &runtime, peer_listen).await?;
    let node = Arc::new(node(&config, &env, &disk, bound));
    ending.server = Some(serve(&node, listener, &runtime));
    let transport = Arc::new(Transport::new(env.clone(), runtime.clone()));
    let own = match disk.known {
        Some(known) => Arc::new(known),
        None => found(&config, &node, &transport, &log, &disk.data_dir, &runtime).await?,
    };
    tracing::info!(cluster = %own.cluster, cluster_id = %own.cluster_id, id = own.id, name = %own.name, "replica");

    let snapshots = SnapshotStore::open(disk.data_dir.snapshots());
    let snapshots = Arc::new(snapshots.map_err(disk_error(&config, "its snapshot cannot be read"))?);
    let shared = Arc::new(Shared::default());
    let machine = StateMachine::new(shared.clone(), snapshots.clone(), log.clone(), env.clone());
    let election = config.failover.election();
    let network = Network { transport: transport.clone(), own: own.clone(), silence_max: election.timeout_max };
    let raft_config = raft_config(&own.cluster, election);
    let (store, identity) = (log.clone(), own.clone());
    let raft = on(&env, &runtime, async move {
        let raft = Raft::new(identity.id, raft_config, network, store, machine).await?;
        initialize(&raft, &identity).await;
        Ok::<_, openraft::errors::Fatal<types::TypeConfig>>(raft)
    })
    .await
    .map_err(|fatal| StartError::Raft(fatal.to_string()))?;
    let running = Running { raft: raft.clone(), shared: shared.clone(), snapshots: snapshots.clone() };
    drop(node.running.set(running));

    let limit = election.timeout_max;
    let (reads, waiting) = Reads::new();
    let rounds = Rounds { raft: raft.clone(), transport: transport.clone(), own: own.clone(), limit };
    let (data_dir, thresholds, compared) = (disk.data_dir, config.snapshots, Mutex::new(Compared::default()));
    let upkeep = Upkeep { env, own, raft, shared, log, snapshots, transport, data_dir, thresholds, compared };
    Ok(Parts { upkeep: Arc::new(upkeep), node, reads, rounds, waiting, failover_limit: limit * 4 })
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
        phase: Mutex::new(match &disk.known {
            Some(known) => Phase::Founded(Arc::new(known.clone())),
            None => Phase::Pristine { seen: [].into() },
        }),
        running: OnceLock::new(),
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

fn open(
    config: &Config,
    data_dir: &DataDir,
    open_log: OpenLog,
    env: &Arc<dyn Env>,
    runtime: &Handle,
) -> Result<LogStore, StartError> {
    let failed = |source| StartError::Log { dir: config.data_dir.clone(), source };
    let backend = open_log(&data_dir.log()).map_err(|error| failed(LogError::from(error)))?;
    LogStore::open(backend, env, runtime).map_err(failed)
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
) -> Result<(Box<dyn crate::env::Listener>, String), StartError> {
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

fn serve(
    node: &Arc<Node>,
    listener: Box<dyn crate::env::Listener>,
    runtime: &Handle,
) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let router = Services(node.clone()).router();
    let serving = async move {
        let connections = Box::pin(accept::connections(listener));
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
