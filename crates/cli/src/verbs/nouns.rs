//! `baton queue`, `cluster`, `config`: what the cluster keeps beside jobs.

use std::time::Duration;

use client::{Event, QueueChange};
use machine::command::WEIGHT_MAX;
use model::policy::{Backfill, Mode, Order};
use model::views::{ClusterView, QueueView};
use serde::Serialize;
use serde_json::Value;

use super::upgrade::{UpgradeArgs, highest, upgrade};
use super::watch::{Watch, WatchArgs, draw};
use crate::app::{App, WriteArgs};
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::Format;
use crate::output::paint::Tone;
use crate::output::rows::{Row, counts_text};

#[derive(Debug, clap::Subcommand)]
pub enum QueueArgs {
    /// List queues
    List(WatchArgs),
    /// Show who shares a queue whose order is fair, and what each takes and took
    Users {
        name: String,
        #[command(flatten)]
        watch: WatchArgs,
    },
    /// Create a queue, or change what is given of it
    Put {
        name: String,
        /// Share of the capacity relative to other queues, 1 to 10000
        #[arg(long, value_parser = weight, allow_negative_numbers = true)]
        weight: Option<u32>,
        /// Tasks of it that may be placed at once
        #[arg(long)]
        running_max: Option<u32>,
        /// Take away --running-max
        #[arg(long, conflicts_with = "running_max")]
        no_running_max: bool,
        /// Which ready task comes first: priority, fifo, round-robin, sjf, hrrn, edf, rms, dms, fair, critical-path
        #[arg(long)]
        order: Option<Order>,
        /// Waiting so long adds one to a priority: 10m; 0s for never
        #[arg(long, value_parser = duration)]
        ageing: Option<Duration>,
        /// What may go before the first that finds no room: first-fit, none, easy, conservative
        #[arg(long)]
        backfill: Option<Backfill>,
        /// Stop running tasks of it for waiting ones of a higher priority; they wait again
        #[arg(long)]
        preempt: bool,
        /// Take away --preempt
        #[arg(long, conflicts_with = "preempt")]
        no_preempt: bool,
        /// Of --order round-robin: for how long a task runs at a time while others wait, 10ms to 24h; 1s unless given
        #[arg(long, value_parser = duration)]
        quantum: Option<Duration>,
        /// Who gives its tasks to workers: push (the leader), claim (workers take them), hybrid (both)
        #[arg(long)]
        mode: Option<Mode>,
        /// Let the cluster set order and backfill by itself, by what would have served the queue's history better
        #[arg(long)]
        auto: bool,
        /// Take away --auto; the policy stays as it is now
        #[arg(long, conflicts_with = "auto")]
        no_auto: bool,
        /// Weight of a user relative to the others, for --order fair: ann=300; 1 to 10000, 100 unless given
        #[arg(long = "share", value_name = "USER=WEIGHT", value_parser = share)]
        shares: Vec<(String, u32)>,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Place nothing more of a queue; what runs goes on
    Pause(QueueName),
    /// Go on placing
    Resume(QueueName),
    /// Delete an empty queue
    Delete(QueueName),
    /// Set a queue's policy back to what it was before the cluster changed it by itself (--auto), which ends --auto
    Undo(QueueName),
}

#[derive(Debug, clap::Args)]
pub struct QueueName {
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

pub async fn queue(args: &QueueArgs, app: &App) -> Result<Exit, Fault> {
    let (name, done, result) = match args {
        QueueArgs::List(args) => return list_queues(args, app).await,
        QueueArgs::Users { name, watch } => return list_users(name, watch, app).await,
        QueueArgs::Put {
            name,
            weight,
            running_max,
            no_running_max,
            order,
            ageing,
            backfill,
            preempt,
            no_preempt,
            quantum,
            mode,
            auto,
            no_auto,
            shares,
            write,
        } => {
            let change = QueueChange {
                weight: *weight,
                running_max: *running_max,
                no_running_max: *no_running_max,
                order: *order,
                ageing: *ageing,
                backfill: *backfill,
                preempt: (*preempt || *no_preempt).then_some(*preempt),
                quantum: *quantum,
                mode: *mode,
                auto: (*auto || *no_auto).then_some(*auto),
                shares: shares.clone(),
            };
            (name, "is set", app.writer(write).change_queue(name, &change).await)
        }
        QueueArgs::Pause(of) => (&of.name, "is paused", app.writer(&of.write).pause_queue(&of.name).await),
        QueueArgs::Resume(of) => (&of.name, "goes on", app.writer(&of.write).resume_queue(&of.name).await),
        QueueArgs::Delete(of) => (&of.name, "is deleted", app.writer(&of.write).delete_queue(&of.name).await),
        QueueArgs::Undo(of) => {
            (&of.name, "has its earlier policy again", app.writer(&of.write).undo_queue(&of.name).await)
        }
    };
    let doing = format!("cannot change queue \"{name}\"");
    let changed = result.map_err(|error| Fault::writing(&doing, "Nothing was changed", error))?;
    app.changed(changed, std::slice::from_ref(name), &format!("queue {name} {done}"))?;
    Ok(Exit::DONE)
}

/// Reads `ann=300`.
fn share(text: &str) -> Result<(String, u32), String> {
    let (user, of_user) = text.rsplit_once('=').ok_or("write USER=WEIGHT, as in ann=300")?;
    let of_user = weight(of_user)?;
    if user.is_empty() {
        return Err("name the user, as in ann=300".to_owned());
    }
    Ok((user.to_owned(), of_user))
}

/// Reads a weight; of any number that is none the error says the nearest that is one.
fn weight(text: &str) -> Result<u32, String> {
    let range = 1..=WEIGHT_MAX;
    if let Some(weight) = text.parse().ok().filter(|weight| range.contains(weight)) {
        return Ok(weight);
    }
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    let nearest = number.map(|number| number.round().clamp(1.0, WEIGHT_MAX.into()));
    let hint = nearest.map(|nearest| format!("; the nearest is {nearest}")).unwrap_or_default();
    Err(format!("a weight is a whole number from 1 to {WEIGHT_MAX}, not `{text}`{hint}"))
}

async fn list_users(name: &str, args: &WatchArgs, app: &App) -> Result<Exit, Fault> {
    let users = |queues: Vec<QueueView>| {
        let queue = queues.into_iter().find(|queue| queue.name == name);
        let absent = || Fault::not_found(format!("there is no queue `{name}`"));
        let queue = queue.ok_or_else(|| absent().fix("`baton queue list` shows what there is"))?;
        Ok(queue.users)
    };
    list(args, app, users).await
}

async fn list_queues(args: &WatchArgs, app: &App) -> Result<Exit, Fault> {
    list(args, app, Ok).await
}

/// What the queues have to show, and again whenever that may have changed.
async fn list<R: Row + Serialize>(
    args: &WatchArgs,
    app: &App,
    rows: impl Fn(Vec<QueueView>) -> Result<Vec<R>, Fault>,
) -> Result<Exit, Fault> {
    // Lists count the tasks of each queue.
    let is_relevant = |event: &Event| matches!(event, Event::Queue { .. } | Event::Tasks { .. });
    let mut watch = Watch::new(app, is_relevant);
    loop {
        if args.watch {
            watch.changed().await?;
        }
        let queues = app.client.queues().await;
        let rows = rows(queues.map_err(|error| Fault::reading("cannot list queues", error))?.value)?;
        if !args.watch {
            app.face.list(&rows, None)?;
            return Ok(Exit::DONE);
        }
        watch.draw(&app.face.list_text(&rows, None)?)?;
    }
}

/// Flags of what no event tells of.
#[derive(Debug, clap::Args)]
pub struct LookArgs {
    /// Show again every second
    #[arg(short, long)]
    watch: bool,
}

/// Who leads and how far the logs are is not in the events.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Subcommand)]
pub enum ClusterArgs {
    /// Show how the cluster is
    Status(LookArgs),
    /// List the replicas
    Members(LookArgs),
    /// Let another replica lead
    TransferLeader {
        /// Name of a replica; absent: the most up to date
        to: Option<String>,
    },
    Upgrade(UpgradeArgs),
}

pub async fn cluster(args: &ClusterArgs, app: &App) -> Result<Exit, Fault> {
    match args {
        ClusterArgs::Status(args) => look(args, app, status_text).await,
        ClusterArgs::Members(args) => {
            let text = |app: &App, view: &ClusterView| app.face.list_text(&view.members, None);
            look(args, app, text).await.map(|_| Exit::DONE)
        }
        ClusterArgs::Upgrade(args) => upgrade(args, app).await,
        ClusterArgs::TransferLeader { to } => {
            let leader = app.client.transfer_leader(to.as_deref()).await;
            // It has no request id: who leads is no count, so to ask for it twice is to ask for it once.
            let leader = leader.map_err(|error| {
                Fault::moving(
                    "cannot transfer the leadership",
                    "The leadership was not transferred",
                    "`baton cluster status` says who leads",
                    error,
                )
            })?;
            app.face.one(&serde_json::json!({"leader": leader}), &leader, || format!("{leader} leads\n"))?;
            Ok(Exit::DONE)
        }
    }
}

async fn look(
    args: &LookArgs,
    app: &App,
    text: impl Fn(&App, &ClusterView) -> Result<String, Fault>,
) -> Result<Exit, Fault> {
    let mut is_first = true;
    loop {
        // A status is asked for above all when there is no leader, so any replica may tell what it sees.
        let view = app.client.stale().cluster_status().await;
        let view = view.map_err(|error| Fault::reading("cannot see the cluster", error))?;
        let text = text(app, &view)?;
        if !args.watch {
            app.face.print(&text)?;
            return Ok(if view.leader.is_some() { Exit::DONE } else { Exit::UNREACHABLE });
        }
        draw(&app.face, &text, std::mem::take(&mut is_first))?;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn status_text(app: &App, view: &ClusterView) -> Result<String, Fault> {
    app.face.one_text(view, &view.cluster, || {
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
        text += &format!("level {}{}\n", view.level, can_be_raised(view));
        text += &format!("workers {} live of {} known\n", view.workers_live, view.workers_known);
        text += &format!("jobs {} unfinished · tasks {}\n", view.unfinished_jobs, counts_text(&view.counts));
        for alarm in &view.alarms {
            text += &format!("{}\n", app.face.paint.tone(Tone::Bad, &format!("! {alarm}")));
        }
        format!("{text}\n{}", app.face.table(&view.members))
    })
}

fn can_be_raised(view: &ClusterView) -> String {
    match highest(view) {
        level if level > view.level => {
            format!(" · replicas know level {level}: baton cluster upgrade --check")
        }
        _ => String::new(),
    }
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
        /// 10, 30s, fast
        value: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

pub async fn config(args: &ConfigArgs, app: &App) -> Result<Exit, Fault> {
    match args {
        ConfigArgs::Get { path } => {
            let settings = app.client.settings().await;
            let settings = settings.map_err(|error| Fault::reading("cannot read the settings", error))?.value;
            let mut tree =
                serde_json::to_value(&settings).map_err(|error| Fault::failed(error.to_string()))?;
            let value = find(&mut tree, path.as_deref().unwrap_or_default())?;
            app.face.print(&(setting_text(value, app.face.format) + "\n"))?;
        }
        ConfigArgs::Set { path, value, write } => {
            let changed = app.writer(write).put_setting(path, &plain(value)).await;
            let changed = changed.map_err(|error| {
                Fault::writing("cannot change the settings", "Nothing was changed", error)
            })?;
            app.changed(changed, std::slice::from_ref(path), &format!("{path} = {value}"))?;
        }
    }
    Ok(Exit::DONE)
}

/// A value as it is read: `get -o json` gives a text its quotes.
fn plain(value: &str) -> String {
    serde_json::from_str::<String>(value).unwrap_or_else(|_| value.trim().to_owned())
}

fn setting_text(value: &Value, format: Format) -> String {
    match (value, format) {
        (value, Format::Jsonl) => value.to_string(),
        (Value::String(text), Format::Table | Format::Wide | Format::Name | Format::Html | Format::Svg) => {
            text.clone()
        }
        (value, Format::Table | Format::Wide | Format::Name | Format::Html | Format::Svg | Format::Json) => {
            format!("{value:#}")
        }
    }
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
    fn what_is_no_weight_is_told_the_nearest_that_is_one() {
        assert_eq!((weight("1"), weight("10000")), (Ok(1), Ok(10_000)));
        for (text, nearest) in [("-1", "1"), ("0", "1"), ("20000", "10000"), ("2.6", "3"), ("1e99", "10000")]
        {
            let why = weight(text).unwrap_err();
            assert!(why.contains(&format!("not `{text}`")), "{why}");
            assert!(why.ends_with(&format!("; the nearest is {nearest}")), "{why}");
        }
        for text in ["", "much", "nan", "inf"] {
            let why = weight(text).unwrap_err();
            assert!(why.ends_with(&format!("from 1 to 10000, not `{text}`")), "{why}");
        }
        assert_eq!(share("a=b=7"), Ok(("a=b".to_owned(), 7)));
        assert!(share("ann=-1").unwrap_err().ends_with("; the nearest is 1"));
        assert!(share("=7").unwrap_err().contains("name the user"));
    }

    #[test]
    fn settings_are_named_by_path_and_misspelt_ones_get_a_hint() {
        let mut tree = serde_json::to_value(model::Settings::default()).unwrap();
        assert_eq!(*find(&mut tree, "limits.starve_after_s").unwrap(), serde_json::json!(60));
        let fault = find(&mut tree, "limits.starve_after").unwrap_err();
        assert!(fault.what.ends_with("did you mean `starve_after_s`?"), "{}", fault.what);
        let whole = find(&mut tree, "").unwrap();
        assert!(whole.is_object());
        assert_eq!(setting_text(whole, Format::Jsonl).lines().count(), 1);
        assert_eq!((plain("\"fast\""), plain(" 30 ")), ("fast".to_owned(), "30".to_owned()));
        assert_eq!(setting_text(&"fast".into(), Format::Table), "fast");
        assert_eq!(setting_text(&"fast".into(), Format::Json), "\"fast\"");
    }
}
