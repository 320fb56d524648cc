//! The whole run: processes, time, and what happens next.

use std::collections::BTreeMap;

use machine::{Applied, Entry, Op, QueueSpec};
use model::{LogIndex, Settings};

use crate::chance::{Chance, Trace};
use crate::claims::Claimant;
use crate::client::Client;
use crate::invariants::{Step, Watch};
use crate::nemesis::Nemesis;
use crate::network::Network;
use crate::queue::{End, Happening, Micros, NEVER, Process, Queue};
use crate::raft::Raft;
use crate::replica::{self, Replica};
use crate::stream::Stream;
use crate::worker::Worker;
use crate::{Options, Report, workload};

/// How often the run looks whether everything is done.
const LOOK_EVERY: Micros = 500_000;
/// Broken invariants after which a run ends.
const BROKEN_MAX: usize = 5;

pub struct World {
    pub options: Options,
    pub settings: Settings,
    pub now: Micros,
    pub chance: Chance,
    pub queue: Queue,
    pub trace: Trace,
    pub network: Network,
    pub nemesis: Nemesis,
    pub replicas: Vec<Replica>,
    pub workers: Vec<Worker>,
    pub clients: Vec<Client>,
    /// By worker. Their calls are numbered after the clients'.
    pub claimants: Vec<Claimant>,
    pub streams: BTreeMap<u64, Stream>,
    pub streams_opened: u64,
    pub executions: u64,
    /// Processes that stand still, until when.
    pub frozen: BTreeMap<Process, Micros>,
    pub watch: Watch,
    pub stats: Stats,
    steps: u64,
}

/// How often things happened: a run in which little happened proves little.
#[derive(Clone, Debug, Default)]
pub struct Stats(pub BTreeMap<String, u64>);

impl Stats {
    pub fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }
}

pub fn address(replica: usize) -> String {
    format!("n{replica}")
}

impl World {
    pub fn new(seed: u64, mut options: Options) -> World {
        let mut chance = Chance::new(seed);
        options.salt ^= chance.bits();
        let timing = options.failover.election();
        let replicas = (0..options.replicas).map(|id| {
            let raft = Raft::new(id, options.replicas, timing, 0, &mut chance);
            // A few milliseconds off, as clocks are.
            let skew = chance.below(400_000) as i64 - 200_000;
            let mut replica = Replica::new(id, raft, chance.below(1_000_000_000), skew);
            options.mutants.arm_state(&mut replica.state);
            replica
        });
        let replicas: Vec<Replica> = replicas.collect();
        let workers = (0..options.workers).map(|id| Worker::new(id, chance.below(1_000_000_000))).collect();
        World {
            settings: replica::settings(options.failover),
            now: 0,
            queue: Queue::default(),
            trace: Trace::default(),
            network: Network::default(),
            nemesis: Nemesis::new(model::time::micros(options.safety)),
            replicas,
            workers,
            clients: (0..options.clients).map(|_| Client::new()).collect(),
            claimants: (0..options.workers)
                .map(|id| Claimant::new(id, options.replicas, options.salt))
                .collect(),
            streams: BTreeMap::new(),
            streams_opened: 0,
            executions: 0,
            frozen: BTreeMap::new(),
            watch: Watch::default(),
            stats: Stats::default(),
            steps: 0,
            chance,
            options,
        }
    }

    pub fn run(mut self) -> Report {
        for id in 0..self.replicas.len() {
            self.wake_at(self.now + 1, Process::Replica(id));
        }
        (0..self.workers.len()).for_each(|id| self.start_worker(id));
        (0..self.clients.len()).for_each(|id| self.schedule_client(id));
        (0..self.workers.len()).for_each(|worker| self.queue.push(1, Happening::Slot { worker }));
        if self.options.faults {
            self.queue.push(1_000_000, Happening::Wake(Process::Nemesis));
        }
        let safety = model::time::micros(self.options.safety);
        self.run_until(safety);
        self.heal_all();
        self.finish();
        self.into_report()
    }

    fn wake_at(&mut self, at: Micros, process: Process) {
        self.queue.push(at, Happening::Wake(process));
    }

    fn run_until(&mut self, until: Micros) {
        while self.watch.found.len() < BROKEN_MAX {
            let Some((at, happening)) = self.queue.pop() else { break };
            if at > until {
                self.queue.push(at, happening);
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(process) = self.process_of(&happening)
            && let Some(until) = self.frozen.get(&process).copied()
        {
            if until > self.now {
                self.queue.push(until, happening);
                return;
            }
            self.frozen.remove(&process);
        }
        self.steps += 1;
        self.trace.note(self.now);
        self.trace.note(happening.code());
        match happening {
            Happening::Wake(process) => self.wake(process),
            Happening::Raft { from, to, message } => self.raft_message(from, to, message),
            Happening::Request { to, client, call, write } => self.request(to, client, call, *write),
            Happening::Response { client, call, response } if client >= self.clients.len() => {
                self.claim_answered(client - self.clients.len(), call, response);
            }
            Happening::Response { client, call, response } => self.answered(client, call, response),
            Happening::Slot { worker } => self.claim_slot(worker),
            Happening::Connect { stream } => self.arrive(stream),
            Happening::Deliver { stream, end } => self.deliver(stream, end),
            Happening::Closed { stream, end } => self.closed(stream, end),
            Happening::Began { worker, execution } => self.began(worker, execution),
            Happening::Done { worker, execution } => self.done(worker, execution),
            Happening::Ended { worker, execution } => self.ended(worker, execution),
            Happening::KeeperLooks { worker } => self.keeper_looks(worker),
            Happening::Restart(process) => self.restart(process),
            Happening::Heal(heal) => self.heal(heal),
        }
    }

    /// A client, or what claims for a worker.
    pub fn caller(&self, client: usize) -> Process {
        match client.checked_sub(self.clients.len()) {
            Some(worker) => Process::Worker(worker),
            None => Process::Client(client),
        }
    }

    /// Whose standing still puts it off.
    fn process_of(&self, happening: &Happening) -> Option<Process> {
        let of_stream = |stream: &u64, end: &End| {
            let stream = self.streams.get(stream)?;
            Some(match end {
                End::Worker => Process::Worker(stream.worker),
                End::Replica => Process::Replica(stream.replica),
            })
        };
        match happening {
            Happening::Wake(process) => Some(*process),
            Happening::Raft { to, .. } | Happening::Request { to, .. } => Some(Process::Replica(*to)),
            Happening::Response { client, .. } => Some(self.caller(*client)),
            Happening::Connect { stream } => of_stream(stream, &End::Replica),
            Happening::Deliver { stream, end } | Happening::Closed { stream, end } => of_stream(stream, end),
            Happening::Began { worker, .. }
            | Happening::Done { worker, .. }
            | Happening::Ended { worker, .. }
            | Happening::Slot { worker }
            | Happening::KeeperLooks { worker } => Some(Process::Worker(*worker)),
            Happening::Restart(_) | Happening::Heal(_) => None,
        }
    }

    fn wake(&mut self, process: Process) {
        // Only the wake that is waited for counts; of older ones there may be some left.
        match process {
            Process::Replica(id) => {
                self.replicas[id].scheduled = NEVER;
                self.wake_replica(id);
            }
            Process::Worker(id) => {
                self.workers[id].scheduled = NEVER;
                self.wake_worker(id);
            }
            Process::Client(id) => {
                self.clients[id].scheduled = NEVER;
                self.wake_client(id);
            }
            Process::Nemesis => self.wake_nemesis(),
        }
    }

    pub fn leader(&self) -> Option<usize> {
        let leading = self.replicas.iter().filter(|replica| replica.is_leading());
        leading.max_by_key(|replica| replica.raft.term).map(|replica| replica.id)
    }

    pub fn watch_applied(&mut self, replica: usize, index: LogIndex, entry: &Entry, applied: &Applied) {
        let state = &self.replicas[replica].state;
        self.trace.note(state.digest());
        self.watch.applied(&Step { now: self.now, replica, index, entry, applied, state });
    }
}

// Liveness.
impl World {
    /// Nobody asks for anything new, nothing goes wrong any more: everything that was asked for comes to its end.
    fn finish(&mut self) {
        self.clients.iter_mut().for_each(|client| client.is_quiet = true);
        // A fresh job through whoever leads.
        let last = workload::submit(&mut self.chance, &[]);
        self.clients[0].errands.push(last);
        self.schedule_client(0);
        let deadline = self.now + model::time::micros(self.options.liveness);
        while self.watch.found.len() < BROKEN_MAX {
            self.run_until(self.now + LOOK_EVERY);
            match self.unfinished() {
                None => return self.watch_end(),
                Some(what) if self.now > deadline => {
                    return self.watch.break_with(self.now, "liveness", what);
                }
                Some(_) => self.release_all(),
            }
        }
    }

    /// What is not done yet.
    fn unfinished(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("nobody leads".to_owned()) };
        let state = &self.replicas[leader].state;
        if let Some(client) = self.clients.iter().position(|client| !client.is_idle()) {
            return Some(format!("client {client} still waits for an answer"));
        }
        if state.unfinished_jobs() > 0 {
            let open: Vec<String> = state
                .jobs()
                .filter(|job| !job.is_finished())
                .map(|job| format!("{} {} {:?}", job.id, job.state, job.counts()))
                .collect();
            return Some(format!("jobs are not finished: {}", open.join("; ")));
        }
        let behind = self.replicas.iter().find(|replica| replica.applied != self.replicas[leader].applied);
        if let Some(replica) = behind {
            return Some(format!("replica {} is behind", replica.id));
        }
        if state.sessions().any(|session| !session.allocations.is_empty()) {
            return Some("allocations are left although nothing is unfinished".to_owned());
        }
        let missing = self
            .workers
            .iter()
            .find(|worker| state.worker(&worker.introduction.worker).is_none_or(|row| row.session.is_none()));
        missing.map(|worker| format!("{} is not back", worker.introduction.worker))
    }

    /// Nothing may stay paused, cordoned or under a ceiling.
    fn release_all(&mut self) {
        let Some(leader) = self.leader().filter(|_| self.clients[0].is_idle()) else { return };
        let state = &self.replicas[leader].state;
        let mut errands = Vec::new();
        let paused = state.jobs().filter(|job| job.paused && !job.is_finished());
        errands.extend(paused.map(|job| Op::Resume { jobs: vec![job.id] }));
        let queues = state.queues().filter(|queue| queue.paused);
        errands.extend(queues.map(|queue| Op::ResumeQueue { name: queue.name.clone() }));
        // The slots of a set go with it.
        let is_narrow = |queue: &&machine::state::queues::Queue| {
            queue.running_max.is_some() && !queue.deleted && queue.owner.is_none()
        };
        let narrow = state.queues().filter(is_narrow);
        errands.extend(narrow.map(|queue| {
            Op::PutQueue(QueueSpec { name: queue.name.clone(), no_running_max: true, ..QueueSpec::default() })
        }));
        let cordoned = state.workers().filter(|worker| worker.cordoned);
        errands.extend(cordoned.map(|worker| Op::Uncordon { worker: worker.name.clone() }));
        let sets = state.periodic_sets();
        errands.extend(sets.map(|set| Op::DeletePeriodic { name: set.name.clone() }));
        self.clients[0].errands = errands;
        self.schedule_client(0);
    }

    fn watch_end(&mut self) {
        let Some(leader) = self.leader() else { return };
        let state = &self.replicas[leader].state;
        self.watch.at_end(self.now, state);
        let rows: Vec<_> = state.freeze().rows().collect();
        for replica in &self.replicas {
            if replica.state.freeze().rows().collect::<Vec<_>>() != rows {
                let what = format!("replicas {leader} and {} hold different rows", replica.id);
                self.watch.break_with(self.now, "replicas agree", what);
            }
        }
    }

    fn into_report(self) -> Report {
        let leader = self.replicas.iter().max_by_key(|replica| replica.applied);
        let (entries, jobs) = leader.map_or((0, 0), |replica| (replica.applied, replica.state.last_job().0));
        let mut counts = self.stats.0;
        counts.extend(self.watch.counts());
        let terms = self.replicas.iter().map(|replica| replica.raft.term).max().unwrap_or(0);
        Report {
            steps: self.steps,
            ended: std::time::Duration::from_micros(self.now),
            entries,
            jobs,
            terms,
            executions: self.executions,
            broken: self.watch.found,
            trace_hash: self.trace.0,
            counts,
        }
    }
}
