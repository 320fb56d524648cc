//! A small program on the `client` crate: ten thousand tasks in four queues with ten priorities, while leaders are
//! killed. Each attempt writes a line to a ledger; at the end every task has succeeded, and once.
//!
//!     baton dev --port-base 0 --workers 8 --keep-up \
//!         --exec 'cargo run -p baton-client --example mini_scheduler -- 10000 5'

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{Client, TaskFilter};
use model::views::{JobState, JobView};
use model::{ArrayRange, JobId, JobSpec, TaskSpec, Work};

/// Each gets ten jobs, of priority 1 to 10; those of the last have one task.
const QUEUES: [&str; 4] = ["red", "green", "blue", "small"];

fn job(queue: &str, priority: i32, tasks: u32, ledger: &str) -> JobSpec {
    let line = format!("echo \"$BATON_TASK $BATON_TOKEN\" >>{ledger}");
    let mut task = TaskSpec::new("work", Work::Run(vec!["/bin/sh".into(), "-c".into(), line]));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    JobSpec { queue: queue.to_owned(), priority, ..JobSpec::of(queue, vec![task]) }
}

/// `baton dev` keeps the pid of each replica in a file.
async fn kill_leader(client: &Client) -> Option<String> {
    let leader = client.cluster_status().await.ok()?.leader?;
    let folder = std::env::var("BATON_DEV_DIR").expect("baton dev names its folder");
    let pid = std::fs::read_to_string(format!("{folder}/{leader}.pid")).ok()?;
    let killed = std::process::Command::new("kill").args(["-9", pid.trim()]).status().ok()?;
    killed.success().then_some(leader)
}

async fn finished(client: &Client, id: JobId) -> Result<JobView, client::Error> {
    loop {
        match client.get_job(id).await?.value {
            job if job.state.is_final() => return Ok(job),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn mean(waits: &[f64]) -> f64 {
    waits.iter().sum::<f64>() / waits.len() as f64
}

#[tokio::main]
#[allow(clippy::disallowed_methods)] // It measures how long it took.
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let (tasks, kills) = (numbers.next().unwrap_or(Ok(10_000))?, numbers.next().unwrap_or(Ok(0))?);
    let client = Client::connect(std::env::var("BATON_SERVERS")?.split(','));
    let path = std::env::temp_dir().join(format!("mini-scheduler-{}", std::process::id()));
    let ledger = || std::fs::read_to_string(&path).unwrap_or_default();

    for queue in QUEUES {
        client.put_queue(queue, None, None).await?;
    }
    // A paused queue takes jobs and starts none of them.
    client.pause_queue("blue").await?;
    let (began, mut jobs) = (Instant::now(), BTreeMap::new());
    for (queue, priority) in QUEUES.iter().flat_map(|queue| (1..=10).map(move |priority| (*queue, priority)))
    {
        let tasks = if queue == "small" { 1 } else { (tasks / 30).max(1) };
        let spec = job(queue, priority, tasks, &path.display().to_string());
        jobs.insert((queue, priority), client.submit(&spec).await?.job);
    }
    client.resume_queue("blue").await?;

    for kill in 1..=kills {
        while (ledger().lines().count() as u32) < tasks / (kills + 1) * kill {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // Right after the kill before, nobody may lead.
        let leader = loop {
            match kill_leader(&client).await {
                Some(leader) => break leader,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        println!("killed leader {leader}");
    }

    let (mut waits, mut firsts) = (BTreeMap::<&str, Vec<f64>>::new(), BTreeMap::new());
    let (mut attempts, mut winners) = (0, Vec::new());
    for ((queue, priority), id) in jobs {
        let job = finished(&client, id).await?;
        assert_eq!(job.state, JobState::Succeeded, "{id}");
        for task in client.all_tasks(id, &TaskFilter::default()).await? {
            let outcome = task.outcome.expect("a finished task has an outcome");
            waits.entry(queue).or_default().push(outcome.placed.since(job.submitted).as_secs_f64());
            // Tokens rise in the order of placement.
            let first = firsts.entry((queue, -priority)).or_insert(outcome.token);
            *first = outcome.token.min(*first);
            attempts += u64::from(task.attempt);
            winners.push(format!("{} {}", task.id, outcome.token.0));
        }
    }
    let (seconds, text) = (began.elapsed().as_secs_f64(), ledger());
    let _ = std::fs::remove_file(&path);
    let mut starts = BTreeMap::<&str, u32>::new();
    text.lines().for_each(|attempt| *starts.entry(attempt).or_default() += 1);
    let (all, total) = (waits.values().flatten().copied().collect::<Vec<f64>>(), winners.len());
    let failed = attempts - total as u64;
    println!("{total} tasks succeeded, {kills} leaders were killed");
    println!("{:.0} tasks/s, mean wait {:.2} s", total as f64 / seconds, mean(&all));
    println!("failure rate {:.4} of {attempts} attempts", failed as f64 / attempts as f64);
    println!("the queue of ten waited {:.2} s", mean(&waits["small"]));

    assert!(starts.values().all(|count| *count == 1), "an attempt started twice");
    assert!(winners.iter().all(|attempt| starts.contains_key(attempt.as_str())), "a success never ran");
    let blue = firsts.iter().filter(|((queue, _), _)| *queue == "blue").map(|(_, token)| token);
    assert!(blue.is_sorted(), "the paused queue did not go on in the order of priority");
    assert!(mean(&waits["small"]) < mean(&all), "the queue of ten was starved");
    Ok(())
}
