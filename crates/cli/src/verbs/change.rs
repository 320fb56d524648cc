//! `baton cancel`, `retry`, `pause`, `resume`: what changes jobs that are there.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use client::{Target, TaskFilter};
use model::views::TaskState;
use model::{JobId, Outcome};

use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::counted;
use crate::select::{Selector, label};

/// Which jobs or tasks.
#[derive(Debug, clap::Args)]
pub struct WhichArgs {
    /// j42, 12-20, j42.7, j42.shard[17], last, all, name@latest
    #[arg(required_unless_present = "labels")]
    selectors: Vec<Selector>,
    /// Jobs with this label
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Cancel jobs or tasks; returns as soon as that is decided
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Return only when their processes are gone
    #[arg(long)]
    wait: bool,
    /// Do not ask first
    #[arg(short, long)]
    yes: bool,
}

/// Run again what has failed or was cancelled
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Only what has failed
    #[arg(long)]
    failed: bool,
}

/// Place nothing more of these jobs; what runs goes on
#[derive(Debug, clap::Args)]
pub struct PauseArgs {
    #[command(flatten)]
    which: WhichArgs,
}

/// Go on placing tasks of these jobs
#[derive(Debug, clap::Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    which: WhichArgs,
}

impl WhichArgs {
    async fn targets(&self, app: &App) -> Result<Vec<Target>, Fault> {
        let targets = app.resolver().targets(&self.selectors, &self.labels).await?;
        if targets.is_empty() {
            return Err(Fault::not_found("this names no jobs"));
        }
        Ok(targets)
    }

    /// Whole jobs: a task can be neither paused nor resumed.
    async fn jobs(&self, app: &App, verb: &str) -> Result<Vec<JobId>, Fault> {
        let targets = self.targets(app).await?;
        if targets.iter().any(|target| target.tasks.is_some()) {
            return Err(Fault::usage(format!("{verb} takes whole jobs, not tasks")));
        }
        Ok(targets.into_iter().map(|target| target.job).collect())
    }

    /// Whether every job was named by its own id.
    fn is_explicit(&self) -> bool {
        let named = |selector: &Selector| match selector {
            Selector::Jobs(ranges) => ranges.iter().all(|(first, last)| first == last),
            Selector::One(_) | Selector::Tasks { .. } => true,
            Selector::All => false,
        };
        self.labels.is_empty() && self.selectors.iter().all(named)
    }
}

fn names(targets: &[Target]) -> Vec<String> {
    targets.iter().map(|target| target.job.to_string()).collect()
}

pub async fn cancel(args: &CancelArgs, app: &App) -> Result<Exit, Fault> {
    let targets = args.which.targets(app).await?;
    if !args.yes && !args.which.is_explicit() {
        confirm(app, &targets)?;
    }
    let changed = app.writer(&args.which.write).cancel(&targets).await;
    let changed = changed.map_err(|error| Fault::writing("cannot cancel", "Nothing was cancelled", error))?;
    if args.wait {
        for target in &targets {
            wait_gone(app, target).await?;
        }
    }
    let names = names(&targets);
    let tasks = counted(changed.changed, "task");
    app.changed(changed, &names, &format!("cancelled {} ({tasks})", names.join(", ")))?;
    Ok(Exit::DONE)
}

/// Says what will be hit; asks where somebody can answer.
fn confirm(app: &App, targets: &[Target]) -> Result<(), Fault> {
    let what =
        format!("this cancels {}: {}", counted(targets.len() as u64, "job"), names(targets).join(", "));
    ask(app, &what, "say --yes to cancel jobs that are not named one by one", "nothing was cancelled")
}

/// The same of anything: `told` is how to say yes beforehand, `stopped` what became of it after a no.
pub(super) fn ask(app: &App, what: &str, told: &str, stopped: &str) -> Result<(), Fault> {
    app.face.note(what);
    if !std::io::stdin().is_terminal() {
        return Err(Fault::usage(format!("not asked and not told: {told}")));
    }
    app.face.note("go on? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let is_yes = matches!(answer.trim(), "y" | "Y" | "yes");
    if is_yes { Ok(()) } else { Err(Fault::new("stopped", Exit::FAILED, stopped)) }
}

/// A cancelled attempt has an outcome once its worker has said that it is gone.
async fn wait_gone(app: &App, target: &Target) -> Result<(), Fault> {
    loop {
        let filter = TaskFilter { tasks: target.tasks.clone(), states: Vec::new() };
        let tasks = app.client.all_tasks(target.job, &filter).await;
        let tasks =
            tasks.map_err(|error| Fault::reading("cancelled, but cannot see whether it is gone", error))?;
        let stays = |task: &model::views::TaskView| {
            // One that waited too long had no attempt that could stay.
            let is_gone = |outcome: &Outcome| outcome.attempt == task.attempt || outcome.attempt == 0;
            let has_ended = task.outcome.as_ref().is_some_and(is_gone);
            let was_cut = task.state == TaskState::Cancelled && task.attempt > 0 && !has_ended;
            was_cut || !task.state.is_final()
        };
        if !tasks.iter().any(stays) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn retry(args: &RetryArgs, app: &App) -> Result<Exit, Fault> {
    let targets = args.which.targets(app).await?;
    let changed = app.writer(&args.which.write).retry(&targets, args.failed).await;
    let changed = changed.map_err(|error| Fault::writing("cannot retry", "Nothing was retried", error))?;
    let names = names(&targets);
    let tasks = counted(changed.changed, "task");
    app.changed(changed, &names, &format!("{tasks} of {} will run again", names.join(", ")))?;
    Ok(Exit::DONE)
}

pub async fn pause(args: &PauseArgs, app: &App) -> Result<Exit, Fault> {
    let jobs = args.which.jobs(app, "pause").await?;
    let changed = app.writer(&args.which.write).pause(&jobs).await;
    let changed = changed.map_err(|error| Fault::writing("cannot pause", "Nothing was paused", error))?;
    let names: Vec<String> = jobs.iter().map(JobId::to_string).collect();
    app.changed(changed, &names, &format!("paused {}; what runs goes on", names.join(", ")))?;
    Ok(Exit::DONE)
}

pub async fn resume(args: &ResumeArgs, app: &App) -> Result<Exit, Fault> {
    let jobs = args.which.jobs(app, "resume").await?;
    let changed = app.writer(&args.which.write).resume(&jobs).await;
    let changed = changed.map_err(|error| Fault::writing("cannot resume", "Nothing was resumed", error))?;
    let names: Vec<String> = jobs.iter().map(JobId::to_string).collect();
    app.changed(changed, &names, &format!("resumed {}", names.join(", ")))?;
    Ok(Exit::DONE)
}
