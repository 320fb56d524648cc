//! After the faults: everything is mended, and now the cluster must come to rest, whole and alike, and serve.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::JobId;
use replica::Replica;
use tokio::time;

use crate::door::{Door, WriteAnswer};
use crate::history::Event;
use crate::invariants::Final;
use crate::workload;
use crate::world::World;

/// By when it must have.
pub const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Its writes are those of no client.
const CLIENT: u64 = 1_000;

pub async fn come_to_rest(world: Arc<World>) -> Vec<Final> {
    let (mut door, world) = (Door::new(world.clone()), &*world);
    until(world, "all hosts are up", || replicas(world).map(drop)).await;
    until(world, "all know one leader", || one_leader(world)).await;
    for host in 0..world.hosts.len() {
        write_through(world, &mut door, host).await;
    }
    for host in 0..world.hosts.len() {
        read_through(world, &mut door, host).await;
    }
    until(world, "all have applied the same to the same state", || alike(world)).await;
    let replicas = until(world, "all hosts are up", || replicas(world)).await;
    world.wait_for("nothing more".into());
    replicas.iter().map(|replica| last_state(replica)).collect()
}

async fn until<T>(world: &World, what: &str, mut reached: impl FnMut() -> Result<T, String>) -> T {
    loop {
        match reached() {
            Ok(value) => return value,
            Err(instead) => world.wait_for(format!("{what}; {instead}")),
        }
        time::sleep(PAUSE).await;
    }
}

fn replicas(world: &World) -> Result<Vec<Arc<Replica>>, String> {
    let replicas = world.hosts.iter().map(|host| host.replica().ok_or(format!("{} is not", host.name)));
    replicas.collect()
}

fn one_leader(world: &World) -> Result<u64, String> {
    let leaders: Vec<Option<u64>> =
        replicas(world)?.iter().map(|replica| replica.status().leader.map(|leader| leader.id)).collect();
    match leaders[0] {
        Some(leader) if leaders.iter().all(|other| *other == Some(leader)) => Ok(leader),
        _ => Err(format!("they name {leaders:?}")),
    }
}

fn alike(world: &World) -> Result<(), String> {
    let replicas = replicas(world)?;
    let insides: Vec<_> = replicas.iter().map(|replica| replica.inside()).collect();
    let first = (insides[0].last, insides[0].last, insides[0].digest);
    // Where workers go on, there may be one entry more at any time; but not at all times.
    let alike = insides.iter().all(|inside| (inside.last, inside.applied, inside.digest) == first);
    let alarm = replicas.iter().find_map(|replica| replica.status().digest_alarm);
    match alarm {
        Some(alarm) => Err(format!("an alarm says {alarm}")),
        None if alike => Ok(()),
        None => Err(format!("they are {insides:?}")),
    }
}

/// A fresh write, given to whomever this replica takes for the leader; or to itself, if it is a server and sends it on.
async fn write_through(world: &World, door: &mut Door, host: usize) {
    let write = workload::write(CLIENT, host as u64, workload::submit_one());
    let call = world.next_call();
    world.tell(Event::WriteAsked { call });
    loop {
        world.wait_for(format!("{} finds a leader that takes a write", world.hosts[host].name));
        let leader = world.hosts[host].replica().and_then(|replica| replica.status().leader);
        let through = if door.is_any() { Some(host) } else { leader.map(|leader| leader.id as usize - 1) };
        if let Some(through) = through
            && let WriteAnswer::Done(done) = door.write(through, &write).await
        {
            world.tell(Event::WriteDone { call, write: done });
            return;
        }
        time::sleep(PAUSE).await;
    }
}

async fn read_through(world: &World, door: &mut Door, host: usize) {
    let call = world.next_call();
    world.tell(Event::ReadAsked { call });
    loop {
        world.wait_for(format!("{} answers a read", world.hosts[host].name));
        if let Some(read) = door.read(host, None).await {
            world.tell(Event::ReadDone { call, index: read.index, lacks: None });
            return;
        }
        time::sleep(PAUSE).await;
    }
}

fn last_state(replica: &Replica) -> Final {
    let broken = replica.read(machine::check::broken);
    assert!(broken.is_empty(), "the state of {} is not sound: {broken:?}", replica.identity().name);
    let is_known =
        |state: &machine::State, job: &JobId| state.job(*job).is_some() || state.tombstone(*job).is_some();
    let jobs: BTreeSet<JobId> = replica.read(|state| {
        let all = (1..=state.last_job().0).map(JobId);
        all.filter(|job| is_known(state, job)).collect()
    });
    let unfinished = replica.read(machine::State::unfinished_jobs);
    Final { name: replica.identity().name.clone(), jobs, unfinished }
}
