//! A leader's end and its successor, timed.

use std::time::Duration;

use client::{Client, TaskFilter};
use model::size::PARTS;
use model::views::TaskView;
use model::{JobSpec, LogIndex, Resources, TaskSpec, Timestamp, Work};

use super::Cluster;
use crate::clock::{self, Stopwatch};
use crate::fault::Fault;

/// A leader that was killed.
#[derive(Clone, Debug)]
pub struct Kill {
    pub name: String,
    pub pid: u32,
    pub at: Timestamp,
}

/// Whoever leads after it.
#[derive(Clone, Debug)]
pub struct Takeover {
    pub leader: String,
    /// The last index that the survivors had from the old leader: the new one writes above it.
    pub last_index: LogIndex,
}

const TAKEOVER_MAX: Duration = Duration::from_secs(60);

/// From SIGKILL to the first task start by the new leader. A token names the log entry that placed the attempt, so it
/// tells which leader placed it.
pub fn failover(kill: &Kill, takeover: &Takeover, tasks: &[TaskView]) -> Option<Duration> {
    let outcomes = tasks.iter().filter_map(|task| task.outcome.as_ref());
    let by_new = outcomes.filter(|outcome| outcome.token.index() > takeover.last_index);
    let first = by_new.filter_map(|outcome| outcome.started).filter(|started| *started > kill.at).min()?;
    Some(first.since(kill.at))
}

/// A task so small that it finds room beside anything: when it starts, somebody leads.
pub fn probe() -> JobSpec {
    let mut task = TaskSpec::new("probe", Work::Noop);
    task.resources = Resources { cpu: PARTS / 100, ..Resources::default() };
    JobSpec::of("probe", vec![task])
}

/// Submits a probe and gives its task as it ended. The replicas that are left hold the call until one of them leads.
pub async fn send_probe(client: &Client) -> Result<Vec<TaskView>, Fault> {
    let cannot = |error| Fault::reading("cannot send a probe", error);
    let job = client.submit(&probe()).await.map_err(cannot)?.job;
    while !client.get_job(job).await.map_err(cannot)?.value.state.is_final() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.all_tasks(job, &TaskFilter::default()).await.map_err(cannot)
}

impl Cluster {
    /// SIGKILL to the leader.
    pub async fn kill_leader(&mut self) -> Result<Kill, Fault> {
        let place = self.leader().await.ok_or_else(|| Fault::failed("there is no leader to kill"))?;
        let process = &mut self.replicas[place];
        let (name, pid, at) = (process.name.clone(), process.pid().unwrap_or_default(), clock::now());
        process.kill();
        Ok(Kill { name, pid, at })
    }

    /// Waits for another leader than the one that was killed.
    pub async fn takeover(&self, kill: &Kill) -> Result<Takeover, Fault> {
        let watch = Stopwatch::start();
        let mut last_index = 0;
        while watch.elapsed() < TAKEOVER_MAX {
            for (place, _) in self.replicas.iter().enumerate().filter(|(_, replica)| replica.is_running()) {
                let address = self.addresses()[place].clone();
                let one = Client::connect([address]).with_deadline(Duration::from_millis(300)).stale();
                let Ok(status) = one.cluster_status().await else { continue };
                match status.leader {
                    Some(leader) if leader != kill.name => return Ok(Takeover { leader, last_index }),
                    _ => last_index = last_index.max(status.last_log),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Err(Fault::failed("nobody took over").why(self.last_words()))
    }
}
