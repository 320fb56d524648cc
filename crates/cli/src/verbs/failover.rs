//! Notices that the leader has changed, and says what became of what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, TaskFilter};
use model::JobId;
use model::views::TaskState;

const LOOK_EVERY: Duration = Duration::from_millis(250);

pub struct Failovers {
    client: Client,
    leader: Option<String>,
}

impl Failovers {
    pub fn new(client: Client) -> Failovers {
        Failovers { client: client.with_deadline(Duration::from_secs(2)), leader: None }
    }

    /// Resolves at the next change of leader, with a line that says it. `running` is what ran before: task and
    /// attempt.
    pub async fn next(&mut self, job: JobId, running: &BTreeMap<u32, u32>) -> String {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(status) = self.client.stale().cluster_status().await else { continue };
            let Some(leader) = status.leader.clone() else { continue };
            let Some(before) = self.leader.replace(leader.clone()) else { continue };
            if before == leader {
                continue;
            }
            let address =
                status.members.iter().find(|member| member.name == before).map(|m| m.api_address.clone());
            let how = match address {
                Some(address) if answers(&address).await => "handed over",
                _ => "gone",
            };
            let same = self.say_attempts(job, running).await;
            return format!("leader {before} {how}, {leader} took over{same}");
        }
    }

    /// Compares what runs now with what ran before.
    async fn say_attempts(&self, job: JobId, before: &BTreeMap<u32, u32>) -> String {
        if before.is_empty() {
            return String::new();
        }
        let filter = TaskFilter { tasks: None, states: vec![TaskState::Running, TaskState::Placed] };
        let Ok(page) = self.client.list_tasks(job, &filter, 10_000, 0).await else { return String::new() };
        let again: Vec<String> = page
            .value
            .items
            .iter()
            .filter(|task| before.get(&task.id.number).is_some_and(|attempt| *attempt < task.attempt))
            .map(|task| format!("{} began attempt {}", task.id, task.attempt))
            .collect();
        match (again.len(), before.len()) {
            (0, 1) => ", same attempt".to_owned(),
            (0, count) => format!(", same {count} attempts"),
            _ => format!(", {}", again.join(", ")),
        }
    }
}

/// Whether anybody listens there.
async fn answers(address: &str) -> bool {
    let dial = tokio::net::TcpStream::connect(address);
    matches!(tokio::time::timeout(Duration::from_millis(500), dial).await, Ok(Ok(_)))
}
