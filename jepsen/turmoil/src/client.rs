//! Clients: each writes and reads through whichever replica it likes, and tells the history.

use std::sync::Arc;
use std::time::Duration;

use machine::{Op, Write};
use tokio::time;

use crate::door::{Door, ReadAnswer, WriteAnswer};
use crate::history::{Acknowledged, Event};
use crate::workload::{self, Known};
use crate::world::World;
use sim::chance::Chance;

const TRIES: u32 = 12;
/// Between two tries.
const PAUSE_MS: (u64, u64) = (5, 120);
/// Writes that are remembered to be repeated.
const REMEMBERED: usize = 5;

pub struct Client {
    world: Arc<World>,
    door: Door,
    chance: Chance,
    number: u64,
    written: u64,
    /// Writes that were asked, answered or not.
    past: Vec<Write>,
    known: Known,
    /// Where it believes the leader to be.
    leader: usize,
}

impl Client {
    pub fn new(world: Arc<World>, number: u64) -> Client {
        let mut chance = Chance::of(world.options.seed, 10 + number);
        let leader = chance.below(world.hosts.len() as u64) as usize;
        let door = Door::new(world.clone());
        Client { world, door, chance, number, written: 0, past: Vec::new(), known: Known::default(), leader }
    }

    /// For so long.
    pub async fn run(mut self, faults: Duration) {
        // What is under way then is let end; nothing new is begun.
        let over = time::sleep(faults);
        tokio::pin!(over);
        if self.number == 0 {
            for op in workload::settings() {
                let write = self.named(op);
                self.write(write).await;
            }
        }
        while !over.is_elapsed() {
            let pause = self.chance.millis(0, self.world.options.think_ms_max);
            tokio::select! {
                biased;
                () = &mut over => return,
                () = time::sleep(pause) => {}
            }
            if self.chance.percent(70) {
                let write = self.choose();
                self.write(write).await;
            } else {
                let host = self.chance.below(self.world.hosts.len() as u64) as usize;
                self.read(host).await;
            }
        }
    }

    /// Something new, or what it has asked before.
    fn choose(&mut self) -> Write {
        if self.chance.percent(20)
            && let Some(again) = self.chance.pick(&self.past)
        {
            return again;
        }
        let op = workload::op(&mut self.chance, &self.known);
        let write = self.named(op);
        if self.past.len() == REMEMBERED {
            self.past.remove(0);
        }
        self.past.push(write.clone());
        write
    }

    fn named(&mut self, op: Op) -> Write {
        self.written += 1;
        workload::write(self.number, self.written, op)
    }

    /// Until it is acknowledged or there is no more patience; nobody knows then whether it will be done.
    pub async fn write(&mut self, write: Write) -> Option<Acknowledged> {
        let call = self.world.next_call();
        self.world.tell(Event::WriteAsked { call });
        for _ in 0..TRIES {
            if self.door.is_any() && self.chance.percent(50) {
                self.leader = self.another();
            }
            match self.door.write(self.leader, &write).await {
                WriteAnswer::Done(done) => {
                    self.known.learn(&write.op, &done);
                    self.world.tell(Event::WriteDone { call, write: done.clone() });
                    return Some(done);
                }
                WriteAnswer::Refused => return None,
                // The same request id goes to another replica: it may be done already.
                WriteAnswer::Unknown => self.leader = self.another(),
                WriteAnswer::NotHere(Some(leader)) if self.chance.percent(80) => {
                    self.leader = (leader as usize - 1) % self.world.hosts.len();
                }
                WriteAnswer::NotHere(_) => self.leader = self.another(),
            }
            let pause = self.chance.millis(PAUSE_MS.0, PAUSE_MS.1);
            time::sleep(pause).await;
        }
        None
    }

    fn another(&mut self) -> usize {
        self.chance.below(self.world.hosts.len() as u64) as usize
    }

    async fn read(&mut self, host: usize) {
        let call = self.world.next_call();
        self.world.tell(Event::ReadAsked { call });
        let job = self.known.last_job();
        if let Some(ReadAnswer { index, found }) = self.door.read(host, job).await {
            let lacks = job.filter(|_| !found);
            self.world.tell(Event::ReadDone { call, index, lacks });
        }
    }
}
