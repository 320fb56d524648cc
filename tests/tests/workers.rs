//! Workers are killed, restarted, frozen and drained; every attempt has one owner.

use std::path::{Path, PathBuf};

use baton_tests::cluster::{Cluster, Layout, wait_until};
use baton_tests::jobs::{
    assert_kept, command_job, gated_job, ledger_job, running, succeeded, task_in, tasks,
};
use baton_tests::ledger::{Attempt, Ledger};
use baton_tests::load::Load;
use baton_tests::process::{is_alive, processes_of};
use client::{Client, Submitted};
use model::views::{TaskState, TaskView, WorkerState, WorkerView};
use model::{JobId, Reason, Verdict};
use nix::sys::signal::Signal;

struct World {
    cluster: Cluster,
    client: Client,
    ledger: PathBuf,
    gate: PathBuf,
}

impl World {
    async fn new(layout: Layout) -> World {
        let cluster = Cluster::with(layout).await;
        let (ledger, gate) = (cluster.folder().join("ledger"), cluster.folder().join("gate"));
        World { client: cluster.client(), ledger, gate, cluster }
    }

    /// A task that runs on `w1` until the gate opens, and its process.
    async fn gated_task(&self) -> (JobId, Attempt, i32) {
        let job = self.client.submit(&gated_job(&self.ledger, &self.gate, 1)).await.expect("accepted").job;
        let ledger = running(&self.ledger, 1).await;
        let (attempt, pid) = ledger.running().pop_first().expect("one runs");
        let task = task_in(&self.client, job, 0, TaskState::Running).await;
        assert_eq!(task.worker.as_deref(), Some("w1"));
        (job, attempt, pid)
    }

    fn open_gate(&self) {
        std::fs::write(&self.gate, "").expect("the gate opens");
    }

    /// The one task of the job, once it has succeeded.
    async fn done(&self, job: JobId) -> TaskView {
        succeeded(&self.client, job).await;
        tasks(&self.client, job).await.remove(0)
    }

    async fn worker(&self, name: &str) -> Option<WorkerView> {
        let workers = self.client.workers().await.ok()?.value;
        workers.into_iter().find(|worker| worker.name == name)
    }

    async fn wait_worker(&self, name: &str, state: WorkerState) {
        wait_until(&format!("{name} is {state}"), async || {
            self.worker(name).await.is_some_and(|worker| worker.state == state)
        })
        .await;
    }

    fn assert_one_start_each(&self) -> Ledger {
        let ledger = Ledger::read(&self.ledger);
        assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
        ledger
    }
}

/// Signals everything of a worker: itself, its keeper, its attempts.
fn signal_host(data_dir: &Path, signal: Signal) {
    for pid in processes_of(data_dir) {
        // Some of them last only a moment.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_and_restarted_finds_its_attempts_in_the_same_processes() {
    let mut world = World::new(Layout::of(3, 1).patient()).await;
    let (job, attempt, pid) = world.gated_task().await;
    let keeper = world.cluster.keeper("w1").expect("a keeper holds the attempt");
    world.cluster.workers[0].kill();
    assert!(is_alive(pid) && is_alive(keeper), "the attempt died with its worker");
    world.cluster.workers[0].start();
    let second = world.client.submit(&command_job("more", &["true"])).await.expect("accepted").job;
    succeeded(&world.client, second).await;
    assert_eq!(world.cluster.keeper("w1"), Some(keeper), "the keeper was replaced");
    world.open_gate();
    let task = world.done(job).await;
    assert_eq!((task.attempt, task.earlier.len()), (1, 0), "{task:#?}");
    assert_eq!(world.assert_one_start_each().ends.get(&attempt), Some(&vec![pid]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_the_worker_is_gone_is_reported_when_it_is_back() {
    let mut world = World::new(Layout::of(3, 1).patient()).await;
    let (job, attempt, pid) = world.gated_task().await;
    world.cluster.workers[0].kill();
    world.open_gate();
    wait_until("the attempt ends", async || !is_alive(pid)).await;
    world.cluster.workers[0].start();
    let task = world.done(job).await;
    assert_eq!((task.attempt, task.outcome.map(|outcome| outcome.exit_code)), (1, Some(Some(0))));
    assert_eq!(world.assert_one_start_each().ends.get(&attempt), Some(&vec![pid]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_gone_for_good_loses_its_attempts_to_another() {
    let mut world = World::new(Layout::of(3, 1)).await;
    let (job, first, _) = world.gated_task().await;
    world.cluster.add_worker("w2", &[]);
    world.wait_worker("w2", WorkerState::Live).await;
    world.cluster.workers[0].kill();
    signal_host(&world.cluster.data_dir("w1"), Signal::SIGKILL);
    wait_until("another attempt starts", async || Ledger::read(&world.ledger).starts.len() == 2).await;
    world.open_gate();
    let task = world.done(job).await;
    assert_eq!((task.attempt, task.worker.as_deref()), (2, Some("w2")));
    let lost = &task.earlier[0];
    assert_eq!((lost.verdict, lost.reason, lost.worker.as_str()), (Verdict::Lost, Reason::WorkerLost, "w1"));
    let ledger = world.assert_one_start_each();
    assert!(ledger.starts.keys().all(|attempt| *attempt == first || attempt.token > first.token));
    world.wait_worker("w1", WorkerState::Gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_frozen_past_its_lease_is_fenced_and_its_work_runs_elsewhere() {
    let mut world = World::new(Layout::of(3, 1)).await;
    let (job, first, pid) = world.gated_task().await;
    world.cluster.add_worker("w2", &[]);
    world.wait_worker("w2", WorkerState::Live).await;
    // The worker alone: its keeper still counts the lease, and ends the attempt before another can begin.
    world.cluster.workers[0].freeze().await;
    wait_until("another attempt starts", async || {
        let has_second = Ledger::read(&world.ledger).starts.len() == 2;
        assert!(!has_second || !is_alive(pid), "two processes run the task at once");
        has_second
    })
    .await;
    world.cluster.workers[0].thaw();
    world.wait_worker("w1", WorkerState::Live).await;
    world.open_gate();
    let task = world.done(job).await;
    assert_eq!((task.attempt, task.worker.as_deref()), (2, Some("w2")));
    assert_eq!(task.earlier[0].verdict, Verdict::Lost);
    let ledger = world.assert_one_start_each();
    assert!(!ledger.ends.contains_key(&first), "the fenced attempt came to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_frozen_past_its_lease_cannot_decide_the_task_when_it_thaws() {
    let mut world = World::new(Layout::of(3, 1)).await;
    let (job, first, pid) = world.gated_task().await;
    world.cluster.add_worker("w2", &[]);
    world.wait_worker("w2", WorkerState::Live).await;
    signal_host(&world.cluster.data_dir("w1"), Signal::SIGSTOP);
    wait_until("another attempt starts", async || Ledger::read(&world.ledger).starts.len() == 2).await;
    let second = Ledger::read(&world.ledger).starts.into_keys().find(|attempt| *attempt != first);
    signal_host(&world.cluster.data_dir("w1"), Signal::SIGCONT);
    // Its keeper ends it as soon as it can act, though the gate is still shut.
    wait_until("the old attempt is ended", async || !is_alive(pid)).await;
    world.wait_worker("w1", WorkerState::Live).await;
    world.open_gate();
    let task = world.done(job).await;
    let outcome = task.outcome.expect("it has ended");
    assert_eq!(Some(outcome.token.0), second.map(|attempt| attempt.token));
    assert_eq!((outcome.worker.as_str(), outcome.attempt), ("w2", 2));
    world.assert_one_start_each();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_may_keep_running_outlives_the_lease_of_its_worker() {
    let mut world = World::new(Layout::of(3, 1)).await;
    let mut spec = gated_job(&world.ledger, &world.gate, 1);
    spec.on_disconnect = model::OnDisconnect::Keep;
    let job = world.client.submit(&spec).await.expect("accepted").job;
    let (first, pid) = running(&world.ledger, 1).await.running().pop_first().expect("one runs");
    world.cluster.add_worker("w2", &[]);
    world.wait_worker("w2", WorkerState::Live).await;
    world.cluster.workers[0].freeze().await;
    wait_until("another attempt starts", async || Ledger::read(&world.ledger).starts.len() == 2).await;
    assert!(is_alive(pid), "it was told to keep running");
    world.open_gate();
    let task = world.done(job).await;
    let outcome = task.outcome.expect("it has ended");
    assert!(outcome.token.0 > first.token, "the older one was not fenced");
    world.cluster.workers[0].thaw();
    world.assert_one_start_each();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_told_to_leave_finishes_what_runs_and_takes_nothing_new() {
    let mut world = World::new(Layout::of(3, 1)).await;
    let (job, attempt, pid) = world.gated_task().await;
    world.cluster.add_worker("w2", &[]);
    world.wait_worker("w2", WorkerState::Live).await;
    world.cluster.workers[0].signal(Signal::SIGTERM);
    wait_until("w1 drains", async || {
        world.worker("w1").await.is_some_and(|worker| worker.state == WorkerState::Draining)
    })
    .await;
    let other = world.client.submit(&ledger_job(&world.ledger, 4, "0.1")).await.expect("accepted").job;
    succeeded(&world.client, other).await;
    for task in tasks(&world.client, other).await {
        assert_eq!(task.worker.as_deref(), Some("w2"), "{task:#?}");
    }
    assert!(world.cluster.workers[0].is_running(), "it left before its task had ended");
    world.open_gate();
    let status = world.cluster.workers[0].ended().await;
    assert!(status.success(), "{status}");
    let task = world.done(job).await;
    assert_eq!((task.attempt, task.worker.as_deref()), (1, Some("w1")));
    assert_eq!(world.assert_one_start_each().ends.get(&attempt), Some(&vec![pid]));
    world.wait_worker("w1", WorkerState::Gone).await;
    let data_dir = world.cluster.data_dir("w1");
    wait_until("nothing of w1 is left", async || processes_of(&data_dir).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cordoned_worker_takes_nothing_until_it_is_uncordoned() {
    let world = World::new(Layout::of(3, 1)).await;
    world.client.cordon("w1").await.expect("cordoned");
    let job = world.client.submit(&command_job("waits", &["true"])).await.expect("accepted").job;
    let explained = world.client.explain(job, None).await.expect("explained").value;
    assert_eq!(explained.state, TaskState::Ready);
    assert!(explained.reasons.iter().any(|reason| reason.workers == ["w1"]), "{explained:#?}");
    world.client.uncordon("w1").await.expect("uncordoned");
    world.done(job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_is_gone_with_all_its_processes() {
    let world = World::new(Layout::of(3, 1)).await;
    let child = world.cluster.folder().join("child");
    // A child in a session of its own, which no signal to the group reaches.
    let script = format!("setsid sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", child.display());
    let job =
        world.client.submit(&command_job("stubborn", &["sh", "-c", &script])).await.expect("accepted").job;
    wait_until("its child runs", async || child.exists()).await;
    let pid: i32 = std::fs::read_to_string(&child).expect("its pid").trim().parse().expect("a number");
    assert!(is_alive(pid));
    world.client.cancel(&[client::Target::job(job)]).await.expect("cancelled");
    task_in(&world.client, job, 0, TaskState::Cancelled).await;
    wait_until("its processes are gone", async || !is_alive(pid)).await;
    let next = world.client.submit(&command_job("next", &["true"])).await.expect("accepted").job;
    world.done(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_die_freeze_and_return_under_load_and_nothing_acknowledged_is_lost_or_started_twice() {
    let mut world = World::new(Layout::of(3, 3)).await;
    let load = Load::start(vec![world.client.clone(), world.client.clone()], &world.ledger);
    load.wait_more(10).await;
    // Back within its lease, it finds what its keeper holds.
    world.cluster.workers[0].kill();
    load.wait_more(5).await;
    world.cluster.workers[0].start();
    // Gone for good, with all that ran there.
    world.cluster.workers[2].kill();
    signal_host(&world.cluster.data_dir("w3"), Signal::SIGKILL);
    load.wait_more(5).await;
    // Silent past its lease: the others do its work, and when it is back it has lost it.
    world.cluster.workers[1].freeze().await;
    world.wait_worker("w2", WorkerState::Gone).await;
    load.wait_more(5).await;
    world.cluster.workers[1].thaw();
    world.wait_worker("w2", WorkerState::Live).await;
    world.wait_worker("w1", WorkerState::Live).await;
    load.wait_more(5).await;
    let acknowledged: Vec<Submitted> = load
        .stop()
        .await
        .into_iter()
        .map(|answer| answer.expect("no worker is asked for a submit"))
        .collect();
    assert_kept(&world.client, &acknowledged, &world.ledger).await;
}
