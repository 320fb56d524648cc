//! What clients do meanwhile: submits that are retried under their request ids, arrays, reads, cancels, and what must
//! be refused. Each process talks to one replica only, so that a history says who answered.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Client, Target};
use model::{ArrayRange, JobId, JobSpec, RequestId, TaskSpec, Work};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;

use crate::history::{Answer, Call, History, Kind, failed, kind_of};
use crate::ledger::script;
use crate::world::client_of;

/// The deadline of one that is in a hurry.
const HASTE: Duration = Duration::from_millis(500);
/// Tasks of an array.
const ARRAY_TASKS: u32 = 8;

/// A submit that somebody is to send until it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Submit {
    pub key: u64,
    pub id: RequestId,
    pub tasks: u32,
}

pub struct Shared {
    history: Arc<History>,
    ledger: PathBuf,
    keys: AtomicU64,
    processes: AtomicU64,
    /// Unanswered, or refused without having happened.
    pending: Mutex<VecDeque<Submit>>,
    accepted: Mutex<Vec<(Submit, JobId)>>,
    stop: AtomicBool,
}

impl Shared {
    pub fn new(history: Arc<History>, ledger: PathBuf) -> Arc<Shared> {
        Arc::new(Shared {
            history,
            ledger,
            keys: AtomicU64::new(0),
            processes: AtomicU64::new(0),
            pending: Mutex::default(),
            accepted: Mutex::default(),
            stop: AtomicBool::new(false),
        })
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn fresh_process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    pub fn fresh_submit(&self, client: &Client, tasks: u32) -> Submit {
        Submit { key: self.keys.fetch_add(1, Ordering::Relaxed), id: client.mint(), tasks }
    }

    /// The job of a submit. Another `body` is another job under the same request id.
    fn spec(&self, submit: Submit, body: u8) -> JobSpec {
        let seconds = if submit.tasks > 1 { "0.4" } else { "0.1" };
        let mut task = TaskSpec::new("work", Work::Script(script(&self.ledger, seconds)));
        if submit.tasks > 1 {
            task.array = Some(ArrayRange { first: 0, last: submit.tasks - 1, step: 1 });
        }
        // So that a slow machine can run the tasks as fast as they come.
        task.resources.cpu /= 2;
        let labels = BTreeMap::from([("key".to_owned(), submit.key.to_string())]);
        JobSpec { priority: body.into(), labels: labels.into(), ..JobSpec::of("jepsen", vec![task]) }
    }

    pub fn unanswered(&self) -> Vec<Submit> {
        self.pending.lock().expect("nobody panics with it").drain(..).collect()
    }
}

/// One client process, and those that take its place when it is retired.
pub struct Process {
    shared: Arc<Shared>,
    node: usize,
    client: Client,
    number: u64,
    chance: SmallRng,
}

impl Process {
    pub fn new(shared: &Arc<Shared>, node: usize, seed: u64) -> Process {
        let number = shared.fresh_process();
        let chance = SmallRng::seed_from_u64(seed ^ (number << 32));
        Process { shared: shared.clone(), node, client: client_of(node), number, chance }
    }

    /// One that gives up sooner than others: it asks more of a replica that cannot answer.
    pub fn hasty(shared: &Arc<Shared>, node: usize, seed: u64) -> Process {
        let process = Process::new(shared, node, seed);
        Process { client: process.client.with_deadline(HASTE), ..process }
    }

    /// Until it is told to stop, by either word.
    pub async fn drive(mut self, stop: Arc<AtomicBool>) {
        while !self.shared.is_stopped() && !stop.load(Ordering::Relaxed) {
            self.step().await;
            let pause = self.chance.random_range(50..250);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn step(&mut self) {
        let waiting = self.shared.pending.lock().expect("nobody panics with it").pop_front();
        if let Some(submit) = waiting {
            return self.submit(submit, 0).await;
        }
        match self.chance.random_range(0..100) {
            0..40 => self.submit(self.shared.fresh_submit(&self.client, 1), 0).await,
            40..46 => self.submit(self.shared.fresh_submit(&self.client, ARRAY_TASKS), 0).await,
            46..54 => self.again(0).await,
            54..60 => self.again(1).await,
            60..66 => self.cancel().await,
            _ => self.read().await,
        }
    }

    pub async fn submit(&mut self, submit: Submit, body: u8) {
        let call = Call::Submit { key: submit.key, id: submit.id, body, tasks: submit.tasks };
        let open = self.shared.history.invoke(self.number, self.node, call);
        let spec = self.shared.spec(submit, body);
        let answer = self.client.with_request_id(submit.id).submit(&spec).await;
        let (kind, answer) = match answer {
            Ok(done) => {
                self.shared.accepted.lock().expect("nobody panics with it").push((submit, done.job));
                (Kind::Ok, Answer::Submitted { job: done.job, index: done.index })
            }
            Err(error) => (kind_of(&error, true), failed(&error)),
        };
        let is_open = kind == Kind::Info || (kind == Kind::Fail && body == 0 && self.chance.random_bool(0.5));
        self.shared.history.complete(open, kind, answer);
        if is_open && body == 0 {
            self.shared.pending.lock().expect("nobody panics with it").push_back(submit);
        }
        self.retire_after(kind);
    }

    /// A submit that was accepted, once more: the same is answered alike, another body is a conflict.
    async fn again(&mut self, body: u8) {
        if let Some((submit, _)) = self.pick() {
            self.submit(submit, body).await;
        }
    }

    async fn read(&mut self) {
        let Some((_, job)) = self.pick() else { return };
        let open = self.shared.history.invoke(self.number, self.node, Call::Read { job });
        let (kind, answer) = match self.client.get_job(job).await {
            Ok(read) => (Kind::Ok, Answer::Read { state: read.value.state, index: read.index }),
            Err(error) => (kind_of(&error, false), failed(&error)),
        };
        self.shared.history.complete(open, kind, answer);
        self.retire_after(kind);
    }

    async fn cancel(&mut self) {
        let Some((_, job)) = self.pick() else { return };
        let open = self.shared.history.invoke(self.number, self.node, Call::Cancel { job });
        let (kind, answer) = match self.client.cancel(&[Target::job(job)]).await {
            Ok(done) => (Kind::Ok, Answer::Cancelled { changed: done.changed, index: done.index }),
            Err(error) => (kind_of(&error, true), failed(&error)),
        };
        self.shared.history.complete(open, kind, answer);
        self.retire_after(kind);
    }

    /// One of the jobs known to be accepted, mostly a late one.
    fn pick(&mut self) -> Option<(Submit, JobId)> {
        let accepted = self.shared.accepted.lock().expect("nobody panics with it");
        let late = accepted.len().saturating_sub(20);
        let from = if self.chance.random_bool(0.8) { late } else { 0 };
        let count = accepted.len() - from;
        (count > 0).then(|| accepted[from + self.chance.random_range(0..count)])
    }

    // Nobody may ask on under the name of one whose last question is still open.
    fn retire_after(&mut self, kind: Kind) {
        if kind == Kind::Info {
            self.number = self.shared.fresh_process();
        }
    }
}

/// Starts so many processes at each replica.
pub fn start(shared: &Arc<Shared>, replicas: usize, each: usize, seed: u64) -> JoinSet<()> {
    let mut all = JoinSet::new();
    for node in (0..replicas).flat_map(|node| std::iter::repeat_n(node, each)) {
        all.spawn(Process::new(shared, node, seed).drive(Arc::default()));
    }
    all
}

/// Sends what is unanswered until it is answered, each time through the next replica.
pub async fn drain(shared: &Arc<Shared>, replicas: usize, seed: u64, patience: Duration) -> bool {
    let settle = async {
        let mut node = 0;
        loop {
            let waiting = shared.unanswered();
            if waiting.is_empty() {
                return;
            }
            for submit in waiting {
                node = (node + 1) % replicas;
                Process::new(shared, node, seed).submit(submit, 0).await;
            }
        }
    };
    tokio::time::timeout(patience, settle).await.is_ok()
}
