//! `baton explain`: every reason why something does not run.

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
    let task = target.tasks.as_ref().and_then(|tasks| tasks.first()).map(|run| run.first);
    let explained = app.client.explain(target.job, task).await;
    let explained =
        explained.map_err(|error| Fault::reading(&format!("cannot explain {}", target.job), error))?.value;
    let has_state = |state| explained.state == state;
    let is_stuck = has_state(model::views::TaskState::Ready)
        && explained.reasons.iter().any(|reason| reason.code == "fits_no_worker");
    app.face.one(&explained, &explained.task.to_string(), || {
        let state = task_state(explained.state);
        let head = format!("{} {}  {}\n{}\n", explained.task, explained.name, state.text, explained.summary);
        if explained.reasons.is_empty() {
            return head;
        }
        format!("{head}\n{}", app.face.table(&explained.reasons))
    })?;
    Ok(if is_stuck { Exit::UNSCHEDULABLE } else { Exit::DONE })
}
