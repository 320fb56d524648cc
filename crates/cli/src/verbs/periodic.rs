//! `baton periodic`: tasks that are released every period, admitted if they meet their deadlines.

use std::path::PathBuf;

use client::{PeriodicSet, PeriodicTask};
use model::policy::Order;
use model::time::format_duration;
use model::views::{PeriodicTaskView, PeriodicView};

use super::plan;
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::counted;
use crate::output::paint::Tone;
use crate::output::rows::{Row, View};
use crate::output::table::Cell;
use crate::output::times::when;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// List the sets
    List,
    /// Show the tasks of a set, and the tests by which it was admitted
    Get { name: String },
    /// Release the tasks of a file from now on, unless they cannot meet their deadlines; a set of that name is replaced
    Put(PutArgs),
    /// Release nothing more of a set; what was released goes on
    Delete {
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct PutArgs {
    name: String,
    /// The tasks, as YAML or JSON, as for `baton plan`, each with what is done at each release; `-` is standard input
    file: PathBuf,
    /// Who goes first: rms, dms, edf; absent: as the file says
    #[arg(long)]
    policy: Option<Order>,
    /// Tasks that run at a time, each task on a slot of its own; absent: as the file says, or 1
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
    slots: Option<u32>,
    #[command(flatten)]
    write: WriteArgs,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let (name, done, result) = match args {
        Args::List => return list(app).await,
        Args::Get { name } => return get(name, app).await,
        Args::Put(put) => {
            let set = put.set()?;
            let done = "is admitted and released from now on";
            (&put.name, done, app.writer(&put.write).put_periodic(&set).await)
        }
        Args::Delete { name, write } => {
            (name, "is released no more", app.writer(write).delete_periodic(name).await)
        }
    };
    let doing = format!("cannot change periodic set \"{name}\"");
    let changed = result.map_err(|error| Fault::writing(&doing, "Nothing was changed", error))?;
    app.changed(changed, std::slice::from_ref(name), &format!("periodic set {name} {done}"))?;
    Ok(Exit::DONE)
}

fn bad(what: impl Into<String>) -> Fault {
    Fault::usage("cannot put the set")
        .why(what)
        .fix("see docs/POLICIES.md, \"Periodic tasks\", for what the file says")
}

impl PutArgs {
    fn set(&self) -> Result<PeriodicSet, Fault> {
        let file = plan::read(&self.file)?;
        plan::periodic(&file)?;
        if file.any_slot {
            return Err(bad("any_slot: each task has a slot of its own, which it keeps; leave it out"));
        }
        let named = || match file.policy.as_deref() {
            Some(text) => text.parse().map_err(|why| bad(format!("policy: {why}"))),
            None => Err(bad("policy: is missing; rms, dms or edf, here or as `--policy`")),
        };
        let order = self.policy.map_or_else(named, Ok)?;
        let mut tasks = Vec::new();
        for (place, task) in file.tasks.iter().enumerate() {
            let work = task.task().map_err(|why| bad(format!("tasks[{place}]: {why}")))?;
            let work = work.ok_or_else(|| {
                bad(format!(
                    "tasks[{place}] (`{}`): says nothing of what is done; add `run: [...]`",
                    task.name
                ))
            })?;
            tasks.push(PeriodicTask {
                name: task.name.clone(),
                run_time: task.run_time,
                period: task.period,
                deadline: task.deadline(),
                task: work,
            });
        }
        let slots = self.slots.or(file.slots).unwrap_or(1);
        Ok(PeriodicSet { name: self.name.clone(), order, slots, preemptive: file.preemptive, tasks })
    }
}

async fn sets(app: &App) -> Result<Vec<PeriodicView>, Fault> {
    let sets = app.client.periodic_sets().await;
    Ok(sets.map_err(|error| Fault::reading("cannot list periodic sets", error))?.value)
}

async fn list(app: &App) -> Result<Exit, Fault> {
    app.face.list(&sets(app).await?, None)?;
    Ok(Exit::DONE)
}

async fn get(name: &str, app: &App) -> Result<Exit, Fault> {
    let found = sets(app).await?.into_iter().find(|set| set.name == name);
    let absent = || Fault::not_found(format!("there is no periodic set `{name}`"));
    let set = found.ok_or_else(|| absent().fix("`baton periodic list` shows what there is"))?;
    app.face.one(&set, &set.name, || {
        let slots = counted(set.slots.into(), "slot");
        let head = format!("periodic set {}: {} on {slots}\n", set.name, policy(&set));
        let tests = set.admitted.iter().map(|test| format!("  {test}\n"));
        let tests: String = tests.collect();
        format!("{head}{tests}\n{}\n", app.face.table(&set.tasks))
    })?;
    Ok(Exit::DONE)
}

fn policy(set: &PeriodicView) -> String {
    if set.preemptive { format!("{}, preemptive", set.order) } else { set.order.to_string() }
}

fn late(missed: u64, met: u64) -> Cell {
    match (missed, missed + met) {
        (_, 0) => Cell::from("-"),
        (0, all) => Cell::toned(format!("0 of {all}"), Tone::Good),
        (missed, all) => Cell::toned(format!("{missed} of {all}"), Tone::Bad),
    }
}

impl Row for PeriodicView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(_: bool) -> Vec<&'static str> {
        vec!["set", "policy", "slots", "tasks", "released", "skipped", "late", "since"]
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let sum = |of: fn(&PeriodicTaskView) -> u64| self.tasks.iter().map(of).sum::<u64>();
        vec![
            self.name.clone().into(),
            policy(self).into(),
            self.slots.to_string().into(),
            self.tasks.len().to_string().into(),
            sum(|task| task.released).to_string().into(),
            sum(|task| task.skipped).to_string().into(),
            late(sum(|task| task.missed), sum(|task| task.met)),
            when(self.since, view.now).into(),
        ]
    }
}

impl Row for PeriodicTaskView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(_: bool) -> Vec<&'static str> {
        vec!["task", "run time", "period", "deadline", "queue", "released", "skipped", "late", "last"]
    }

    fn cells(&self, _: View) -> Vec<Cell> {
        vec![
            self.name.clone().into(),
            format_duration(self.run_time).into(),
            format_duration(self.period).into(),
            format_duration(self.deadline).into(),
            self.queue.clone().into(),
            self.released.to_string().into(),
            self.skipped.to_string().into(),
            late(self.missed, self.met),
            self.last.map_or_else(|| "-".to_owned(), |job| job.to_string()).into(),
        ]
    }
}
