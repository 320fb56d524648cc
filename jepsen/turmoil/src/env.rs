//! The world as a replica on a simulated host sees it: turmoil's network, tokio's stopped clock, chance from the seed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use model::{Moment, Timestamp};
use replica::env::{Connection, Env, Listener};
use replica::{Listen, chance};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::world::World;
use sim::chance::Chance;

/// Of work that blocks: a snapshot that is written or read.
const BLOCK_MS_MAX: u64 = 40;

pub struct Simulated {
    world: Arc<World>,
    host: usize,
    began: Instant,
    chance: Mutex<Chance>,
}

impl Simulated {
    /// For one life of a host.
    #[allow(clippy::disallowed_methods)] // The host's clock, which turmoil keeps.
    pub fn new(world: Arc<World>, host: usize, life: u64) -> Simulated {
        let purpose = 1_000 + host as u64 * 100_000 + life;
        let chance = Mutex::new(Chance::of(world.options.seed, purpose));
        Simulated { world, host, began: Instant::now(), chance }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Chance) -> T) -> T {
        draw(&mut self.chance.lock().expect("nothing panics while it draws"))
    }

    /// How long a sync takes now.
    pub fn sync_takes(&self) -> Duration {
        let most = self.world.hosts[self.host].sync_us_max.load(Ordering::Relaxed);
        Duration::from_micros(self.draw(|chance| chance.below(most + 1)))
    }
}

#[allow(clippy::disallowed_methods)] // The clocks of the simulation.
impl Env for Simulated {
    fn now(&self) -> Moment {
        Moment::default().plus(self.began.elapsed())
    }

    fn wall(&self) -> Timestamp {
        let wall = Timestamp::default().plus(turmoil::since_epoch().unwrap_or_default());
        let offset = self.world.hosts[self.host].wall_offset_us.load(Ordering::Relaxed);
        Timestamp(wall.0.saturating_add_signed(offset))
    }

    fn random(&self) -> u64 {
        self.draw(Chance::bits)
    }

    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        self.world.count_connect();
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

    fn spawn(&self, runtime: &Handle, task: BoxFuture<'static, ()>) -> JoinHandle<()> {
        runtime.spawn(chance::carried(task))
    }

    fn has_threads(&self) -> bool {
        false
    }

    /// Time passes before and after, so that a crash and other work can come between.
    fn block(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let pause = |chance: &mut Chance| {
            if chance.percent(50) { Duration::ZERO } else { chance.millis(0, BLOCK_MS_MAX) }
        };
        let (before, after) = self.draw(|chance| (pause(chance), pause(chance)));
        async move {
            tokio::time::sleep(before).await;
            work();
            tokio::time::sleep(after).await;
        }
        .boxed()
    }

    fn stop(&self, reason: &str) {
        panic!("replica {} stopped: {reason}", self.world.hosts[self.host].name);
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
