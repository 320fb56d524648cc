//! Submits jobs without pause until it is told to stop, and remembers every one that was acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use client::{Client, Submitted};
use model::{JobSpec, TaskSpec, Work};
use tokio::task::JoinSet;

use crate::cluster::wait_until;
use crate::jobs::ledger_script;

pub struct Load {
    submitters: JoinSet<Vec<Result<Submitted, client::Error>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Load {
    /// One submitter per client, each with one submit in flight.
    pub fn start(clients: Vec<Client>, ledger: &Path) -> Load {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut submitters = JoinSet::new();
        for client in clients {
            let task = TaskSpec::new("work", Work::Script(ledger_script(ledger, "0.1")));
            let spec = JobSpec::of("load", vec![task]);
            submitters.spawn(submit(client, spec, stop.clone(), acknowledged.clone()));
        }
        Load { submitters, stop, acknowledged }
    }

    /// Waits until so many more submits have been acknowledged: the cluster takes work.
    pub async fn wait_more(&self, count: u64) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + count;
        let done = || self.acknowledged.load(Ordering::Relaxed) >= enough;
        wait_until(&format!("{count} more submits are acknowledged"), async || done()).await;
    }

    /// Stops, and returns every answer.
    pub async fn stop(self) -> Vec<Result<Submitted, client::Error>> {
        self.stop.store(true, Ordering::Relaxed);
        self.submitters.join_all().await.into_iter().flatten().collect()
    }
}

async fn submit(
    client: Client,
    spec: JobSpec,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<Result<Submitted, client::Error>> {
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let answer = client.submit(&spec).await;
        acknowledged.fetch_add(u64::from(answer.is_ok()), Ordering::Relaxed);
        answers.push(answer);
        // The tasks are to keep up with the submits on a slow machine.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    answers
}
