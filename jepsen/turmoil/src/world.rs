//! What outlives a crash of its host, and what all of a run share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use replica::{MemoryDisk, Replica};
use tokio::sync::mpsc;

use crate::Options;
use crate::gate::Call;
use crate::history::Event;

pub const NAMES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
/// Where clients and, the last of them, workers run.
pub const OUTSIDERS: [&str; 2] = ["clients", "workers"];
pub const PEER_PORT: u16 = 7000;
pub const API_PORT: u16 = 7070;

pub struct World {
    pub options: Options,
    /// In the order of their names, which is that of their ids.
    pub hosts: Vec<Host>,
    history: Mutex<Vec<Event>>,
    calls: AtomicU64,
    connects: AtomicU64,
    /// What the last part of the run waits for.
    awaited: Mutex<String>,
}

pub struct Host {
    pub name: &'static str,
    pub dir: PathBuf,
    pub disk: MemoryDisk,
    /// Starts so far.
    lives: AtomicU64,
    /// While it runs. Whoever else holds it would keep its directory locked over a crash.
    replica: Mutex<Option<Arc<Replica>>>,
    gate: Mutex<Option<mpsc::UnboundedSender<Call>>>,
    /// A sync takes up to so many microseconds.
    pub sync_us_max: AtomicU64,
    pub wall_offset_us: AtomicI64,
    /// Milliseconds that its clock is to leap by, as if it had stood still.
    pub leap_ms: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic is a finding of its own; the value is whole all the same.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    pub fn new(options: Options, dir: &std::path::Path) -> World {
        let host = |name: &&'static str| Host::new(name, dir.join(name), options.sync_max);
        World {
            hosts: NAMES[..options.replicas].iter().map(host).collect(),
            options,
            history: Mutex::default(),
            calls: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            awaited: Mutex::default(),
        }
    }

    pub fn tell(&self, event: Event) {
        lock(&self.history).push(event);
    }

    /// What was told since the last call.
    pub fn told(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.history))
    }

    pub fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Ordering::Relaxed)
    }

    pub fn count_connect(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub fn connects(&self) -> u64 {
        self.connects.load(Ordering::Relaxed)
    }

    pub fn wait_for(&self, what: String) {
        *lock(&self.awaited) = what;
    }

    pub fn awaited(&self) -> String {
        lock(&self.awaited).clone()
    }
}

impl Host {
    fn new(name: &'static str, dir: PathBuf, sync_max: Duration) -> Host {
        Host {
            name,
            dir,
            disk: MemoryDisk::default(),
            lives: AtomicU64::new(0),
            replica: Mutex::default(),
            gate: Mutex::default(),
            sync_us_max: AtomicU64::new(model::time::micros(sync_max)),
            wall_offset_us: AtomicI64::new(0),
            leap_ms: AtomicU64::new(0),
        }
    }

    /// A start; returns its number, from 1.
    pub fn begin_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub fn life(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }

    pub fn open(&self, replica: Arc<Replica>, gate: mpsc::UnboundedSender<Call>) {
        *lock(&self.replica) = Some(replica);
        *lock(&self.gate) = Some(gate);
    }

    /// Nothing of this life is to be held any more.
    pub fn close(&self) {
        drop(lock(&self.replica).take());
        drop(lock(&self.gate).take());
    }

    pub fn replica(&self) -> Option<Arc<Replica>> {
        lock(&self.replica).clone()
    }

    pub fn gate(&self) -> Option<mpsc::UnboundedSender<Call>> {
        lock(&self.gate).clone()
    }
}
