//! The attempts of kind process: laid out here, held by the keeper, summed up here.
//!
//! If the keeper dies, what it held is killed and counts as lost, and another keeper is started.

use std::collections::BTreeMap;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::{Moment, Pace, Reason, Seq, Timestamp, Verdict};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::Span;
use worker_core::{Ended, Order, Taken};

use crate::clock;
use crate::config::KeeperProgram;
use crate::environment::marks;
use crate::finish::{Bounds, finish, mark_ended};
use crate::home::{AttemptDir, Home};
use crate::keeper::client::{Connection, connect};
use crate::keeper::protocol::{Exit, Held, Key, Notice, Request, Spawn};
use crate::prepare::{NotStarted, Site, prepare};
use crate::span::span;
use crate::sys::{self, ProcessId};

const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// What comes back from what was set going here.
pub enum News {
    KeeperStarted { generation: u64, child: Option<Child> },
    KeeperGone { generation: u64 },
    Notice { generation: u64, notice: Notice },
    Prepared { key: Key, spawn: Result<Box<Spawn>, NotStarted> },
    Finished { key: Key, ended: Box<Ended> },
}

/// What the shell passes on to the core.
pub enum Told {
    Started {
        seq: Seq,
        task: u32,
        at: Timestamp,
    },
    Ended {
        key: Key,
        ended: Box<Ended>,
    },
    /// This host could not start something, for lack of its own.
    HostFailed {
        why: String,
    },
}

pub struct Processes {
    home: Arc<Home>,
    site: Arc<Site>,
    program: KeeperProgram,
    tell: mpsc::UnboundedSender<News>,
    /// To the keeper of this generation.
    requests: mpsc::UnboundedSender<Request>,
    generation: u64,
    child: Option<Child>,
    lease: Option<Moment>,
    table: BTreeMap<Key, Process>,
    tasks: JoinSet<()>,
    pub bounds: Bounds,
}

struct Process {
    order: Arc<Order>,
    phase: Phase,
    /// Others have their turn: it stands still as soon as it is there.
    is_suspended: bool,
    /// Set when it need no longer be laid out.
    is_unwanted: Arc<AtomicBool>,
}

impl Process {
    fn new(order: Arc<Order>, phase: Phase) -> Process {
        Process { order, phase, is_suspended: false, is_unwanted: Arc::default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    /// Stopped while it was being laid out.
    Unwanted,
    Asked,
    Running {
        pid: ProcessId,
    },
    Finishing,
}

impl Processes {
    pub fn new(
        home: Arc<Home>,
        site: Site,
        program: KeeperProgram,
        tell: mpsc::UnboundedSender<News>,
    ) -> Processes {
        Processes {
            home,
            site: Arc::new(site),
            program,
            tell,
            requests: mpsc::unbounded_channel().0,
            generation: 0,
            child: None,
            lease: None,
            table: BTreeMap::new(),
            tasks: JoinSet::new(),
            bounds: Bounds::default(),
        }
    }

    /// Finds the keeper or starts one; asks for what it holds.
    pub fn connect(&mut self, pause: Duration) {
        let (requests, receiver) = mpsc::unbounded_channel();
        self.requests = requests;
        self.generation += 1;
        self.ask(Request::Attach);
        if let Some(until) = self.lease {
            self.ask(Request::Lease { boottime_us: until.0 });
        }
        let (generation, tell) = (self.generation, self.tell.clone());
        let (program, data_dir) = (self.program.clone(), self.home.path().to_owned());
        self.tasks.spawn(async move {
            tokio::time::sleep(pause).await;
            match connect(&program, &data_dir).await {
                Ok(connection) => pass(connection, receiver, generation, &tell).await,
                Err(error) => tracing::error!(%error, "cannot start the keeper"),
            }
            let _ = tell.send(News::KeeperGone { generation });
        });
    }

    /// The core begins nothing twice, unless that is the bug that it has: then there must be a second process too, for
    /// one keeper holds one of a key.
    #[cfg(feature = "chaos")]
    pub fn unused(&self, key: Key) -> Key {
        let twin = Key { session: key.session | 1 << 63, ..key };
        if self.table.contains_key(&key) { twin } else { key }
    }

    #[cfg(not(feature = "chaos"))]
    pub fn unused(&self, key: Key) -> Key {
        key
    }

    pub fn start(&mut self, key: Key, order: Arc<Order>) {
        let process = Process::new(order.clone(), Phase::Preparing);
        let (is_unwanted, span) = (process.is_unwanted.clone(), Span::current());
        self.table.insert(key, process);
        let (dir, site, tell) = (self.dir(&order, key), self.site.clone(), self.tell.clone());
        self.tasks.spawn_blocking(move || {
            let _in_attempt = span.enter();
            let spawn = prepare(&order, key, &dir, &site, &is_unwanted).map(Box::new);
            if spawn.is_err() && dir.0.is_dir() {
                mark_ended(&dir);
            }
            let _ = tell.send(News::Prepared { key, spawn });
        });
    }

    // What runs in a thread of its own knows only its path: the directory's lock is the worker's, and ends with it.
    fn dir(&self, order: &Order, key: Key) -> AttemptDir {
        self.home.attempt(order.attempt_of(key.task))
    }

    pub fn stop(&mut self, seq: Seq) {
        self.end(seq, |key| Request::Stop { key });
    }

    pub fn kill(&mut self, seq: Seq) {
        self.end(seq, |key| Request::Kill { key });
    }

    pub fn switch(&mut self, seq: Seq, to: Pace) {
        let Some((key, process)) = self.table.iter_mut().find(|(key, _)| key.seq == seq) else { return };
        process.is_suspended = to == Pace::StandsStill;
        if matches!(process.phase, Phase::Running { .. }) {
            let request = Request::Switch { key: *key, to };
            self.ask(request);
        }
    }

    // By number alone: attempts of two sessions are never here at once, and of one that has ended the id is gone.
    fn end(&mut self, seq: Seq, request: impl Fn(Key) -> Request) {
        let Some((key, process)) = self.table.iter_mut().find(|(key, _)| key.seq == seq) else { return };
        let key = *key;
        match process.phase {
            Phase::Preparing | Phase::Unwanted => {
                process.phase = Phase::Unwanted;
                process.is_unwanted.store(true, Ordering::Relaxed);
            }
            Phase::Asked | Phase::Running { .. } => self.ask(request(key)),
            Phase::Finishing => {}
        }
    }

    pub fn lease(&mut self, until: Moment) {
        self.lease = Some(until);
        self.ask(Request::Lease { boottime_us: until.0 });
    }

    /// Its end has been saved.
    pub fn forget(&self, key: Key) {
        self.ask(Request::Forget { key });
    }

    // A keeper that is gone is noticed by its reader, and what it held is settled there.
    fn ask(&self, request: Request) {
        let _ = self.requests.send(request);
    }

    pub fn hear(&mut self, news: News) -> Vec<Told> {
        while self.tasks.try_join_next().is_some() {}
        match news {
            News::KeeperStarted { generation, child } if generation == self.generation => {
                self.child = child;
                Vec::new()
            }
            News::KeeperGone { generation } if generation == self.generation => self.keeper_gone(),
            News::Notice { generation, notice } if generation == self.generation => self.notice(notice),
            News::KeeperStarted { .. } | News::KeeperGone { .. } | News::Notice { .. } => Vec::new(),
            News::Prepared { key, spawn } => self.prepared(key, spawn),
            News::Finished { key, ended } => {
                self.table.remove(&key);
                vec![Told::Ended { key, ended }]
            }
        }
    }

    fn prepared(&mut self, key: Key, spawn: Result<Box<Spawn>, NotStarted>) -> Vec<Told> {
        let Some(process) = self.table.get_mut(&key) else { return Vec::new() };
        let ended = match spawn {
            Err(error) if error.is_hosts_fault() => {
                self.table.remove(&key);
                return host_failed(key, error.to_string());
            }
            Err(error) => failed(error.reason(), &error.to_string()),
            Ok(_) if process.phase == Phase::Unwanted => {
                mark_ended(&self.home.attempt(process.order.attempt_of(key.task)));
                failed(Reason::NotStarted, "stopped before it began")
            }
            Ok(spawn) => {
                process.phase = Phase::Asked;
                self.ask(Request::Spawn(spawn));
                return Vec::new();
            }
        };
        self.table.remove(&key);
        vec![Told::Ended { key, ended }]
    }

    fn notice(&mut self, notice: Notice) -> Vec<Told> {
        match notice {
            // Of a keeper that was found instead of the one that died: it holds nothing that counts.
            Notice::State { attempts, .. } => {
                for held in &attempts {
                    self.dismiss(held);
                }
                Vec::new()
            }
            Notice::Spawned { key, pid, at } => {
                let Some(process) = self.table.get_mut(&key) else { return Vec::new() };
                process.phase = Phase::Running { pid };
                if process.is_suspended {
                    self.ask(Request::Switch { key, to: Pace::StandsStill });
                }
                vec![Told::Started { seq: key.seq, task: key.task, at }]
            }
            Notice::NotSpawned { key, why, lease_ended, hosts_fault } => {
                let Some(process) = self.table.remove(&key) else { return Vec::new() };
                mark_ended(&self.dir(&process.order, key));
                if hosts_fault {
                    return host_failed(key, why);
                }
                let ended = match lease_ended {
                    true => lost(Reason::LeaseEnded, &why),
                    false => failed(Reason::NotStarted, &why),
                };
                vec![Told::Ended { key, ended }]
            }
            Notice::Exited { key, exit } => {
                self.finish(key, exit);
                Vec::new()
            }
        }
    }

    fn finish(&mut self, key: Key, exit: Box<Exit>) {
        let Some(process) = self.table.get_mut(&key) else { return self.forget(key) };
        process.phase = Phase::Finishing;
        let (order, bounds) = (process.order.clone(), self.bounds);
        let (dir, tell) = (self.dir(&order, key), self.tell.clone());
        let spares = self.home.spares().clone();
        self.tasks.spawn_blocking(move || {
            let _in_attempt = span(&order, key.task).entered();
            let ended = Box::new(finish(&exit, &order.spec, &dir, &spares, bounds));
            let _ = tell.send(News::Finished { key, ended });
        });
    }

    fn keeper_gone(&mut self) -> Vec<Told> {
        tracing::warn!("the keeper is gone; what it held is lost");
        if let Some(mut child) = self.child.take() {
            self.tasks.spawn_blocking(move || drop(child.wait()));
        }
        let lost: Vec<(Key, Option<ProcessId>, Arc<Order>)> = self
            .table
            .iter_mut()
            .filter_map(|(key, process)| {
                let pid = match process.phase {
                    Phase::Asked => None,
                    Phase::Running { pid } => Some(pid),
                    Phase::Preparing | Phase::Unwanted | Phase::Finishing => return None,
                };
                process.phase = Phase::Finishing;
                Some((*key, pid, process.order.clone()))
            })
            .collect();
        for (key, pid, order) in lost {
            self.bury(key, pid, order);
        }
        self.connect(RECONNECT_PAUSE);
        Vec::new()
    }

    /// Kills what may be left of an attempt without a keeper, and says then that it is lost.
    fn bury(&mut self, key: Key, pid: Option<ProcessId>, order: Arc<Order>) {
        let (dir, site, tell) = (self.dir(&order, key), self.site.clone(), self.tell.clone());
        self.tasks.spawn_blocking(move || {
            sys::kill_left(pid, &marks(&dir));
            if let Some(cgroup) = &site.cgroup {
                cgroup.remove_left();
            }
            mark_ended(&dir);
            let ended = lost(Reason::WorkerLost, "the keeper that held it is gone");
            let _ = tell.send(News::Finished { key, ended });
        });
    }

    /// Takes over what a keeper holds of this order; what it does not hold is lost.
    pub fn adopt(&mut self, key: Key, taken: &Taken, held: Option<&Held>) -> Option<Told> {
        let order = taken.order.clone();
        let phase = held.map_or(Phase::Finishing, |held| Phase::Running { pid: held.pid });
        self.table.insert(key, Process::new(order.clone(), phase));
        let Some(held) = held else {
            self.bury(key, None, order);
            return None;
        };
        match held.exit.clone() {
            Some(exit) => self.finish(key, exit),
            None if taken.stop.is_some() => self.ask(Request::Stop { key }),
            // A keeper may not have heard of it before this worker ended.
            None if taken.suspended => self.switch(key.seq, Pace::StandsStill),
            None => {}
        }
        let running = held.exit.is_none();
        running.then_some(Told::Started { seq: key.seq, task: key.task, at: held.started })
    }

    /// Nobody knows of it any more. True: it still runs, and was killed.
    pub fn dismiss(&self, held: &Held) -> bool {
        let is_running = held.exit.is_none();
        let key = held.key;
        self.ask(if is_running { Request::Kill { key } } else { Request::Forget { key } });
        is_running
    }

    /// The worker leaves; a keeper that holds nothing ends.
    pub async fn part(mut self) {
        const PART_MAX: Duration = Duration::from_secs(1);
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        self.ask(Request::Bye);
        // What is being fetched would hold up the end of this process.
        self.table.values().for_each(|process| process.is_unwanted.store(true, Ordering::Relaxed));
        // Ends the connection, once everything said has been sent.
        self.requests = mpsc::unbounded_channel().0;
        let ended = async {
            while self.tasks.join_next().await.is_some() {}
            while let Some(child) = &mut self.child
                && self.table.is_empty()
                && matches!(child.try_wait(), Ok(None))
            {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(PART_MAX, ended).await;
    }
}

async fn pass(
    mut connection: Connection,
    requests: mpsc::UnboundedReceiver<Request>,
    generation: u64,
    tell: &mpsc::UnboundedSender<News>,
) {
    let child = connection.child.take();
    let _ = tell.send(News::KeeperStarted { generation, child });
    let notices = |notice| {
        let _ = tell.send(News::Notice { generation, notice });
    };
    connection.pass(requests, notices).await;
}

/// The attempt is lost, not failed: it costs the task none of its retries that another worker may do better.
fn host_failed(key: Key, why: String) -> Vec<Told> {
    let ended = lost(Reason::NotStarted, &why);
    vec![Told::HostFailed { why }, Told::Ended { key, ended }]
}

fn failed(reason: Reason, message: &str) -> Box<Ended> {
    Box::new(Ended::new(Verdict::Failed, reason, message, clock::wall()))
}

fn lost(reason: Reason, message: &str) -> Box<Ended> {
    Box::new(Ended::new(Verdict::Lost, reason, message, clock::wall()))
}
