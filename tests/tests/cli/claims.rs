//! Queues from which workers take tasks themselves.

use std::collections::BTreeSet;

use baton_tests::jobs::ledger_script;
use baton_tests::ledger::{Ledger, Word};

use super::*;

/// Three workers claim; two leaders die while they do, with tasks ready and room for some, and each comes back. Every task runs,
/// and none twice.
async fn all_run_once(mode: &str) {
    let mut cluster = Cluster::with(Layout { cpu: "2", ..Layout::of(3, 3).patient() }).await;
    let cli = Cli::of(&cluster);
    cli.ok(&["queue", "put", "default", "--mode", mode]).await;
    let path = cluster.folder().join("ledger");
    let script = cluster.folder().join("task.sh");
    std::fs::write(&script, ledger_script(&path, "0.1")).expect("written");
    let script = script.to_str().expect("a path in words");
    let begun = || Ledger::read(&path).starts.len();
    let (mut jobs, mut killed) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let before = begun();
        // Through each replica in turn.
        for place in 0..3 {
            let through = Cli::to(&cluster.addresses[place]);
            jobs.push(through.submit(&["--array", "0-29", "--", "sh", script]).await);
        }
        wait_until("some have begun", async || begun() > before).await;
        let (gone, applied) = cluster.kill_leader_now().await;
        assert!(begun() < jobs.len() * 30, "in the middle of them: {}", begun());
        cluster.leader().await;
        cluster.replicas[gone].start();
        killed.push(applied);
    }
    let mut workers = BTreeSet::new();
    for job in &jobs {
        cli.ok(&["wait", job]).await;
        let tasks = cli.json(&["ps", job]).await;
        let ran = tasks["items"].as_array().expect("tasks").iter();
        workers.extend(ran.map(|task| task["outcome"]["worker"].as_str().unwrap_or("?").to_owned()));
    }
    let ledger = Ledger::read(&path);
    assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
    assert!(ledger.overlaps().is_empty(), "{:?}", ledger.overlaps());
    assert_eq!((ledger.tasks_ended().len(), ledger.said(Word::End).len()), (180, 180));
    for applied in killed {
        assert!(ledger.is_of_both(applied), "none was claimed before {applied}, or none after it");
    }
    assert!(workers.len() > 1, "{workers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claimed_tasks_run_once_though_leaders_die() {
    all_run_once("claim").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leader_and_workers_both_give_out_runs_once_though_leaders_die() {
    all_run_once("hybrid").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_is_set_shown_and_refused_where_it_cannot_be_kept() {
    let (mut cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "pool", "--mode", "claim", "--order", "fifo"]).await;
    let shown = cli.json(&["queue", "list"]).await;
    let pool = shown["items"].as_array().expect("queues").iter().find(|queue| queue["name"] == "pool");
    assert_eq!(pool.expect("it is there")["policy"]["mode"], "claim", "{shown:#}");
    assert!(cli.ok(&["queue", "list", "-o", "wide"]).await.contains("claim"));

    let put = |more: &[&'static str]| [&["queue", "put", "pool"], more].concat();
    assert_says(&cli.run(&put(&["--mode", "clam"])).await, 2, &["clam", "did you mean `claim`?"]);
    let promising = cli.run(&put(&["--backfill", "easy"])).await;
    assert_says(&promising, 2, &["mode", "cannot keep to the backfill easy", "Nothing was changed"]);
    let giving_way = put(&["--order", "priority", "--preempt"]);
    assert_says(&cli.run(&giving_way).await, 2, &["mode", "preemption"]);
    let sliced = put(&["--order", "round-robin"]);
    assert_says(&cli.run(&sliced).await, 2, &["mode", "round-robin"]);
    cli.ok(&put(&["--backfill", "easy", "--mode", "push"])).await;
    cli.ok(&put(&["--backfill", "first-fit", "--mode", "claim"])).await;

    // Whoever has no worker is told whom it waits for; a gang is placed all the same.
    let gang = cli.submit(&["--queue", "pool", "--gang", "2", "--", "true"]).await;
    cli.ok(&["wait", &gang]).await;
    cluster.workers[0].terminate().await;
    let waits = cli.submit(&["--queue", "pool", "--", "true"]).await;
    cluster.workers[0].start();
    cli.ok(&["wait", &waits]).await;
}
