//! What goes wrong, when, and how it is mended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use replica::RaftState;
use turmoil::Sim;

use crate::Stack;
use crate::gate::Call;
use crate::links::{FaultId, Links, Way};
use crate::world::{NAMES, OUTSIDERS, World};
use sim::chance::Chance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The power fails: of what was not synced a random part is lost.
    CrashLeader,
    Crash,
    CrashAll,
    /// The process ends; what it wrote stays in the system's memory.
    Kill,
    CutLeader,
    CutOne,
    Halves,
    /// Nothing gets out of a host, or nothing in.
    OneWay,
    /// Two halves that have one host in common.
    Bridge,
    /// Each host reaches its two neighbours only.
    Ring,
    /// The leader from clients and workers, or workers from everybody; not the replicas from each other.
    CutOutside,
    /// Messages of a host are held and delivered late.
    Hold,
    SlowNetwork,
    SlowDisk,
    /// A host stands still, as far as turmoil can do that: its messages are held and its clock leaps.
    Stall,
    WallClock,
    Transfer,
    /// The leader and a bare majority go on alone; then the power fails at one of these, and the leader is cut off in
    /// place of the others: what was acknowledged is on the disk of the one that failed, and nowhere else among them.
    Swap,
}

const FAULTS: [(Fault, &str, u64); 18] = [
    (Fault::CrashLeader, "crash_leader", 12),
    (Fault::Crash, "crash", 10),
    (Fault::CrashAll, "crash_all", 4),
    (Fault::Kill, "kill", 6),
    (Fault::CutLeader, "cut_leader", 8),
    (Fault::CutOne, "cut_one", 6),
    (Fault::Halves, "halves", 5),
    (Fault::OneWay, "one_way", 8),
    (Fault::Bridge, "bridge", 4),
    (Fault::Ring, "ring", 3),
    (Fault::CutOutside, "cut_outside", 4),
    (Fault::Hold, "hold", 7),
    (Fault::SlowNetwork, "slow_network", 5),
    (Fault::SlowDisk, "slow_disk", 6),
    (Fault::Stall, "stall", 6),
    (Fault::WallClock, "wall_clock", 3),
    (Fault::Transfer, "transfer", 7),
    (Fault::Swap, "swap", 5),
];

/// Between two faults, at least.
const GAP_MS_MIN: u64 = 300;
const DOWN_MS: (u64, u64) = (50, 4_000);
const FAULT_MS: (u64, u64) = (100, 5_000);
const STALL_MS: (u64, u64) = (200, 3_000);
const SLOW_LATENCY_MS: (u64, u64) = (50, 600);
const SLOW_SYNC_MS: (u64, u64) = (10, 300);
const ALONE_MS: (u64, u64) = (300, 2_000);
const WALL_OFFSET_MS: (u64, u64) = (500, 60_000);

/// What takes a fault back.
#[derive(Clone, Copy, Debug)]
enum Mend {
    Start(usize),
    Links(FaultId),
    Latency,
    Disk(usize),
    WallClock(usize),
    /// The second half of that fault.
    Swap {
        cut: FaultId,
        leader: usize,
        failing: usize,
    },
}

pub struct Nemesis {
    world: Arc<World>,
    chance: Chance,
    links: Links,
    next: Duration,
    /// By when they are due.
    mends: Vec<(Duration, Mend)>,
    pub counts: BTreeMap<&'static str, u64>,
}

impl Nemesis {
    pub fn new(world: Arc<World>) -> Nemesis {
        let mut names: Vec<_> = world.hosts.iter().map(|host| host.name).collect();
        if world.options.stack == Stack::Server {
            names.extend(OUTSIDERS);
        }
        let links = Links::new(names);
        let chance = Chance::of(world.options.seed, 1);
        let next = world.options.quiet;
        Nemesis { world, chance, links, next, mends: Vec::new(), counts: BTreeMap::new() }
    }

    /// Between two ticks.
    pub fn step(&mut self, sim: &mut Sim) {
        let now = sim.elapsed();
        let (due, later): (Vec<_>, Vec<_>) = self.mends.drain(..).partition(|(at, _)| *at <= now);
        self.mends = later;
        due.into_iter().for_each(|(_, mend)| self.mend(mend, sim));
        if now < self.next {
            return;
        }
        self.next = now + self.chance.millis(GAP_MS_MIN, self.world.options.gap_ms_max);
        let (fault, name) = self.draw();
        if self.inflict(fault, sim) {
            *self.counts.entry(name).or_default() += 1;
        }
    }

    fn draw(&mut self) -> (Fault, &'static str) {
        let mut at = self.chance.below(FAULTS.iter().map(|(.., weight)| weight).sum());
        for (fault, name, weight) in FAULTS {
            if at < weight {
                return (fault, name);
            }
            at -= weight;
        }
        unreachable!("it is below the sum")
    }

    /// Whether it could be.
    fn inflict(&mut self, fault: Fault, sim: &mut Sim) -> bool {
        let hosts = self.world.hosts.len();
        let one = self.chance.below(hosts as u64) as usize;
        let leader = self.leader();
        match fault {
            Fault::CrashLeader => leader.is_some_and(|leader| self.crash(leader, sim)),
            Fault::Crash => self.crash(one, sim),
            Fault::CrashAll => (0..hosts).filter(|host| self.crash(*host, sim)).count() > 0,
            Fault::Kill => self.kill(one, sim),
            Fault::CutLeader => leader.is_some_and(|leader| self.cut(between(hosts, |a| a == leader), sim)),
            Fault::CutOne => self.cut(between(hosts, |a| a == one), sim),
            Fault::Halves => {
                let order = self.order();
                let half = &order[..hosts / 2];
                self.cut(between(hosts, |a| half.contains(&a)), sim)
            }
            Fault::OneWay => {
                let outward = self.chance.percent(50);
                let others = (0..hosts).filter(|other| *other != one);
                let ways = others.map(|other| if outward { (one, other) } else { (other, one) });
                self.cut(ways.collect(), sim)
            }
            Fault::Bridge => {
                let order = self.order();
                let (bridge, left) = (order[0], &order[1..1 + (hosts - 1) / 2]);
                let mut ways = between(hosts, |a| left.contains(&a));
                ways.retain(|(a, b)| *a != bridge && *b != bridge);
                self.cut(ways, sim)
            }
            Fault::CutOutside => self.cut_outside(leader, sim),
            Fault::Ring => hosts > 3 && self.ring(sim),
            Fault::Hold => {
                let id = self.links.hold(vec![one], sim);
                self.later(FAULT_MS, Mend::Links(id), sim)
            }
            Fault::SlowNetwork => {
                sim.set_max_message_latency(self.chance.millis(SLOW_LATENCY_MS.0, SLOW_LATENCY_MS.1));
                self.later(FAULT_MS, Mend::Latency, sim)
            }
            Fault::SlowDisk => {
                let most = self.chance.millis(SLOW_SYNC_MS.0, SLOW_SYNC_MS.1);
                self.set_disk(one, most);
                self.later(FAULT_MS, Mend::Disk(one), sim)
            }
            Fault::Stall => {
                let is_leader = self.chance.percent(50);
                self.stall(leader.filter(|_| is_leader).unwrap_or(one), sim)
            }
            Fault::WallClock => {
                let by = self.chance.between(WALL_OFFSET_MS.0, WALL_OFFSET_MS.1) as i64 * 1_000;
                let by = if self.chance.percent(50) { by } else { -by };
                self.world.hosts[one].wall_offset_us.store(by, Ordering::Relaxed);
                self.later(FAULT_MS, Mend::WallClock(one), sim)
            }
            Fault::Swap => leader.is_some_and(|leader| self.leave_a_majority(leader, sim)),
            Fault::Transfer => {
                let gate = leader.and_then(|leader| self.world.hosts[leader].gate());
                gate.is_some_and(|gate| gate.send(Call::Transfer { to: one as u64 + 1 }).is_ok())
            }
        }
    }

    /// The newest that believes to lead.
    fn leader(&self) -> Option<usize> {
        let inside = |host: usize| self.world.hosts[host].replica().map(|replica| (host, replica.inside()));
        let running = (0..self.world.hosts.len()).filter_map(inside);
        let leading = running.filter(|(_, inside)| inside.state == RaftState::Leader);
        leading.max_by_key(|(_, inside)| inside.term).map(|(host, _)| host)
    }

    fn order(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.world.hosts.len()).collect();
        self.chance.shuffle(&mut order);
        order
    }

    fn later(&mut self, (least, most): (u64, u64), mend: Mend, sim: &Sim) -> bool {
        // Most are over soon.
        let most = if self.chance.percent(40) { least + (most - least) / 5 } else { most };
        self.mends.push((sim.elapsed() + self.chance.millis(least, most), mend));
        true
    }

    fn crash(&mut self, host: usize, sim: &mut Sim) -> bool {
        if !self.down(host, sim) {
            return false;
        }
        let disk = &self.world.hosts[host].disk;
        let kept = self.chance.below(disk.unsynced() as u64 + 1);
        disk.crash(kept as usize);
        self.later(DOWN_MS, Mend::Start(host), sim)
    }

    fn kill(&mut self, host: usize, sim: &mut Sim) -> bool {
        self.down(host, sim) && self.later(DOWN_MS, Mend::Start(host), sim)
    }

    fn down(&mut self, host: usize, sim: &mut Sim) -> bool {
        if !sim.is_host_running(NAMES[host]) {
            return false;
        }
        self.world.hosts[host].close();
        sim.crash(NAMES[host]);
        true
    }

    fn cut(&mut self, ways: Vec<Way>, sim: &Sim) -> bool {
        let id = self.links.cut(ways, sim);
        self.later(FAULT_MS, Mend::Links(id), sim)
    }

    fn leave_a_majority(&mut self, leader: usize, sim: &Sim) -> bool {
        let (mut others, hosts) = (self.order(), self.world.hosts.len());
        others.retain(|host| *host != leader);
        let (near, far) = others.split_at(hosts / 2);
        let cut = self.links.cut(between(hosts, |a| far.contains(&a)), sim);
        let alone = self.chance.millis(ALONE_MS.0, ALONE_MS.1);
        self.mends.push((sim.elapsed() + alone, Mend::Swap { cut, leader, failing: near[0] }));
        true
    }

    fn cut_outside(&mut self, leader: Option<usize>, sim: &Sim) -> bool {
        let (hosts, all) = (self.world.hosts.len(), self.links.len());
        let inside = match leader {
            Some(leader) if self.chance.percent(50) => leader..leader + 1,
            Some(_) | None => 0..hosts,
        };
        let outside = if inside.len() == 1 { hosts..all } else { all - 1..all };
        let pairs = inside.flat_map(|a| outside.clone().map(move |b| (a, b)));
        let ways: Vec<Way> = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        all > hosts && self.cut(ways, sim)
    }

    fn ring(&mut self, sim: &Sim) -> bool {
        let (order, hosts) = (self.order(), self.world.hosts.len());
        let is_next = |a: usize, b: usize| matches!((a + hosts - b) % hosts, distance if distance == 1 || distance == hosts - 1);
        let places = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b)));
        let apart = places.filter(|(a, b)| a != b && !is_next(*a, *b));
        let ways = apart.map(|(a, b)| (order[a], order[b])).collect();
        self.cut(ways, sim)
    }

    fn stall(&mut self, host: usize, sim: &Sim) -> bool {
        let still = self.chance.millis(STALL_MS.0, STALL_MS.1);
        self.world.hosts[host].leap_ms.store(still.as_millis() as u64, Ordering::Relaxed);
        let id = self.links.hold(vec![host], sim);
        self.mends.push((sim.elapsed() + still, Mend::Links(id)));
        true
    }

    fn set_disk(&self, host: usize, most: Duration) {
        self.world.hosts[host].sync_us_max.store(model::time::micros(most), Ordering::Relaxed);
    }

    fn mend(&mut self, mend: Mend, sim: &mut Sim) {
        match mend {
            Mend::Start(host) if !sim.is_host_running(NAMES[host]) => sim.bounce(NAMES[host]),
            Mend::Start(_) => {}
            Mend::Links(id) => self.links.mend(id, sim),
            Mend::Latency => sim.set_max_message_latency(self.world.options.latency_max),
            Mend::Disk(host) => self.set_disk(host, self.world.options.sync_max),
            Mend::WallClock(host) => self.world.hosts[host].wall_offset_us.store(0, Ordering::Relaxed),
            Mend::Swap { cut, leader, failing } => {
                self.links.mend(cut, sim);
                self.crash(failing, sim);
                self.cut(between(self.world.hosts.len(), |a| a == leader), sim);
            }
        }
    }

    pub fn mend_all(&mut self, sim: &mut Sim) {
        for (_, mend) in std::mem::take(&mut self.mends) {
            if !matches!(mend, Mend::Swap { .. }) {
                self.mend(mend, sim);
            }
        }
        self.links.mend_all(sim);
    }
}

/// Both ways between every host of one group and every host that is not of it.
fn between(hosts: usize, is_of: impl Fn(usize) -> bool) -> Vec<Way> {
    let pairs = (0..hosts).flat_map(|a| (0..hosts).map(move |b| (a, b)));
    pairs.filter(|(a, b)| is_of(*a) != is_of(*b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_cut_from_all_others_both_ways_and_from_nobody_within() {
        assert_eq!(between(3, |host| host == 1), [(0, 1), (1, 0), (1, 2), (2, 1)]);
        assert_eq!(between(5, |host| host < 2).len(), 12);
    }
}
