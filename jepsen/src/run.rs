//! One run over a ground of real processes: start, disturb, heal, drain, read everything.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton_tests::cluster::LOOK_AGAIN;
use client::{Client, JobFilter};
use model::settings::Failover;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::checks::{End, FinalJob, Kept, View};
use crate::clock::{Clock, Stall};
use crate::ground::Ground;
use crate::history::{Entry, History};
use crate::nemesis::{self, Deeds, Fault, Nemesis, Pace};
use crate::observe::{self, Places, Sheet};
use crate::watcher::{Stream, watch};
use crate::workload::{self, Shared, Workload};

/// What clients and the nemesis are to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workload: Workload,
    pub faults: Vec<Fault>,
    pub seed: u64,
    /// How long the schedule of faults lasts.
    pub time: Duration,
    /// Client processes at each replica.
    pub processes: usize,
    /// What they ask together, a second.
    pub rate: f64,
    /// How long the cluster may take to come together again, and to run what waits.
    pub patience: Duration,
}

/// How long the cluster may take to come together, and to run what waits.
pub const PATIENCE: Duration = Duration::from_secs(150);
/// Between the last heal and the first look.
const QUIET: Duration = Duration::from_secs(1);
/// Finished jobs that the cluster is to keep: all of them, so that none is missed at the end.
const FINISHED_MAX: &str = "100000000";

/// What a run left, beside the files in its folder.
pub struct Left {
    pub entries: Vec<Entry>,
    pub streams: Vec<Stream>,
    pub kept: Kept,
}

/// Runs it all. An error is a run that did not take place.
pub async fn run(plan: &Plan, ground: &mut Ground, say: &dyn Fn(&str)) -> Result<Left, String> {
    say("the cluster comes together");
    if ground.wait_settled(PATIENCE).await.is_none() {
        return Err("the cluster does not start".to_owned());
    }
    let setting = ground.client().put_setting("limits.finished_jobs_max", FINISHED_MAX).await;
    setting.map_err(|error| format!("a setting cannot be changed: {error}"))?;
    for queue in plan.workload.queues() {
        let put = queue.put(&ground.client()).await;
        put.map_err(|error| format!("the queue {} cannot be made: {error}", queue.name()))?;
    }
    let clock = Clock::start();
    let history = Arc::new(History::new(clock));
    let shared = Shared::new(history.clone(), ground.desk(), ground.addresses(), plan.workload);
    let (sheet, places, stall) = (Sheet::default(), Places::default(), Stall::default());
    let (streams, mut looking) = look_on(ground, &shared, clock, &sheet, &places);
    looking.spawn(stall.clone().watch(clock));
    let mut load = workload::start(&shared, plan.processes, plan.rate, plan.seed);
    load.spawn(workload::pulse(shared.clone(), plan.seed));
    say("clients ask, and faults come");
    let deeds = disturb(plan, ground, &shared, places).await;
    nemesis::heal(ground)?;
    let took = clock.now();
    tokio::time::sleep(QUIET).await;
    shared.stop();
    load.join_all().await;
    say("all is healed; what waits is run, and everything is read");
    let answered = workload::drain(&shared, plan.seed, plan.patience).await;
    let mut end = settle(ground, answered, plan.patience).await;
    let jobs = read_all(ground, plan.patience, &mut end).await;
    drop(looking);
    ground.collect()?;
    let failover: Failover = ground.layout().failover.parse()?;
    let kept = Kept {
        jobs,
        deeds,
        observed: sheet.lock().expect("nobody panics with it").clone(),
        end,
        stall: stall.longest().as_nanos() as u64,
        lease: failover.lease().ttl.as_nanos() as u64,
        took,
    };
    let streams =
        streams.iter().map(|stream| stream.lock().expect("nobody panics with it").clone()).collect();
    Ok(Left { entries: history.entries(), streams, kept })
}

type Streams = Vec<Arc<Mutex<Stream>>>;

/// A watcher that begins at each replica, and what else is looked at.
fn look_on(
    ground: &Ground,
    shared: &Arc<Shared>,
    clock: Clock,
    sheet: &Sheet,
    places: &Places,
) -> (Streams, JoinSet<()>) {
    let mut looking = observe::start(shared, clock, sheet, places);
    let addresses = ground.addresses();
    let streams: Streams = addresses.iter().map(|_| Arc::default()).collect();
    for (place, stream) in streams.iter().enumerate() {
        let mut addresses = addresses.clone();
        addresses.rotate_left(place);
        looking.spawn(watch(Client::connect(addresses), stream.clone()));
    }
    (streams, looking)
}

async fn disturb(plan: &Plan, ground: &mut Ground, shared: &Arc<Shared>, places: Places) -> Deeds {
    let windows = nemesis::schedule(&plan.faults, plan.seed, plan.time);
    let until = shared.history.clock().now() + plan.time.as_nanos() as u64;
    let failover: Failover = ground.layout().failover.parse().unwrap_or_default();
    let lease = failover.lease();
    let chance = SmallRng::seed_from_u64(plan.seed);
    let mut nemesis = Nemesis::new(shared.clone(), chance, lease.ttl + lease.margin, places);
    nemesis.skip_impossible(&plan.faults);
    nemesis.run(ground, &windows, Pace::of(plan.time), until).await;
    nemesis.deeds
}

/// Quiet, then drain, then a fresh job through each replica.
async fn settle(ground: &Ground, answered: bool, patience: Duration) -> End {
    let client = ground.client();
    let empty = async {
        while !client.cluster_status().await.is_ok_and(|status| status.unfinished_jobs == 0) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let drained = answered && tokio::time::timeout(patience, empty).await.is_ok();
    let mut fresh = Vec::new();
    for client in ground.clients() {
        let client = client.with_deadline(patience);
        let job = tokio::time::timeout(patience, nemesis::run_job(&client, "fresh")).await;
        fresh.push(job.unwrap_or_else(|_| Err("it does not end".into())));
    }
    // A busy machine may make one of them wait for a heartbeat: what does not pass is seen at the last look too.
    let settled = ground.wait_settled(patience).await;
    let view = |view: model::views::ClusterView| View {
        applied: view.applied,
        digest: view.digest,
        alarms: view.alarms,
    };
    let is_settled = settled.is_some();
    let views = match settled {
        Some(views) => views.into_iter().map(Some).collect(),
        None => ground.views().await,
    };
    let views = views.into_iter().map(|seen| seen.map(view)).collect();
    End { settled: is_settled, drained, views, fresh, unread: Vec::new() }
}

/// All jobs, in a linearizable read through each replica that can still be read.
async fn read_all(ground: &Ground, patience: Duration, end: &mut End) -> Vec<Vec<FinalJob>> {
    let mut all = Vec::new();
    for (place, client) in ground.clients().into_iter().enumerate() {
        match read_jobs(&client.with_deadline(patience)).await {
            Ok(jobs) => all.push(jobs),
            Err(error) => end.unread.push(format!("n{}: {error}", place + 1)),
        }
    }
    all
}

async fn read_jobs(client: &Client) -> Result<Vec<FinalJob>, client::Error> {
    let (mut jobs, mut before) = (Vec::new(), None);
    loop {
        let page = client.list_jobs(&JobFilter::default(), 1_000, before).await?.value;
        jobs.extend(page.items.iter().map(final_job));
        before = page.next;
        if before.is_none() {
            return Ok(jobs);
        }
    }
}

fn final_job(job: &model::views::JobView) -> FinalJob {
    FinalJob {
        id: job.id,
        key: job.labels.get("key").and_then(|key| key.parse().ok()),
        shape: job.labels.get("shape").cloned(),
        state: job.state,
        succeeded: job.counts.succeeded,
        finished: job.counts.finished(),
    }
}

/// Copies of a folder's files that a run wrote.
pub fn folder(prefix: &str) -> Result<tempfile::TempDir, String> {
    let name = format!("{prefix}-{}-", std::process::id());
    tempfile::Builder::new().prefix(&name).tempdir().map_err(|error| format!("no working folder: {error}"))
}

/// Where working folders lie.
pub fn folders() -> std::path::PathBuf {
    std::env::temp_dir()
}

/// Removes working folders of runs that were killed themselves.
pub fn sweep_folders(prefix: &str) {
    let Ok(entries) = std::fs::read_dir(folders()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let Some(rest) = name.strip_prefix(&format!("{prefix}-")) else { continue };
        if crate::ground::net::is_dead(rest) {
            sweep(&entry.path());
        }
    }
}

fn sweep(folder: &Path) {
    baton_tests::process::sweep(folder);
    let _ = std::fs::remove_dir_all(folder);
}
