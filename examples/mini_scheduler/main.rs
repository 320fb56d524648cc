//! A small program on the `client` crate: ten thousand tasks in four queues with ten priorities, while leaders are
//! killed. Each attempt writes a line to a ledger; at the end every task has succeeded, and once.
//!
//!     baton dev --port-base 0 --workers 8 --keep-up \
//!         --exec 'cargo run -p baton-client --example mini_scheduler -- 10000 5'

mod proof;

use std::time::Instant;

use client::Client;
use model::{ArrayRange, JobSpec, TaskSpec, Work};
use proof::{Done, Ledger, kill_leader, mean_wait, wait_for};

/// Each gets ten jobs, of priority 1 to 10; those of the last have one task.
const QUEUES: [&str; 4] = ["red", "green", "blue", "small"];

fn job(queue: &str, priority: i32, tasks: u32, ledger: &Ledger) -> JobSpec {
    let line = format!("echo \"$BATON_TASK $BATON_TOKEN\" >>{}", ledger.path.display());
    let mut task = TaskSpec::new("work", Work::Run(vec!["/bin/sh".into(), "-c".into(), line]));
    task.array = Some(ArrayRange { first: 0, last: tasks - 1, step: 1 });
    JobSpec::of(queue, vec![task]).with(|job| {
        job.queue = queue.to_owned();
        job.priority = priority;
    })
}

#[tokio::main]
#[allow(clippy::disallowed_methods)] // It measures how long it took.
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<u32>());
    let (tasks, kills) = (numbers.next().unwrap_or(Ok(10_000))?, numbers.next().unwrap_or(Ok(0))?);
    let client = Client::connect(std::env::var("BATON_SERVERS")?.split(','));
    let ledger = Ledger::new();

    for queue in QUEUES {
        client.put_queue(queue, None, None).await?;
    }
    // A paused queue takes jobs and starts none of them.
    client.pause_queue("blue").await?;
    let (began, mut jobs) = (Instant::now(), Vec::new());
    for queue in QUEUES {
        let tasks = if queue == "small" { 1 } else { (tasks / 30).max(1) };
        for priority in 1..=10 {
            let accepted = client.submit(&job(queue, priority, tasks, &ledger)).await?;
            jobs.push((queue, priority, accepted.job));
        }
    }
    client.resume_queue("blue").await?;

    for kill in 1..=kills {
        ledger.wait_for_lines(tasks / (kills + 1) * kill).await;
        println!("killed leader {}", kill_leader(&client).await);
    }
    let mut done: Vec<Done> = Vec::new();
    for (queue, priority, id) in jobs {
        done.extend(wait_for(&client, queue, priority, id).await?);
    }

    let (count, seconds) = (done.len() as f64, began.elapsed().as_secs_f64());
    let attempts: f64 = done.iter().map(|task| f64::from(task.attempts)).sum();
    println!("{count} tasks succeeded, {kills} leaders were killed");
    println!("{:.0} tasks/s, mean wait {:.2} s", count / seconds, mean_wait(&done, &QUEUES));
    println!("failure rate {:.4} of {attempts} attempts", (attempts - count) / attempts);
    println!("the queue of ten waited {:.2} s", mean_wait(&done, &["small"]));
    ledger.check(&done);
    Ok(())
}
