//! A replica: what may be asked of it, and its end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use crate::config::{Config, StartError};
use crate::env::Env;
use crate::feed::Subscription;
use crate::held::Held;
use crate::identity::Identity;
use crate::propose::{self, ProposeError, Proposed};
use crate::reads::{ReadError, Reads};
use crate::service::Node;
use crate::start::{self, Parts, Seams};
use crate::status::{Leadership, MemberStatus, Status};
use crate::types::{NodeId, seeded};
use crate::upkeep::Upkeep;

/// How long peers' streams may take to end at a shutdown.
const FAREWELL: Duration = Duration::from_millis(200);

pub struct Replica {
    upkeep: Arc<Upkeep>,
    node: Arc<Node>,
    reads: Reads,
    read_limit: Duration,
    /// Whether a read index was confirmed since the start: before, the state may be older than what was shown earlier.
    has_caught_up: AtomicBool,
    transfer_limit: Duration,
    leadership: watch::Receiver<Leadership>,
    changes: watch::Receiver<Status>,
    ending: Mutex<Ending>,
}

/// What tells the server to end, and the server.
pub(crate) type Server = (oneshot::Sender<()>, JoinHandle<()>);

/// What goes when the replica goes.
struct Ending {
    tasks: Vec<JoinHandle<()>>,
    server: Option<Server>,
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
        let env = seams.env.clone();
        let (runtime, handle) = start::runtime(&*env)?;
        let mut ending = Ending { tasks: Vec::new(), server: None, runtime: OwnRuntime(runtime) };
        let parts = start::start(config, seams, handle.clone(), &mut ending.server).await?;
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
            has_caught_up: AtomicBool::new(false),
            transfer_limit: failover_limit,
            leadership,
            changes,
            ending: Mutex::new(ending),
        })
    }

    pub(crate) fn upkeep(&self) -> &Upkeep {
        &self.upkeep
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
        if self.upkeep.hooks.reads_at_once() {
            self.has_caught_up.store(true, Ordering::Relaxed);
            return Ok(self.applied_index());
        }
        let began = self.upkeep.env.now();
        let index = self.reads.read_index(&*self.upkeep.env, self.read_limit).await?;
        let left =
            self.read_limit.saturating_sub(self.upkeep.env.now().since(began)).max(Duration::from_millis(1));
        let applied = self.wait_applied(index, left).await?;
        self.has_caught_up.store(true, Ordering::Relaxed);
        Ok(applied)
    }

    /// Whether the state here is at least as new as anything read from it before this start. From then on it may be
    /// read without asking a quorum; before that it may go back in time, because what was applied need not be on disk.
    pub fn has_caught_up(&self) -> bool {
        self.has_caught_up.load(Ordering::Relaxed)
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

    /// How long apply has held the state and waited for it.
    pub fn held(&self) -> &Held {
        &self.upkeep.shared.held
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

    /// Since a leader last sent something here; this one sends itself nothing.
    pub fn leader_silence(&self) -> Duration {
        let led_at = model::Moment(self.node.led_at_us.load(Ordering::Relaxed));
        self.upkeep.env.now().since(led_at)
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use futures::future::join_all;
    use model::settings::Failover;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Peer;
    use crate::env::{Listen, Real};
    use crate::state_machine::CHECKPOINT_EVERY;

    const PATIENCE: Duration = Duration::from_secs(60);

    fn configs(dir: &std::path::Path) -> Vec<Config> {
        let listeners: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let peers = listeners.iter().zip(["n1", "n2", "n3"]).map(|(listener, name)| Peer {
            name: name.into(),
            raft_addr: listener.local_addr().unwrap().to_string(),
        });
        let peers: Vec<Peer> = peers.collect();
        let config = |(listener, peer): (TcpListener, &Peer)| Config {
            peer_listen: Listen::Bound(listener),
            peers: peers.clone(),
            failover: Failover::Wan,
            ..Config::new("test", &peer.name, dir.join(&peer.name))
        };
        listeners.into_iter().zip(&peers).map(config).collect()
    }

    fn seams(stop: mpsc::UnboundedSender<String>) -> Seams {
        let env = Real::with_stop_hook(move |reason| drop(stop.send(reason.to_owned())));
        Seams { env: Arc::new(env), ..Seams::default() }
    }

    /// Writes through whoever leads until it is applied.
    async fn write(replicas: &[Replica]) -> u64 {
        loop {
            for replica in replicas {
                let Some(term) = replica.leadership().borrow().term() else { continue };
                if let Ok(proposed) = replica.propose(term, machine::Entry::default()).await {
                    return proposed.index;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_replica_whose_state_differs_stops_for_good_and_the_others_say_so() {
        let dir = tempfile::tempdir().unwrap();
        let (stops, mut stopped): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::unbounded_channel()).unzip();
        let starts = configs(dir.path()).into_iter().zip(stops);
        let starts = starts.map(|(config, stop)| Replica::start_with(config, seams(stop)));
        let mut replicas: Vec<_> = join_all(starts).await.into_iter().map(Result::unwrap).collect();
        let first = write(&replicas).await;

        let wrong = replicas.iter().position(|replica| replica.leadership().borrow().term().is_none());
        let wrong = wrong.expect("two of three follow");
        // An empty state is wrong only where something was applied.
        replicas[wrong].wait_applied(first, PATIENCE).await.unwrap();
        *replicas[wrong].upkeep.shared.state.write() = machine::State::default();
        while write(&replicas).await <= CHECKPOINT_EVERY {}
        let reason = tokio::time::timeout(PATIENCE, stopped[wrong].recv()).await.expect("it stops").unwrap();
        assert!(reason.contains("a majority of all voters"), "{reason}");
        for (at, replica) in replicas.iter().enumerate().filter(|(at, _)| *at != wrong) {
            let alarmed = async {
                while replica.status().digest_alarm.is_none() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(PATIENCE, alarmed).await.expect("the others raise an alarm");
            assert!(stopped[at].try_recv().is_err(), "and go on");
        }

        let wrong = replicas.remove(wrong);
        wrong.shutdown().await;
        let name = wrong.identity().name.clone();
        // It holds its directory's lock.
        drop(wrong);
        let mut again = StartError::InUse { dir: dir.path().join(&name) };
        // A child that another test of this process forks has a copy of the lock until it runs its program.
        for _ in 0..10_000 {
            let StartError::InUse { dir } = &again else { break };
            let Err(error) = Replica::start(Config::new("test", &name, dir.clone())).await else {
                panic!("started")
            };
            again = error;
        }
        let error = again;
        assert!(matches!(error, StartError::Diverged { .. }), "{error}");
    }
}
