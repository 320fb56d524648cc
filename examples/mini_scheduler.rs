//! A small program on the `client` crate: thousands of tasks in four queues with ten priorities, while leaders are
//! killed. Each task writes one line to a ledger; at the end every task must be there exactly once.
//!
//!     baton dev --port-base 0 --workers 8 --keep-up --exec 'cargo run --example mini_scheduler -- 10000 5'

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Error, TaskFilter};
use model::{ArrayRange, JobId, JobSpec, TaskSpec, Work};

const QUEUES: [&str; 4] = ["red", "green", "blue", "small"];

fn job(queue: &str, priority: i32, tasks: u32, ledger: &str) -> JobSpec {
    let line = format!("echo \"$BATON_TASK\" >>{ledger}");
    let mut task = TaskSpec::new("work", Work::Run(vec!["/bin/sh".into(), "-c".into(), line]));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    JobSpec { queue: queue.to_owned(), priority, ..JobSpec::of(&format!("{queue}-{priority}"), vec![task]) }
}

/// `baton dev` keeps the pid of each replica in a file.
async fn kill_leader(client: &Client) -> Option<()> {
    let leader = client.stale().cluster_status().await.ok()?.leader?;
    let folder = std::env::var("BATON_DEV_DIR").ok()?;
    let pid = std::fs::read_to_string(format!("{folder}/{leader}.pid")).ok()?;
    let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status().ok()?;
    println!("killed leader {leader} (pid {})", pid.trim());
    killed.success().then_some(())
}

#[tokio::main]
#[allow(clippy::disallowed_methods)] // It measures how long it took.
async fn main() -> Result<(), Error> {
    let numbers: Vec<u32> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (tasks, kills) = (*numbers.first().unwrap_or(&10_000), *numbers.get(1).unwrap_or(&0));
    let servers = std::env::var("BATON_SERVERS").unwrap_or_else(|_| "127.0.0.1:7070".to_owned());
    let client = Client::connect(servers.split(','));
    let ledger = std::env::temp_dir().join(format!("mini-scheduler-{}", std::process::id()));
    let path = ledger.display().to_string();

    for queue in QUEUES {
        client.put_queue(queue, None, None).await?;
    }
    // A paused queue takes jobs and starts none of them.
    client.pause_queue("blue").await?;
    let each = (tasks / 30).max(1);
    let began = std::time::Instant::now();
    let mut jobs: BTreeMap<JobId, JobSpec> = BTreeMap::new();
    for (queue, priority) in QUEUES.iter().flat_map(|queue| (1..=10).map(move |priority| (queue, priority))) {
        let spec = job(queue, priority, if *queue == "small" { 1 } else { each }, &path);
        jobs.insert(client.submit(&spec).await?.job, spec);
    }
    client.resume_queue("blue").await?;

    for _ in 0..kills {
        tokio::time::sleep(Duration::from_secs(2)).await;
        kill_leader(&client).await;
    }
    let mut waits: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let (mut attempts, mut firsts) = (0, BTreeMap::new());
    for (id, spec) in &jobs {
        let view = loop {
            let view = client.get_job(*id).await?.value;
            if view.state.is_final() {
                break view;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        for task in client.all_tasks(*id, &TaskFilter::default()).await? {
            let outcome = task.outcome.as_ref().expect("a finished task has an outcome");
            waits
                .entry(spec.queue.as_str())
                .or_default()
                .push(outcome.placed.since(view.submitted).as_secs_f64());
            attempts += u64::from(task.attempt);
            let first = firsts.entry((spec.queue.clone(), -spec.priority)).or_insert(outcome.token);
            *first = (*first).min(outcome.token);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let text = std::fs::read_to_string(&ledger).unwrap_or_default();
    let mut lines: BTreeMap<&str, u32> = BTreeMap::new();
    text.lines().for_each(|line| *lines.entry(line).or_default() += 1);
    let twice = lines.values().filter(|count| **count > 1).count();
    let blue: Vec<_> =
        firsts.iter().filter(|((queue, _), _)| queue == "blue").map(|(_, token)| token).collect();
    let total: usize = waits.values().map(Vec::len).sum();
    let failed = attempts - total as u64;
    let mean = |waits: &[f64]| waits.iter().sum::<f64>() / waits.len() as f64;
    let all: Vec<f64> = waits.values().flatten().copied().collect();
    println!(
        "{total} tasks, {} in the ledger, {twice} twice, {failed} attempts more than tasks",
        lines.len()
    );
    println!("{:.0} tasks/s, mean wait {:.2} s", total as f64 / seconds, mean(&all));
    println!("failure rate {:.4} of {attempts} attempts", failed as f64 / attempts as f64);
    let small = mean(&waits["small"]);
    let is_fair = small < mean(&all);
    println!("the queue of ten waited {small:.2} s: {}", if is_fair { "not starved" } else { "starved" });
    println!("the paused queue went on in priority order: {}", blue.is_sorted());
    let holds = lines.len() == total && twice == 0 && blue.is_sorted() && is_fair;
    let _ = std::fs::remove_file(&ledger);
    assert!(holds, "a task was lost or ran twice, or the order was wrong");
    Ok(())
}
