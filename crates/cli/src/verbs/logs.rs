//! `baton logs`: what attempts have written, live with `-f`.

use client::{LogStream, LogsOf, Target, TaskFilter};
use futures::StreamExt;
use futures::stream::{self, FuturesUnordered};
use model::JobSpec;
use model::views::{TaskState, TaskView};

use super::follow::{FOLLOWED_MAX, Follow, Followed};
use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::log::Output;
use crate::output::progress::Progress;
use crate::output::rows::task_name;
use crate::select::Selector;

/// Print the output of tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// j42, j42.7, j42.7#2, j42.shard[17], last
    selectors: Vec<Selector>,
    /// Go on until the tasks are final, with what begins later and every attempt of it
    #[arg(short, long)]
    follow: bool,
    /// Which attempt; absent: the last
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Only this stream: stdout or stderr
    #[arg(long)]
    stream: Option<Stream>,
    /// Begin no line with the name of its task
    #[arg(long)]
    no_prefix: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stream {
    Stdout,
    Stderr,
}

impl From<Stream> for LogStream {
    fn from(stream: Stream) -> LogStream {
        match stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
        }
    }
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let last = [Selector::One(crate::select::JobRef::Last)];
    let selectors = if args.selectors.is_empty() { &last[..] } else { &args.selectors };
    let attempt = args.attempt.or(selectors.iter().find_map(|selector| match selector {
        Selector::Tasks { attempt, .. } => *attempt,
        Selector::Jobs(_) | Selector::One(_) | Selector::All => None,
    }));
    let progress = Progress::none();
    let out = Output::of(&app.face, &progress, args.stream.map(LogStream::from));
    let has_begun = match (args.follow, attempt) {
        (true, None) => follow(args, selectors, app, &out).await?,
        (true, Some(_)) | (false, _) => show_all(args, selectors, attempt, app, &out).await?,
    };
    if !has_begun {
        return Err(Fault::not_found("nothing of it has begun, so there is no output")
            .fix("`baton explain` says why it waits"));
    }
    out.finish()?;
    Ok(Exit::DONE)
}

/// Follows whatever begins until all of it is final. Whether anything has begun.
async fn follow(args: &Args, selectors: &[Selector], app: &App, out: &Output<'_>) -> Result<bool, Fault> {
    let mut jobs: Vec<(Target, JobSpec)> = Vec::new();
    for target in app.resolver().targets(selectors, &[]).await? {
        let spec = app.client.get_spec(target.job).await;
        let spec = spec.map_err(|error| Fault::reading("cannot find the output", error))?.value;
        jobs.push((target, spec));
    }
    let count = |(target, spec): &(Target, JobSpec)| match &target.tasks {
        Some(tasks) => u64::from(tasks.len()),
        None => spec.tasks_count(),
    };
    let has_prefix = !args.no_prefix && jobs.iter().map(count).sum::<u64>() > 1;
    let at_once = FOLLOWED_MAX / jobs.len().clamp(1, FOLLOWED_MAX);
    let followed = jobs.iter().map(|(target, spec)| {
        let (job, tasks) = (target.job, target.tasks.clone());
        let of = Followed { job, spec, tasks, after: None, has_prefix, at_once };
        until_final(Follow::new(app, out, of))
    });
    let mut ends = stream::iter(followed).buffer_unordered(FOLLOWED_MAX);
    let mut has_begun = false;
    while let Some(ended) = ends.next().await {
        has_begun |= ended?;
    }
    Ok(has_begun)
}

async fn until_final(mut follow: Follow<'_>) -> Result<bool, Fault> {
    while follow.advance().await? {}
    Ok(follow.has_begun())
}

/// One attempt of each task that has begun. Whether there is any.
async fn show_all(
    args: &Args,
    selectors: &[Selector],
    attempt: Option<u32>,
    app: &App,
    out: &Output<'_>,
) -> Result<bool, Fault> {
    let tasks = begun(selectors, args.follow, app).await?;
    let has_prefix = tasks.len() > 1 && !args.no_prefix;
    let at_once = if args.follow { FOLLOWED_MAX } else { 1 };
    let mut waiting = tasks.iter();
    let mut shown = FuturesUnordered::new();
    loop {
        while shown.len() < at_once
            && let Some(task) = waiting.next()
        {
            let of = LogsOf { attempt: attempt.unwrap_or(0), follow: args.follow, ..LogsOf::task(task.id) };
            shown.push(show(of, has_prefix.then(|| format!("[{}] ", task_name(task))), app, out));
        }
        match shown.next().await {
            Some(result) => result?,
            None => return Ok(!tasks.is_empty()),
        }
    }
}

/// The tasks that have had an attempt; with `follow` a first one is waited for.
async fn begun(selectors: &[Selector], follow: bool, app: &App) -> Result<Vec<TaskView>, Fault> {
    loop {
        let mut all = Vec::new();
        for target in app.resolver().targets(selectors, &[]).await? {
            let filter = TaskFilter { tasks: target.tasks, states: Vec::new() };
            let tasks = app.client.all_tasks(target.job, &filter).await;
            all.extend(tasks.map_err(|error| Fault::reading("cannot find the output", error))?);
        }
        let may_begin = all.iter().any(|task| !task.state.is_final());
        let begun: Vec<TaskView> = all.into_iter().filter(has_begun).collect();
        if !begun.is_empty() || !follow || !may_begin {
            return Ok(begun);
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

fn has_begun(task: &TaskView) -> bool {
    let is_placed_first = task.state == TaskState::Placed && task.attempt <= 1;
    task.attempt > 0 && !is_placed_first
}

async fn show(of: LogsOf, prefix: Option<String>, app: &App, out: &Output<'_>) -> Result<(), Fault> {
    let mut printer = out.printer(of.task, prefix);
    let mut logs = app.client.logs(of);
    loop {
        let chunk = logs.next().await;
        let chunk = chunk
            .map_err(|error| Fault::reading(&format!("cannot show the output of {}", of.task), error))?;
        match chunk {
            Some(chunk) => printer.print(&chunk)?,
            None => return printer.finish(),
        }
    }
}
