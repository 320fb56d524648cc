//! `baton ps`: jobs, or the tasks of those named.

use client::{Event, JobFilter, TaskFilter, Watched};
use futures::StreamExt;
use model::views::{JobState, JobView, TaskState, TaskView};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};
use std::time::Duration;

use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Format;
use crate::select::{Selector, label};

/// List jobs, newest first; with a selector, the tasks of what it names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// j42, 12-20, last, all, name@latest, j42.shard
    selectors: Vec<Selector>,
    /// Only jobs with this label
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs or tasks in these states
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// Only jobs of this name
    #[arg(long)]
    name: Option<String>,
    /// Only my jobs
    #[arg(long)]
    mine: bool,
    /// Only jobs that are not finished
    #[arg(short, long)]
    unfinished: bool,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Jobs before this one: where an earlier list ended
    #[arg(long, value_name = "JOB")]
    before: Option<model::JobId>,
    /// Answer from the asked replica's own state at once
    #[arg(long)]
    stale: bool,
    /// Show again whenever something changes
    #[arg(short, long)]
    watch: bool,
}

impl Args {
    fn filter(&self, app: &App) -> Result<JobFilter, Fault> {
        Ok(JobFilter {
            queue: self.queue.clone(),
            states: self
                .state
                .iter()
                .map(|text| word::<JobState>(text, "job state"))
                .collect::<Result<_, _>>()?,
            name: self.name.clone(),
            user: self.mine.then(|| app.config.user.clone()),
            labels: self.labels.iter().cloned().collect(),
            unfinished_only: self.unfinished,
        })
    }
}

fn word<T: serde::de::DeserializeOwned>(text: &str, what: &str) -> Result<T, Fault> {
    let words: StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(words).map_err(|error| Fault::usage(format!("`{text}` is not a {what}: {error}")))
}

enum Listed {
    Jobs(Vec<JobView>, Option<String>),
    Tasks(Vec<TaskView>, Option<String>),
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    if args.watch {
        return watch(args, app).await;
    }
    show(&list(args, app).await?, app)?;
    Ok(Exit::DONE)
}

fn show(listed: &Listed, app: &App) -> Result<(), Fault> {
    match listed {
        Listed::Jobs(jobs, next) => app.face.list(jobs, next.clone()),
        Listed::Tasks(tasks, next) => app.face.list(tasks, next.clone()),
    }
}

async fn list(args: &Args, app: &App) -> Result<Listed, Fault> {
    if args.selectors.is_empty() {
        return jobs(args, app).await;
    }
    tasks(args, app).await
}

async fn jobs(args: &Args, app: &App) -> Result<Listed, Fault> {
    let client = if args.stale { app.client.stale() } else { app.client.clone() };
    let filter = args.filter(app)?;
    let (mut jobs, mut before) = (Vec::new(), args.before);
    loop {
        let wanted = (args.limit - jobs.len() as u32).min(1_000);
        let page = client.list_jobs(&filter, wanted, before).await;
        let page = page.map_err(|error| Fault::reading("cannot list jobs", error))?.value;
        jobs.extend(page.items);
        before = page.next;
        if before.is_none() || jobs.len() as u32 >= args.limit {
            return Ok(Listed::Jobs(jobs, before.map(|job| job.to_string())));
        }
    }
}

async fn tasks(args: &Args, app: &App) -> Result<Listed, Fault> {
    let client = if args.stale { app.client.stale() } else { app.client.clone() };
    let states =
        args.state.iter().map(|text| word::<TaskState>(text, "task state")).collect::<Result<Vec<_>, _>>()?;
    let mut tasks = Vec::new();
    for target in app.resolver().targets(&args.selectors, &args.labels).await? {
        let filter = TaskFilter { tasks: target.tasks, states: states.clone() };
        let page = client.list_tasks(target.job, &filter, args.limit, 0).await;
        let page =
            page.map_err(|error| Fault::reading(&format!("cannot list the tasks of {}", target.job), error))?;
        tasks.extend(page.value.items);
        if let Some(next) = page.value.next {
            return Ok(Listed::Tasks(tasks, Some(format!("{}.{next}", target.job))));
        }
    }
    Ok(Listed::Tasks(tasks, None))
}

/// At most five pictures a second, and none while nothing happens.
const REDRAW: Duration = Duration::from_millis(200);

async fn watch(args: &Args, app: &App) -> Result<Exit, Fault> {
    let mut events = app.client.watch(None, None);
    let mut is_due = true;
    loop {
        if is_due {
            let listed = list(args, app).await?;
            if app.face.is_terminal && !app.face.format.is_machine() {
                // Home, draw over, then clear what is left below: nothing flickers.
                app.face.print("\x1b[H")?;
                show(&listed, app)?;
                app.face.print("\x1b[J")?;
            } else if app.face.format == Format::Jsonl || !app.face.is_terminal {
                show(&listed, app)?;
            }
            tokio::time::sleep(REDRAW).await;
        }
        let watched = match events.next().await {
            Some(watched) => watched.map_err(|error| Fault::reading("cannot watch", error))?,
            None => return Ok(Exit::DONE),
        };
        is_due = match watched {
            Watched::Begin { .. } => false,
            // What was missed is in the next list.
            Watched::Compacted { .. } => {
                events = app.client.watch(None, None);
                true
            }
            Watched::Event { event, .. } => matches!(event, Event::Job { .. } | Event::Tasks { .. }),
        };
        // What has come meanwhile needs no picture of its own.
        while let Some(Some(_)) = futures::FutureExt::now_or_never(events.next()) {}
    }
}
