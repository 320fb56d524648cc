//! `baton job ..`: one job, looked at, written out, changed.

use std::path::PathBuf;

use client::{Edge, JobChange};
use model::views::JobView;
use model::{Dependency, JobSpec};

use super::ps;
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::jobfile;
use crate::output::Format;
use crate::output::rows::{counts_text, job_state};
use crate::output::table::{Cell, render};
use crate::output::times::when;
use crate::select::Selector;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    List(ps::Args),
    Get(GetArgs),
    Set(SetArgs),
    Export(ExportArgs),
    Validate(ValidateArgs),
}

/// Show one job
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// j42, last, name@latest
    selector: Selector,
}

/// Change a job while tasks of it wait
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("change").required(true).multiple(true)))]
pub struct SetArgs {
    /// j42, last, name@latest
    selector: Selector,
    /// Higher first
    #[arg(long, allow_hyphen_values = true, group = "change")]
    priority: Option<i32>,
    /// Move it to this queue
    #[arg(long, group = "change")]
    queue: Option<String>,
    /// Let a task (or every one) wait for another task or job
    #[arg(long, value_name = "[TASK:]ON", value_parser = edge, group = "change")]
    add_after: Vec<Edge>,
    /// Let it wait no longer
    #[arg(long, value_name = "[TASK:]ON", value_parser = edge, group = "change")]
    remove_after: Vec<Edge>,
    #[command(flatten)]
    write: WriteArgs,
}

/// Write a job out as a file that can be submitted again
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// j42, last, name@latest
    selector: Selector,
    /// yaml, toml or json
    #[arg(long, default_value = "yaml")]
    format: FileFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FileFormat {
    Yaml,
    Toml,
    Json,
}

/// Check job files without submitting anything
#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// YAML, TOML or JSON; `-` is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

fn edge(text: &str) -> Result<Edge, String> {
    let (task, on) = match text.split_once(':') {
        Some((task, on)) => (Some(task.to_owned()), on),
        None => (None, text),
    };
    let is_whole = !on.is_empty() && task.as_ref().is_none_or(|task| !task.is_empty());
    if !is_whole {
        return Err(format!("`{text}` is not TASK:ON or ON, as in shard:fetch or j42"));
    }
    Ok(Edge { task, on: Dependency::from(on) })
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    match args {
        Args::List(args) => ps::run(args, app).await,
        Args::Get(args) => get(args, app).await,
        Args::Set(args) => set(args, app).await,
        Args::Export(args) => export(args, app).await,
        Args::Validate(args) => validate(args, app).await,
    }
}

async fn get(args: &GetArgs, app: &App) -> Result<Exit, Fault> {
    let id = app.resolver().job(&args.selector).await?;
    let job = app.client.get_job(id).await;
    let job = job.map_err(|error| Fault::reading(&format!("cannot show {id}"), error))?.value;
    app.face.one(&job, &id.to_string(), || picture(&job, app))?;
    Ok(Exit::DONE)
}

fn picture(job: &JobView, app: &App) -> String {
    let now = app.face.now();
    let state = job_state(job.state);
    let mut text = format!("{} {}  {}\n", job.id, job.name, app.face.paint.tone(state.tone, &state.text));
    text += &format!("queue {} · priority {} · by {}", job.queue, job.priority, job.actor.user);
    text += &format!(" · submitted {}", when(job.submitted, now));
    if let Some(finished) = job.finished {
        text += &format!(" · finished {}", when(finished, now));
    }
    if !job.after.is_empty() {
        let after: Vec<String> = job.after.iter().map(ToString::to_string).collect();
        text += &format!(" · after {}", after.join(", "));
    }
    text += &format!("\n{}\n\n", counts_text(&job.counts));
    let row = |group: &model::views::GroupView| -> Vec<Cell> {
        let numbers = match group.is_array {
            true => format!("{}.{}-{}", job.id, group.first, group.first + group.len - 1),
            false => format!("{}.{}", job.id, group.first),
        };
        let after = if group.after.is_empty() { "-".to_owned() } else { group.after.join(", ") };
        vec![group.name.clone().into(), numbers.into(), counts_text(&group.counts).into(), after.into()]
    };
    let rows: Vec<Vec<Cell>> = job.groups.iter().map(row).collect();
    text + &render(&["task", "numbers", "state", "after"], &rows, app.face.paint)
}

async fn set(args: &SetArgs, app: &App) -> Result<Exit, Fault> {
    let job = app.resolver().job(&args.selector).await?;
    let change = JobChange {
        priority: args.priority,
        queue: args.queue.clone(),
        add_after: args.add_after.clone(),
        remove_after: args.remove_after.clone(),
    };
    let changed = app.writer(&args.write).set_job(job, &change).await;
    let changed = changed
        .map_err(|error| Fault::writing(&format!("cannot change {job}"), "Nothing was changed", error))?;
    app.changed(changed, &[job.to_string()], &format!("changed {job}"))?;
    Ok(Exit::DONE)
}

async fn export(args: &ExportArgs, app: &App) -> Result<Exit, Fault> {
    let job = app.resolver().job(&args.selector).await?;
    let spec = app.client.get_spec(job).await;
    let spec = spec.map_err(|error| Fault::reading(&format!("cannot export {job}"), error))?.value;
    let format = if app.face.format == Format::Json { FileFormat::Json } else { args.format };
    app.face.print(&file_text(&spec, format)?)?;
    Ok(Exit::DONE)
}

pub fn file_text(spec: &JobSpec, format: FileFormat) -> Result<String, Fault> {
    let fault = |error: String| Fault::failed(format!("the job cannot be written: {error}"));
    match format {
        FileFormat::Yaml => serde_saphyr::to_string(spec).map_err(|error| fault(error.to_string())),
        FileFormat::Toml => toml::to_string_pretty(spec).map_err(|error| fault(error.to_string())),
        FileFormat::Json => serde_json::to_string_pretty(spec)
            .map(|text| text + "\n")
            .map_err(|error| fault(error.to_string())),
    }
}

async fn validate(args: &ValidateArgs, app: &App) -> Result<Exit, Fault> {
    let limits = app.limits().await;
    let mut bad = Vec::new();
    for file in &args.files {
        match jobfile::read(file, &limits) {
            Ok(spec) => {
                app.face.print(&format!("{}: valid, {} tasks\n", file.display(), spec.tasks_count()))?;
            }
            Err(problems) => bad.push(problems),
        }
    }
    if bad.is_empty() { Ok(Exit::DONE) } else { Err(Fault::bad_files("not valid", &bad)) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_exported_reads_back_the_same_in_every_format() {
        let text = r##"{"job":"n: #1","labels":{"a":"1"},"tasks":[
            {"name":"a","run":["echo","1","true"," x ","- y","a: b","","~","1.50","line\nline"],
             "env":{"A":"yes","B":"null","C":{"secret":"k"}},"resources":{"cpu":0.5,"memory":"512MiB","gpu":2},
             "files":[{"to":"f","mode":"755","text":"#!/bin/sh\n\texit 0\n\n"},{"to":"g","base64":"/wA="}],
             "timeout":"10m","retry":{"max":3,"backoff":"1s..1m"}},
            {"name":"b","script":"#!/bin/sh\necho hi\n\n","array":"0-9:2","after":["a","j7"]}]}"##;
        let spec: JobSpec = serde_json::from_str(text).unwrap();
        for (format, name) in
            [(FileFormat::Yaml, "x.yaml"), (FileFormat::Toml, "x.toml"), (FileFormat::Json, "x.json")]
        {
            let text = file_text(&spec, format).unwrap();
            let back = jobfile::parse(name, &text, Path::new("."), &model::settings::Limits::default())
                .unwrap_or_else(|bad| panic!("{bad}\n{text}"));
            assert_eq!(back, spec, "{text}");
        }
    }

    #[test]
    fn edges_read_as_they_are_spoken() {
        let on_task = Edge { task: Some("shard".to_owned()), on: Dependency::Task("fetch".to_owned()) };
        assert_eq!(edge("shard:fetch"), Ok(on_task));
        assert_eq!(edge("j42"), Ok(Edge { task: None, on: Dependency::Job(model::JobId(42)) }));
        assert!(edge("shard:").is_err() && edge(":x").is_err());
    }
}
