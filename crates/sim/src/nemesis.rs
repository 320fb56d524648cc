//! What goes wrong, when, and how it is mended.

use std::time::Duration;

use model::time::micros;

use crate::queue::{Happening, Micros, Process};
use crate::worker::RESTART;
use crate::world::World;

/// Ends a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heal {
    /// Mends what this process was cut from.
    Cut(Process),
    BadNetwork,
    Clock(usize),
}

impl Heal {
    pub fn code(self) -> u64 {
        match self {
            Heal::Cut(Process::Replica(id)) => id as u64,
            Heal::Cut(Process::Worker(id)) => 20 + id as u64,
            Heal::Cut(_) => 40,
            Heal::BadNetwork => 41,
            Heal::Clock(id) => 50 + id as u64,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KillLeader,
    KillReplica,
    KillAll,
    /// From the other replicas, not from workers and clients.
    CutLeaderFromPeers,
    CutReplica,
    /// Others do not hear it, but it hears them; or the other way round.
    CutOneWay,
    FreezeReplica,
    RestartWorker,
    CrashHost,
    WipeHost,
    FreezeHost,
    CutWorker,
    BadNetwork,
    JumpClock,
}

const FAULTS: [(Fault, u64); 14] = [
    (Fault::KillLeader, 14),
    (Fault::KillReplica, 6),
    (Fault::KillAll, 3),
    (Fault::CutLeaderFromPeers, 14),
    (Fault::CutReplica, 6),
    (Fault::CutOneWay, 6),
    (Fault::FreezeReplica, 8),
    (Fault::RestartWorker, 8),
    (Fault::CrashHost, 5),
    (Fault::WipeHost, 2),
    (Fault::FreezeHost, 10),
    (Fault::CutWorker, 10),
    (Fault::BadNetwork, 5),
    (Fault::JumpClock, 3),
];

/// Between two faults, at least.
const GAP_MIN: Duration = Duration::from_millis(100);

pub struct Nemesis {
    pub until: Micros,
}

impl Nemesis {
    pub fn new(until: Micros) -> Nemesis {
        Nemesis { until }
    }
}

impl World {
    pub fn wake_nemesis(&mut self) {
        if self.now >= self.nemesis.until {
            return;
        }
        let fault = self.draw_fault();
        self.stats.count(&format!("fault {fault:?}"));
        self.inflict(fault);
        let gap = self.chance.duration(GAP_MIN, self.options.fault_gap_max);
        self.queue.push(self.now + micros(gap), Happening::Wake(Process::Nemesis));
    }

    fn draw_fault(&mut self) -> Fault {
        let all: u64 = FAULTS.iter().map(|(_, weight)| weight).sum();
        let mut at = self.chance.below(all);
        for (fault, weight) in FAULTS {
            if at < weight {
                return fault;
            }
            at -= weight;
        }
        Fault::KillLeader
    }

    fn inflict(&mut self, fault: Fault) {
        let replica = self.chance.below(self.replicas.len() as u64) as usize;
        let worker = self.chance.below(self.workers.len() as u64) as usize;
        let leader = self.leader().unwrap_or(replica);
        match fault {
            Fault::KillLeader => self.kill_for_a_while(leader),
            Fault::KillReplica => self.kill_for_a_while(replica),
            Fault::KillAll => (0..self.replicas.len()).for_each(|id| self.kill_for_a_while(id)),
            Fault::CutLeaderFromPeers => {
                self.cut_from_replicas(Process::Replica(leader), 20_000);
                if self.chance.in_thousand(700) {
                    self.cut_from_some_workers(leader);
                }
            }
            Fault::CutReplica => {
                self.cut_from_replicas(Process::Replica(replica), 15_000);
                self.cut_from_others(replica);
            }
            Fault::CutOneWay => self.cut_one_way(replica),
            Fault::FreezeReplica => self.freeze(Process::Replica(leader), 3_000),
            Fault::RestartWorker => {
                self.stop_worker(worker);
                self.restart_later(Process::Worker(worker));
            }
            Fault::CrashHost | Fault::WipeHost => {
                self.crash_host(worker, fault == Fault::WipeHost);
                self.restart_later(Process::Worker(worker));
            }
            Fault::FreezeHost => {
                self.freeze(Process::Worker(worker), 15_000);
                self.watch.frozen(worker);
            }
            Fault::CutWorker => self.cut_from_replicas(Process::Worker(worker), 20_000),
            Fault::BadNetwork => {
                self.network.is_bad = true;
                self.heal_later(Heal::BadNetwork, 10_000);
            }
            Fault::JumpClock => {
                let (back, by) = (self.chance.in_thousand(500), self.chance.ms(1_000, 3_600_000) as i64);
                self.replicas[replica].skew = if back { -by } else { by };
                self.heal_later(Heal::Clock(replica), 10_000);
            }
        }
    }

    fn heal_later(&mut self, heal: Heal, ms_max: u64) {
        let wait = self.chance.ms(50, ms_max);
        self.queue.push(self.now + wait, Happening::Heal(heal));
    }

    fn restart_later(&mut self, process: Process) {
        let wait = self.chance.duration(RESTART.0, RESTART.1);
        self.queue.push(self.now + micros(wait), Happening::Restart(process));
    }

    fn kill_for_a_while(&mut self, id: usize) {
        self.kill_replica(id);
        self.restart_later(Process::Replica(id));
    }

    fn cut_from_replicas(&mut self, process: Process, ms_max: u64) {
        for id in 0..self.replicas.len() {
            if process != Process::Replica(id) {
                self.network.cut_both(process, Process::Replica(id));
            }
        }
        // Either a hiccup, or longer than most leases.
        let (least, most) =
            if self.chance.in_thousand(500) { (50, ms_max / 4) } else { (ms_max / 3, ms_max) };
        let wait = self.chance.ms(least, most);
        self.queue.push(self.now + wait, Happening::Heal(Heal::Cut(process)));
    }

    fn cut_from_others(&mut self, replica: usize) {
        for other in self.outsiders() {
            self.network.cut_both(Process::Replica(replica), other);
        }
    }

    /// From about half of them: the others stay with it, as far as they can tell.
    fn cut_from_some_workers(&mut self, replica: usize) {
        for id in 0..self.workers.len() {
            if self.chance.in_thousand(500) {
                self.network.cut_both(Process::Replica(replica), Process::Worker(id));
            }
        }
    }

    fn outsiders(&self) -> Vec<Process> {
        let workers = (0..self.workers.len()).map(Process::Worker);
        workers.chain((0..self.clients.len()).map(Process::Client)).collect()
    }

    fn cut_one_way(&mut self, replica: usize) {
        let inward = self.chance.in_thousand(500);
        for id in (0..self.replicas.len()).filter(|id| *id != replica) {
            let (a, b) = (Process::Replica(replica), Process::Replica(id));
            if inward {
                self.network.cut(b, a);
            } else {
                self.network.cut(a, b);
            }
        }
        self.heal_later(Heal::Cut(Process::Replica(replica)), 8_000);
    }

    /// The process, or the whole host of a worker, stands still; what comes meanwhile waits.
    fn freeze(&mut self, process: Process, ms_max: u64) {
        let until = self.now + self.chance.ms(100, ms_max);
        let frozen = self.frozen.entry(process).or_default();
        *frozen = until.max(*frozen);
    }

    pub fn heal(&mut self, heal: Heal) {
        match heal {
            Heal::Cut(process) => {
                let replicas = (0..self.replicas.len()).map(Process::Replica);
                for other in replicas.chain(self.outsiders()) {
                    self.network.mend(process, other);
                    self.network.mend(other, process);
                }
            }
            Heal::BadNetwork => self.network.is_bad = false,
            Heal::Clock(id) => self.replicas[id].skew = 0,
        }
    }

    pub fn restart(&mut self, process: Process) {
        match process {
            Process::Replica(id) => self.start_replica(id),
            Process::Worker(id) => self.start_worker(id),
            Process::Client(_) | Process::Nemesis => {}
        }
    }

    /// Everything is mended; what is down comes back by the restarts that are planned.
    pub fn heal_all(&mut self) {
        self.network.mend_all();
        self.replicas.iter_mut().for_each(|replica| replica.skew = 0);
        self.frozen.clear();
    }
}
