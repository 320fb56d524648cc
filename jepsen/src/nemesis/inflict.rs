//! How each fault begins, and what goes on while it lasts.

use std::time::Duration;

use client::Client;
use model::{JobSpec, TaskSpec, Work};
use rand::RngExt;

use super::{Begun, Fault, Miss, Nemesis, Undo, disk, load, wall};
use crate::ground::{Ground, Knobs, Node, Rule, name};

/// How long the majority may take to run a job while the leader is cut off.
const PROBE_PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a job.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Deaths of a crash loop.
const CRASHES: usize = 4;
/// Of a thousand packets.
const LOST: u32 = 100;

fn milliseconds(range: std::ops::Range<u64>, nemesis: &mut Nemesis) -> Duration {
    Duration::from_millis(nemesis.chance.random_range(range))
}

impl Nemesis {
    pub(super) async fn begin(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        match fault.family() {
            "kill" => self.kill(ground, fault).await,
            "pause" => self.pause(ground, fault).await,
            "partition" => self.cut(ground, fault).await,
            "link" => self.spoil_links(ground, fault).await,
            "disk" => disk::begin(self, ground, fault).await,
            "clock" => self.put_off_clocks(ground, fault),
            "worker" => self.strike_worker(ground, fault),
            "load" => load::begin(self, ground, fault),
            "roll" => self.roll(ground, fault).await,
            "script" => self.play(ground, fault).await,
            _ => Err(Miss::Skip("nothing is known of it".to_owned())),
        }
    }

    async fn kill(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let all = (0..ground.replicas()).map(Node::Replica);
        let nodes = match fault {
            Fault::KillLeader | Fault::TermLeader => vec![self.leader(ground).await?],
            Fault::KillMinority => self.some_replicas(ground, (ground.replicas() - 1) / 2)?,
            Fault::KillAll => all.collect(),
            _ => vec![self.follower(ground).await?],
        };
        for node in &nodes {
            if fault == Fault::TermLeader {
                ground.terminate(*node)?;
            } else {
                ground.kill(*node)?;
            }
        }
        if fault == Fault::CrashLoop {
            for _ in 0..CRASHES {
                let up = milliseconds(50..900, self);
                ground.start(nodes[0])?;
                tokio::time::sleep(up).await;
                ground.kill(nodes[0])?;
            }
        }
        Ok(Begun::on(fault, nodes.clone(), Undo::Start(nodes)))
    }

    async fn pause(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let nodes = match fault {
            Fault::PauseLeader => vec![self.leader(ground).await?],
            Fault::PauseMajority => self.some_replicas(ground, ground.replicas() / 2 + 1)?,
            _ => vec![self.follower(ground).await?],
        };
        nodes.iter().try_for_each(|node| ground.freeze(*node))?;
        Ok(Begun::on(fault, nodes.clone(), Undo::Thaw(nodes)))
    }

    async fn cut(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let victim = match fault {
            Fault::FollowerAlone => self.follower(ground).await?,
            _ => self.leader(ground).await?,
        };
        let Node::Replica(place) = victim else { return Err(Miss::Skip("it is no replica".to_owned())) };
        let cut = match fault {
            Fault::LeaderFromPeers | Fault::LeaderAlone | Fault::FollowerAlone => {
                alone(ground, place, fault != Fault::LeaderFromPeers)
            }
            Fault::Halves => halves(ground, place),
            Fault::Bridge => bridge(ground, place),
            Fault::Ring => ring(ground),
            Fault::OneWayIn => others(ground, place).try_for_each(|other| ground.block(victim, other)),
            Fault::OneWayOut => others(ground, place).try_for_each(|other| ground.block(other, victim)),
            Fault::Reset => others(ground, place).try_for_each(|other| ground.reset(victim, other)),
            _ => ground.nodes().into_iter().try_for_each(|node| ground.lose(node, LOST)),
        };
        if let Err(why) = cut {
            let _ = ground.heal_network();
            return Err(Miss::Doubt(why));
        }
        let mut begun = Begun::on(fault, vec![victim], Undo::Network);
        begun.isolated = match fault {
            Fault::LeaderFromPeers | Fault::LeaderAlone | Fault::FollowerAlone | Fault::OneWayIn => {
                vec![place]
            }
            // Nobody hears it: it leads no longer, whatever it has not heard yet.
            Fault::OneWayOut => Vec::new(),
            Fault::Halves => minority(ground, place),
            _ => Vec::new(),
        };
        Ok(begun)
    }

    async fn spoil_links(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let ms = Duration::from_millis;
        let rule = match fault {
            Fault::Delay => Rule { delay: milliseconds(5..80, self), ..Rule::default() },
            Fault::Duplicate => Rule { twice_in_thousand: 300, jitter: ms(5), ..Rule::default() },
            Fault::Reorder => Rule { jitter: milliseconds(10..60, self), ..Rule::default() },
            _ => Rule { jams: true, ..Rule::default() },
        };
        let nodes: Vec<Node> = ground.nodes().into_iter().chain([Node::Driver]).collect();
        // A jam of everything would only be a pause: one replica's links do.
        let victim = (fault == Fault::Jam).then_some(self.leader(ground).await).transpose()?;
        for (place, a) in nodes.iter().enumerate() {
            for b in &nodes[place + 1..] {
                if victim.is_none_or(|victim| victim == *a || victim == *b) {
                    ground.link(*a, *b, rule)?;
                }
            }
        }
        Ok(Begun::on(fault, victim.into_iter().collect(), Undo::Network))
    }

    fn put_off_clocks(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let nodes = match fault {
            Fault::ClockAll => (0..ground.replicas()).map(Node::Replica).collect(),
            _ => self.some_replicas(ground, 1)?,
        };
        let sign = if self.chance.random_bool(0.5) { 1 } else { -1 };
        let ms = sign * [1_000, 10_000, 60_000, 3_600_000][self.chance.random_range(0..4)];
        let replicas = places(&nodes);
        for replica in &replicas {
            let usual = ground.netns()?.usual();
            ground.turn(*replica, &Knobs { wall_offset_ms: Some(ms), ..usual })?;
        }
        Ok(Begun::on(fault, nodes, Undo::Knobs(replicas)))
    }

    fn strike_worker(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let node = self.pick((0..ground.layout().workers).map(Node::Worker))?;
        let Node::Worker(place) = node else { return Err(Miss::Skip("it is no worker".to_owned())) };
        let undo = match fault {
            Fault::KillWorker => {
                ground.kill(node)?;
                Undo::Start(vec![node])
            }
            Fault::PauseWorker => {
                ground.freeze(node)?;
                Undo::Thaw(vec![node])
            }
            Fault::Twin => return load::twin(ground, place),
            _ => {
                for other in ground.nodes().into_iter().filter(|other| *other != node) {
                    ground.block(node, other)?;
                    ground.block(other, node)?;
                }
                Undo::Network
            }
        };
        Ok(Begun { out: vec![place], ..Begun::on(fault, vec![node], undo) })
    }

    /// One replica after another is told to leave and started again, as an upgrade does it.
    async fn roll(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        let nodes: Vec<Node> = (0..ground.replicas()).map(Node::Replica).collect();
        for node in &nodes {
            ground.terminate(*node)?;
            let gone = async {
                while ground.is_running(*node) {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            };
            let patience = Duration::from_secs(20);
            tokio::time::timeout(patience, gone)
                .await
                .map_err(|_| format!("{} does not leave", name(*node)))?;
            ground.start(*node)?;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(Begun::on(fault, nodes.clone(), Undo::Start(nodes)))
    }

    async fn play(&mut self, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
        if fault == Fault::Blackhole {
            let victim = self.follower(ground).await?;
            let Node::Replica(place) = victim else { return Err(Miss::Skip("it is no replica".to_owned())) };
            alone(ground, place, true)?;
            load::until_snapshots_pass(self, ground, place).await;
            let isolated = vec![place];
            return Ok(Begun { isolated, ..Begun::on(fault, vec![victim], Undo::Network) });
        }
        // A majority stands still in the middle of writes; one of the others loses power and comes back; then those who
        // stood still go on, and the others stand still.
        let majority = self.some_replicas(ground, ground.replicas() / 2 + 1)?;
        let all = (0..ground.replicas()).map(Node::Replica);
        let rest: Vec<Node> = all.filter(|node| !majority.contains(node)).collect();
        majority.iter().try_for_each(|node| ground.freeze(*node))?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ground.kill(rest[0])?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ground.start(rest[0])?;
        majority.iter().try_for_each(|node| ground.thaw(*node))?;
        rest.iter().try_for_each(|node| ground.freeze(*node))?;
        Ok(Begun::on(fault, rest.clone(), Undo::Thaw(rest)))
    }

    /// While faults last: those who are alone are asked in a hurry, and a job runs on the majority's side.
    pub(super) async fn meanwhile(
        &mut self,
        ground: &mut Ground,
        faults: &[Fault],
        lonely: &[usize],
        lasting: Duration,
    ) {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let hasty = load::ask_lonely(self, lonely, &stop);
        let until = wall() + lasting.as_nanos() as u64;
        // One fault alone: then it can be said what must go on beside it.
        if let ([fault], [victim]) = (faults, lonely)
            && matches!(fault, Fault::LeaderFromPeers | Fault::LeaderAlone)
        {
            let probe = probe(ground, *victim).await;
            self.probes.push((*fault, probe));
        }
        if faults.contains(&Fault::ClockStrobe) {
            self.strobe(ground, until).await;
        }
        let left = until.saturating_sub(wall());
        tokio::time::sleep(Duration::from_nanos(left)).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        hasty.join_all().await;
    }

    /// A clock that does not know which of two times it is.
    async fn strobe(&mut self, ground: &mut Ground, until: u64) {
        let replica = self.chance.random_range(0..ground.replicas());
        let Ok(usual) = ground.netns().map(|netns| netns.usual()) else { return };
        let mut is_off = false;
        while wall() < until {
            is_off = !is_off;
            let knobs = Knobs { wall_offset_ms: is_off.then_some(5_000), ..usual.clone() };
            let _ = ground.turn(replica, &knobs);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let _ = ground.turn(replica, &usual);
    }
}

pub(super) fn places(nodes: &[Node]) -> Vec<usize> {
    let place = |node: &Node| if let Node::Replica(place) = node { Some(*place) } else { None };
    nodes.iter().filter_map(place).collect()
}

fn others(ground: &Ground, place: usize) -> impl Iterator<Item = Node> + use<> {
    (0..ground.replicas()).filter(move |other| *other != place).map(Node::Replica)
}

/// Between the victim and every other replica nothing passes; with `from_all` nothing at all but the clients' calls, or not even
/// those where the ground takes a node off its network.
fn alone(ground: &mut Ground, victim: usize, from_all: bool) -> Result<(), String> {
    let own = Node::Replica(victim);
    if from_all && ground.disconnect(own)? {
        return Ok(());
    }
    for other in ground.nodes().into_iter().filter(|other| *other != own) {
        if matches!(other, Node::Replica(_)) || from_all {
            ground.block(own, other)?;
            ground.block(other, own)?;
        }
    }
    Ok(())
}

/// The leader and its neighbours, as many as do not make a majority.
fn minority(ground: &Ground, leader: usize) -> Vec<usize> {
    let replicas = ground.replicas();
    (0..(replicas - 1) / 2).map(|step| (leader + step) % replicas).collect()
}

fn halves(ground: &mut Ground, leader: usize) -> Result<(), String> {
    let minority = minority(ground, leader);
    let majority: Vec<usize> = (0..ground.replicas()).filter(|place| !minority.contains(place)).collect();
    sever(ground, &minority, &majority)
}

fn bridge(ground: &mut Ground, middle: usize) -> Result<(), String> {
    let rest: Vec<usize> = (0..ground.replicas()).filter(|place| *place != middle).collect();
    let (left, right) = rest.split_at(rest.len() / 2);
    sever(ground, left, right)
}

fn sever(ground: &mut Ground, left: &[usize], right: &[usize]) -> Result<(), String> {
    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (*a, *b))) {
        ground.block(Node::Replica(a), Node::Replica(b))?;
        ground.block(Node::Replica(b), Node::Replica(a))?;
    }
    Ok(())
}

/// Each hears its neighbours on either side, and with itself that is a majority.
fn ring(ground: &mut Ground) -> Result<(), String> {
    let replicas = ground.replicas();
    let reach = replicas / 4 + usize::from(replicas % 4 == 3);
    for (a, b) in (0..replicas).flat_map(|a| (0..replicas).map(move |b| (a, b))) {
        let apart = a.abs_diff(b).min(replicas - a.abs_diff(b));
        // With three replicas each hears both others: one direction of each pair goes, so that there is a ring.
        let is_cut = if replicas == 3 { (b + 1) % 3 == a } else { apart > reach };
        if a != b && is_cut {
            ground.block(Node::Replica(a), Node::Replica(b))?;
        }
    }
    Ok(())
}

/// Whether the majority goes on while the leader is cut off: a job through another replica runs on the workers, which
/// have to leave the old leader for that.
async fn probe(ground: &Ground, victim: usize) -> Result<(), String> {
    let through = (victim + 1) % ground.replicas();
    let client = ground.clients().swap_remove(through).with_deadline(PROBE_PATIENCE);
    let run = run_job(&client, "probe");
    let late =
        || format!("a job through {} did not end within {PROBE_PATIENCE:?}", name(Node::Replica(through)));
    tokio::time::timeout(PROBE_PATIENCE, run).await.unwrap_or_else(|_| Err(late()))
}

/// A fresh job, from its submit to its end.
pub async fn run_job(client: &Client, job: &str) -> Result<(), String> {
    let spec = JobSpec::of(job, vec![TaskSpec::new(job, Work::Run(vec!["true".to_owned()]))]);
    let submitted = client.submit(&spec).await.map_err(|error| format!("not accepted: {error}"))?;
    loop {
        match client.get_job(submitted.job).await {
            Ok(read) if read.value.state.is_final() => {
                let is_good = read.value.counts.succeeded == 1;
                return if is_good { Ok(()) } else { Err(format!("it is {}", read.value.state)) };
            }
            Ok(_) | Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
