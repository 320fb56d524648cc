//! Too much at once: more clients, repeats of everything, large jobs, readers that do not read, a worker's double.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;

use super::{Begun, Fault, Miss, Nemesis, Undo};
use crate::ground::{Ground, Node, name};
use crate::workload::{Process, Shape, Shared};

/// More clients while a load fault lasts.
const MORE: usize = 24;
/// How long such a client takes part.
const LASTS: Duration = Duration::from_secs(5);
/// Clients in a hurry at a replica that is alone.
const HASTY: usize = 4;
/// How long a double may take to be turned away.
const TURNED_AWAY: Duration = Duration::from_secs(20);
/// How long a follower may be kept away until the others have a snapshot that it lacks.
const BLACKHOLE_MAX: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

pub fn begin(nemesis: &mut Nemesis, ground: &mut Ground, fault: Fault) -> Result<Begun, Miss> {
    for number in 0..MORE {
        let node = number % ground.replicas();
        let process = Process::new(&nemesis.shared, node, nemesis.chance.random());
        match fault {
            Fault::SlowReader => {
                let client = nemesis.shared.client_of(node);
                nemesis.crowd.spawn(slow_reader(client));
            }
            _ => drop(nemesis.crowd.spawn(crowd(process, fault, nemesis.shared.clone()))),
        }
    }
    Ok(Begun::on(fault, Vec::new(), Undo::Nothing))
}

async fn crowd(mut process: Process, fault: Fault, shared: Arc<Shared>) {
    let ask = async {
        while !shared.is_stopped() {
            match fault {
                Fault::RetryStorm => process.again(0).await,
                Fault::Giants => {
                    process.submit_fresh(Shape::Giant).await;
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                _ => {
                    process.submit_fresh(Shape::Noop).await;
                    process.read().await;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // An operation in its middle is one that nobody heard the end of, and is judged as such.
    let _ = tokio::time::timeout(LASTS, ask).await;
}

/// It asks for every event and takes one each second.
async fn slow_reader(client: client::Client) {
    use futures::StreamExt;
    let mut events = client.watch(None, None);
    let read = async {
        while let Some(Ok(_)) = events.next().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let _ = tokio::time::timeout(LASTS * 4, read).await;
}

/// More clients at a replica that is alone, for as long as it is.
pub fn ask_lonely(nemesis: &mut Nemesis, lonely: &[usize], stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut hasty = JoinSet::new();
    for victim in lonely.iter().flat_map(|victim| std::iter::repeat_n(*victim, HASTY)) {
        let process = Process::hasty(&nemesis.shared, victim, nemesis.chance.random());
        hasty.spawn(process.drive(stop.clone()));
    }
    hasty
}

/// A second process under a worker's name has to be turned away, and the first goes on.
pub fn twin(ground: &mut Ground, worker: usize) -> Result<Begun, Miss> {
    let mut twin = ground.netns()?.twin(worker);
    twin.start();
    let deadline = super::wall() + TURNED_AWAY.as_nanos() as u64;
    while twin.is_running() && super::wall() < deadline {
        std::thread::sleep(LOOK_AGAIN);
    }
    let said = twin.log_tail();
    let node = Node::Worker(worker);
    let is_refused = !twin.is_running() || said.contains("is live");
    twin.kill();
    let mut begun = Begun::on(Fault::Twin, vec![node], Undo::Nothing);
    begun.probe = Some(if is_refused {
        Ok(())
    } else {
        Err(format!("a double of {} was not turned away", name(node)))
    });
    Ok(begun)
}

/// Until the others have folded what a replica lacks into a snapshot.
pub async fn until_snapshots_pass(nemesis: &mut Nemesis, ground: &Ground, victim: usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut crowd = JoinSet::new();
    for number in 0..MORE {
        let node = (victim + 1 + number % (ground.replicas() - 1)) % ground.replicas();
        let process = Process::new(&nemesis.shared, node, nemesis.chance.random());
        crowd.spawn(process.with_pause(Duration::from_millis(20)).drive(stop.clone()));
    }
    let first = ground.views().await.into_iter().flatten().map(|view| view.last_log).max().unwrap_or(0);
    let passed = async {
        loop {
            let views = ground.views().await;
            let newest = views.iter().flatten().map(|view| view.snapshot).max().unwrap_or(0);
            if newest > first + 100 {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let _ = tokio::time::timeout(BLACKHOLE_MAX, passed).await;
    stop.store(true, Ordering::Relaxed);
    crowd.join_all().await;
}
