//! `baton booking`: capacity that only one queue may use for a time, or nobody.

use std::time::Duration;

use client::Booking;
use model::resources::parse_amount;
use model::views::BookingView;
use model::{Constraint, Resources, Timestamp};

use crate::app::{App, WriteArgs};
use crate::clock;
use crate::config::duration;
use crate::exit::Exit;
use crate::fault::Fault;
use crate::output::paint::Tone;
use crate::output::rows::{Row, View};
use crate::output::table::Cell;
use crate::output::times::{short, when};
use crate::select::label;

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// List what is booked, now and later
    List,
    /// Book capacity for a queue, or for nobody (a maintenance window); one of that name is made anew
    Put(Box<PutArgs>),
    /// Give it back
    Delete {
        name: String,
        #[command(flatten)]
        write: WriteArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct PutArgs {
    name: String,
    /// Whose tasks may use it; absent: nobody's
    #[arg(long)]
    queue: Option<String>,
    /// From when on; absent: from now
    #[arg(long, value_name = "TIME", conflicts_with = "in_time")]
    from: Option<Timestamp>,
    /// From so long from now: 30m
    #[arg(long = "in", value_name = "TIME", value_parser = duration)]
    in_time: Option<Duration>,
    /// For how long: 2h; 1s to 366 days
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    length: Duration,
    /// All of this worker; may be given again
    #[arg(long = "worker", value_name = "NAME", conflicts_with_all = ["count", "cpu", "memory", "resources"])]
    workers: Vec<String>,
    /// How many times, each on one worker; once unless given
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Cores: 2, 0.5
    #[arg(long)]
    cpu: Option<String>,
    /// 512MiB, 1.5GB
    #[arg(long)]
    memory: Option<String>,
    /// Any other resource: disk=10GiB, gpu=1
    #[arg(long = "resource", value_name = "NAME=AMOUNT", value_parser = label)]
    resources: Vec<(String, String)>,
    /// Only of workers with these labels: zone=eu
    #[arg(long = "constraint", value_name = "CONSTRAINT")]
    constraints: Vec<Constraint>,
    #[command(flatten)]
    write: WriteArgs,
}

pub async fn run(args: &Args, app: &App) -> Result<Exit, Fault> {
    let (name, done, result) = match args {
        Args::List => return list(app).await,
        Args::Put(put) => {
            let booking = put.booking()?;
            (&put.name, "is booked", app.writer(&put.write).put_booking(&booking).await)
        }
        Args::Delete { name, write } => (name, "is given back", app.writer(write).delete_booking(name).await),
    };
    let doing = format!("cannot change booking \"{name}\"");
    let changed = result.map_err(|error| Fault::writing(&doing, "Nothing was changed", error))?;
    app.changed(changed, std::slice::from_ref(name), &format!("booking {name} {done}"))?;
    Ok(Exit::DONE)
}

impl PutArgs {
    fn booking(&self) -> Result<Booking, Fault> {
        let resources = self.asked().map_err(Fault::usage)?;
        if self.workers.is_empty() && resources.is_empty() {
            let fault = Fault::usage("a booking is of something");
            return Err(fault.fix("name workers with `--worker NAME`, or say what with `--cpu 4 --count 2`"));
        }
        let count = if self.workers.is_empty() { self.count.unwrap_or(1) } else { 0 };
        Ok(Booking {
            name: self.name.clone(),
            queue: self.queue.clone(),
            from: self.from.or_else(|| self.in_time.map(|wait| clock::now().plus(wait))),
            length: self.length,
            workers: self.workers.clone(),
            count,
            resources,
            constraints: self.constraints.clone(),
        })
    }

    fn asked(&self) -> Result<Resources, String> {
        let mut resources = Resources::default();
        let fixed = [("cpu", &self.cpu), ("memory", &self.memory)];
        let fixed = fixed.into_iter().filter_map(|(name, text)| Some((name, text.as_deref()?)));
        let others = self.resources.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        for (name, text) in fixed.chain(others) {
            let amount = parse_amount(name, text).map_err(|error| format!("{name}: {error}"))?;
            resources.set(name, amount);
        }
        Ok(resources)
    }
}

async fn list(app: &App) -> Result<Exit, Fault> {
    let bookings = app.client.bookings().await;
    let bookings = bookings.map_err(|error| Fault::reading("cannot list bookings", error))?.value;
    app.face.list(&bookings, None)?;
    Ok(Exit::DONE)
}

impl Row for BookingView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let wide: &[&str] = if is_wide { &["parts"] } else { &[] };
        ["booking", "queue", "begins", "for", "workers", "state"].iter().chain(wide).copied().collect()
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let free = self.parts.iter().filter(|part| part.is_free).count();
        let state = match () {
            () if !self.has_begun => Cell::toned("○ to come", Tone::Dim),
            () if free == self.parts.len() => Cell::toned("● kept", Tone::Good),
            () => {
                let left = self.parts.len() - free;
                Cell::toned(format!("‖ others still run on {left}"), Tone::Warn)
            }
        };
        let mut cells = vec![
            self.name.clone().into(),
            self.queue.clone().unwrap_or_else(|| "-".to_owned()).into(),
            when(self.from, view.now).into(),
            short(self.to.since(self.from)).into(),
            self.parts.len().to_string().into(),
            state,
        ];
        if view.is_wide {
            let parts: Vec<String> =
                self.parts.iter().map(|part| format!("{} ({})", part.worker, part.resources)).collect();
            cells.push(parts.join(", ").into());
        }
        cells
    }
}
