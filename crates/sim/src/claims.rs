//! Workers that take tasks themselves: each asks some replica what there is, draws, and sends its claim, as the worker's process does
//! over its own connection.

use machine::{Op, Reply, Write};
use model::{Actor, RequestId, SessionId, Timestamp};
use worker_core::{Aloha, SLOT};

use crate::chance::{Chance, mixed};
use crate::queue::{Happening, Micros, Process, Response};
use crate::replica::WALL_BEGIN;
use crate::world::World;

/// How often one looks that has nothing to claim, or sits out.
const SLOT_US: Micros = SLOT.as_micros() as Micros;
const LOOK_EVERY: Micros = 4 * SLOT_US;
/// Then the claim counts as lost, and another one is made.
const PATIENCE: Micros = 1_000_000;

/// What claims for one worker.
pub struct Claimant {
    aloha: Aloha,
    /// Which replica it asks: chosen anew whenever one does not help.
    chance: Chance,
    replica: usize,
    claims: u64,
    /// The claim under way, and since when.
    waiting: Option<(Micros, Write)>,
}

impl Claimant {
    pub fn new(id: usize, replicas: usize, salt: u64) -> Claimant {
        let seed = mixed(salt ^ (id as u64 + 1) << 32);
        Claimant {
            aloha: Aloha::new(seed),
            chance: Chance::of(seed, 1),
            replica: id % replicas,
            claims: 0,
            waiting: None,
        }
    }

    fn turn_away(&mut self, replicas: usize) {
        self.waiting = None;
        self.replica = self.chance.below(replicas as u64) as usize;
    }
}

impl World {
    /// A slot of the worker's has begun.
    pub fn claim_slot(&mut self, id: usize) {
        let wait = self.use_slot(id);
        self.queue.push(self.now + wait, Happening::Slot { worker: id });
    }

    fn use_slot(&mut self, id: usize) -> Micros {
        let replicas = self.replicas.len();
        let claimant = &mut self.claimants[id];
        if let Some((since, _)) = &claimant.waiting {
            if self.now < since + PATIENCE {
                return SLOT_US;
            }
            claimant.turn_away(replicas);
        }
        let Some(session) = self.workers[id].may_claim() else { return LOOK_EVERY };
        let replica = &self.replicas[claimant.replica];
        if !replica.up {
            claimant.turn_away(replicas);
            return LOOK_EVERY;
        }
        let offer = scheduler::claim::offer(&replica.state, session);
        if offer.is_empty() {
            return LOOK_EVERY;
        }
        if claimant.aloha.transmits(offer.channels(), offer.stations) {
            let placements = offer.draw(claimant.aloha.draw());
            self.send_claim(id, session, placements);
        }
        SLOT_US
    }

    fn send_claim(&mut self, id: usize, session: SessionId, placements: Vec<machine::Placement>) {
        let claimant = &mut self.claimants[id];
        claimant.claims += 1;
        let number = claimant.claims;
        let wall = Timestamp(WALL_BEGIN.0 + self.now).0 / 1_000;
        let client = self.clients.len() + id;
        let request = RequestId(u128::from(wall) << 80 | (client as u128) << 64 | u128::from(number));
        let op = Op::Claim { session, placements };
        let write = Write { request, body_hash: number, actor: Actor::new(&format!("w{id}"), "worker"), op };
        claimant.waiting = Some((self.now, write.clone()));
        let to = claimant.replica;
        self.stats.count("claim");
        self.carry_claim(id, to, write);
    }

    fn carry_claim(&mut self, id: usize, to: usize, write: Write) {
        let (client, call) = (self.clients.len() + id, self.claimants[id].claims);
        for delay in self.network.copies(Process::Worker(id), Process::Replica(to), &mut self.chance) {
            let write = Box::new(write.clone());
            self.queue.push(self.now + delay, Happening::Request { to, client, call, write });
        }
    }

    pub fn claim_answered(&mut self, id: usize, call: u64, response: Response) {
        let replicas = self.replicas.len();
        let claimant = &mut self.claimants[id];
        let Some((_, write)) = claimant.waiting.clone().filter(|_| claimant.claims == call) else { return };
        match response {
            Response::Written { index, reply } => {
                claimant.waiting = None;
                let has_won = matches!(reply, Reply::Placed { taken, .. } if taken > 0);
                let slots = if has_won { 0 } else { claimant.aloha.lost() };
                if has_won {
                    claimant.aloha.won();
                } else {
                    // Sits out as if it waited for an answer.
                    let until = self.now + Micros::from(slots) * SLOT_US;
                    claimant.waiting = Some((until.saturating_sub(PATIENCE), write.clone()));
                    claimant.claims += 1;
                }
                self.stats.count(if has_won { "claim won" } else { "claim lost" });
                self.watch.acknowledged(self.now, &write, index, &reply);
            }
            // The replica that was asked sends it on.
            Response::NotLeader { leader: Some(leader) } => self.carry_claim(id, leader, write),
            _ => claimant.turn_away(replicas),
        }
    }
}
