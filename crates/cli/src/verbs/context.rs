//! `baton context`: names for clusters, kept in the configuration folder.

use serde::Serialize;

use crate::app::App;
use crate::config::{Context, Contexts};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::paint::Tone;
use crate::output::rows::{Row, View};
use crate::output::table::Cell;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// List the contexts
    List,
    /// Talk to this one from now on
    Use { name: String },
    /// Add a context, or change it; its replicas come with --servers
    Add { name: String },
    /// Remove a context
    Remove { name: String },
}

#[derive(Serialize)]
struct Named {
    name: String,
    servers: Vec<String>,
    is_current: bool,
}

impl Row for Named {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(_: bool) -> Vec<&'static str> {
        vec!["context", "servers"]
    }

    fn cells(&self, _: View) -> Vec<Cell> {
        let mark = if self.is_current { "* " } else { "  " };
        let tone = if self.is_current { Tone::Bold } else { Tone::Plain };
        vec![Cell::toned(format!("{mark}{}", self.name), tone), self.servers.join(",").into()]
    }
}

pub fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let mut all = Contexts::load()?;
    match args {
        Args::List => return list(&all, app),
        Args::Use { name } => {
            known(&all, name)?;
            all.current = Some(name.clone());
        }
        Args::Add { name } => {
            // Given by flag, environment or the context in use: whatever this call would talk to.
            let context = Context { servers: app.config.servers.clone() };
            all.contexts.insert(name.clone(), context);
            all.current.get_or_insert_with(|| name.clone());
        }
        Args::Remove { name } => {
            known(&all, name)?;
            all.contexts.remove(name);
            all.current = all.current.filter(|current| current != name);
        }
    }
    all.save()?;
    Ok(Exit::DONE)
}

fn known(all: &Contexts, name: &str) -> Result<(), Fault> {
    if all.contexts.contains_key(name) {
        return Ok(());
    }
    Err(Fault::not_found(format!("there is no context `{name}`")).fix("see `baton context list`"))
}

fn list(all: &Contexts, app: &App) -> Result<Exit, Fault> {
    let named = |(name, context): (&String, &Context)| Named {
        name: name.clone(),
        servers: context.servers.clone(),
        is_current: all.current.as_ref() == Some(name),
    };
    let list: Vec<Named> = all.contexts.iter().map(named).collect();
    app.face.list(&list, None)?;
    Ok(Exit::DONE)
}
