//! A worker's host: the process around the worker's core, the keeper that holds its attempts, and the attempts. Each may
//! end without the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use leader_core::Offer;
use model::{
    Capacity, Kind, LogIndex, Moment, OnDisconnect, Pace, Reason, Resources, Run, Seq, SessionId, Term,
    Timestamp, Token, Verdict, Work,
};
use worker_core::{Action, Config, Core, Ended, Event, Leave, Message, Order, Saved};

use crate::chance::mixed;
use crate::convert::{self, Introduction};
use crate::queue::{Happening, Micros, NEVER, Process};
use crate::replica::WALL_BEGIN;
use crate::world::{World, address};

pub const CORES: u64 = 4;

pub struct Worker {
    pub introduction: Introduction,
    core: Option<Core>,
    /// On disk.
    saved: Saved,
    stream: Option<u64>,
    keeper: Keeper,
    pub offset: Micros,
    pub scheduled: Micros,
    pub has_left: bool,
}

/// Lives through a restart of the worker's process, not through one of the host.
#[derive(Default)]
pub struct Keeper {
    lease: Option<Moment>,
    pub executions: BTreeMap<u64, Execution>,
}

/// Tasks of an order that run, or have ended without the worker's knowing it.
pub struct Execution {
    pub seq: Seq,
    pub token: Token,
    pub order: Arc<Order>,
    pub tasks: Run,
    began: Option<Timestamp>,
    /// Since when it stands still.
    suspended: Option<Micros>,
    /// When it ends by itself, if it runs on.
    due: Micros,
    ended: Option<Box<Ended>>,
}

impl Execution {
    pub fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }
}

impl Worker {
    pub fn new(id: usize, offset: Micros) -> Worker {
        let offer = Offer {
            capacity: Capacity::of(Resources::cores(CORES)),
            kinds: vec![Kind::Process, Kind::Noop, Kind::Sleep],
            ..Offer::default()
        };
        let introduction = Introduction { worker: format!("w{id}"), secret: vec![id as u8, 0], offer };
        Worker {
            introduction,
            core: None,
            saved: Saved::default(),
            stream: None,
            keeper: Keeper::default(),
            offset,
            scheduled: NEVER,
            has_left: false,
        }
    }

    fn moment(&self, at: Micros) -> Moment {
        Moment(at + self.offset)
    }

    pub fn may_claim(&self) -> Option<SessionId> {
        Some(self.core.as_ref()?.may_claim()?.0)
    }

    pub fn is_up(&self) -> bool {
        self.core.is_some()
    }
}

fn wall(at: Micros) -> Timestamp {
    Timestamp(WALL_BEGIN.0 + at)
}

// The worker's process.
impl World {
    pub fn start_worker(&mut self, id: usize) {
        if self.workers[id].is_up() {
            return;
        }
        let (now, seed) = (self.now, self.chance.bits());
        let mut servers: Vec<String> = (0..self.replicas.len()).map(address).collect();
        let shift = self.chance.below(servers.len() as u64) as usize;
        servers.rotate_left(shift);
        let worker = &mut self.workers[id];
        let config = Config {
            capacity: worker.introduction.offer.capacity.total.clone(),
            servers,
            lease: worker.keeper.lease.filter(|lease| *lease > worker.moment(now)),
            seed,
        };
        let mut core = Core::new(config, worker.saved.clone());
        self.options.mutants.arm_worker(&mut core);
        worker.core = Some(core);
        worker.has_left = false;
        self.tell_of_executions(id);
        self.step_worker(id, Event::Tick);
    }

    /// The keeper says what runs and what has ended meanwhile; what it does not know is lost.
    fn tell_of_executions(&mut self, id: usize) {
        let worker = &self.workers[id];
        let mut events = Vec::new();
        for execution in worker.keeper.executions.values() {
            let (seq, tasks) = (execution.seq, execution.tasks);
            match &execution.ended {
                Some(ended) => events.push(Event::Ended { seq, tasks, ended: ended.clone() }),
                None => {
                    if let Some(at) = execution.began {
                        events.push(Event::Started { seq, task: tasks.first, at });
                    }
                }
            }
        }
        for taken in worker.saved.orders.values() {
            let Some(tasks) = taken.running else { continue };
            let seq = taken.order.seq;
            if worker
                .keeper
                .executions
                .values()
                .all(|execution| (execution.seq, execution.tasks) != (seq, tasks))
            {
                let lost =
                    Ended::new(Verdict::Lost, Reason::WorkerLost, "the host was restarted", wall(self.now));
                events.push(Event::Ended { seq, tasks, ended: Box::new(lost) });
            }
        }
        self.workers[id].keeper.executions.retain(|_, execution| execution.ended.is_none());
        events.into_iter().for_each(|event| self.step_worker(id, event));
    }

    pub fn stop_worker(&mut self, id: usize) {
        let worker = &mut self.workers[id];
        (worker.core, worker.scheduled) = (None, NEVER);
        if let Some(stream) = worker.stream.take() {
            self.hang_up(stream);
        }
    }

    /// Everything on the host ends. `wipe`: its disk is gone too, and it comes back as another.
    pub fn crash_host(&mut self, id: usize, wipe: bool) {
        self.stop_worker(id);
        let worker = &mut self.workers[id];
        let executions = std::mem::take(&mut worker.keeper).executions;
        if wipe {
            worker.saved = Saved::default();
            worker.introduction.secret[1] = worker.introduction.secret[1].wrapping_add(1);
        }
        for execution in executions.into_values().filter(|execution| execution.ended.is_none()) {
            self.watch.ended(self.now, id, &execution);
        }
    }

    pub fn wake_worker(&mut self, id: usize) {
        self.step_worker(id, Event::Tick);
    }

    pub fn worker_linked(&mut self, stream: u64) {
        let id = self.streams[&stream].worker;
        if self.workers[id].stream == Some(stream) {
            self.step_worker(id, Event::Up);
        }
    }

    pub fn worker_unlinked(&mut self, stream: u64, id: usize) {
        if self.workers[id].stream == Some(stream) {
            self.workers[id].stream = None;
            self.step_worker(id, Event::Down);
        }
    }

    pub fn worker_hears(&mut self, stream: u64, term: Term, applied: LogIndex, message: Message) {
        let id = self.streams[&stream].worker;
        if self.workers[id].stream == Some(stream) {
            self.step_worker(id, Event::Said { term, applied, message });
        }
    }

    pub fn step_worker(&mut self, id: usize, event: Event) {
        let mut events = vec![event, Event::Tick];
        while !events.is_empty() {
            let mut actions = Vec::new();
            let worker = &mut self.workers[id];
            let now = worker.moment(self.now);
            let Some(core) = &mut worker.core else { return };
            for event in events.drain(..) {
                actions.extend(core.step(event, now));
            }
            worker.saved = core.saved().clone();
            if !actions.is_empty() {
                events.push(Event::Tick);
            }
            actions.into_iter().for_each(|action| self.obey(id, action));
        }
        self.schedule_worker(id);
    }

    fn schedule_worker(&mut self, id: usize) {
        let worker = &mut self.workers[id];
        let Some(due) = worker.core.as_ref().and_then(Core::next_due) else { return };
        let due = due.0.saturating_sub(worker.offset).max(self.now + 1);
        if due < worker.scheduled {
            worker.scheduled = due;
            self.queue.push(due, Happening::Wake(Process::Worker(id)));
        }
    }

    fn obey(&mut self, id: usize, action: Action) {
        match action {
            Action::Save(_) | Action::FetchLog(_) | Action::CloseFetch { .. } => {}
            Action::Connect { address } => self.connect(id, &address),
            Action::Disconnect => {
                if let Some(stream) = self.workers[id].stream.take() {
                    self.hang_up(stream);
                }
            }
            Action::Send(outgoing) => {
                let message = convert::from_worker(outgoing, &self.workers[id].introduction);
                if let Some(stream) = self.workers[id].stream {
                    self.tell_replica(stream, message);
                }
            }
            Action::Start { order, tasks } => self.execute(id, order, tasks),
            // Not everything heeds a polite word.
            Action::Stop { seq } => {
                let grace = self.chance.pick(&[20, 300, 300, 2_500]).unwrap_or(300);
                self.end_soon(id, seq, grace);
            }
            Action::Kill { seq } => self.end_soon(id, seq, 5),
            Action::Switch { seq, to } => self.switch(id, seq, to),
            Action::Lease { until } => {
                self.workers[id].keeper.lease = Some(until);
                let at = until.0.saturating_sub(self.workers[id].offset);
                self.queue.push(at.max(self.now), Happening::KeeperLooks { worker: id });
            }
            Action::Leave(leave) => self.leave(id, &leave),
        }
    }

    fn connect(&mut self, id: usize, to: &str) {
        if let Some(stream) = self.workers[id].stream.take() {
            self.hang_up(stream);
        }
        let replica = (0..self.replicas.len()).find(|replica| address(*replica) == to);
        let Some(replica) = replica else { return };
        let stream = self.dial(id, replica);
        self.workers[id].stream = Some(stream);
    }

    /// Somebody starts it again after a while.
    fn leave(&mut self, id: usize, leave: &Leave) {
        self.stats.count(match leave {
            Leave::Drained => "worker drained",
            Leave::DrainTimeout => "worker left its work behind",
            Leave::Refused(_) => "worker refused",
        });
        self.stop_worker(id);
        self.workers[id].has_left = true;
        let wait = self.chance.ms(500, 3_000);
        self.queue.push(self.now + wait, Happening::Restart(Process::Worker(id)));
    }
}

// What runs.
impl World {
    fn execute(&mut self, id: usize, order: Arc<Order>, tasks: Run) {
        self.executions += 1;
        let number = self.executions;
        let begins = self.chance.between(100, 3_000);
        let lasts = self.lasting(&order, tasks);
        let execution = Execution {
            seq: order.seq,
            token: order.token,
            order,
            tasks,
            began: None,
            suspended: None,
            due: self.now + begins + lasts,
            ended: None,
        };
        self.watch.started(self.now, id, &execution);
        self.workers[id].keeper.executions.insert(number, execution);
        self.queue.push(self.now + begins, Happening::Began { worker: id, execution: number });
        self.queue.push(self.now + begins + lasts, Happening::Done { worker: id, execution: number });
    }

    /// What stands still takes that much longer.
    fn switch(&mut self, id: usize, seq: Seq, to: Pace) {
        let now = self.now;
        for (number, execution) in &mut self.workers[id].keeper.executions {
            if execution.seq != seq || execution.ended.is_some() {
                continue;
            }
            match (to, execution.suspended) {
                (Pace::StandsStill, None) => execution.suspended = Some(now),
                (Pace::Runs, Some(since)) => {
                    execution.suspended = None;
                    execution.due = execution.due.max(since) + (now - since);
                    self.queue.push(execution.due, Happening::Done { worker: id, execution: *number });
                }
                (Pace::StandsStill | Pace::Runs, _) => continue,
            }
            self.watch.switched(now, id, execution);
        }
    }

    /// It would have ended by now, had it run all the time.
    pub fn done(&mut self, id: usize, number: u64) {
        let execution = self.workers[id].keeper.executions.get(&number);
        if execution.is_some_and(|execution| execution.suspended.is_none() && execution.due <= self.now) {
            self.ended(id, number);
        }
    }

    fn lasting(&mut self, order: &Order, tasks: Run) -> Micros {
        match &order.spec.work {
            Work::Noop => self.chance.between(10, 200) * u64::from(tasks.len),
            Work::Sleep(duration) => model::time::micros(*duration),
            _ => self.chance.ms(5, 2_000),
        }
    }

    pub fn began(&mut self, id: usize, number: u64) {
        let at = wall(self.now);
        let Some(execution) = self.workers[id].keeper.executions.get_mut(&number) else { return };
        if execution.ended.is_some() {
            return;
        }
        execution.began = Some(at);
        let (seq, task) = (execution.seq, execution.tasks.first);
        self.step_worker(id, Event::Started { seq, task, at });
    }

    fn end_soon(&mut self, id: usize, seq: Seq, ms_max: u64) {
        let numbers: Vec<u64> = self.workers[id]
            .keeper
            .executions
            .iter()
            .filter(|(_, execution)| execution.seq == seq && execution.ended.is_none())
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            let wait = self.chance.ms(1, ms_max);
            self.queue.push(self.now + wait, Happening::Ended { worker: id, execution: number });
        }
    }

    /// Of itself or because it was stopped: what it says of its end is its own affair.
    pub fn ended(&mut self, id: usize, number: u64) {
        let ended = self.outcome(id, number);
        self.finish_execution(id, number, ended);
    }

    fn outcome(&self, id: usize, number: u64) -> Ended {
        let at = wall(self.now);
        let Some(execution) = self.workers[id].keeper.executions.get(&number) else {
            return Ended::succeeded(None, at);
        };
        let order = &execution.order;
        let fate = mixed(
            self.options.salt
                ^ order.job.0 << 20
                ^ u64::from(order.tasks.first) << 8
                ^ u64::from(order.attempt),
        );
        let mut ended = Ended::succeeded(execution.began, at);
        if fate % 100 < 15 {
            (ended.verdict, ended.exit_code) = (Verdict::Failed, Some(1));
        }
        ended
    }

    fn finish_execution(&mut self, id: usize, number: u64, ended: Ended) {
        let worker = &mut self.workers[id];
        let Some(execution) = worker.keeper.executions.get_mut(&number).filter(|e| e.ended.is_none()) else {
            return;
        };
        execution.ended = Some(Box::new(ended.clone()));
        let (seq, tasks) = (execution.seq, execution.tasks);
        self.watch.ended(self.now, id, execution);
        if worker.is_up() {
            worker.keeper.executions.remove(&number);
            self.step_worker(id, Event::Ended { seq, tasks, ended: Box::new(ended) });
        }
    }

    /// The keeper kills what must not outlive the lease, whether or not the worker's process is there.
    pub fn keeper_looks(&mut self, id: usize) {
        let worker = &self.workers[id];
        if worker.keeper.lease.is_none_or(|lease| lease > worker.moment(self.now)) {
            return;
        }
        let doomed = |execution: &Execution| {
            execution.ended.is_none() && execution.order.on_disconnect == OnDisconnect::Stop
        };
        let numbers: Vec<u64> = worker
            .keeper
            .executions
            .iter()
            .filter(|(_, execution)| doomed(execution))
            .map(|(number, _)| *number)
            .collect();
        for number in numbers {
            self.stats.count("killed by the keeper");
            let ended = Ended::new(Verdict::Lost, Reason::LeaseEnded, "the lease ended", wall(self.now));
            self.finish_execution(id, number, ended);
        }
    }
}

/// How long a host is away before it is back.
pub const RESTART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(4));
