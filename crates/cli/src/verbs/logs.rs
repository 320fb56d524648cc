//! `baton logs`: what attempts have written, live with `-f`.

use std::io::Write;

use client::{LogChunk, LogStream, LogsOf, TaskFilter};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use model::TaskId;
use model::views::{TaskState, TaskView};

use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::rows::task_name;
use crate::select::Selector;

/// Print the output of tasks
#[derive(Debug, clap::Args)]
pub struct Args {
    /// j42, j42.7, j42.7#2, j42.shard[17], last
    selectors: Vec<Selector>,
    /// Go on until the attempts end
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

/// Followed at once; more tasks than that are shown one after the other.
pub const FOLLOWED_MAX: usize = 32;

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let last = [Selector::One(crate::select::JobRef::Last)];
    let selectors = if args.selectors.is_empty() { &last[..] } else { &args.selectors };
    let tasks = begun(selectors, args.follow, app).await?;
    if tasks.is_empty() {
        return Err(Fault::not_found("nothing of it has begun, so there is no output")
            .fix("`baton explain` says why it waits"));
    }
    let named = args.attempt.or(selectors.iter().find_map(|selector| match selector {
        Selector::Tasks { attempt, .. } => *attempt,
        Selector::Jobs(_) | Selector::One(_) | Selector::All => None,
    }));
    let wants_prefix = tasks.len() > 1 && !args.no_prefix;
    if !args.follow {
        for task in &tasks {
            show(args, app, task, named, wants_prefix).await?;
        }
        return Ok(Exit::DONE);
    }
    let mut waiting = tasks.iter();
    let mut shown = FuturesUnordered::new();
    loop {
        while shown.len() < FOLLOWED_MAX
            && let Some(task) = waiting.next()
        {
            shown.push(show(args, app, task, named, wants_prefix));
        }
        match shown.next().await {
            Some(result) => result?,
            None => return Ok(Exit::DONE),
        }
    }
}

/// The tasks that have had an attempt; with `follow` a single one is waited for.
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

async fn show(
    args: &Args,
    app: &App,
    task: &TaskView,
    attempt: Option<u32>,
    prefix: bool,
) -> Result<(), Fault> {
    let of = LogsOf { attempt: attempt.unwrap_or(0), follow: args.follow, ..LogsOf::task(task.id) };
    let mut printer = Printer::new(prefix.then(|| format!("[{}] ", task_name(task))));
    let mut logs = app.client.logs(of);
    loop {
        let chunk = logs.next().await;
        let chunk = chunk
            .map_err(|error| Fault::reading(&format!("cannot show the output of {}", task.id), error))?;
        let Some(chunk) = chunk else { return printer.finish() };
        let is_wanted = match args.stream {
            None => true,
            Some(Stream::Stdout) => chunk.stream == LogStream::Stdout,
            Some(Stream::Stderr) => chunk.stream == LogStream::Stderr,
        };
        if app.face.format.is_machine() {
            app.face.print(&json_line(task.id, &chunk))?;
        } else if is_wanted {
            printer.print(&chunk)?;
        }
        if !chunk.note.is_empty() && !app.face.format.is_machine() {
            app.face.note(&format!("({}: {})", task.id, chunk.note));
        }
    }
}

fn json_line(task: TaskId, chunk: &LogChunk) -> String {
    let stream = match chunk.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    };
    let line = serde_json::json!({
        "task": task, "attempt": chunk.attempt, "stream": stream, "offset": chunk.offset,
        "text": String::from_utf8_lossy(&chunk.data), "note": chunk.note,
    });
    format!("{line}\n")
}

/// Writes output where it belongs; with a prefix only whole lines, so that those of different tasks do not mix.
pub struct Printer {
    prefix: Option<String>,
    rest: [Vec<u8>; 2],
}

impl Printer {
    pub fn new(prefix: Option<String>) -> Printer {
        Printer { prefix, rest: [Vec::new(), Vec::new()] }
    }

    pub fn print(&mut self, chunk: &LogChunk) -> Result<(), Fault> {
        let Some(prefix) = &self.prefix else { return write(chunk.stream, &chunk.data) };
        let rest = &mut self.rest[chunk.stream as usize];
        rest.extend_from_slice(&chunk.data);
        let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let whole: Vec<u8> = rest.drain(..=end).collect();
        write(chunk.stream, &prefixed(prefix, &whole))
    }

    /// Writes what had no line end.
    pub fn finish(&mut self) -> Result<(), Fault> {
        let Some(prefix) = &self.prefix else { return Ok(()) };
        for (stream, rest) in [LogStream::Stdout, LogStream::Stderr].into_iter().zip(&mut self.rest) {
            if !rest.is_empty() {
                let mut line = prefixed(prefix, &std::mem::take(rest));
                line.push(b'\n');
                write(stream, &line)?;
            }
        }
        Ok(())
    }
}

fn prefixed(prefix: &str, lines: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(lines.len() + 64);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    text
}

fn write(stream: LogStream, bytes: &[u8]) -> Result<(), Fault> {
    match stream {
        LogStream::Stdout => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes)?;
            Ok(stdout.flush()?)
        }
        LogStream::Stderr => Ok(std::io::stderr().lock().write_all(bytes)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_gets_the_name_of_its_task() {
        assert_eq!(prefixed("[a] ", b"x\ny\n"), b"[a] x\n[a] y\n");
        let mut printer = Printer::new(Some("[a] ".to_owned()));
        let chunk = |data: &[u8]| LogChunk {
            stream: LogStream::Stderr,
            offset: 0,
            data: data.to_vec(),
            note: String::new(),
            end: false,
            attempt: 1,
        };
        printer.print(&chunk(b"half")).unwrap();
        assert_eq!(printer.rest[LogStream::Stderr as usize], b"half");
        assert!(printer.rest[LogStream::Stdout as usize].is_empty());
    }
}
