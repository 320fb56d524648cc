//! Three real replicas in a simulated world: network, clocks and power belong to the test, and a crash loses what was
//! not synced. With `--cfg turmoil --cfg tokio_unstable` one seed is one run; without, the same story is told.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use machine::{Entry, Stamp};
use model::{Elapsed, Moment, Timestamp};
use replica::env::{Connection, Env, Listener};
use replica::{
    Config, Leadership, Listen, MemoryDisk, Peer, ProposeError, Replica, Seams, SnapshotThresholds,
};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const NAMES: [&str; 3] = ["n1", "n2", "n3"];
const PORT: u16 = 7000;
const PAUSE: Duration = Duration::from_millis(20);
const SIMULATED_MAX: Duration = Duration::from_secs(600);

struct Simulated {
    seed: u64,
    drawn: AtomicU64,
    world: Arc<World>,
}

// Turmoil's clock is behind tokio's; tasks stay on the host that spawns them.
#[allow(clippy::disallowed_methods)]
impl Env for Simulated {
    fn now(&self) -> Moment {
        Moment::default().plus(turmoil::sim_elapsed().unwrap_or_default())
    }

    fn wall(&self) -> Timestamp {
        Timestamp::default().plus(turmoil::since_epoch().unwrap_or_default())
    }

    fn random(&self) -> u64 {
        xxh3_64_with_seed(&self.drawn.fetch_add(1, Ordering::Relaxed).to_be_bytes(), self.seed)
    }

    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        self.world.connects.fetch_add(1, Ordering::Relaxed);
        async move { Ok(Box::new(turmoil::net::TcpStream::connect(address).await?) as Connection) }.boxed()
    }

    fn listen(&self, listen: Listen) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move {
            let Listen::Address(address) = listen else { panic!("no real socket in a simulation") };
            let listener = turmoil::net::TcpListener::bind(address).await?;
            Ok(Box::new(SimulatedListener(listener)) as Box<dyn Listener>)
        }
        .boxed()
    }

    #[cfg(not(turmoil))]
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        runtime.spawn(task)
    }

    #[cfg(turmoil)]
    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        use openraft_rt::deterministic_rng::DeterministicRng;
        runtime.spawn(DeterministicRng::<openraft_rt_tokio::TokioRuntime>::scope(self.random(), task))
    }

    fn has_threads(&self) -> bool {
        false
    }

    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        async move { work() }.boxed()
    }

    fn stop(&self, reason: &str) {
        panic!("a replica stopped: {reason}");
    }
}

struct SimulatedListener(turmoil::net::TcpListener);

impl Listener for SimulatedListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Connection, SocketAddr)>> {
        async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Connection, from))
        }
        .boxed()
    }
}

/// What outlives a crash of its host, and what the story can ask of the world.
#[derive(Default)]
struct World {
    replicas: Mutex<BTreeMap<&'static str, Arc<Replica>>>,
    wish: Mutex<Option<Wish>>,
    /// Who led in which term.
    led: Mutex<BTreeMap<u64, &'static str>>,
    connects: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Crash(&'static str),
    Bounce(&'static str),
}

impl World {
    fn replica(&self, name: &str) -> Option<Arc<Replica>> {
        self.replicas.lock().unwrap().get(name).cloned()
    }

    async fn wish(&self, wish: Wish) {
        *self.wish.lock().unwrap() = Some(wish);
        while self.wish.lock().unwrap().is_some() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The newest leader of those that are not `except`.
    async fn leader(&self, except: Option<&str>) -> (&'static str, Arc<Replica>, u64) {
        loop {
            let running = self.replicas.lock().unwrap().clone();
            let leading = running.into_iter().filter_map(|(name, replica)| {
                let leadership = *replica.leadership().borrow();
                match leadership {
                    Leadership::Leading { term, .. } => Some((name, replica, term)),
                    Leadership::NotLeading => None,
                }
            });
            if let Some(leader) =
                leading.filter(|(name, ..)| Some(*name) != except).max_by_key(|(.., term)| *term)
            {
                let earlier = self.led.lock().unwrap().insert(leader.2, leader.0);
                assert!(
                    earlier.is_none_or(|earlier| earlier == leader.0),
                    "two leaders in term {}",
                    leader.2
                );
                return leader;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Writes until `count` are acknowledged; returns the index of the last.
    async fn write(&self, count: u64, except: Option<&str>) -> u64 {
        let (mut done, mut last) = (0, 0);
        while done < count {
            let (_, leader, term) = self.leader(except).await;
            let entry =
                Entry { stamp: Stamp { elapsed: Elapsed(done), ..Stamp::default() }, commands: vec![] };
            match tokio::time::timeout(Duration::from_secs(5), leader.propose(term, entry)).await {
                Ok(Ok(proposed)) => {
                    assert!(proposed.index > last, "an acknowledged index came again");
                    (done, last) = (done + 1, proposed.index);
                }
                Ok(Err(ProposeError::Busy | ProposeError::TooLarge { .. })) => panic!("neither is so here"),
                Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        last
    }

    /// Waits until all have applied `index`, and compares their states.
    async fn assert_alike(&self, index: u64) {
        let mut digests = BTreeMap::new();
        for name in NAMES {
            let replica = loop {
                match self.replica(name) {
                    Some(replica) => break replica,
                    None => tokio::time::sleep(PAUSE).await,
                }
            };
            replica.wait_applied(index, SIMULATED_MAX).await.unwrap();
            digests.insert(name, replica.status().digest);
        }
        let values: Vec<_> = digests.values().collect();
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "{digests:x?}");
    }
}

async fn story(world: Arc<World>) {
    let last = world.write(30, None).await;
    world.assert_alike(last).await;

    // The leader loses power, its unsynced writes with it.
    let (first, ..) = world.leader(None).await;
    world.wish(Wish::Crash(first)).await;
    let last = world.write(300, None).await;
    world.wish(Wish::Bounce(first)).await;
    world.assert_alike(last).await;

    // The leader is cut off: the others go on, and it learns what it has missed.
    let (cut, old, term) = world.leader(None).await;
    let others: Vec<_> = NAMES.into_iter().filter(|name| *name != cut).collect();
    others.iter().for_each(|other| turmoil::partition(cut, *other));
    let alone = old.propose(term, Entry::default());
    let last = world.write(30, Some(cut)).await;
    assert!(old.read_index().await.is_err(), "a leader without a quorum has answered a read");
    others.iter().for_each(|other| turmoil::repair(cut, *other));
    world.assert_alike(last).await;
    if let Ok(proposed) = alone.await {
        panic!("acknowledged without a quorum: {proposed:?}");
    }
    let read = world.replica(cut).unwrap().read_index().await.unwrap();
    assert!(read >= last, "the read is older than what was acknowledged before it");

    // The power fails everywhere at once. What still held a replica would keep its directory locked.
    drop(old);
    for name in NAMES {
        world.wish(Wish::Crash(name)).await;
    }
    for name in NAMES {
        world.wish(Wish::Bounce(name)).await;
    }
    let after = world.write(5, None).await;
    assert!(after > last);
    world.assert_alike(after).await;
}

async fn host(world: Arc<World>, name: &'static str, dir: PathBuf, disk: MemoryDisk, seed: u64) {
    let peers = NAMES.map(|name| Peer { name: name.into(), raft_addr: format!("{name}:{PORT}") });
    let config = Config {
        peer_listen: Listen::Address(format!("0.0.0.0:{PORT}")),
        advertise_raft: format!("{name}:{PORT}"),
        peers: peers.into(),
        snapshots: SnapshotThresholds { log_bytes_min: 8 << 10, tail_bytes: 1 << 10 },
        ..Config::new("simulated", name, dir)
    };
    // Another life draws other numbers.
    let drawn = AtomicU64::new(turmoil::sim_elapsed().unwrap_or_default().as_micros() as u64);
    let env = Arc::new(Simulated { seed, drawn, world: world.clone() });
    let seams = Seams { env, open_log: Box::new(move |_| Ok(Box::new(disk.open()))), ..Seams::default() };
    let replica = Replica::start_with(config, seams).await.unwrap();
    world.replicas.lock().unwrap().insert(name, Arc::new(replica));
    std::future::pending().await
}

/// Returns what two runs of one seed must have in common.
fn run(seed: u64) -> (Duration, u64, BTreeMap<u64, &'static str>) {
    #[cfg(turmoil)]
    replica::SEED.store(seed << 32, Ordering::Relaxed);
    let dir = tempfile::tempdir().unwrap();
    let world = Arc::new(World::default());
    let disks = NAMES.map(|_| MemoryDisk::default());
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .simulation_duration(SIMULATED_MAX)
        .tick_duration(Duration::from_millis(1))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(10))
        .tcp_capacity(4096)
        .build();
    for (at, name) in NAMES.into_iter().enumerate() {
        let (world, dir, disk) = (world.clone(), dir.path().join(name), disks[at].clone());
        let seed = seed * 10 + at as u64;
        sim.host(name, move || {
            let run = host(world.clone(), name, dir.clone(), disk.clone(), seed);
            async move {
                run.await;
                Ok(())
            }
        });
    }
    let told = world.clone();
    sim.client("story", async move {
        story(told).await;
        Ok(())
    });
    while !sim.step().unwrap() {
        let wish = *world.wish.lock().unwrap();
        match wish {
            None => continue,
            Some(Wish::Crash(name)) => {
                sim.crash(name);
                // Its directory is locked for as long as anything of it lives.
                world.replicas.lock().unwrap().remove(name);
                disks[NAMES.iter().position(|other| *other == name).unwrap()].crash(0);
            }
            Some(Wish::Bounce(name)) => sim.bounce(name),
        }
        *world.wish.lock().unwrap() = None;
    }
    let (connects, seconds) = (world.connects.load(Ordering::Relaxed), sim.elapsed().as_secs());
    assert!(
        connects < 200 * (seconds + 1),
        "{connects} connections tried in {seconds} s: somebody does not back off"
    );
    let led = world.led.lock().unwrap().clone();
    (sim.elapsed(), connects, led)
}

#[cfg(turmoil)]
#[test]
fn one_seed_is_one_run() {
    assert_eq!(run(7), run(7));
}

#[test]
fn replicas_survive_crashes_and_partitions() {
    let seeds = std::env::var("BATON_SEEDS").map_or(2, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        run(seed);
    }
}
