//! `baton queue`, `cluster`, `config`: what the cluster keeps beside jobs.

use serde_json::Value;

use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::paint::Tone;
use crate::output::rows::counts_text;

#[derive(Debug, clap::Subcommand)]
pub enum QueueArgs {
    /// List queues
    List,
    /// Create a queue, or change it
    Put {
        name: String,
        /// Share of the capacity relative to other queues, 1 to 10000
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        weight: Option<u32>,
        /// Tasks of it that may be placed at once
        #[arg(long)]
        running_max: Option<u32>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Place nothing more of a queue; what runs goes on
    Pause(QueueName),
    /// Go on placing
    Resume(QueueName),
    /// Delete an empty queue
    Delete(QueueName),
}

#[derive(Debug, clap::Args)]
pub struct QueueName {
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

pub async fn queue(args: &QueueArgs, app: &App) -> Result<Exit, Fault> {
    let (name, done, result) = match args {
        QueueArgs::List => {
            let queues =
                app.client.queues().await.map_err(|error| Fault::reading("cannot list queues", error))?;
            app.face.list(&queues.value, None)?;
            return Ok(Exit::DONE);
        }
        QueueArgs::Put { name, weight, running_max, write } => {
            (name, "is set", app.writer(write).put_queue(name, *weight, *running_max).await)
        }
        QueueArgs::Pause(of) => (&of.name, "is paused", app.writer(&of.write).pause_queue(&of.name).await),
        QueueArgs::Resume(of) => (&of.name, "goes on", app.writer(&of.write).resume_queue(&of.name).await),
        QueueArgs::Delete(of) => (&of.name, "is deleted", app.writer(&of.write).delete_queue(&of.name).await),
    };
    let doing = format!("cannot change queue \"{name}\"");
    let changed = result.map_err(|error| Fault::writing(&doing, "Nothing was changed", error))?;
    app.changed(changed, std::slice::from_ref(name), &format!("queue {name} {done}"))?;
    Ok(Exit::DONE)
}

#[derive(Debug, clap::Subcommand)]
pub enum ClusterArgs {
    /// Show how the cluster is
    Status,
    /// List the replicas
    Members,
    /// Let another replica lead
    TransferLeader {
        /// Name of a replica; absent: the most up to date
        to: Option<String>,
    },
}

pub async fn cluster(args: &ClusterArgs, app: &App) -> Result<Exit, Fault> {
    match args {
        ClusterArgs::Status => status(app).await,
        ClusterArgs::Members => {
            let view = read_status(app).await?;
            app.face.list(&view.members, None)?;
            Ok(Exit::DONE)
        }
        ClusterArgs::TransferLeader { to } => {
            let leader = app.client.transfer_leader(to.as_deref()).await;
            let leader = leader.map_err(|error| Fault::reading("cannot transfer the leadership", error))?;
            app.face.one(&serde_json::json!({"leader": leader}), &leader, || format!("{leader} leads\n"))?;
            Ok(Exit::DONE)
        }
    }
}

// A status is asked for above all when there is no leader, so any replica may tell what it sees.
async fn read_status(app: &App) -> Result<model::views::ClusterView, Fault> {
    let cannot = |error| Fault::reading("cannot see the cluster", error);
    app.client.stale().cluster_status().await.map_err(cannot)
}

async fn status(app: &App) -> Result<Exit, Fault> {
    let view = read_status(app).await?;
    let has_leader = view.leader.is_some();
    app.face.one(&view, &view.cluster, || {
        let leader = match &view.leader {
            Some(leader) => format!("leader {leader}"),
            None => app.face.paint.tone(Tone::Bad, "no leader"),
        };
        let mut text =
            format!("{}  {leader} · term {} · answered by {}\n", view.cluster, view.term, view.answered_by);
        text += &format!(
            "log {} · committed {} · applied {} · snapshot {} · digest {}\n",
            view.last_log, view.committed, view.applied, view.snapshot, view.digest
        );
        text += &format!("workers {} live of {} known\n", view.workers_live, view.workers_known);
        text += &format!("jobs {} unfinished · tasks {}\n", view.unfinished_jobs, counts_text(&view.counts));
        for alarm in &view.alarms {
            text += &format!("{}\n", app.face.paint.tone(Tone::Bad, &format!("! {alarm}")));
        }
        format!("{text}\n{}", app.face.table(&view.members))
    })?;
    Ok(if has_leader { Exit::DONE } else { Exit::UNREACHABLE })
}

#[derive(Debug, clap::Subcommand)]
pub enum ConfigArgs {
    /// Show the cluster's settings, or one of them
    Get {
        /// As in limits.starve_after_s
        path: Option<String>,
    },
    /// Change one of the cluster's settings
    Set {
        /// As in limits.starve_after_s
        path: String,
        /// JSON, or a plain word
        value: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

pub async fn config(args: &ConfigArgs, app: &App) -> Result<Exit, Fault> {
    let settings =
        app.client.settings().await.map_err(|error| Fault::reading("cannot read the settings", error))?;
    let mut tree = serde_json::to_value(&settings.value).map_err(|error| Fault::failed(error.to_string()))?;
    match args {
        ConfigArgs::Get { path } => {
            let at = path.as_deref().unwrap_or_default();
            let value = find(&mut tree, at)?;
            let text = match value {
                Value::String(text) if !app.face.format.is_machine() => text.clone(),
                value => format!("{value:#}"),
            };
            app.face.print(&format!("{text}\n"))?;
        }
        ConfigArgs::Set { path, value, write } => {
            *find(&mut tree, path)? =
                serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            let settings = serde_json::from_value(tree)
                .map_err(|error| Fault::usage(format!("{path} cannot be {value}: {error}")))?;
            let changed = app.writer(write).put_settings(&settings).await;
            let changed = changed.map_err(|error| {
                Fault::writing("cannot change the settings", "Nothing was changed", error)
            })?;
            app.changed(changed, std::slice::from_ref(path), &format!("{path} = {value}"))?;
        }
    }
    Ok(Exit::DONE)
}

fn find<'a>(tree: &'a mut Value, path: &str) -> Result<&'a mut Value, Fault> {
    let mut node = tree;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let known: Vec<String> =
            node.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        let near = model::validate::nearest(step, known.iter().map(String::as_str));
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        node = node
            .get_mut(step)
            .ok_or_else(|| Fault::not_found(format!("there is no setting `{path}`{hint}")))?;
    }
    Ok(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_named_by_path_and_misspelt_ones_get_a_hint() {
        let mut tree = serde_json::to_value(model::Settings::default()).unwrap();
        assert_eq!(*find(&mut tree, "limits.starve_after_s").unwrap(), serde_json::json!(60));
        let fault = find(&mut tree, "limits.starve_after").unwrap_err();
        assert!(fault.what.ends_with("did you mean `starve_after_s`?"), "{}", fault.what);
        assert!(find(&mut tree, "").unwrap().is_object());
    }
}
