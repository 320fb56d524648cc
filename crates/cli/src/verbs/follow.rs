//! Follows a job: its events tell which attempts there are, and the output of each is printed once, while it is written.
//! Used by `baton run` and `baton logs -f`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use client::{Event, LogsOf, Position, TaskFilter, Watched};
use futures::StreamExt;
use futures::future::LocalBoxFuture;
use futures::stream::{BoxStream, FuturesUnordered};
use model::views::TaskState;
use model::{JobId, JobSpec, Run, RunSet, TaskId};

use crate::app::App;
use crate::fault::Fault;
use crate::output::log::Output;

/// Outputs that are followed at once; those of more attempts are shown one after the other.
pub const FOLLOWED_MAX: usize = 32;

/// Whose output is followed.
pub struct Followed<'a> {
    pub job: JobId,
    pub spec: &'a JobSpec,
    /// By number; absent: all.
    pub tasks: Option<RunSet>,
    /// Where the events begin; absent: with a look at what there is now.
    pub after: Option<Position>,
    pub has_prefix: bool,
    /// At most [`FOLLOWED_MAX`].
    pub at_once: usize,
}

pub struct Follow<'a> {
    app: &'a App,
    out: &'a Output<'a>,
    of: Followed<'a>,
    events: BoxStream<'static, Result<Watched, client::Error>>,
    /// The next events begin at a later point than the last ones ended.
    has_gap: bool,
    /// What is known may be older than what there is.
    is_stale: bool,
    is_final: bool,
    /// What had ended before the first look is not shown, save the last attempt of each task.
    begins_with_last: bool,
    seen: BTreeSet<(u32, u32)>,
    waiting: VecDeque<(u32, u32)>,
    running: BTreeMap<u32, u32>,
    /// Of the chosen tasks, where some were chosen, those that are not final.
    unfinished: RunSet,
    printing: FuturesUnordered<LocalBoxFuture<'a, Result<(), Fault>>>,
}

impl<'a> Follow<'a> {
    pub fn new(app: &'a App, out: &'a Output<'a>, of: Followed<'a>) -> Follow<'a> {
        Follow {
            app,
            out,
            events: app.client.watch(Some(of.job), of.after).boxed(),
            has_gap: of.after.is_none(),
            is_stale: false,
            is_final: false,
            begins_with_last: of.after.is_none(),
            seen: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            unfinished: of.tasks.clone().unwrap_or_default(),
            printing: FuturesUnordered::new(),
            of,
        }
    }

    /// Whether any attempt has begun.
    pub fn has_begun(&self) -> bool {
        !self.seen.is_empty()
    }

    /// Tasks that run now, each with its attempt.
    pub fn running(&self) -> &BTreeMap<u32, u32> {
        &self.running
    }

    /// Goes on until something has happened; false at the end, when all is printed. It may be dropped while it waits
    /// and called again: nothing is lost.
    pub async fn advance(&mut self) -> Result<bool, Fault> {
        if self.is_stale {
            self.catch_up().await?;
            self.is_stale = false;
        }
        while self.printing.len() < self.of.at_once
            && let Some((number, attempt)) = self.waiting.pop_front()
        {
            let task = TaskId { job: self.of.job, number };
            self.printing.push(Box::pin(print(self.app, self.out, task, attempt, self.prefix(number))));
        }
        if self.is_final && self.printing.is_empty() {
            return Ok(false);
        }
        tokio::select! {
            watched = self.events.next(), if !self.is_final => self.take_watched(watched)?,
            Some(printed) = self.printing.next() => printed?,
        }
        Ok(true)
    }

    fn take_watched(&mut self, watched: Option<Result<Watched, client::Error>>) -> Result<(), Fault> {
        let watched = watched.transpose().map_err(|error| Fault::reading("cannot follow", error))?;
        match watched {
            // The job's end may be told before that of its last tasks.
            Some(Watched::Event { event, .. }) => self.is_stale |= self.take(event),
            // A look that is later than the begin of the events leaves no gap.
            Some(Watched::Begin { .. }) => self.is_stale |= std::mem::take(&mut self.has_gap),
            Some(Watched::Compacted { .. }) | None => {
                self.events = self.app.client.watch(Some(self.of.job), None).boxed();
                self.has_gap = true;
            }
        }
        Ok(())
    }

    /// Whether all that is followed is final now.
    fn take(&mut self, event: Event) -> bool {
        match event {
            Event::Job { job, state } => job == self.of.job && state.is_final(),
            Event::Tasks { tasks, state, attempt, .. } => {
                let runs = match &self.of.tasks {
                    Some(chosen) => chosen.overlap(tasks),
                    None => vec![tasks],
                };
                for run in runs {
                    self.take_tasks(run, state, attempt);
                    if state.is_final() {
                        self.unfinished.remove(run);
                    } else if self.of.tasks.is_some() {
                        self.unfinished.insert(run);
                    }
                }
                self.of.tasks.is_some() && self.unfinished.is_empty()
            }
            Event::Worker { .. } | Event::Queue { .. } => false,
        }
    }

    fn take_tasks(&mut self, tasks: Run, state: TaskState, attempt: u32) {
        // An attempt that began and ended within one report is only seen at its end.
        let has_begun = matches!(state, TaskState::Running | TaskState::Succeeded | TaskState::Failed);
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
    }

    /// Reads what the events do not tell.
    async fn catch_up(&mut self) -> Result<(), Fault> {
        let cannot = |error| Fault::reading("cannot follow", error);
        let filter = TaskFilter { tasks: self.of.tasks.clone(), states: Vec::new() };
        // The job first: of what ends between the two looks, an event tells.
        let job = self.app.client.get_job(self.of.job).await.map_err(cannot)?.value;
        let tasks = self.app.client.all_tasks(self.of.job, &filter).await.map_err(cannot)?;
        self.running.clear();
        let is_first = std::mem::take(&mut self.begins_with_last);
        for task in tasks {
            for outcome in task.outcome.iter().chain(&task.earlier) {
                // Without an attempt there is no output.
                let is_earlier = (1..task.attempt).contains(&outcome.attempt);
                if is_earlier && self.seen.insert((task.id.number, outcome.attempt)) && !is_first {
                    self.waiting.push_back((task.id.number, outcome.attempt));
                }
            }
            self.is_final |= self.take(Event::Tasks {
                job: self.of.job,
                tasks: Run::new(task.id.number, 1),
                state: task.state,
                attempt: task.attempt,
                worker: task.worker,
            });
        }
        self.is_final |= job.state.is_final();
        Ok(())
    }

    fn prefix(&self, number: u32) -> Option<String> {
        if self.of.has_prefix { name_of(self.of.spec, number).map(|name| format!("[{name}] ")) } else { None }
    }
}

/// `shard[17]`, as lists call it too.
fn name_of(spec: &JobSpec, number: u32) -> Option<String> {
    let mut first = 0;
    for task in &spec.tasks {
        if number - first < task.count() {
            return Some(match task.array_index(number - first) {
                Some(index) => format!("{}[{index}]", task.name),
                None => task.name.clone(),
            });
        }
        first += task.count();
    }
    None
}

async fn print(
    app: &App,
    out: &Output<'_>,
    task: TaskId,
    attempt: u32,
    prefix: Option<String>,
) -> Result<(), Fault> {
    let mut logs = app.client.logs(LogsOf { attempt, follow: true, ..LogsOf::task(task) });
    let mut printer = out.printer(task, prefix);
    loop {
        match logs.next().await {
            Ok(Some(chunk)) => printer.print(&chunk)?,
            Ok(None) => return printer.finish(),
            Err(error) => {
                // The job's end does not hang on its output; that some is missing is said.
                out.note(&format!("({task}: its output cannot be shown: {error})"));
                return printer.finish();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{ArrayRange, TaskSpec, Work};

    use super::*;

    #[test]
    fn tasks_are_called_by_the_index_of_their_array() {
        let mut shard = TaskSpec::new("shard", Work::Noop);
        shard.array = Some(ArrayRange { first: 10, last: 20, step: 5 });
        let spec = JobSpec::of("x", vec![TaskSpec::new("fetch", Work::Noop), shard]);
        let names: Vec<Option<String>> = (0..5).map(|number| name_of(&spec, number)).collect();
        let expected = ["fetch", "shard[10]", "shard[15]", "shard[20]"].map(|name| Some(name.to_owned()));
        assert_eq!(names[..4], expected);
        assert_eq!(names[4], None);
    }
}
