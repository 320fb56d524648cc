//! `baton submit`: a job from a file or a command; prints its id.

use serde::Serialize;

use super::jobargs::WhatArgs;
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;

/// Submit a job from a file, or a command after `--`; prints the job's id
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    what: WhatArgs,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Serialize)]
struct Accepted {
    job: String,
    request_id: String,
    index: u64,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let spec = args.what.spec(&app.limits().await)?;
    let doing = if spec.name.is_empty() {
        "cannot submit".to_owned()
    } else {
        format!("cannot submit \"{}\"", spec.name)
    };
    let submitted = app.writer(&args.write).submit(&spec).await;
    let submitted = submitted.map_err(|error| Fault::writing(&doing, "The job was NOT accepted", error))?;
    let job = submitted.job.to_string();
    let accepted =
        Accepted { job: job.clone(), request_id: submitted.request_id.to_string(), index: submitted.index };
    app.face.one(&accepted, &job, || format!("{job}\n"))?;
    Ok(Exit::DONE)
}
