//! `baton ps`: jobs, or the tasks of those named.

use client::{Event, JobFilter, TaskFilter};
use model::TaskId;
use model::views::{JobState, JobView, TaskState, TaskView};
use serde::de::IntoDeserializer;
use serde::de::value::{Error as WordError, StrDeserializer};

use super::watch::Watch;
use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
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
    #[arg(long, conflicts_with = "selectors")]
    queue: Option<String>,
    /// Only jobs or tasks in these states
    #[arg(long, value_delimiter = ',')]
    state: Vec<String>,
    /// Only jobs of this name
    #[arg(long, conflicts_with = "selectors")]
    name: Option<String>,
    /// Only my jobs
    #[arg(long, conflicts_with = "selectors")]
    mine: bool,
    /// Only jobs or tasks that are not finished
    #[arg(short, long)]
    unfinished: bool,
    /// At most so many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Jobs before this one: where an earlier list ended
    #[arg(long, value_name = "JOB", conflicts_with = "selectors")]
    before: Option<model::JobId>,
    /// Tasks from this one on: where an earlier list ended
    #[arg(long, value_name = "TASK", requires = "selectors")]
    from: Option<TaskId>,
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
    app.face.print(&text(&list(args, app).await?, app)?)?;
    Ok(Exit::DONE)
}

fn text(listed: &Listed, app: &App) -> Result<String, Fault> {
    match listed {
        Listed::Jobs(jobs, next) => app.face.list_text(jobs, next.clone()),
        Listed::Tasks(tasks, next) => app.face.list_text(tasks, next.clone()),
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
    let Some(states) = task_states(args)? else { return Ok(Listed::Tasks(Vec::new(), None)) };
    let mut targets = app.resolver().targets(&args.selectors, &args.labels).await?;
    if let Some(from) = args.from {
        let place = targets.iter().position(|target| target.job == from.job);
        let place =
            place.ok_or_else(|| Fault::usage(format!("--from {from}: {} is not selected", from.job)))?;
        targets.drain(..place);
    }
    let mut tasks: Vec<TaskView> = Vec::new();
    let mut from = args.from.map_or(0, |task| task.number);
    for target in targets {
        let left = args.limit - tasks.len() as u32;
        if left == 0 {
            return Ok(Listed::Tasks(tasks, Some(format!("{}.0", target.job))));
        }
        let filter = TaskFilter { tasks: target.tasks, states: states.clone() };
        let page = client.list_tasks(target.job, &filter, left, std::mem::take(&mut from)).await;
        let page =
            page.map_err(|error| Fault::reading(&format!("cannot list the tasks of {}", target.job), error))?;
        tasks.extend(page.value.items);
        if let Some(next) = page.value.next {
            return Ok(Listed::Tasks(tasks, Some(format!("{}.{next}", target.job))));
        }
    }
    Ok(Listed::Tasks(tasks, None))
}

/// Which states are asked for; none in the list: any. Nothing where no state can be meant.
fn task_states(args: &Args) -> Result<Option<Vec<TaskState>>, Fault> {
    let states =
        args.state.iter().map(|text| word::<TaskState>(text, "task state")).collect::<Result<Vec<_>, _>>()?;
    if !args.unfinished {
        return Ok(Some(states));
    }
    let is_asked = |state: &TaskState| states.is_empty() || states.contains(state);
    let unfinished: Vec<TaskState> =
        TaskState::ALL.into_iter().filter(|state| !state.is_final() && is_asked(state)).collect();
    Ok((!unfinished.is_empty()).then_some(unfinished))
}

async fn watch(args: &Args, app: &App) -> Result<Exit, Fault> {
    let mut watch = Watch::new(app, |event| matches!(event, Event::Job { .. } | Event::Tasks { .. }));
    loop {
        watch.changed().await?;
        watch.draw(&text(&list(args, app).await?, app)?)?;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ps: Args,
    }

    fn parse(line: &[&str]) -> Result<Args, clap::Error> {
        Line::try_parse_from(std::iter::once("ps").chain(line.iter().copied())).map(|line| line.ps)
    }

    #[test]
    fn what_selects_jobs_is_refused_beside_a_selector() {
        for flags in [&["--queue", "q"][..], &["--name", "n"], &["--mine"], &["--before", "j3"]] {
            assert!(parse(flags).is_ok(), "{flags:?}");
            assert!(parse(&[&["j5"], flags].concat()).is_err(), "{flags:?}");
        }
        assert!(parse(&["--from", "j5.20"]).is_err());
        assert_eq!(parse(&["j5", "--from", "j5.20"]).unwrap().from, "j5.20".parse().ok());
    }

    #[test]
    fn unfinished_tasks_are_those_whose_state_is_not_final() {
        let states = |line: &[&str]| task_states(&parse(line).unwrap()).unwrap();
        assert_eq!(states(&["j5"]), Some(Vec::new()));
        assert_eq!(states(&["j5", "-u", "--state", "running,failed"]), Some(vec![TaskState::Running]));
        assert_eq!(states(&["j5", "-u", "--state", "failed"]), None);
        assert_eq!(states(&["j5", "-u"]).map(|states| states.len()), Some(5));
    }
}
