//! `baton wait`: until jobs have finished, by events.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Event, Watched};
use futures::StreamExt;
use model::JobId;
use model::views::{JobState, JobView};

use crate::app::App;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::progress::Progress;
use crate::output::rows::counts_text;
use crate::select::{Selector, label};

/// Wait until jobs have finished; the exit status says how they ended
#[derive(Debug, clap::Args)]
pub struct Args {
    /// j42, 12-20, last, all, name@latest
    #[arg(required_unless_present = "labels")]
    selectors: Vec<Selector>,
    /// Jobs with this label
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Give up after this time, with status 124
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let jobs = app.resolver().jobs(&args.selectors, &args.labels).await?;
    let finished = match args.timeout {
        None => wait(app, &jobs).await?,
        Some(timeout) => match tokio::time::timeout(timeout, wait(app, &jobs)).await {
            Ok(finished) => finished?,
            Err(_) => {
                let text = format!("not finished within {}", model::time::format_duration(timeout));
                return Err(Fault::new("timeout", Exit::TIMED_OUT, text));
            }
        },
    };
    let states: Vec<JobState> = finished.iter().map(|job| job.state).collect();
    app.face.list(&finished, None)?;
    Ok(exit(&states))
}

/// Failed before cancelled before succeeded.
fn exit(states: &[JobState]) -> Exit {
    if states.contains(&JobState::Failed) {
        Exit::JOB_FAILED
    } else if states.contains(&JobState::Cancelled) {
        Exit::CANCELLED
    } else {
        Exit::DONE
    }
}

/// Waits for all of `jobs`; gives them as they ended, in the same order.
pub async fn wait(app: &App, jobs: &[JobId]) -> Result<Vec<JobView>, Fault> {
    let cannot = |error| Fault::reading("cannot wait", error);
    let only = if let [job] = jobs { Some(*job) } else { None };
    let mut finished: BTreeMap<JobId, JobView> = BTreeMap::new();
    let mut events = app.client.watch(only, None);
    let mut progress: Option<Progress> = None;
    loop {
        // The stream has begun before the jobs are read, so that no end falls between the two.
        let asked: Vec<JobId> = match events.next().await.transpose().map_err(cannot)? {
            None => return Err(Fault::failed("the events ended")),
            Some(Watched::Begin { .. }) => jobs.to_vec(),
            Some(Watched::Compacted { .. }) => {
                events = app.client.watch(only, None);
                continue;
            }
            Some(Watched::Event { event: Event::Job { job, state }, .. }) if state.is_final() => vec![job],
            Some(Watched::Event { event: Event::Tasks { job, .. }, .. }) if app.face.is_terminal_err => {
                vec![job]
            }
            Some(Watched::Event { .. }) => continue,
        };
        for job in asked {
            if !jobs.contains(&job) || finished.contains_key(&job) {
                continue;
            }
            let view = app.client.get_job(job).await.map_err(cannot)?.value;
            if jobs.len() == 1 {
                progress
                    .get_or_insert_with(|| Progress::new(&app.face, view.counts.total()))
                    .show(&view.counts);
            }
            if view.state.is_final() {
                finished.insert(job, view);
            }
        }
        if jobs.iter().all(|job| finished.contains_key(job)) {
            drop(progress);
            return Ok(jobs.iter().filter_map(|job| finished.remove(job)).collect());
        }
    }
}

/// One line on how a job ended.
pub fn verdict(job: &JobView) -> String {
    format!("{} {}: {}", job.id, job.state, counts_text(&job.counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_end_decides_the_status() {
        use JobState::{Cancelled, Failed, Succeeded};
        assert_eq!(exit(&[Succeeded, Cancelled, Failed]), Exit(10));
        assert_eq!(exit(&[Succeeded, Cancelled]), Exit(11));
        assert_eq!(exit(&[Succeeded]), Exit(0));
    }
}
