//! Replicas in one process, over real sockets and real disks.
#![allow(dead_code)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use machine::{Entry, Stamp};
use model::settings::Failover;
use model::{Elapsed, Timestamp};
use replica::{
    Config, Listen, Peer, ProposeError, Proposed, Real, Replica, Seams, SnapshotThresholds, StartError,
    WallOffset,
};

/// Far longer than anything here should take; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn entry(number: u64) -> Entry {
    Entry { stamp: Stamp { elapsed: Elapsed(number), wall: Timestamp(number) }, commands: vec![] }
}

/// Places for replicas: a name, a directory, an address that stays reserved while nobody listens.
pub struct World {
    pub dir: tempfile::TempDir,
    pub peers: Vec<Peer>,
    pub thresholds: SnapshotThresholds,
    listeners: Vec<Option<TcpListener>>,
    pub replicas: Vec<Option<Arc<Replica>>>,
}

impl World {
    pub fn new(size: usize) -> World {
        let listeners: Vec<_> = (0..size).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let peer = |(number, listener): (usize, &TcpListener)| Peer {
            name: format!("n{}", number + 1),
            raft_addr: listener.local_addr().unwrap().to_string(),
        };
        World {
            dir: tempfile::tempdir().unwrap(),
            peers: listeners.iter().enumerate().map(peer).collect(),
            thresholds: SnapshotThresholds::default(),
            listeners: listeners.into_iter().map(Some).collect(),
            replicas: (0..size).map(|_| None).collect(),
        }
    }

    pub async fn started(size: usize) -> World {
        let mut world = World::new(size);
        world.start_all().await;
        world
    }

    pub fn data_dir(&self, at: usize) -> PathBuf {
        self.dir.path().join(&self.peers[at].name)
    }

    pub fn config(&mut self, at: usize) -> Config {
        let peer_listen = match self.listeners[at].take() {
            Some(bound) => Listen::Bound(bound),
            None => Listen::Address(self.peers[at].raft_addr.clone()),
        };
        Config {
            peer_listen,
            advertise_raft: self.peers[at].raft_addr.clone(),
            advertise_api: format!("api-{}", self.peers[at].name),
            peers: self.peers.clone(),
            // The slowest, so that a busy machine changes no leader unasked.
            failover: Failover::Wan,
            snapshots: self.thresholds.clone(),
            ..Config::new("test", &self.peers[at].name, self.data_dir(at))
        }
    }

    /// In a process whose disk errors and the like fail the test in place of aborting it.
    pub fn seams() -> Seams {
        let env = Arc::new(Real::with_stop_hook(|reason| eprintln!("stopped: {reason}")));
        Seams { env, ..Seams::default() }
    }

    pub async fn start_all(&mut self) {
        self.start_all_with(|_| World::seams()).await;
    }

    pub async fn start_all_with(&mut self, seams: impl Fn(usize) -> Seams) {
        let configs: Vec<_> = (0..self.peers.len()).map(|at| self.config(at)).collect();
        let starts =
            configs.into_iter().enumerate().map(|(at, config)| Replica::start_with(config, seams(at)));
        for (at, started) in futures::future::join_all(starts).await.into_iter().enumerate() {
            self.replicas[at] = Some(Arc::new(started.unwrap()));
        }
    }

    pub async fn start(&mut self, at: usize) -> Result<(), StartError> {
        self.start_with(at, World::seams()).await
    }

    pub async fn start_with(&mut self, at: usize, seams: Seams) -> Result<(), StartError> {
        let config = self.config(at);
        self.replicas[at] = Some(Arc::new(Replica::start_with(config, seams).await?));
        Ok(())
    }

    /// With a wall clock that is off by so many milliseconds.
    pub async fn start_off(&mut self, at: usize, ms: i64) -> Result<(), StartError> {
        let config = self.config(at);
        let env = Real::with_stop_hook(|reason| eprintln!("stopped: {reason}"));
        let seams =
            Seams { env: Arc::new(env.with_wall_offset(WallOffset::of_us(ms * 1_000))), ..Seams::default() };
        self.replicas[at] = Some(Arc::new(Replica::start_with(config, seams).await?));
        Ok(())
    }

    pub async fn stop(&mut self, at: usize) {
        let replica = self.replicas[at].take().expect("it runs");
        replica.shutdown().await;
    }

    pub fn replica(&self, at: usize) -> &Arc<Replica> {
        self.replicas[at].as_ref().expect("it runs")
    }

    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.replicas.len()).filter(|at| self.replicas[*at].is_some())
    }

    /// Waits until one of those that run leads; returns where and in which term.
    pub async fn leader(&self) -> (usize, u64) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                for at in self.running() {
                    if let Some(term) = self.replica(at).leadership().borrow().term() {
                        return (at, term);
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("somebody leads")
    }

    /// Writes through whoever leads until it is done.
    pub async fn write(&self, number: u64) -> (usize, Proposed) {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let (at, term) = self.leader().await;
                match self.replica(at).propose(term, entry(number)).await {
                    Ok(proposed) => return (at, proposed),
                    Err(ProposeError::LeaseExpired | ProposeError::NotLeader { .. }) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await
        .expect("a write is done")
    }

    /// Writes many at once, as often as it takes; returns the last index.
    pub async fn write_many(&self, numbers: std::ops::RangeInclusive<u64>) -> u64 {
        let (leader, term) = self.leader().await;
        let writes = numbers.clone().map(|number| self.replica(leader).propose(term, entry(number)));
        let mut last = 0;
        for (done, number) in futures::future::join_all(writes).await.into_iter().zip(numbers) {
            last = match done {
                Ok(proposed) => proposed.index,
                Err(_) => self.write(number).await.1.index,
            };
        }
        last
    }

    /// Waits until all that run have applied `index`, and compares their states.
    pub async fn assert_alike(&self, index: u64) {
        let mut digests = Vec::new();
        for at in self.running() {
            self.replica(at).wait_applied(index, PATIENCE).await.unwrap();
            digests.push(self.replica(at).status().digest);
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:x?}");
    }
}
