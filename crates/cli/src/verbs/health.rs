//! `baton health`: whether a replica serves and sees a leader; for healthchecks.

use std::time::Duration;

use crate::app::App;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;

/// Say whether a replica serves and sees a leader; the exit status is 0 or 6
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How long it may take
    #[arg(long, default_value = "2s", value_parser = duration)]
    within: Duration,
    /// Count a replica that serves as healthy even while there is no leader
    #[arg(long)]
    live: bool,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let client = app.client.with_deadline(args.within).stale();
    let view = client.cluster_status().await.map_err(|error| Fault::reading("not healthy", error))?;
    let leader = view.leader.clone().unwrap_or_else(|| "none".to_owned());
    app.face.one(&view, &view.answered_by, || format!("{} serves, leader {leader}\n", view.answered_by))?;
    let is_healthy = args.live || view.leader.is_some();
    Ok(if is_healthy { Exit::DONE } else { Exit::UNREACHABLE })
}
