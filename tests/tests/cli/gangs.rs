//! Gangs of real processes: they find each other, start anew together, and end together.

use std::time::Duration;

use baton_tests::cluster::example;
use baton_tests::jobs::member_script;
use baton_tests::ledger::{Ledger, Word};

use super::policies::time;
use super::*;

/// Four workers of two cores.
async fn eight_cores() -> (Cluster, Cli) {
    let cluster = Cluster::with(Layout { cpu: "2", ..Layout::of(3, 4).patient() }).await;
    let cli = Cli::of(&cluster);
    (cluster, cli)
}

async fn attempts(cli: &Cli, job: &str) -> Vec<(String, u64)> {
    let list = cli.json(&["ps", job]).await;
    let tasks = list["items"].as_array().expect("a list").iter();
    tasks
        .map(|task| {
            (task["state"].as_str().unwrap_or_default().to_owned(), task["attempt"].as_u64().unwrap_or(0))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_ranks_on_four_workers_add_up_to_28() {
    let (_cluster, cli) = eight_cores().await;
    let program = example("all_reduce");
    // Another program may have the port that the first listens at: then all begin anew, with another.
    let job = cli.submit(&["--gang", "8", "--retries", "5", "--", program.to_str().expect("UTF-8")]).await;
    cli.ok(&["wait", &job]).await;
    for rank in 0..8 {
        let said = cli.ok(&["logs", &format!("{job}.{rank}")]).await;
        assert_eq!(said.trim(), format!("rank {rank} of 8: sum 28"));
    }
    let said = "echo $BATON_GANG_ADDRESSES $LOCAL_RANK/$LOCAL_WORLD_SIZE $BATON_GANG_EPOCH";
    let job = cli.submit(&["--gang", "2", "--cpu", "2", "--", "sh", "-c", said]).await;
    cli.ok(&["wait", &job]).await;
    assert_eq!(cli.ok(&["logs", &format!("{job}.1")]).await.trim(), "127.0.0.1,127.0.0.1 0/1 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_member_fails_all_begin_anew_and_when_one_is_cancelled_all_are() {
    let (_cluster, cli) = eight_cores().await;
    // In the first attempt nobody else would ever end.
    let script =
        "if [ $BATON_GANG_EPOCH = 1 ]; then [ $RANK = 2 ] && exit 7; [ $RANK = 3 ] && exit 0; sleep 600; fi";
    let job = cli.submit(&["--gang", "6", "--retries", "1", "--", "sh", "-c", script]).await;
    cli.ok(&["wait", &job]).await;
    assert_eq!(attempts(&cli, &job).await, vec![("succeeded".to_owned(), 2); 6]);

    let job = cli.submit(&["--gang", "8", "--", "sh", "-c", "[ $RANK = 0 ] || sleep 600"]).await;
    let arrived = async || {
        let task = cli.json(&["ps", &job]).await["items"][0].clone();
        task["note"] == "has ended well and waits for the rest of its gang" && task["state"] == "running"
    };
    wait_until("the first has ended", arrived).await;
    let waits = cli.submit(&["--gang", "8", "--", "true"]).await;
    let told = cli.json(&["explain", &format!("{waits}.3")]).await;
    assert_eq!(told["reasons"][0]["code"], "gang_waits", "{told:#}");
    cli.ok(&["cancel", &format!("{job}.5")]).await;
    cli.run(&["wait", &job]).await;
    assert_eq!(attempts(&cli, &job).await, vec![("cancelled".to_owned(), 1); 8]);
    cli.ok(&["wait", &waits]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_is_promised_a_start_that_outlives_the_leader_and_is_kept() {
    let (mut cluster, cli) = eight_cores().await;
    cli.ok(&["queue", "put", "default", "--order", "fifo", "--backfill", "conservative"]).await;
    let gate = cli.path("gate");
    let script = format!("while ! [ -e {} ]; do sleep 0.1; done", gate.display());
    let long = cli.submit(&["--cpu", "2", "--estimate", "5m", "--", "sh", "-c", &script]).await;
    let runs = async || cli.json(&["ps", &long]).await["items"][0]["state"] == "running";
    wait_until("one worker is taken", runs).await;
    let wide = cli.submit(&["--gang", "8", "--estimate", "1m", "--", "sleep", "0.2"]).await;
    let promised = async |task: &str| cli.json(&["explain", task]).await["expected_start"].clone();
    let of_member = format!("{wide}.5");
    wait_until("a start is promised", async || promised(&of_member).await.is_string()).await;
    // Three workers are empty, and take what is over by then.
    let longer = cli.submit(&["--estimate", "10m", "--", "true"]).await;
    let short = cli.submit(&["--estimate", "1s", "--", "true"]).await;
    cli.ok(&["wait", &short]).await;
    wait_until("it has its place", async || promised(&longer).await.is_string()).await;
    let before = [time(&promised(&of_member).await), time(&promised(&longer).await)];
    assert!(before[0].plus(Duration::from_secs(60)) <= before[1], "it comes after the gang: {before:?}");
    assert!(cli.ok(&["ps", &wide]).await.contains("expected to start by 2"));

    cluster.kill_leader().await;
    wait_until("the new leader answers", async || cli.run(&["explain", &of_member]).await.status == 0).await;
    let after = [time(&promised(&of_member).await), time(&promised(&longer).await)];
    // Two clocks are read, one after the other.
    let between = |[first, second]: [model::Timestamp; 2]| second.since(first);
    let moved = between(after).abs_diff(between(before));
    assert!(moved < Duration::from_secs(1), "both are where they were: {before:?}, {after:?}");

    std::fs::write(&gate, "").expect("the gate opens");
    cli.ok(&["wait", &long, &wide, &longer]).await;
    assert_eq!(attempts(&cli, &wide).await, vec![("succeeded".to_owned(), 1); 8]);
    let items = cli.json(&["ps", &wide]).await["items"].clone();
    for member in items.as_array().expect("a list") {
        assert!(time(&member["outcome"]["started"]) <= after[0], "by {:?}: {member:#}", after[0]);
    }
}

/// A gang whose members end once all of it have begun.
async fn gang(cli: &Cli, ledger: &std::path::Path, members: u32) -> String {
    let (number, script) = (members.to_string(), member_script(ledger, members));
    cli.submit(&["--gang", &number, "--", "sh", "-c", &script]).await
}

/// Every gang ran in one attempt, placed by one entry, each member once; and none began before enough of the one before it had
/// ended to leave room for all of it. The cores of a member are free when it has ended, though the gang goes on.
fn assert_one_after_the_other(ledger: &Ledger, jobs: &[String], members: usize, cores: usize) {
    assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
    assert!(ledger.overlaps().is_empty(), "{:?}", ledger.overlaps());
    let of = |job: &str, word: Word| -> Vec<usize> {
        let lines = ledger.lines.iter().enumerate();
        let own = lines.filter(|(_, (said, by))| *said == word && by.task.split('.').next() == Some(job));
        own.map(|(line, _)| line).collect()
    };
    let mut gangs = Vec::new();
    for job in jobs {
        let (starts, ends) = (of(job, Word::Start), of(job, Word::End));
        assert_eq!((starts.len(), ends.len()), (members, members), "{job}: {ledger:#?}");
        let mut tokens: Vec<u64> = starts.iter().map(|line| ledger.lines[*line].1.token).collect();
        tokens.dedup();
        assert_eq!(tokens.len(), 1, "all of {job} were placed by one entry: {tokens:?}");
        assert!(starts.last() < ends.first(), "none of {job} ends before all have begun");
        gangs.push((starts[0], ends));
    }
    gangs.sort_unstable();
    for pair in gangs.windows(2) {
        let [(_, ends), (begins, _)] = pair else { panic!("two") };
        let over = ends.iter().filter(|end| *end < begins).count();
        assert!(over >= 2 * members - cores, "there is no room for both: {pair:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gangs_of_four_on_six_cores_run_one_after_the_other() {
    let cluster = Cluster::with(Layout { cpu: "3", ..Layout::of(3, 2).patient() }).await;
    let cli = Cli::of(&cluster);
    let path = cluster.folder().join("ledger");
    // Both at once: if each were given a part of what it needs, neither would ever end.
    let (one, other) = tokio::join!(gang(&cli, &path, 4), gang(&cli, &path, 4));
    let jobs = [one, other];
    for job in &jobs {
        cli.ok(&["wait", job]).await;
        assert_eq!(attempts(&cli, job).await, vec![("succeeded".to_owned(), 1); 4]);
    }
    assert_one_after_the_other(&Ledger::read(&path), &jobs, 4, 6);
}

/// Of two gangs for whose members there is room once, the leader dies when a part of the first has begun: a worker stands still
/// and has not heard of its own. Three times.
#[tokio::test(flavor = "multi_thread")]
async fn gangs_whose_leader_dies_start_whole_or_not_at_all() {
    let (mut cluster, cli) = eight_cores().await;
    let path = cluster.folder().join("ledger");
    let (mut jobs, mut applied) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let begun = || Ledger::read(&path).starts.len() - jobs.len() * 7;
        cluster.workers[round].freeze().await;
        let first = gang(&cli, &path, 7).await;
        wait_until("those of the other workers have begun", async || begun() >= 5).await;
        let second = gang(&cli, &path, 7).await;
        let (gone, before) = cluster.kill_leader_now().await;
        assert!(begun() < 7, "in the middle: {} of 7 have begun", begun());
        cluster.workers[round].thaw();
        cluster.leader().await;
        cluster.replicas[gone].start();
        cli.ok(&["wait", &first, &second]).await;
        jobs.extend([first, second]);
        applied.push(before);
    }
    for job in &jobs {
        assert_eq!(attempts(&cli, job).await, vec![("succeeded".to_owned(), 1); 7], "nothing was lost");
    }
    let ledger = Ledger::read(&path);
    assert_one_after_the_other(&ledger, &jobs, 7, 8);
    for before in applied {
        assert!(ledger.is_of_both(before), "placed by the one that died and by the next");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gang_that_waits_too_long_is_cancelled_whole_whoever_leads_by_then() {
    let (mut cluster, cli) = eight_cores().await;
    let first = cli.submit(&["--gang", "4", "--", "sleep", "600"]).await;
    let runs = async || cli.json(&["job", "get", &first]).await["counts"]["running"] == 4;
    wait_until("four cores are taken", runs).await;
    let job = cli.submit(&["--gang", "5", "--start-within", "5s", "--", "true"]).await;
    let gone = cluster.kill_leader().await;
    cluster.replicas[gone].start();
    assert_eq!(cli.run(&["wait", &job]).await.status, 11);
    assert_eq!(attempts(&cli, &job).await, vec![("cancelled".to_owned(), 0); 5], "there was room for four");
    assert!(runs().await, "what has started is not touched");
    cli.ok(&["cancel", "--wait", &first]).await;
    cli.ok(&["retry", &job]).await;
    cli.ok(&["wait", &job]).await;
    assert_eq!(attempts(&cli, &job).await, vec![("succeeded".to_owned(), 1); 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_gang_is_refused() {
    let (_cluster, cli) = cluster_and_cli().await;
    assert_says(&cli.run(&["submit", "--gang", "0", "--", "true"]).await, 2, &["--gang", "1..=256"]);
    assert_says(&cli.run(&["submit", "--gang", "257", "--", "true"]).await, 2, &["--gang", "1..=256"]);
    let both = ["submit", "--gang", "2", "--array", "0-3", "--", "true"];
    assert_says(&cli.run(&both).await, 2, &["--array", "cannot be used with"]);
    let file = cli.file("both.yaml", "tasks:\n- {name: a, noop: true, gang: 2, array: 0-3}\n");
    assert_says(&cli.run(&["submit", file]).await, 2, &["a gang has so many members; give no array"]);
    let file = cli.file("none.yaml", "tasks:\n- {name: a, noop: true, gang: 0}\n");
    assert_says(&cli.run(&["submit", file]).await, 2, &["tasks[0].gang"]);
    let text =
        "tasks:\n- {name: a, noop: true, gang: 2}\n- {name: b, noop: true, array: 0-1, after_each: [a]}\n";
    let file = cli.file("each.yaml", text);
    assert_says(&cli.run(&["submit", file]).await, 2, &["succeed together: give `after`"]);
    let large = ["submit", "--gang", "5", "--", "true"];
    assert_says(&cli.run(&large).await, 2, &["tasks[0].gang", "5 members", "give it 4 at the most"]);
}
