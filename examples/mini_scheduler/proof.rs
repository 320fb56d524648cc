//! Waits for jobs, kills leaders, and holds what the tasks themselves have written against what the cluster says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use client::{Client, TaskFilter};
use model::views::JobState;
use model::{JobId, Token};

/// A task that has succeeded.
pub struct Done {
    pub queue: &'static str,
    pub priority: i32,
    /// What its attempt that succeeded wrote.
    pub line: String,
    pub token: Token,
    pub attempts: u32,
    pub waited: Duration,
}

pub struct Ledger {
    pub path: PathBuf,
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// SIGKILL to whoever leads. `baton dev` keeps the pid of each replica in a file.
pub async fn kill_leader(client: &Client) -> String {
    let folder = std::env::var("BATON_DEV_DIR").expect("baton dev names its folder");
    loop {
        // Right after the kill before, nobody may lead, or the one that is gone is still named.
        let leader = client.cluster_status().await.ok().and_then(|status| status.leader);
        let pid =
            leader.as_ref().and_then(|leader| std::fs::read_to_string(format!("{folder}/{leader}.pid")).ok());
        let kill = |pid: String| Command::new("kill").args(["-9", pid.trim()]).status();
        match (leader, pid.map(kill)) {
            (Some(leader), Some(Ok(status))) if status.success() => return leader,
            _ => pause().await,
        }
    }
}

/// Every task of the job, once it has succeeded.
pub async fn wait_for(
    client: &Client,
    queue: &'static str,
    priority: i32,
    id: JobId,
) -> Result<Vec<Done>, client::Error> {
    let job = loop {
        match client.get_job(id).await?.value {
            job if job.state.is_final() => break job,
            _ => pause().await,
        }
    };
    assert_eq!(job.state, JobState::Succeeded, "{id}");
    let tasks = client.all_tasks(id, &TaskFilter::default()).await?.into_iter();
    let done = tasks.map(|task| {
        let outcome = task.outcome.expect("a finished task has an outcome");
        let (line, token) = (format!("{} {}", task.id, outcome.token.0), outcome.token);
        Done {
            queue,
            priority,
            line,
            token,
            attempts: task.attempt,
            waited: outcome.placed.since(job.submitted),
        }
    });
    Ok(done.collect())
}

/// Seconds from submit to placement, of the tasks of these queues.
pub fn mean_wait(done: &[Done], queues: &[&str]) -> f64 {
    let waits = done.iter().filter(|task| queues.contains(&task.queue)).map(|task| task.waited.as_secs_f64());
    let waits: Vec<f64> = waits.collect();
    waits.iter().sum::<f64>() / waits.len() as f64
}

impl Ledger {
    pub fn new() -> Ledger {
        Ledger { path: std::env::temp_dir().join(format!("mini-scheduler-{}", std::process::id())) }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap_or_default()
    }

    pub async fn wait_for_lines(&self, count: u32) {
        while (self.text().lines().count() as u32) < count {
            pause().await;
        }
    }

    /// Each attempt started once, each success ran, the paused queue went on by priority, and the small one was served.
    pub fn check(&self, done: &[Done]) {
        let text = self.text();
        let mut starts = BTreeMap::<&str, u32>::new();
        text.lines().for_each(|attempt| *starts.entry(attempt).or_default() += 1);
        assert!(starts.values().all(|count| *count == 1), "an attempt started twice");
        assert!(done.iter().all(|task| starts.contains_key(task.line.as_str())), "a success never ran");

        // Tokens rise in the order of placement.
        let mut firsts = BTreeMap::<i32, Token>::new();
        for task in done.iter().filter(|task| task.queue == "blue") {
            let first = firsts.entry(-task.priority).or_insert(task.token);
            *first = task.token.min(*first);
        }
        assert!(firsts.values().is_sorted(), "the paused queue did not go on in the order of priority");
        let of_all = mean_wait(done, &["red", "green", "blue", "small"]);
        assert!(mean_wait(done, &["small"]) < of_all, "the queue of ten was starved");
        let _ = std::fs::remove_file(&self.path);
    }
}
