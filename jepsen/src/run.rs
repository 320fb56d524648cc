//! One run: start, disturb, heal, drain, read everything, judge.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton_tests::cluster::LOOK_AGAIN;
use client::{Client, JobFilter};
use model::settings::Failover;
use model::views::JobView;
use model::{JobSpec, TaskSpec, Work};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::checks::{self, End, Evidence, Finding};
use crate::clock::{Clock, Stall};
use crate::history::{History, operations};
use crate::ledger;
use crate::nemesis::{self, Deeds, Nemesis, Pace};
use crate::report::{Report, commit};
use crate::watcher::{Seen, watch};
use crate::workload::{self, Shared};
use crate::world::{Shape, World};

#[derive(Clone, Debug)]
pub struct Plan {
    pub shape: Shape,
    pub seed: u64,
    /// How long the schedule of faults lasts.
    pub time: Duration,
    /// Client processes at each replica.
    pub processes: usize,
}

/// A fault and the quiet after it.
const FAULT: Duration = Duration::from_secs(5);
const QUIET: Duration = Duration::from_secs(3);
/// How long the cluster may take to come together, and to run what waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// What was found, as text, and whether it holds.
pub struct Judged {
    pub text: String,
    pub findings: Vec<Finding>,
}

/// Runs it all and leaves `history.edn`, `ledger` and `results.json` in the folder. An error is a run that did not take
/// place.
pub async fn run(plan: &Plan, world: &mut World, folder: &Path) -> Result<Judged, String> {
    if !world.wait_settled(PATIENCE).await {
        return Err("the cluster does not start".to_owned());
    }
    let clock = Clock::start();
    let history = Arc::new(History::new(clock));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let stall = Stall::default();
    let shared = Shared::new(history.clone(), folder.join("ledger"));
    let mut watchers = JoinSet::new();
    watchers.spawn(watch(world.client(), seen.clone()));
    watchers.spawn(stall.clone().watch(clock));
    let load = workload::start(&shared, plan.shape.replicas, plan.processes, plan.seed);
    let deeds = disturb(plan, world, &history, &shared).await;
    nemesis::heal(world)?;
    shared.stop();
    load.join_all().await;
    let answered = workload::drain(&shared, plan.shape.replicas, plan.seed, PATIENCE).await;
    let end = settle(world, answered).await;
    let jobs = read_all(world).await?;
    drop(watchers);

    let seen = seen.lock().expect("nobody panics with it").clone();
    history.write(&folder.join("history.edn"), &world.nodes()).map_err(|error| error.to_string())?;
    let evidence = Evidence {
        operations: operations(&history.entries()),
        jobs,
        ledger: ledger::read(&folder.join("ledger"))?,
        seen,
        deeds,
        end,
        stall: stall.longest(),
        lease: plan.shape.failover.parse::<Failover>()?.lease().ttl,
    };
    judge(plan, folder, clock, &evidence)
}

async fn disturb(plan: &Plan, world: &mut World, history: &Arc<History>, shared: &Arc<Shared>) -> Deeds {
    let windows = (plan.time.as_secs() / (FAULT + QUIET).as_secs()).max(1) as usize;
    let mut nemesis = Nemesis {
        history: history.clone(),
        shared: shared.clone(),
        pace: Pace { fault: FAULT, quiet: QUIET },
        chance: SmallRng::seed_from_u64(plan.seed),
        deeds: Deeds::default(),
    };
    nemesis.run(world, &nemesis::schedule(plan.seed, windows)).await;
    nemesis.deeds
}

/// Quiet, then drain, then a fresh job through each replica.
async fn settle(world: &World, answered: bool) -> End {
    let client = world.client();
    let empty = async {
        while !client.cluster_status().await.is_ok_and(|status| status.unfinished_jobs == 0) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let drained = answered && tokio::time::timeout(PATIENCE, empty).await.is_ok();
    let mut fresh = Vec::new();
    for client in world.clients() {
        let client = client.with_deadline(PATIENCE);
        fresh.push(
            tokio::time::timeout(PATIENCE, complete(&client))
                .await
                .unwrap_or_else(|_| Err("it does not end".into())),
        );
    }
    let settled = world.wait_settled(PATIENCE).await;
    End { settled, drained, views: world.views().await, fresh }
}

async fn complete(client: &Client) -> Result<(), String> {
    let spec = JobSpec::of("fresh", vec![TaskSpec::new("fresh", Work::Run(vec!["true".to_owned()]))]);
    let submitted = client.submit(&spec).await.map_err(|error| format!("not accepted: {error}"))?;
    loop {
        let job = client.get_job(submitted.job).await.map_err(|error| format!("not readable: {error}"))?;
        if job.value.state.is_final() {
            let is_good = job.value.counts.succeeded == 1;
            return if is_good { Ok(()) } else { Err(format!("it is {}", job.value.state)) };
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// All jobs, in a linearizable read through each replica.
async fn read_all(world: &World) -> Result<Vec<Vec<JobView>>, String> {
    let mut all = Vec::new();
    for client in world.clients() {
        let client = client.with_deadline(PATIENCE);
        let (mut jobs, mut before) = (Vec::new(), None);
        loop {
            let page = client.list_jobs(&JobFilter::default(), 1_000, before).await;
            let page = page.map_err(|error| format!("the final reads fail: {error}"))?.value;
            jobs.extend(page.items);
            before = page.next;
            if before.is_none() {
                break;
            }
        }
        all.push(jobs);
    }
    Ok(all)
}

fn judge(plan: &Plan, folder: &Path, clock: Clock, evidence: &Evidence) -> Result<Judged, String> {
    let findings = checks::all(evidence);
    let took = Duration::from_nanos(clock.now());
    let report = Report { plan, commit: commit(), took, evidence, findings: &findings };
    let json = format!("{:#}\n", report.json());
    std::fs::write(folder.join("results.json"), json).map_err(|error| error.to_string())?;
    Ok(Judged { text: report.text(), findings })
}
