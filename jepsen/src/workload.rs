//! What clients do meanwhile: submits that are retried under their request ids, reads, cancels, retries, registers, and
//! what must be refused. Each process talks to one replica only, so that a history says who answered.

mod mix;
mod process;
mod queue;
mod shape;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use client::{Client, Options};
use model::{JobId, RequestId};
use tokio::task::JoinSet;

pub use mix::{Op, Workload};
pub use process::Process;
pub use queue::{Queue, USERS};
pub use shape::{Shape, spec};

use crate::history::History;
use crate::ledger::Desk;

/// Writes and reads of a register before clients go on with the next one: histories of one register stay short enough to be
/// searched.
const CALLS_PER_REGISTER: u64 = 300;
/// Registers in use at a time.
const REGISTERS: u64 = 3;
/// Unfinished jobs above which clients ask for nothing that takes a process.
const BACKLOG_MAX: u64 = 120;

/// A submit that somebody is to send until it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Submit {
    pub key: u64,
    pub id: RequestId,
    pub shape: Shape,
}

/// What all client processes share.
pub struct Shared {
    pub history: Arc<History>,
    desk: Desk,
    /// API addresses, by replica.
    addresses: Vec<String>,
    workload: Workload,
    keys: AtomicU64,
    processes: AtomicU64,
    register_calls: AtomicU64,
    /// Jobs that are not finished, as far as is known.
    backlog: AtomicU64,
    /// Unanswered, or refused without having happened.
    pending: Mutex<VecDeque<Submit>>,
    accepted: Mutex<Vec<(Submit, JobId)>>,
    stop: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl Shared {
    pub fn new(history: Arc<History>, desk: Desk, addresses: Vec<String>, workload: Workload) -> Arc<Shared> {
        Arc::new(Shared {
            history,
            desk,
            addresses,
            workload,
            keys: AtomicU64::new(0),
            processes: AtomicU64::new(0),
            register_calls: AtomicU64::new(0),
            backlog: AtomicU64::new(0),
            pending: Mutex::default(),
            accepted: Mutex::default(),
            stop: AtomicBool::new(false),
        })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn replicas(&self) -> usize {
        self.addresses.len()
    }

    /// The place in a history of who talks to any replica.
    pub fn anywhere(&self) -> usize {
        self.addresses.len()
    }

    pub fn client_of(&self, replica: usize) -> Client {
        client_of(&self.addresses[replica])
    }

    pub fn set_backlog(&self, jobs: u64) {
        self.backlog.store(jobs, Ordering::Relaxed);
    }

    fn fresh_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    fn fresh_submit(&self, client: &Client, shape: Shape) -> Submit {
        let is_late = self.backlog.load(Ordering::Relaxed) > BACKLOG_MAX;
        let shape = if is_late && shape.is_written() { Shape::Noop } else { shape };
        Submit { key: self.keys.fetch_add(1, Ordering::Relaxed), id: client.mint(), shape }
    }

    /// The register to use now: the older ones are left as they are.
    fn register(&self, chance: u64) -> u64 {
        let calls = self.register_calls.fetch_add(1, Ordering::Relaxed);
        calls / (CALLS_PER_REGISTER * REGISTERS) * REGISTERS + chance % REGISTERS
    }

    pub fn unanswered(&self) -> Vec<Submit> {
        lock(&self.pending).drain(..).collect()
    }
}

/// A client that knows only this replica, and gives up soon: what is down is a result too.
pub fn client_of(address: &str) -> Client {
    client_as(address, "")
}

/// The same, of a user.
fn client_as(address: &str, user: &str) -> Client {
    Client::with(Options {
        deadline: Duration::from_secs(2),
        patience: Duration::from_millis(500),
        user: user.to_owned(),
        ..Options::new(vec![address.to_owned()])
    })
}

/// Starts so many processes at each replica, which together ask `rate` times a second.
pub fn start(shared: &Arc<Shared>, each: usize, rate: f64, seed: u64) -> JoinSet<()> {
    let mut all = JoinSet::new();
    let processes = shared.replicas() * each;
    let pause = Duration::from_secs_f64(processes as f64 / rate.max(0.01));
    for node in (0..shared.replicas()).flat_map(|node| std::iter::repeat_n(node, each)) {
        all.spawn(Process::new(shared, node, seed).with_pause(pause).drive(Arc::default()));
    }
    all
}

/// Between two beats of the pulse.
const BEAT: Duration = Duration::from_millis(50);

/// One client that knows all replicas and submits noops without end: when it is not answered, nobody could submit.
pub async fn pulse(shared: Arc<Shared>, seed: u64) {
    let mut process = Process::anywhere(&shared, seed);
    while !shared.is_stopped() {
        process.submit_fresh(Shape::Noop).await;
        tokio::time::sleep(BEAT).await;
    }
}

/// Sends what is unanswered until it is answered, each time through the next replica.
pub async fn drain(shared: &Arc<Shared>, seed: u64, patience: Duration) -> bool {
    let settle = async {
        let mut node = 0;
        loop {
            let waiting = shared.unanswered();
            if waiting.is_empty() {
                return;
            }
            for submit in waiting {
                node = (node + 1) % shared.replicas();
                Process::new(shared, node, seed).submit(submit, 0).await;
            }
        }
    };
    tokio::time::timeout(patience, settle).await.is_ok()
}

/// The queue whose weight is the register.
pub fn register_name(register: u64) -> String {
    format!("r{register}")
}
