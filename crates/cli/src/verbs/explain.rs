//! `baton explain`: every reason why something does not run.

use client::TaskFilter;
use model::views::TaskState;
use model::{JobId, RunSet};

use crate::app::App;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::rows::task_state;
use crate::select::Selector;

/// Say why a task does not run, with what would mend it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// j42, j42.7, j42.shard[17], last
    selector: Selector,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let targets = app.resolver().targets(std::slice::from_ref(&args.selector), &[]).await?;
    let [target] = &targets[..] else {
        return Err(Fault::usage(format!("explain takes one job or task; this names {}", targets.len())));
    };
    let task = match &target.tasks {
        None => None,
        Some(tasks) => first_unfinished(target.job, tasks, app).await?,
    };
    let explained = app.client.explain(target.job, task).await;
    let explained =
        explained.map_err(|error| Fault::reading(&format!("cannot explain {}", target.job), error))?.value;
    app.face.one(&explained, &explained.task.to_string(), || {
        let state = task_state(explained.state);
        let head = format!("{} {}  {}\n{}\n", explained.task, explained.name, state.text, explained.summary);
        if explained.reasons.is_empty() {
            return head;
        }
        format!("{head}\n{}", app.face.table(&explained.reasons))
    })?;
    Ok(if explained.hopeless { Exit::UNSCHEDULABLE } else { Exit::DONE })
}

/// Of the tasks named, the first that is to be explained: one that waits, else one that runs, else the first.
async fn first_unfinished(job: JobId, tasks: &RunSet, app: &App) -> Result<Option<u32>, Fault> {
    let Some(first) = tasks.first().map(|run| run.first) else { return Ok(None) };
    if tasks.len() == 1 {
        return Ok(Some(first));
    }
    let waiting = [TaskState::Ready, TaskState::Delayed, TaskState::Blocked];
    for states in [&waiting[..], &[TaskState::Placed, TaskState::Running]] {
        let filter = TaskFilter { tasks: Some(tasks.clone()), states: states.to_vec() };
        let mut from = Some(first);
        while let Some(number) = from {
            let page = app.client.list_tasks(job, &filter, 1, number).await;
            let page = page.map_err(|error| Fault::reading(&format!("cannot explain {job}"), error))?.value;
            if let Some(task) = page.items.first() {
                return Ok(Some(task.id.number));
            }
            from = page.next;
        }
    }
    Ok(Some(first))
}
