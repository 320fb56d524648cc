//! `baton cluster upgrade`: what the cluster does from now on, once all replicas are of a version that can.

use machine::level::begins_with;
use model::views::ClusterView;
use serde::Serialize;

use super::change::ask;
use crate::app::{App, WriteArgs};
use crate::exit::Exit;
use crate::fault::Fault;

/// Raise the behaviour level once all replicas are of a version that knows it; it never goes back
#[derive(Debug, clap::Args)]
pub struct UpgradeArgs {
    /// The level; absent: the highest that any replica knows
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    level: Option<u32>,
    /// Change nothing: say what would begin, and which replicas stand in the way; exit status 4 if any does
    #[arg(long, conflicts_with = "yes")]
    check: bool,
    /// Do not ask first
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// What an upgrade would do, or has done.
#[derive(Debug, Serialize)]
struct Told {
    before: u32,
    level: u32,
    begins: Vec<Begins>,
    /// Replicas that do not know the level, or do not answer.
    lacking: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Begins {
    level: u32,
    what: String,
}

impl Told {
    fn of(view: &ClusterView, level: u32) -> Told {
        let begins = (view.level + 1..=level).map_while(|level| {
            let what = begins_with(level)?.to_owned();
            Some(Begins { level, what })
        });
        let lacking = view.members.iter().filter(|member| member.level_max.is_none_or(|max| max < level));
        let lacking = lacking.map(|member| member.name.clone()).collect();
        Told { before: view.level, level, begins: begins.collect(), lacking, request_id: None, index: None }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Begins { level, what } in &self.begins {
            text += &format!("from level {level} on: {what}\n");
        }
        if self.level > machine::LEVEL {
            text += "this command is of a version that knows nothing of what is above\n";
        }
        text
    }
}

/// The highest that any replica says it knows, and at least what the cluster is at.
pub fn highest(view: &ClusterView) -> u32 {
    view.members.iter().filter_map(|member| member.level_max).max().unwrap_or(0).max(view.level)
}

pub async fn upgrade(args: &UpgradeArgs, app: &App) -> Result<Exit, Fault> {
    let view = app.client.cluster_status().await;
    let view = view.map_err(|error| Fault::reading("cannot see the cluster", error))?;
    let level = args.level.unwrap_or_else(|| highest(&view));
    let mut told = Told::of(&view, level);
    let name = level.to_string();
    if args.level.is_none() && level == view.level {
        let unsaid = view.members.iter().filter(|member| member.level_max.is_none());
        let unsaid: Vec<&str> = unsaid.map(|member| member.name.as_str()).collect();
        let beside = match unsaid[..] {
            [] => String::new(),
            _ => format!("; {} did not say, or did not answer", unsaid.join(", ")),
        };
        let text = format!("level {level} already, the highest that a replica knows{beside}\n");
        app.face.one(&told, &name, || text)?;
        return Ok(Exit::DONE);
    }
    if args.check && level < view.level {
        let what = format!("the cluster is at level {} and cannot go back to {level}", view.level);
        return Err(Fault::new(client::code::CONFLICT, Exit::CONFLICT, what));
    }
    if args.check {
        let stand = if told.lacking.is_empty() {
            "every replica knows it".to_owned()
        } else {
            format!("these do not know it, or do not answer: {}", told.lacking.join(", "))
        };
        let text = format!("level {} to {level}: {stand}\n{}", view.level, told.text());
        app.face.one(&told, &name, || text)?;
        return Ok(if told.lacking.is_empty() { Exit::DONE } else { Exit::CONFLICT });
    }
    if !args.yes && level > view.level {
        let what = format!("this raises the level from {} to {level}, for good", view.level);
        app.face.note(told.text().trim_end());
        ask(app, &what, "say --yes to raise the level", "the level was not raised")?;
    }
    let changed = app.writer(&args.write).upgrade(level).await;
    let changed =
        changed.map_err(|error| Fault::writing("cannot raise the level", "The level is as it was", error))?;
    (told.request_id, told.index) = (Some(changed.request_id.to_string()), Some(changed.index));
    let text = format!("level {level}\n{}", told.text());
    app.face.one(&told, &name, || text)?;
    Ok(Exit::DONE)
}
