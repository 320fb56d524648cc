//! Notices that the leader has changed, and says what became of what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, TaskFilter};
use futures::stream::{self, Stream};
use model::JobId;
use model::views::TaskState;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// Another replica leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub before: String,
    pub leader: String,
    /// Nobody answers where the old leader was.
    pub is_gone: bool,
}

/// Every change of leader from now on.
pub fn changes(client: &Client) -> impl Stream<Item = Change> + Unpin + use<> {
    let looking = (client.with_deadline(LOOK_WITHIN).stale(), None);
    Box::pin(stream::unfold(looking, |(client, mut known)| async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Ok(status) = client.cluster_status().await else { continue };
            let Some(leader) = status.leader else { continue };
            let Some(before) = known.replace(leader.clone()).filter(|before| *before != leader) else {
                continue;
            };
            let address =
                status.members.iter().find(|member| member.name == before).map(|m| m.api_address.as_str());
            let is_gone = match address {
                Some(address) => !answers(address).await,
                None => true,
            };
            return Some((Change { before, leader, is_gone }, (client, known)));
        }
    }))
}

/// Whether anybody listens there.
async fn answers(address: &str) -> bool {
    let dial = tokio::net::TcpStream::connect(address);
    matches!(tokio::time::timeout(Duration::from_millis(500), dial).await, Ok(Ok(_)))
}

/// Says the change in one line. `running` is what ran before it: task and attempt.
pub async fn describe(client: &Client, change: &Change, job: JobId, running: &BTreeMap<u32, u32>) -> String {
    let Change { before, leader, is_gone } = change;
    let how = if *is_gone { "gone" } else { "stepped down" };
    let attempts = match attempts_now(client, job, running).await {
        Some(now) => compare(job, running, &now),
        None => String::new(),
    };
    format!("leader {before} {how}, {leader} took over{attempts}")
}

/// The attempts of those tasks now, as the new leader knows them.
async fn attempts_now(
    client: &Client,
    job: JobId,
    running: &BTreeMap<u32, u32>,
) -> Option<BTreeMap<u32, u32>> {
    if running.is_empty() {
        return None;
    }
    let client = client.with_deadline(LOOK_WITHIN);
    let states = vec![TaskState::Running, TaskState::Placed];
    let page = client.list_tasks(job, &TaskFilter { tasks: None, states }, 10_000, 0).await.ok()?;
    Some(page.value.items.iter().map(|task| (task.id.number, task.attempt)).collect())
}

fn compare(job: JobId, before: &BTreeMap<u32, u32>, now: &BTreeMap<u32, u32>) -> String {
    // What no longer runs has ended meanwhile: it was not run again.
    let again = before.iter().filter_map(|(number, attempt)| {
        let later = now.get(number).filter(|later| *later > attempt)?;
        Some(format!("{job}.{number} began attempt {later}"))
    });
    let again: Vec<String> = again.collect();
    match (again.len(), before.len()) {
        (0, 1) => ", same attempt".to_owned(),
        (0, count) => format!(", same {count} attempts"),
        _ => format!(", {}", again.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_attempt_is_not_passed_off_as_the_same() {
        let before = BTreeMap::from([(0, 1), (1, 2)]);
        let told = |now: &[(u32, u32)]| compare(JobId(4), &before, &now.iter().copied().collect());
        assert_eq!(told(&[(0, 1), (1, 2)]), ", same 2 attempts");
        assert_eq!(told(&[(0, 1)]), ", same 2 attempts");
        assert_eq!(told(&[(0, 1), (1, 3)]), ", j4.1 began attempt 3");
        let one = BTreeMap::from([(0, 1)]);
        assert_eq!(compare(JobId(4), &one, &one), ", same attempt");
    }
}
