//! `baton run`: submits, streams the output, and ends as the task ends. The cluster may lose its leader meanwhile:
//! the output goes on from the same process, and stderr says so in one line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use client::{Event, LogsOf, Position, Submitted, TaskFilter, Watched};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use model::views::{JobState, TaskState, TaskView};
use model::{JobId, JobSpec, Outcome, Reason, Run, TaskId};

use super::failover;
use super::jobargs::WhatArgs;
use super::logs::{FOLLOWED_MAX, Printer};
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
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
    let mut stream = Stream::new(app, &spec, submitted, !args.no_prefix);
    tokio::select! {
        ended = stream.until_final() => ended?,
        _ = interrupts.recv() => return detach(app, submitted.job, &mut interrupts).await,
    }
    drop(stream);
    let exit = exit_of_job(app, submitted.job).await?;
    Ok(exit)
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

/// Follows a job: its events tell which attempts there are, and each attempt's output is printed once.
struct Stream<'a> {
    app: &'a App,
    job: JobId,
    /// By group, for prefixes; empty where there is only one task.
    names: Vec<(Run, String, bool)>,
    after: Position,
    seen: BTreeSet<(u32, u32)>,
    waiting: VecDeque<(u32, u32)>,
    running: BTreeMap<u32, u32>,
    progress: Progress,
}

impl<'a> Stream<'a> {
    fn new(app: &'a App, spec: &JobSpec, submitted: Submitted, wants_prefix: bool) -> Stream<'a> {
        let is_single = spec.tasks_count() == 1;
        let mut names = Vec::new();
        let mut first = 0;
        for task in spec.tasks.iter().filter(|_| wants_prefix && !is_single) {
            names.push((Run::new(first, task.count()), task.name.clone(), task.is_array()));
            first += task.count();
        }
        Stream {
            app,
            job: submitted.job,
            names,
            // The submit's own entry may hold the placement too.
            after: Position { index: submitted.index.saturating_sub(1), place: u32::MAX },
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            progress: Progress::new(&app.face, spec.tasks_count()),
        }
    }

    async fn until_final(&mut self) -> Result<(), Fault> {
        let app = self.app;
        let job = self.job;
        let mut events = app.client.watch(Some(job), Some(self.after));
        let mut followed: FuturesUnordered<LocalBoxFuture<'_, Result<(), Fault>>> = FuturesUnordered::new();
        let mut failovers = failover::changes(&app.client);
        let mut explained = false;
        let mut is_final = false;
        let mut counts_due = false;
        let patience = tokio::time::sleep(EXPLAIN_AFTER);
        tokio::pin!(patience);
        while !is_final || !followed.is_empty() || !self.waiting.is_empty() {
            while followed.len() < FOLLOWED_MAX
                && let Some((number, attempt)) = self.waiting.pop_front()
            {
                followed.push(Box::pin(print(app, TaskId { job, number }, attempt, self.prefix(number))));
            }
            tokio::select! {
                watched = events.next(), if !is_final => {
                    let watched = watched.transpose().map_err(|error| Fault::reading("cannot follow", error))?;
                    match watched {
                        Some(Watched::Event { event, .. }) => {
                            if self.take(event) {
                                // The job's end may be told before that of its last tasks.
                                is_final = self.catch_up().await?;
                            }
                        }
                        Some(Watched::Begin { .. }) => {}
                        Some(Watched::Compacted { .. }) | None => {
                            is_final |= self.catch_up().await?;
                            events = app.client.watch(Some(job), None);
                        }
                    }
                    counts_due = true;
                }
                Some(printed) = followed.next() => printed?,
                Some(change) = failovers.next() => {
                    let line = failover::describe(&app.client, &change, job, &self.running).await;
                    self.progress.aside(|| app.face.note(&line));
                }
                () = tokio::time::sleep(Duration::from_millis(100)), if counts_due && app.face.is_terminal_err => {
                    counts_due = false;
                    if let Ok(read) = app.client.stale().get_job(job).await {
                        self.progress.show(&read.value.counts);
                    }
                }
                () = &mut patience, if !explained => {
                    explained = true;
                    if self.seen.is_empty() {
                        self.explain().await;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the job is final now.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Job { job, state } => job == self.job && state.is_final(),
            Event::Tasks { tasks, state, attempt, .. } => {
                // An attempt that began and ended within one report is only seen at its end.
                let has_begun =
                    matches!(state, TaskState::Running | TaskState::Succeeded | TaskState::Failed);
                let was_cut = matches!(state, TaskState::Cancelled | TaskState::Ready | TaskState::Delayed);
                for number in tasks.first..tasks.end() {
                    if state == TaskState::Running {
                        self.running.insert(number, attempt);
                    } else {
                        self.running.remove(&number);
                    }
                    let is_new = attempt > 0 && (has_begun || was_cut) && self.seen.insert((number, attempt));
                    if is_new {
                        self.waiting.push_back((number, attempt));
                    }
                }
                false
            }
            Event::Worker { .. } | Event::Queue { .. } => false,
        }
    }

    /// Reads what the events no longer tell.
    async fn catch_up(&mut self) -> Result<bool, Fault> {
        let cannot = |error| Fault::reading("cannot follow", error);
        let tasks = self.app.client.all_tasks(self.job, &TaskFilter::default()).await.map_err(cannot)?;
        for task in tasks {
            let event = Event::Tasks {
                job: self.job,
                tasks: Run::new(task.id.number, 1),
                state: task.state,
                attempt: task.attempt,
                worker: task.worker,
            };
            self.take(event);
        }
        let job = self.app.client.get_job(self.job).await.map_err(cannot)?;
        Ok(job.value.state.is_final())
    }

    fn prefix(&self, number: u32) -> Option<String> {
        let (run, name, is_array) = self.names.iter().find(|(run, _, _)| run.contains(number))?;
        Some(if *is_array { format!("[{name}.{}] ", number - run.first) } else { format!("[{name}] ") })
    }

    async fn explain(&self) {
        if let Ok(explained) = self.app.client.explain(self.job, None).await {
            let mut text = explained.value.summary.clone();
            for reason in &explained.value.reasons {
                text += &format!("\n  {} × {}", reason.count, reason.message);
                if !reason.fix.is_empty() {
                    text += &format!("; {}", reason.fix);
                }
            }
            self.progress.aside(|| self.app.face.note(&text));
        }
    }
}

async fn print(app: &App, task: TaskId, attempt: u32, prefix: Option<String>) -> Result<(), Fault> {
    let mut logs = app.client.logs(LogsOf { attempt, follow: true, ..LogsOf::task(task) });
    let mut printer = Printer::new(prefix);
    loop {
        match logs.next().await {
            Ok(Some(chunk)) => {
                printer.print(&chunk)?;
                if !chunk.note.is_empty() {
                    app.face.note(&format!("({task}: {})", chunk.note));
                }
            }
            Ok(None) => return printer.finish(),
            Err(error) => {
                // The job's end does not hang on its output; that some is missing is said.
                app.face.note(&format!("({task}: its output cannot be shown: {error})"));
                return printer.finish();
            }
        }
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
        Reason::Cancelled => Exit::CANCELLED,
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
        ];
        for (outcome, status) in cases {
            assert_eq!(exit_of_outcome(&outcome), Exit(status), "{outcome:?}");
        }
    }
}
