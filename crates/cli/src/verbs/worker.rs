//! `baton worker`: starts a worker process; with a verb behind it, looks after the workers of the cluster.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::{Client, Event};
use model::resources::{Offer, parse_amount};
use model::size::PARTS;
use model::views::{WorkerState, WorkerView};
use serde::Deserialize;
use worker::{Left, Worker};

use super::watch::{Watch, WatchArgs};
use crate::app::{App, WriteArgs};
use crate::config::{Config, duration};
use crate::exit::Exit;
use crate::fault::Fault;
use crate::logging::LogArgs;
use crate::select::label;
use crate::{signals, tether};

/// Start a worker, or look after those that run
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    pub noun: Option<Noun>,
    #[command(flatten)]
    pub process: ProcessArgs,
}

/// A worker process; its replicas come with --servers.
#[derive(Debug, clap::Args)]
pub struct ProcessArgs {
    /// Read settings from this file (TOML); flags and BATON_* come before it
    #[arg(long, env = "BATON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name of the worker, its own in the cluster; absent: the host's
    #[arg(long, env = "BATON_NAME")]
    name: Option<String>,
    /// Where it keeps its identity, the output of tasks and their working directories
    #[arg(long, env = "BATON_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Cores it offers; absent: those of the host
    #[arg(long, env = "BATON_CPU")]
    cpu: Option<String>,
    /// Memory it offers; absent: that of the host
    #[arg(long, env = "BATON_MEMORY")]
    memory: Option<String>,
    /// Any other resource: gpu=2 are two units that can be told apart, licence=sum(10) is a sum
    #[arg(long = "resource", env = "BATON_RESOURCES", value_name = "NAME=AMOUNT", value_parser = offer, value_delimiter = ',')]
    resources: Vec<(String, Offer)>,
    /// A label that tasks can ask for
    #[arg(long = "label", env = "BATON_LABELS", value_name = "KEY=VALUE", value_parser = label, value_delimiter = ',')]
    labels: Vec<(String, String)>,
    /// Where secrets lie, one per file
    #[arg(long, env = "BATON_SECRETS_DIR", value_name = "DIR")]
    secrets_dir: Option<PathBuf>,
    /// How long a SIGTERM waits for what runs; absent: 30s
    #[arg(long, env = "BATON_DRAIN_TIMEOUT", value_parser = duration)]
    drain_timeout: Option<Duration>,
    #[command(flatten)]
    log: LogArgs,
}

/// Units that can be told apart, up to this many; more of a thing is a sum.
const UNITS_MAX: u64 = 1_024;

fn offer(text: &str) -> Result<(String, Offer), String> {
    let (name, amount) = label(text)?;
    if let Some(sum) = amount.strip_prefix("sum(").and_then(|rest| rest.strip_suffix(')')) {
        return Ok((name.clone(), Offer::Sum(parse_amount(&name, sum)?)));
    }
    let parts = parse_amount(&name, &amount)?;
    let is_plain = matches!(name.as_str(), "disk" | "network" | "cpu" | "memory");
    if is_plain || !parts.is_multiple_of(PARTS) || parts / PARTS > UNITS_MAX {
        return Ok((name, Offer::Sum(parts)));
    }
    Ok((name, Offer::Indexed((parts / PARTS) as u32)))
}

/// Keys of `--config`. Flags and variables come before them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    servers: Option<Vec<String>>,
    name: Option<String>,
    data_dir: Option<PathBuf>,
    cpu: Option<Amount>,
    memory: Option<Amount>,
    resources: BTreeMap<String, Amount>,
    labels: BTreeMap<String, String>,
    secrets_dir: Option<PathBuf>,
    #[serde(with = "model::time::optional_duration")]
    drain_timeout: Option<Duration>,
}

/// As it is written: `4`, `0.5` or `"8GiB"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Amount {
    Whole(u64),
    Part(f64),
    Text(String),
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Whole(number) => number.fmt(f),
            Amount::Part(number) => number.fmt(f),
            Amount::Text(text) => text.fmt(f),
        }
    }
}

impl File {
    fn read(path: &Path) -> Result<File, Fault> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Fault::of_file("cannot read --config", path, &error))?;
        toml::from_str(&text).map_err(|error| {
            let fault = Fault::usage(format!("{} is not valid", path.display()));
            error.to_string().trim_end().lines().fold(fault, |fault, line| fault.why(line))
        })
    }
}

impl ProcessArgs {
    fn config(&self, config: &Config) -> Result<worker::Config, Fault> {
        let file = self.config.as_deref().map_or_else(|| Ok(File::default()), File::read)?;
        self.over(file, config)
    }

    fn over(&self, file: File, config: &Config) -> Result<worker::Config, Fault> {
        let servers = match file.servers {
            Some(servers) if !config.is_addressed => servers,
            Some(_) | None => config.servers.clone(),
        };
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let name = self.name.clone().or(file.name).or_else(host).unwrap_or_else(|| "worker".to_owned());
        let data_dir = self.data_dir.clone().or(file.data_dir);
        let data_dir = data_dir.ok_or_else(|| Fault::usage("baton worker needs --data-dir"))?;
        let mut made = worker::Config::new(&name, servers, data_dir);
        let named = [("cpu", &self.cpu, file.cpu), ("memory", &self.memory, file.memory)];
        for (name, flag, in_file) in named {
            let Some(text) = flag.clone().or(in_file.map(|amount| amount.to_string())) else { continue };
            let amount =
                parse_amount(name, &text).map_err(|error| Fault::usage(format!("--{name}: {error}")))?;
            made.capacity.total.set(name, amount);
        }
        for (name, amount) in file.resources {
            let (name, offer) = offer(&format!("{name}={amount}"))
                .map_err(|error| Fault::usage(format!("resources.{name}: {error}")))?;
            made.capacity.offer(&name, offer);
        }
        for (name, offer) in &self.resources {
            made.capacity.offer(name, *offer);
        }
        made.labels = file.labels.into_iter().chain(self.labels.iter().cloned()).collect();
        made.secrets_dir = self.secrets_dir.clone().or(file.secrets_dir);
        made.drain_timeout = self.drain_timeout.or(file.drain_timeout).unwrap_or(made.drain_timeout);
        #[cfg(feature = "chaos")]
        crate::chaos::arm_worker(&mut made);
        Ok(made)
    }
}

pub async fn process(args: &ProcessArgs, config: &Config) -> Result<Exit, Fault> {
    tether::tie()?;
    args.log.start()?;
    let made = args.config(config)?;
    let (name, servers) = (made.name.clone(), made.servers.clone());
    let worker = Worker::builder(made).start().await.map_err(|error| fault(&name, &error))?;
    let handle = worker.handle();
    let cluster = Client::connect(servers).with_deadline(TELL_WITHIN);
    let was_cordoned = Cell::new(false);
    let leaving = async {
        signals::asked_to_end().await;
        handle.drain();
        let told = async { was_cordoned.set(tell_drain(&cluster, &name).await) };
        // Asked twice, it leaves at once; what runs stays with the keeper until the lease ends.
        let asked_again = async {
            signals::asked_to_end().await;
            handle.leave();
        };
        tokio::join!(told, asked_again);
        std::future::pending::<Left>().await
    };
    let left = tokio::select! {
        left = worker.run() => left.map_err(|error| fault(&name, &error))?,
        left = leaving => left,
    };
    match left {
        Left::Drained => tracing::info!(worker = %name, "drained and left"),
        Left::LeftRunning => {
            take_back_drain(&cluster, &name, was_cordoned.get()).await;
            tracing::info!(worker = %name, "left; what runs stays with its keeper until the lease ends");
        }
    }
    Ok(Exit::DONE)
}

/// How long the cluster may take to hear of a drain; the worker drains all the same.
const TELL_WITHIN: Duration = Duration::from_secs(5);

/// Lets the cluster place nothing more here. Returns whether somebody had cordoned the worker before.
async fn tell_drain(cluster: &Client, name: &str) -> bool {
    let is_cordoned = |worker: &WorkerView| worker.name == name && worker.state == WorkerState::Cordoned;
    let was_cordoned = cluster.workers().await.is_ok_and(|read| read.value.iter().any(is_cordoned));
    if let Err(error) = cluster.drain(name).await {
        tracing::warn!(worker = %name, %error, "the cluster does not know that this worker drains");
    }
    was_cordoned
}

/// A worker that is started now takes over what still runs: it is not to drain because this process did.
async fn take_back_drain(cluster: &Client, name: &str, was_cordoned: bool) {
    let mut taken_back = cluster.uncordon(name).await;
    if was_cordoned && taken_back.is_ok() {
        taken_back = cluster.cordon(name).await;
    }
    if let Err(error) = taken_back {
        tracing::warn!(worker = %name, %error, "the cluster still counts this worker as draining");
    }
}

fn fault(name: &str, error: &(dyn std::error::Error + 'static)) -> Fault {
    Fault::failed(format!("worker {name}: {error}")).because(error)
}

#[derive(Debug, clap::Subcommand)]
pub enum Noun {
    /// List workers
    List(WatchArgs),
    /// Give a worker no new work
    Cordon(Name),
    /// Give it work again
    Uncordon(Name),
    /// Give it no new work and let it leave when it is idle
    Drain(Name),
    /// Forget a worker that is gone
    Forget(Name),
}

#[derive(Debug, clap::Args)]
pub struct Name {
    name: String,
    #[command(flatten)]
    write: WriteArgs,
}

async fn list(args: &WatchArgs, app: &App) -> Result<Exit, Fault> {
    // Lists show what each worker runs.
    let is_relevant = |event: &Event| matches!(event, Event::Worker { .. } | Event::Tasks { .. });
    let mut watch = Watch::new(app, is_relevant);
    loop {
        if args.watch {
            watch.changed().await?;
        }
        let workers = app.client.workers().await;
        let workers = workers.map_err(|error| Fault::reading("cannot list workers", error))?.value;
        if !args.watch {
            app.face.list(&workers, None)?;
            return Ok(Exit::DONE);
        }
        watch.draw(&app.face.list_text(&workers, None)?)?;
    }
}

pub async fn noun(args: &Noun, app: &App) -> Result<Exit, Fault> {
    let (of, done, result) = match args {
        Noun::List(args) => return list(args, app).await,
        Noun::Cordon(of) => (of, "takes no new work", app.writer(&of.write).cordon(&of.name).await),
        Noun::Uncordon(of) => (of, "takes work again", app.writer(&of.write).uncordon(&of.name).await),
        Noun::Drain(of) => (of, "leaves when it is idle", app.writer(&of.write).drain(&of.name).await),
        Noun::Forget(of) => (of, "is forgotten", app.writer(&of.write).forget_worker(&of.name).await),
    };
    let doing = format!("cannot change worker \"{}\"", of.name);
    let changed = result.map_err(|error| Fault::writing(&doing, "Nothing was changed", error))?;
    app.changed(changed, std::slice::from_ref(&of.name), &format!("worker {} {done}", of.name))?;
    Ok(Exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Global;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        process: ProcessArgs,
    }

    fn made(line: &[&str], file: &str, global: &Global) -> Result<worker::Config, Fault> {
        let line = <Line as clap::Parser>::try_parse_from(std::iter::once(&"worker").chain(line)).unwrap();
        line.process.over(toml::from_str(file).unwrap(), &Config::merged(global)?)
    }

    #[test]
    fn flags_come_before_the_file() {
        let file = "servers = [\"f:1\"]\nname = \"file\"\ndata_dir = \"/d\"\ncpu = 4\nmemory = \"1GiB\"\n\
                    drain_timeout = \"5s\"\nlabels = {zone = \"eu\", ssd = \"yes\"}\nresources = {gpu = 2}\n";
        let worker = made(&[], file, &Global::default()).unwrap();
        assert_eq!((worker.name.as_str(), &worker.servers[..]), ("file", &["f:1".to_owned()][..]));
        assert_eq!((worker.capacity.total.cpu, worker.capacity.total.memory), (40_000, 1 << 30));
        assert_eq!((worker.labels["zone"].as_str(), worker.drain_timeout), ("eu", Duration::from_secs(5)));
        let flags = ["--name", "flag", "--cpu", "0.5", "--label", "zone=us", "--drain-timeout", "1s"];
        let global = Global { servers: vec!["g:1".to_owned()], ..Global::default() };
        let worker = made(&flags, file, &global).unwrap();
        assert_eq!((worker.name.as_str(), &worker.servers[..]), ("flag", &["g:1".to_owned()][..]));
        assert_eq!((worker.capacity.total.cpu, worker.drain_timeout), (5_000, Duration::from_secs(1)));
        assert_eq!((worker.labels["zone"].as_str(), worker.labels["ssd"].as_str()), ("us", "yes"));
        assert!(toml::from_str::<File>("cpus = 4").is_err());
        assert_eq!(made(&[], "", &Global::default()).unwrap_err().exit, Exit::USAGE);
    }

    #[test]
    fn whole_counts_are_units_and_the_rest_are_sums() {
        assert_eq!(offer("gpu=2"), Ok(("gpu".to_owned(), Offer::Indexed(2))));
        assert_eq!(offer("licence=sum(10)"), Ok(("licence".to_owned(), Offer::Sum(100_000))));
        assert_eq!(offer("share=0.5"), Ok(("share".to_owned(), Offer::Sum(5_000))));
        assert_eq!(offer("disk=10GiB"), Ok(("disk".to_owned(), Offer::Sum(10 << 30))));
        assert!(offer("gpu").is_err() && offer("gpu=many").is_err());
    }
}
