//! `baton run`: submits, streams the output, and ends as the task ends. The cluster may lose its leader meanwhile:
//! the output goes on from the same process, and stderr says so in one line.

use std::time::Duration;

use client::{Position, TaskFilter};
use futures::StreamExt;
use model::views::{JobState, TaskState, TaskView};
use model::{JobId, Outcome, Reason};

use super::failover;
use super::follow::{FOLLOWED_MAX, Follow, Followed};
use super::jobargs::WhatArgs;
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::log::Output;
use crate::output::progress::Progress;

/// Submit, stream the output, and exit with the task's own code
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    write: WriteArgs,
    /// Begin no line with the name of its task
    #[arg(long)]
    no_prefix: bool,
}

/// A second Ctrl-C within this time cancels.
const CANCEL_WITHIN: Duration = Duration::from_secs(2);
/// A task that still waits after this time gets its reasons told.
const EXPLAIN_AFTER: Duration = Duration::from_secs(3);
/// Between two pictures of the bar.
const REDRAW: Duration = Duration::from_millis(100);

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    // Whatever is not the task's own end is a failure of Baton's, with a status of its own.
    let ended = follow(args, app).await;
    ended.map_err(|fault| if fault.is_silent { fault } else { Fault { exit: Exit::RUN_FAILED, ..fault } })
}

async fn follow(args: &Args, app: &App) -> Result<Exit, Fault> {
    let spec = args.what.spec(&app.limits().await)?;
    let submitted = app.writer(&args.write).submit(&spec).await;
    let submitted =
        submitted.map_err(|error| Fault::writing("cannot run", "The job was NOT accepted", error))?;
    let mut interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    let progress = Progress::new(&app.face, spec.tasks_count());
    let out = Output::raw(&app.face, &progress);
    let followed = Followed {
        job: submitted.job,
        spec: &spec,
        tasks: None,
        // The submit's own entry may hold the placement too.
        after: Some(Position { index: submitted.index.saturating_sub(1), place: u32::MAX }),
        has_prefix: !args.no_prefix && spec.tasks_count() > 1,
        at_once: FOLLOWED_MAX,
    };
    let ended = tokio::select! {
        ended = until_final(app, Follow::new(app, &out, followed), submitted.job, &progress) => Some(ended),
        _ = interrupts.recv() => None,
    };
    progress.clear();
    match ended {
        Some(ended) => ended?,
        None => return detach(app, submitted.job, &mut interrupts).await,
    }
    exit_of_job(app, submitted.job).await
}

async fn detach(app: &App, job: JobId, interrupts: &mut tokio::signal::unix::Signal) -> Result<Exit, Fault> {
    app.face.note(&format!(
        "\ndetached: {job} goes on.   see it: baton logs -f {job}   stop it: baton cancel {job}, or Ctrl-C once more now"
    ));
    if tokio::time::timeout(CANCEL_WITHIN, interrupts.recv()).await.is_ok() {
        let cancelled = app.client.cancel(&[client::Target::job(job)]).await;
        cancelled.map_err(|error| {
            Fault::writing(&format!("cannot cancel {job}"), "Nothing was cancelled", error)
        })?;
        app.face.note(&format!("cancelled {job}"));
    }
    Ok(Exit::INTERRUPTED)
}

async fn until_final(
    app: &App,
    mut follow: Follow<'_>,
    job: JobId,
    progress: &Progress,
) -> Result<(), Fault> {
    let mut failovers = failover::changes(&app.client);
    let mut explained = false;
    let mut counts_due = false;
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let patience = tokio::time::sleep(EXPLAIN_AFTER);
    tokio::pin!(patience);
    loop {
        tokio::select! {
            goes_on = follow.advance() => {
                if !goes_on? {
                    return Ok(());
                }
                counts_due = true;
            }
            Some(change) = failovers.next() => {
                let line = failover::describe(&app.client, &change, job, follow.running()).await;
                progress.aside(|| app.face.note(&line));
            }
            _ = redraw.tick(), if counts_due && progress.is_shown() => {
                counts_due = false;
                if let Ok(read) = app.client.stale().get_job(job).await {
                    progress.show(&read.value.counts);
                }
            }
            () = &mut patience, if !explained => {
                explained = true;
                if !follow.has_begun() {
                    explain(app, job, progress).await;
                }
            }
        }
    }
}

async fn explain(app: &App, job: JobId, progress: &Progress) {
    if let Ok(explained) = app.client.explain(job, None).await {
        let mut text = explained.value.summary.clone();
        for reason in &explained.value.reasons {
            text += &format!("\n  {} × {}", reason.count, reason.message);
            if !reason.fix.is_empty() {
                text += &format!("; {}", reason.fix);
            }
        }
        progress.aside(|| app.face.note(&text));
    }
}

/// The exit status of a finished job: the highest of its tasks.
async fn exit_of_job(app: &App, job: JobId) -> Result<Exit, Fault> {
    let cannot = |error| Fault::reading("cannot see how it ended", error);
    let view = app.client.get_job(job).await.map_err(cannot)?.value;
    if view.state == JobState::Succeeded {
        return Ok(Exit::DONE);
    }
    let states = vec![TaskState::Failed, TaskState::Cancelled];
    let tasks = app.client.all_tasks(job, &TaskFilter { tasks: None, states }).await.map_err(cannot)?;
    for task in tasks.iter().filter(|task| needs_words(task)).take(10) {
        if let Some(outcome) = &task.outcome {
            app.face.note(&format!(
                "{} {}: {}",
                task.id,
                task.state,
                crate::output::rows::outcome_text(outcome)
            ));
        }
    }
    Ok(tasks.iter().map(exit_of_task).max_by_key(|exit| exit.0).unwrap_or(Exit::FAILED))
}

// An exit code speaks for itself; anything else is said.
fn needs_words(task: &TaskView) -> bool {
    task.outcome
        .as_ref()
        .is_some_and(|outcome| outcome.reason != Reason::Exited || outcome.exit_code.is_none())
}

fn exit_of_task(task: &TaskView) -> Exit {
    match &task.outcome {
        Some(outcome) => exit_of_outcome(outcome),
        None if task.state == TaskState::Cancelled => Exit::CANCELLED,
        None => Exit::FAILED,
    }
}

fn exit_of_outcome(outcome: &Outcome) -> Exit {
    let of_process = match (outcome.exit_code, outcome.signal) {
        (Some(code), _) => Some(Exit(code.clamp(0, 255) as u8)),
        (None, Some(signal)) => Some(Exit((128 + signal).clamp(0, 255) as u8)),
        (None, None) => None,
    };
    match outcome.reason {
        Reason::Exited => of_process.unwrap_or(Exit::FAILED),
        Reason::TimedOut => Exit::TIMED_OUT,
        Reason::Cancelled | Reason::WaitedTooLong => Exit::CANCELLED,
        // As shells say of a command that is not there.
        Reason::NotStarted => Exit(127),
        Reason::OutOfMemory => of_process.unwrap_or(Exit(137)),
        Reason::LeaseEnded | Reason::WorkerLost | Reason::Unsupported => Exit::RUN_FAILED,
    }
}

#[cfg(test)]
mod tests {
    use model::{Timestamp, Token, Verdict};

    use super::*;

    fn outcome(reason: Reason, exit_code: Option<i32>, signal: Option<i32>) -> Outcome {
        Outcome {
            verdict: Verdict::Failed,
            reason,
            exit_code,
            signal,
            message: String::new(),
            result: None,
            placed: Timestamp(0),
            started: None,
            ended: Timestamp(0),
            cpu_time: Duration::ZERO,
            memory_peak: 0,
            worker: "w1".to_owned(),
            token: Token(1),
            attempt: 1,
            round: 1,
        }
    }

    #[test]
    fn the_task_s_own_code_is_the_exit_status() {
        let cases = [
            (outcome(Reason::Exited, Some(3), None), 3),
            (outcome(Reason::Exited, None, Some(9)), 137),
            (outcome(Reason::Exited, None, Some(15)), 143),
            (outcome(Reason::TimedOut, None, Some(9)), 124),
            (outcome(Reason::NotStarted, None, None), 127),
            (outcome(Reason::WorkerLost, None, None), 125),
            (outcome(Reason::WaitedTooLong, None, None), 11),
        ];
        for (outcome, status) in cases {
            assert_eq!(exit_of_outcome(&outcome), Exit(status), "{outcome:?}");
        }
    }
}
