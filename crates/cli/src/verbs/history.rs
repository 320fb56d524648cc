//! `baton history`: what the cluster keeps of the jobs it has run, as lines that `simulate --history` reads.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{JobFilter, TaskFilter, code};
use futures::{StreamExt, TryStreamExt, stream};
use model::Timestamp;
use model::views::AskedJob;
use serde_json::json;
use whatif::{History, PastJob};

use crate::app::App;
use crate::clock;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;

/// Write out the jobs that the cluster keeps, finished or not, newest first: one JSON object a line
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only jobs of this queue
    #[arg(long)]
    queue: Option<String>,
    /// Only jobs submitted since: 2h ago, or 2026-11-22T18:30:00Z
    #[arg(long, value_name = "SPAN or TIME", value_parser = since)]
    since: Option<Since>,
    /// Write to this file, which is replaced once all is there; absent: standard output
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    let at = || text.parse().map(Since::At);
    duration(text)
        .map(Since::Ago)
        .or_else(|_| at())
        .map_err(|_| format!("`{text}` is neither a span such as 2h nor a time such as 2026-11-22T18:30:00Z"))
}

impl Since {
    fn time(self) -> Timestamp {
        match self {
            Since::Ago(span) => clock::now().minus(span),
            Since::At(time) => time,
        }
    }
}

/// Which jobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    pub queue: Option<&'a str>,
    pub since: Option<Timestamp>,
}

/// Jobs of one call. Those of many tasks make it long, so it is few.
const PAGE: u32 = 100;
/// Jobs whose tasks are asked for at the same time.
const CALLS: usize = 16;
/// Tasks of one call.
const TASKS: u32 = 10_000;

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let doing = "cannot write the history";
    let wanted = Wanted { queue: args.queue.as_deref(), since: args.since.map(Since::time) };
    let Some(path) = &args.file else {
        let mut head = Some(whatif::history_head());
        pages(app, doing, wanted, |jobs| {
            let lines: String =
                head.take().into_iter().chain(jobs.iter().map(whatif::history_line)).collect();
            app.face.print(&lines)
        })
        .await?;
        return Ok(Exit::DONE);
    };
    let fault = |error: std::io::Error| Fault::of_file(doing, path, &error);
    let fresh = Fresh::create(path).map_err(fault)?;
    let mut file = std::io::BufWriter::new(&fresh.file);
    file.write_all(whatif::history_head().as_bytes()).map_err(fault)?;
    let mut count = 0;
    pages(app, doing, wanted, |jobs| {
        count += jobs.len();
        jobs.iter().try_for_each(|job| file.write_all(whatif::history_line(job).as_bytes())).map_err(fault)
    })
    .await?;
    file.flush().map_err(fault)?;
    drop(file);
    fresh.keep(path).map_err(fault)?;
    let name = path.display().to_string();
    app.face.one(&json!({"file": name, "jobs": count}), &name, || format!("{count} jobs are in {name}\n"))?;
    Ok(Exit::DONE)
}

/// A file beside the one that is to be, so that nobody ever reads half of it. It goes if it is not kept.
struct Fresh {
    file: std::fs::File,
    path: PathBuf,
}

impl Fresh {
    fn create(wanted: &Path) -> std::io::Result<Fresh> {
        let mut name = wanted.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = wanted.with_file_name(name);
        Ok(Fresh { file: std::fs::File::create(&path)?, path })
    }

    fn keep(self, wanted: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.path, wanted)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // After it is kept there is none of that name.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// All of it.
pub async fn read(app: &App, doing: &str, wanted: Wanted<'_>) -> Result<History, Fault> {
    let mut history = History::default();
    pages(app, doing, wanted, |jobs| {
        history.jobs.extend(jobs);
        Ok(())
    })
    .await?;
    Ok(history)
}

/// Page after page, newest first; at least one, which may be empty.
async fn pages(
    app: &App,
    doing: &str,
    wanted: Wanted<'_>,
    mut take: impl FnMut(Vec<PastJob>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let filter = JobFilter { queue: wanted.queue.map(str::to_owned), ..JobFilter::default() };
    let is_wanted = |job: &AskedJob| wanted.since.is_none_or(|since| job.job.submitted >= since);
    let mut before = None;
    loop {
        let page = app.client.list_asked_jobs(&filter, PAGE, before).await;
        let page = page.map_err(|error| Fault::reading(doing, error))?.value;
        if page.items.is_empty() && before.is_none() {
            known(app, doing, wanted.queue).await?;
        }
        // Ids and times of submit grow together, but for the little that a new leader's clock is behind.
        let is_over = !page.items.is_empty() && !page.items.iter().any(is_wanted);
        let jobs = page.items.into_iter().filter(is_wanted).map(|job| past(app, doing, job));
        let jobs: Vec<Option<PastJob>> = stream::iter(jobs).buffered(CALLS).try_collect().await?;
        take(jobs.into_iter().flatten().collect())?;
        before = page.next.filter(|_| !is_over);
        if before.is_none() {
            return Ok(());
        }
    }
}

/// A queue of which nothing is kept may be one that is not there.
async fn known(app: &App, doing: &str, queue: Option<&str>) -> Result<(), Fault> {
    let Some(name) = queue else { return Ok(()) };
    let queues = app.client.queues().await.map_err(|error| Fault::reading(doing, error))?.value;
    if queues.iter().any(|queue| queue.name == name) {
        return Ok(());
    }
    Err(Fault::not_found(format!("{doing}: there is no queue `{name}`"))
        .fix("`baton queue list` shows what there is"))
}

/// A job with what became of its tasks; none if it is no longer kept.
async fn past(app: &App, doing: &str, asked: AskedJob) -> Result<Option<PastJob>, Fault> {
    let mut job = PastJob::of(asked);
    let mut from = Some(0);
    while let Some(number) = from {
        let page = match app.client.list_tasks(job.job, &TaskFilter::default(), TASKS, number).await {
            Ok(page) => page.value,
            Err(error) if error.failure.code == code::UNKNOWN_JOB => return Ok(None),
            Err(error) => return Err(Fault::reading(doing, error)),
        };
        page.items.iter().for_each(|task| job.add(task));
        from = page.next;
    }
    Ok(Some(job))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_time() {
        assert_eq!(since("2h"), Ok(Since::Ago(Duration::from_secs(7_200))));
        assert_eq!(since("1970-01-01T00:00:01Z"), Ok(Since::At(Timestamp(1_000_000))));
        assert!(since("yesterday").unwrap_err().contains("neither a span such as 2h"));
        assert!(Since::Ago(Duration::MAX).time() < Since::Ago(Duration::ZERO).time());
    }

    #[test]
    fn a_file_is_whole_or_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("h.jsonl");
        drop(Fresh::create(&path).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        Fresh::create(&path).unwrap().keep(&path).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
