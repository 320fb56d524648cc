//! Clients: each has one call under way, sends it again under the same request id until it knows the answer, and sometimes
//! once more after that.

use machine::{Op, Reply, Write};
use model::{Actor, JobId, RequestId, Timestamp};

use crate::chance::mixed;
use crate::queue::{Happening, Micros, NEVER, Process, Response};
use crate::replica::WALL_BEGIN;
use crate::workload;
use crate::world::World;

/// How long a call waits for an answer before it is sent again.
const PATIENCE: (u64, u64) = (400, 1_500);
/// Between answers that say "not here".
const PAUSE: (u64, u64) = (5, 80);

#[derive(Default)]
pub struct Client {
    call: Option<Call>,
    calls: u64,
    pub jobs: Vec<JobId>,
    /// Writes to do before any of its own.
    pub errands: Vec<Op>,
    /// Asks for nothing new by itself.
    pub is_quiet: bool,
    next_at: Micros,
    /// Which replica it believes in.
    replica: usize,
    pub scheduled: Micros,
}

struct Call {
    number: u64,
    write: Write,
    /// It has been answered before, like this.
    answered: Option<Reply>,
    send_at: Micros,
    /// The next sending goes to the next replica.
    moves_on: bool,
}

impl Client {
    pub fn new() -> Client {
        Client { scheduled: NEVER, ..Client::default() }
    }

    pub fn is_idle(&self) -> bool {
        self.call.is_none() && self.errands.is_empty()
    }
}

impl World {
    pub fn wake_client(&mut self, id: usize) {
        if self.clients[id].call.is_none() && self.now >= self.clients[id].next_at {
            self.begin_call(id);
        }
        let now = self.now;
        if self.clients[id].call.as_ref().is_some_and(|call| now >= call.send_at) {
            self.send_call(id);
        }
        self.schedule_client(id);
    }

    fn begin_call(&mut self, id: usize) {
        let (workers, client) = (self.workers.len(), &mut self.clients[id]);
        let op = match client.errands.pop() {
            Some(errand) => errand,
            None if client.is_quiet => return,
            None => workload::op(&mut self.chance, &client.jobs, workers),
        };
        // Whoever cancels often wants it again at once, while what was cancelled still ends.
        if let Op::Cancel { targets } = &op
            && self.chance.in_thousand(500)
        {
            client.errands.push(Op::Retry { targets: targets.clone(), failed_only: false });
        }
        client.calls += 1;
        let number = client.calls;
        // Its clock is a little off.
        let wall = Timestamp(WALL_BEGIN.0 + self.now).0 / 1_000 + self.chance.below(200);
        let request = RequestId(u128::from(wall) << 80 | (id as u128) << 64 | u128::from(number));
        let body_hash = mixed(number << 8 | id as u64);
        let write = Write { request, body_hash, actor: Actor::new(&format!("c{id}"), "sim"), op };
        self.clients[id].call =
            Some(Call { number, write, answered: None, send_at: self.now, moves_on: false });
        self.stats.count("call");
    }

    fn send_call(&mut self, id: usize) {
        let patience = self.chance.ms(PATIENCE.0, PATIENCE.1);
        let client = &mut self.clients[id];
        let Some(call) = &mut client.call else { return };
        call.send_at = self.now + patience;
        // Another one the next time, unless this one answers or names the leader.
        if std::mem::replace(&mut call.moves_on, true) {
            client.replica = (client.replica + 1) % self.replicas.len();
        }
        let (to, number, write) = (client.replica, call.number, call.write.clone());
        let (a, b) = (Process::Client(id), Process::Replica(to));
        for delay in self.network.copies(a, b, &mut self.chance) {
            let write = Box::new(write.clone());
            self.queue.push(self.now + delay, Happening::Request { to, client: id, call: number, write });
        }
    }

    pub fn answered(&mut self, id: usize, number: u64, response: Response) {
        if self.clients[id].call.as_ref().is_none_or(|call| call.number != number) {
            return;
        }
        match response {
            Response::Written { index, reply } => self.written(id, index, reply),
            Response::NotLeader { leader } => {
                if let Some(leader) = leader {
                    self.clients[id].replica = leader;
                }
                self.send_later(id, leader.is_none());
            }
            Response::NoQuorum => self.send_later(id, true),
            Response::Overloaded | Response::Unknown => self.send_later(id, false),
        }
        self.schedule_client(id);
    }

    fn send_later(&mut self, id: usize, moves_on: bool) {
        let pause = self.chance.ms(PAUSE.0, PAUSE.1);
        if let Some(call) = &mut self.clients[id].call {
            (call.send_at, call.moves_on) = (self.now + pause, moves_on);
        }
    }

    fn written(&mut self, id: usize, index: u64, reply: Reply) {
        let Some(mut call) = self.clients[id].call.take() else { return };
        self.watch.acknowledged(self.now, &call.write, index, &reply);
        if let (Reply::Submitted { job }, None) = (&reply, &call.answered) {
            self.clients[id].jobs.push(*job);
        }
        let gap = self.chance.ms(5, 900);
        if call.answered.is_none() && self.chance.in_thousand(120) {
            // As if the answer had been lost: sent again, now or much later.
            self.stats.count("call repeated");
            let later = if self.chance.in_thousand(300) { self.chance.ms(1_000, 8_000) } else { 0 };
            call.answered = Some(reply);
            (call.send_at, call.moves_on) = (self.now + later, self.chance.in_thousand(500));
            self.clients[id].call = Some(call);
        }
        self.clients[id].next_at = self.now + gap;
    }

    pub fn schedule_client(&mut self, id: usize) {
        let client = &mut self.clients[id];
        let due = match &client.call {
            Some(call) => call.send_at,
            None if client.is_quiet && client.errands.is_empty() => return,
            None => client.next_at,
        };
        let due = due.max(self.now + 1);
        if due < client.scheduled {
            client.scheduled = due;
            self.queue.push(due, Happening::Wake(Process::Client(id)));
        }
    }
}
