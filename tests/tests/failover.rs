//! Replicas are killed, stopped and restarted; what was acknowledged stays true.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use baton_tests::cluster::{Cluster, Layout, PATIENCE, wait_until};
use baton_tests::jobs::{assert_kept, command_job, gated_job, ledger_job, running, succeeded, tasks};
use baton_tests::ledger::{Attempt, Ledger};
use baton_tests::load::Load;
use baton_tests::process::is_alive;
use client::{Client, Happened, JobFilter, Submitted, code};
use model::views::TaskState;

/// Those attempts ended in the process they had started in, and their tasks had no other.
fn assert_undisturbed(before: &BTreeMap<Attempt, i32>, path: &Path) {
    let ledger = Ledger::read(path);
    for (attempt, pid) in before {
        assert_eq!(ledger.ends.get(attempt), Some(&vec![*pid]), "{attempt:?} did not end where it began");
        assert_eq!(ledger.attempts(&attempt.task), [attempt], "{} had another attempt", attempt.task);
    }
}

/// Kills the leader so many times while jobs are submitted and tasks run.
async fn leaders_die_under_load(replicas: usize, kills: usize) {
    let mut cluster = Cluster::with(Layout::of(replicas, 2).patient()).await;
    let (array, singles) = (cluster.folder().join("array"), cluster.folder().join("singles"));
    let gate = cluster.folder().join("gate");
    let client = cluster.client();
    let long = client.submit(&gated_job(&array, &gate, 4)).await.expect("accepted");
    let before = running(&array, 4).await.running();

    let load = Load::start(vec![client.clone(), client.clone()], &singles);
    load.wait_more(5).await;
    for _ in 0..kills {
        cluster.kill_leader().await;
        load.wait_more(5).await;
    }
    let acknowledged: Vec<Submitted> = load.stop().await.into_iter().filter_map(Result::ok).collect();
    std::fs::write(&gate, "").expect("the gate opens");

    let job = succeeded(&client, long.job).await;
    assert_eq!(job.counts.succeeded, 4);
    assert_undisturbed(&before, &array);
    assert_kept(&client, &acknowledged, &singles).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_of_three_dies_under_load_and_nothing_acknowledged_is_lost_or_started_twice() {
    leaders_die_under_load(3, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leaders_of_five_die_under_load_and_nothing_acknowledged_is_lost_or_started_twice() {
    leaders_die_under_load(5, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_in_its_last_state_stays_in_it_when_the_leader_dies() {
    let mut cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    let done = client.submit(&command_job("done", &["true"])).await.expect("accepted").job;
    let failed = client.submit(&command_job("failed", &["false"])).await.expect("accepted").job;
    succeeded(&client, done).await;
    baton_tests::jobs::task_in(&client, failed, 0, TaskState::Failed).await;
    let before = (tasks(&client, done).await, tasks(&client, failed).await);
    let killed = cluster.kill_leader().await;
    assert_eq!((tasks(&client, done).await, tasks(&client, failed).await), before);
    cluster.replicas[killed].start();
    cluster.wait_agreed().await;
    let old = cluster.client_of(killed);
    assert_eq!((tasks(&old, done).await, tasks(&old, failed).await), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_replicas_die_at_once_and_come_back_with_everything_while_tasks_run_on() {
    let mut cluster = Cluster::with(Layout::of(3, 1).patient()).await;
    let (path, gate) = (cluster.folder().join("ledger"), cluster.folder().join("gate"));
    let client = cluster.client();
    let long = client.submit(&gated_job(&path, &gate, 2)).await.expect("accepted");
    let before = running(&path, 2).await.running();
    let mut queued = Vec::new();
    for _ in 0..10 {
        queued.push(client.submit(&ledger_job(&path, 1, "0.1")).await.expect("accepted"));
    }
    for replica in &mut cluster.replicas {
        replica.kill();
    }
    assert!(before.values().all(|pid| is_alive(*pid)), "a task died with the replicas");
    for replica in &mut cluster.replicas {
        replica.start();
    }
    cluster.wait_ready(1).await;
    std::fs::write(&gate, "").expect("the gate opens");
    succeeded(&client, long.job).await;
    assert_undisturbed(&before, &path);
    assert_kept(&client, &queued, &path).await;
    let views = cluster.wait_agreed().await;
    assert!(views.iter().all(|view| view.digest == views[0].digest), "{views:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_under_load_fails_no_submit() {
    let mut cluster = Cluster::start(3, 2).await;
    let path = cluster.folder().join("ledger");
    let client = cluster.client();
    let load = Load::start(vec![client.clone(), client.clone()], &path);
    load.wait_more(3).await;
    for place in 0..3 {
        let status = cluster.replicas[place].terminate().await;
        assert!(status.success(), "{}: {status}", cluster.replicas[place].name);
        load.wait_more(3).await;
        cluster.replicas[place].start();
        cluster.wait_ready(2).await;
        load.wait_more(3).await;
    }
    let answers = load.stop().await;
    let mut acknowledged = Vec::new();
    for answer in answers {
        acknowledged.push(answer.expect("every submit is accepted"));
    }
    assert_kept(&client, &acknowledged, &path).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_in_turn_leads_when_it_is_asked_to() {
    let cluster = Cluster::start(3, 1).await;
    let client = cluster.client();
    for replica in &cluster.replicas {
        assert_eq!(client.transfer_leader(Some(&replica.name)).await.expect("transferred"), replica.name);
        let place = cluster.leader().await;
        assert_eq!(cluster.replicas[place].name, replica.name);
        let job = client.submit(&command_job("after", &["true"])).await.expect("accepted").job;
        succeeded(&client, job).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_submit_is_refused_and_its_request_id_gives_one_job_after_the_heal() {
    let cluster = Cluster::start(3, 1).await;
    let leader = cluster.leader().await;
    let left = (leader + 1) % 3;
    let stopped = [leader, (leader + 2) % 3];
    // Until a quorum has spoken to it once, a replica does not know how old what it has is, and reads nothing out.
    cluster.client_of(left).queues().await.expect("all are there");
    for place in stopped {
        cluster.replicas[place].freeze().await;
    }
    let alone = cluster.client_of(left).with_deadline(Duration::from_secs(3));
    let id = alone.mint();
    let spec = command_job("once", &["true"]);
    let refused = tokio::time::timeout(PATIENCE, alone.with_request_id(id).submit(&spec)).await;
    let error = refused.expect("a submit ends with its deadline").expect_err("a minority accepts nothing");
    assert!([code::NO_LEADER, code::UNAVAILABLE].contains(&error.code()), "{error:?}");
    assert!(matches!(error.happened(), Happened::No | Happened::Maybe));
    assert_eq!(error.request_id(), Some(id), "the way to try again is in the error");
    let read = tokio::time::timeout(PATIENCE, alone.queues()).await.expect("a read ends with its deadline");
    read.expect_err("a minority answers no linearizable read");
    alone.stale().queues().await.expect("a stale read needs nobody else");

    for place in stopped {
        cluster.replicas[place].thaw();
    }
    cluster.wait_ready(1).await;
    let first = cluster.client_of(left).with_request_id(id).submit(&spec).await.expect("accepted");
    let second = cluster.client_of(leader).with_request_id(id).submit(&spec).await.expect("accepted");
    assert_eq!(first.job, second.job);
    let named = JobFilter { name: Some("once".to_owned()), ..JobFilter::default() };
    let listed = cluster.client().list_jobs(&named, 10, None).await.expect("a list").value.items;
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [first.job]);
    succeeded(&cluster.client(), first.job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_frozen_finds_another_in_its_place_and_follows_it() {
    let cluster = Cluster::start(3, 1).await;
    let frozen = cluster.leader().await;
    cluster.replicas[frozen].freeze().await;
    let others: Vec<String> =
        (0..3).filter(|place| *place != frozen).map(|place| cluster.addresses[place].clone()).collect();
    let client = Client::connect(others);
    let mut job = None;
    wait_until("the others accept a job", async || {
        job = client.submit(&command_job("new", &["true"])).await.ok();
        job.is_some()
    })
    .await;
    let job = job.expect("seen above").job;
    cluster.replicas[frozen].thaw();
    // What it answers, it answers as of now: the job is there from its first linearizable answer on.
    let thawed = cluster.client_of(frozen);
    let view = thawed.get_job(job).await.expect("the thawed replica reads through the new leader");
    assert_eq!(view.value.id, job);
    succeeded(&thawed, job).await;
    assert_ne!(cluster.leader().await, frozen);
}
