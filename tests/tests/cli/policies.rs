//! Orders and backfill of queues on a real cluster; what-if runs and admission of periodic tasks.

use std::time::Duration;

use baton_tests::jobs::{ledger_script, slow_to_leave_script};
use baton_tests::ledger::{Attempt, Ledger, Word};
use model::{Timestamp, Token};

use super::*;

/// One worker of four cores.
async fn patient() -> (Cluster, Cli) {
    let cluster = Cluster::with(Layout::of(3, 1).patient()).await;
    let cli = Cli::of(&cluster);
    (cluster, cli)
}

pub(super) fn time(text: &Value) -> Timestamp {
    text.as_str().expect("a time").parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// When the only attempt of a job's only task began and ended, by the worker's clock.
async fn ran(cli: &Cli, job: &str) -> [Timestamp; 2] {
    let task = cli.json(&["ps", job]).await["items"][0].clone();
    assert_eq!((&task["attempt"], &task["state"]), (&json!(1), &json!("succeeded")), "{task:#}");
    [time(&task["outcome"]["started"]), time(&task["outcome"]["ended"])]
}

async fn is_running(cli: &Cli, job: &str) {
    let state = async || cli.json(&["ps", job]).await["items"][0]["state"].clone();
    wait_until(&format!("{job} runs"), async || state().await == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promised_start_outlives_the_leader_and_is_kept() {
    let (mut cluster, cli) = patient().await;
    cli.ok(&["queue", "put", "default", "--order", "fifo", "--backfill", "easy"]).await;
    let gate = cli.path("gate");
    let script = format!("while ! [ -e {} ]; do sleep 0.1; done", gate.display());
    let long = cli.submit(&["--cpu", "3", "--estimate", "5m", "--", "sh", "-c", &script]).await;
    is_running(&cli, &long).await;
    let wide = cli.submit(&["--cpu", "4", "--estimate", "5s", "--", "sleep", "0.2"]).await;
    let promised = async || cli.json(&["explain", &wide]).await["expected_start"].clone();
    wait_until("a start is promised", async || promised().await.is_string()).await;
    // The core that is free takes what is over by then, and nothing longer.
    let longer = cli.submit(&["--estimate", "10m", "--", "true"]).await;
    let short = cli.submit(&["--estimate", "1s", "--", "true"]).await;
    cli.ok(&["wait", &short]).await;
    let told = cli.json(&["explain", &longer]).await;
    assert_eq!(told["state"], "ready", "{told:#}");
    assert!(told["summary"].to_string().contains("lets nothing delay the first"), "{told:#}");

    let before = time(&promised().await);
    cluster.kill_leader().await;
    wait_until("the new leader answers", async || cli.run(&["explain", &wide]).await.status == 0).await;
    let after = time(&promised().await);

    std::fs::write(&gate, "").expect("the gate opens");
    cli.ok(&["wait", &long, &wide, &longer]).await;
    let [_, end_of_long] = ran(&cli, &long).await;
    let [start_of_wide, end_of_wide] = ran(&cli, &wide).await;
    let [start_of_longer, _] = ran(&cli, &longer).await;
    let [_, end_of_short] = ran(&cli, &short).await;
    // A promise is by the log's clock, which stands still while nobody leads: so much later it may be by the wall, and that was
    // between the end of one task and the start of another. Nor is it earlier, for nothing has ended; the two clocks are read one
    // after the other, hence the second.
    let (noise, between) = (Duration::from_secs(1), start_of_wide.since(end_of_short));
    assert!(after.plus(noise) >= before, "{before} became {after}");
    assert!(after <= before.plus(between).plus(noise), "{before} became {after} within {between:?}");
    assert!(end_of_short <= start_of_wide && end_of_long <= start_of_wide, "it needs all of the worker");
    assert!(start_of_wide <= after, "by {after} it was to have started, not at {start_of_wide}");
    assert!(end_of_wide <= start_of_longer, "who would have delayed it comes after it");
    let list = cli.json(&["queue", "list"]).await;
    assert_eq!(list["items"][0]["policy"]["backfill"], "easy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_waits_again_shows_how_it_ended_and_when_it_is_to_start() {
    let (_cluster, cli) = patient().await;
    cli.ok(&["queue", "put", "default", "--backfill", "easy", "--preempt"]).await;
    let low = cli.submit(&["--cpu", "4", "--estimate", "1h", "--", "sleep", "600"]).await;
    is_running(&cli, &low).await;
    let high = ["--priority", "5", "--cpu", "4", "--estimate", "30m", "--", "sleep", "600"];
    let high = cli.submit(&high).await;
    is_running(&cli, &high).await;
    let note = async |job: &str| cli.json(&["ps", job]).await["items"][0]["note"].clone();
    wait_until("a start is promised", async || note(&low).await.is_string()).await;
    let told = note(&low).await.as_str().expect("words").to_owned();
    let at = told.strip_prefix("expected to start by ").unwrap_or_else(|| panic!("{told}"));
    let jobs = cli.json(&["ps"]).await["items"].as_array().expect("a list").clone();
    let asked = jobs.iter().find(|job| job["id"] == high.as_str()).expect("it is there")["submitted"].clone();
    assert!(time(&json!(at)) >= time(&asked).plus(Duration::from_secs(1800)), "{at}, after {asked}");
    let table = cli.ok(&["ps", &low]).await;
    assert!(table.contains("it gave way to a task of a higher priority; expected to start by 2"), "{table}");

    let file =
        json!({"tasks": [{"name": "a", "script": "exit 7", "retry": {"max": 1, "backoff": "1h..1h"}}]});
    cli.ok(&["cancel", &low, &high]).await;
    let again = cli.submit(&[cli.file("again.json", &file.to_string())]).await;
    let delayed = async || cli.json(&["ps", &again]).await["items"][0]["state"] == "delayed";
    wait_until("it has failed once", delayed).await;
    let table = cli.ok(&["ps", &again]).await;
    assert!(table.contains("exit 7; waits until 2"), "{table}");
    cli.ok(&["cancel", &again]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_share_a_queue_by_what_they_take_and_took() {
    let (mut cluster, cli) = patient().await;
    cli.ok(&["queue", "put", "default", "--order", "fair", "--share", "bob=300"]).await;
    let gate = cli.path("gate");
    let until_gate = format!("while ! [ -e {} ]; do sleep 0.1; done", gate.display());
    // Each takes the whole worker, so that they run one after the other.
    let submit = async |user: &str, script: &str| {
        let words = ["--user", user, "submit", "--cpu", "4", "--", "sh", "-c", script];
        cli.ok(&words).await.trim().to_owned()
    };
    let first = submit("ann", &until_gate).await;
    is_running(&cli, &first).await;
    let more = submit("ann", "true").await;
    let others = [submit("bob", "true").await, submit("bob", "true").await];
    let told = cli.json(&["explain", &more]).await;
    assert!(told["reasons"].to_string().contains("no_room"), "{told:#}");
    cluster.kill_leader().await;
    wait_until("the new leader answers", async || cli.run(&["queue", "users", "default"]).await.status == 0)
        .await;
    let users = cli.json(&["queue", "users", "default"]).await;
    let of = |place: usize| (users["items"][place]["name"].clone(), users["items"][place]["weight"].clone());
    assert_eq!((of(0), of(1)), ((json!("ann"), json!(100)), (json!("bob"), json!(300))), "{users:#}");
    std::fs::write(&gate, "").expect("the gate opens");
    cli.ok(&["wait", &first, &more, &others[0], &others[1]]).await;
    let [ann, of_bob] = [ran(&cli, &more).await, ran(&cli, &others[1]).await];
    assert!(
        of_bob[1] <= ann[0],
        "bob, who had nothing, goes first, though ann had asked before: {of_bob:?}, {ann:?}"
    );
    let said = cli.run(&["queue", "put", "default", "--share", "ann=-1"]).await;
    assert_says(&said, 2, &["from 1 to 10000", "the nearest is 1"]);
    assert_says(
        &cli.run(&["queue", "put", "default", "--share", "ann=10001"]).await,
        2,
        &["the nearest is 10000"],
    );
    assert_says(&cli.run(&["queue", "users", "nowhere"]).await, 3, &["there is no queue `nowhere`"]);
}

/// Two of four give way to one of a higher priority; the leader dies when they were told to go and are not gone. Three times.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_task_gives_way_to_a_higher_priority_once_though_the_leader_dies() {
    const ROUNDS: usize = 3;
    let (mut cluster, cli) = patient().await;
    cli.ok(&["queue", "put", "default", "--preempt"]).await;
    let [ledger, gate, leave] = ["ledger", "gate", "leave"].map(|name| cluster.folder().join(name));
    let script = |name: &str, text: String| {
        let path = cluster.folder().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path in words").to_owned()
    };
    let slow = script("low.sh", slow_to_leave_script(&ledger, &gate, &leave));
    let quick = script("high.sh", ledger_script(&ledger, "0.2"));
    let low = cli.submit(&["--array", "0-3", "--", "sh", &slow]).await;
    let read = || Ledger::read(&ledger);
    let (mut jobs, mut applied) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let tasks = async || cli.json(&["ps", &low]).await["items"].as_array().expect("a list").clone();
        let running = async || tasks().await.iter().all(|task| task["state"] == "running");
        wait_until("all cores are taken", running).await;
        let began = read().said(Word::Start).len();
        let high = cli.submit(&["--priority", "5", "--cpu", "2", "--", "sh", &quick]).await;
        wait_until("two were told to go", async || read().stopping().len() == 2).await;
        let (gone, before) = cluster.kill_leader_now().await;
        let now = read();
        assert_eq!(
            (now.stopping().len(), now.said(Word::Start).len()),
            (2, began),
            "in the middle: {now:#?}"
        );
        std::fs::write(&leave, "").expect("they may go");
        cluster.leader().await;
        cluster.replicas[gone].start();
        cli.ok(&["wait", &high]).await;
        std::fs::remove_file(&leave).expect("written above");
        jobs.push(high);
        applied.push(before);
    }
    let again = async || cli.json(&["queue", "list"]).await["items"][0]["counts"]["running"] == 4;
    wait_until("those that gave way run again", again).await;
    std::fs::write(&gate, "").expect("the gate opens");
    cli.ok(&["wait", &low]).await;

    let ledger = read();
    assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
    assert!(ledger.overlaps().is_empty(), "{:?}", ledger.overlaps());
    assert_eq!(ledger.said(Word::End).len(), 4 + ROUNDS, "each once: {ledger:#?}");
    assert_eq!(ledger.tasks_ended().len(), 4 + ROUNDS);
    let stopped = ledger.said(Word::Stopped);
    assert_eq!(stopped.len(), 2 * ROUNDS, "two of four made room each time: {stopped:?}");
    // What the first leader had begun and what later ones had.
    let of_first = |attempt: &&Attempt| Token(attempt.token).index() <= applied[0];
    assert!(stopped.iter().any(of_first) && !stopped.iter().all(of_first), "{stopped:?}, {applied:?}");
    for job in &jobs {
        assert_eq!(ledger.attempts(&format!("{job}.0")).len(), 1);
    }
    let tasks = cli.json(&["ps", &low]).await["items"].as_array().expect("a list").clone();
    let earlier: Vec<&Value> = tasks.iter().filter_map(|task| task["earlier"].as_array()).flatten().collect();
    assert_eq!(earlier.len(), 2 * ROUNDS, "{tasks:#?}");
    for outcome in earlier {
        assert_eq!((&outcome["verdict"], &outcome["reason"]), (&json!("cancelled"), &json!("cancelled")));
        let why = outcome["message"].as_str().expect("words");
        // Before it stands what it wrote last: the shell tells of the `sleep` that was ended.
        assert_eq!(why.lines().last(), Some("it gave way to a task of a higher priority"), "{why}");
    }
    assert!(tasks.iter().all(|task| task["round"] == 1 && task["state"] == "succeeded"), "{tasks:#?}");
    let queue = cli.json(&["queue", "list"]).await["items"][0].clone();
    assert_eq!(
        (&queue["preempted"], &queue["policy"]["preempt"]),
        (&json!(2 * ROUNDS), &json!(true)),
        "{queue:#}"
    );
    let said = cli.run(&["queue", "put", "default", "--order", "edf", "--preempt"]).await;
    assert_says(&said, 2, &["preempt", "only the order priority has preemption", "Nothing was changed"]);
    cli.ok(&["queue", "put", "default", "--no-preempt"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_policy_changes_nothing() {
    let (cluster, cli) = cluster_and_cli().await;
    for (weight, nearest) in [("-1", 1), ("0", 1), ("20000", 10_000)] {
        let said = cli.run(&["queue", "put", "default", "--weight", weight]).await;
        let nearest = format!("the nearest is {nearest}");
        assert_says(&said, 2, &["--weight", "from 1 to 10000", &format!("not `{weight}`"), &nearest]);
    }
    // Whoever has no command line is told the same.
    for (weight, nearest) in [(0, 1), (20_000, 10_000)] {
        let refused = cluster.client().put_queue("default", Some(weight), None).await.expect_err("no weight");
        let why = format!("weight: {weight} is not 1 to 10000; the nearest is {nearest}");
        assert!(format!("{refused:?}").contains(&why), "{refused:?}");
    }
    assert_eq!(cli.json(&["queue", "list"]).await["items"][0]["weight"], 100);
    cli.ok(&["queue", "put", "default", "--ageing", "10m"]).await;
    let said = cli.run(&["queue", "put", "default", "--order", "sjg"]).await;
    assert_says(&said, 2, &["there is no order `sjg`", "did you mean `sjf`"]);
    assert_says(
        &cli.run(&["queue", "put", "default", "--backfill", "eazy"]).await,
        2,
        &["did you mean `easy`"],
    );
    let said = cli.run(&["queue", "put", "default", "--order", "edf", "--ageing", "5m"]).await;
    assert_says(&said, 2, &["ageing", "only the order priority has an ageing", "Nothing was changed"]);
    let said = cli.run(&["queue", "put", "default", "--ageing", "1ms"]).await;
    assert_says(&said, 2, &["10ms to 30days"]);
    let policy = cli.json(&["queue", "list"]).await["items"][0]["policy"].clone();
    assert_eq!(policy, json!({"order": "priority", "ageing": "10m", "backfill": "first-fit"}));
    // Another order takes the ageing along.
    cli.ok(&["queue", "put", "default", "--order", "sjf"]).await;
    let policy = cli.json(&["queue", "list"]).await["items"][0]["policy"].clone();
    assert_eq!(policy, json!({"order": "sjf", "ageing": "0s", "backfill": "first-fit"}));
    let said = cli.run(&["submit", "--estimate", "1us", "--", "true"]).await;
    assert_says(&said, 2, &["tasks[0].estimate", "shorter than 1ms"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_compared_without_a_cluster() {
    let cli = Cli::to("");
    let compare = ["simulate", "--generate", "300", "--procs", "64", "--policy", "fcfs,easy", "--seed", "7"];
    let told = cli.json(&compare).await;
    let names: Vec<&Value> =
        told["policies"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["fcfs", "easy"]);
    let wait = |place: usize| told["policies"][place]["mean_wait_s"].as_f64().expect("seconds");
    assert!(wait(1) <= wait(0) && told["policies"][1]["promises_broken"] == 0, "{told:#}");
    assert_eq!(cli.json(&compare).await, told, "equal seeds tell the same");
    let page = cli.ok(&[&compare[..], &["-o", "html"]].concat()).await;
    assert!(page.starts_with("<!doctype html>") && page.contains("easy"), "{page}");
    assert!(cli.ok(&compare).await.contains("MEAN WAIT"));
    assert_says(&cli.run(&["ps", "-o", "html"]).await, 2, &["only `simulate` makes a page"]);
    assert_says(
        &cli.run(&["ps", "-o", "svg"]).await,
        2,
        &["only `simulate` draws a picture", "leave out `-o svg`"],
    );
    let said = cli.run(&[&compare[..], &["-o", "svg"]].concat()).await;
    assert_says(
        &said,
        2,
        &["a picture shows one policy, and this would be one of 2", "--policy critical-path"],
    );
    for figure in ["backfilled", "preemptions"] {
        assert!(told["policies"][1][figure].is_u64(), "{told:#}");
    }
    let full = cli.json(&[&compare[..], &["--load", "1"]].concat()).await;
    assert!(full["policies"][0]["backfilled"] == 0 && full["policies"][1]["backfilled"] != 0, "{full:#}");
    assert_eq!(told["notes"], json!([]));

    let sound = "1 0 -1 60 4 -1 -1 4 90 -1 1 3 -1 -1 0 -1 -1 -1\n";
    let trace =
        cli.file("bad.swf", &format!("; a trace\n{sound}2 0 -1 6x 4 -1 -1 4 90 -1 1 3 -1 -1 0 -1 -1 -1\n"));
    let said = cli.run(&["simulate", "--trace", trace, "--procs", "8"]).await;
    assert_says(&said, 2, &["bad.swf: line 3, column 8: `6x` is not a number"]);
    let trace = cli.file("sound.swf", sound);
    let said = cli.run(&["simulate", "--trace", trace, "--procs", "3"]).await;
    assert_says(&said, 2, &["asks for 4 cores, the cluster is to have 3", "--procs 4"]);
    assert_eq!(cli.json(&["simulate", "--trace", trace, "--procs", "4"]).await["tasks"], 1);
    let learnt = ["simulate", "--trace", trace, "--procs", "4", "--estimates", "learnt"];
    assert_eq!(cli.json(&learnt).await["estimates"], "learnt");
    let said = cli.run(&[&learnt[..5], &["--estimates", "guessed"]].concat()).await;
    assert_says(&said, 2, &["guessed", "given, learnt"]);
    let said = cli.run(&["simulate", "--history", trace, "--procs", "4", "--estimates", "learnt"]).await;
    assert_says(&said, 2, &["--estimates", "cannot be used with"]);
    let said = cli.run(&["simulate", "--trace", trace, "--procs", "4", "--policy", "fcsf"]).await;
    assert_says(&said, 2, &["did you mean `fcfs`"]);

    let job = cli.file(
        "job.yaml",
        "tasks:\n- {name: a, noop: true, estimate: 2s}\n- {name: b, noop: true, estimate: 3s, after: [a]}\n",
    );
    let told = cli.json(&["simulate", "--job", job, "--procs", "2", "--policy", "critical-path"]).await;
    assert_eq!(told["policies"][0]["makespan_s"], 5.0);
    let plan =
        cli.ok(&["simulate", "--job", job, "--procs", "2", "--policy", "critical-path", "-o", "svg"]).await;
    assert!(plan.starts_with("<svg xmlns=") && plan.ends_with("</svg>\n"), "{plan}");
    assert!(plan.contains("<title>b: 1 cores, waited 0 s, ran 3 s</title>"), "{plan}");

    // What a policy goes by and the workload does not have is said, wherever figures are shown.
    let blind = ["simulate", "--trace", trace, "--procs", "4", "--policy", "edf,rms,priority-preempt"];
    let said = cli.run(&blind).await;
    let periods = "rms: no task has a period";
    assert_says(
        &said,
        0,
        &["note: edf: no task has a deadline", periods, "priority-preempt: all jobs have the same"],
    );
    let notes = cli.json(&blind).await["notes"].clone();
    assert!(notes.as_array().is_some_and(|notes| notes.len() == 3) && notes[1].to_string().contains(periods));
    assert!(cli.ok(&[&blind[..], &["-o", "html"]].concat()).await.contains(periods));
    assert!(cli.ok(&[&blind[..], &["-o", "wide"]].concat()).await.contains("BACKFILLED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn periodic_tasks_are_admitted_or_refused_with_the_first_that_misses() {
    let cli = Cli::to("");
    let tasks = "tasks:\n- {name: a, run_time: 2s, period: 5s}\n- {name: b, run_time: 4s, period: 7s}\n";
    let file = cli.file("periodic.yaml", tasks);
    let said = cli.run(&["plan", file, "--preemptive", "--policy", "rms"]).await;
    assert_eq!(said.status, 12, "{said:#?}");
    assert!(said.stdout.contains("first miss: b: by 7s it needs 8s, 1s too much"), "{said:#?}");
    let told = cli.json(&["plan", file, "--preemptive", "--policy", "all"]).await;
    let accepted: Vec<&Value> =
        told["plans"].as_array().expect("a list").iter().map(|p| &p["accepted"]).collect();
    assert_eq!(accepted, [false, false, true]);
    let bad = cli.file(
        "bad.yaml",
        "tasks:\n- {name: a, run_time: 9s, period: 5s}\n- {name: a, run_time: 1s, period: 5s}\n",
    );
    assert_says(&cli.run(&["plan", bad]).await, 2, &["tasks[0].run_time", "tasks[1].name", "2 errors"]);
    assert_says(&cli.run(&["plan", file, "--policy", "edg"]).await, 2, &["did you mean `edf`"]);
    assert_says(&cli.run(&["plan", "nowhere.yaml"]).await, 2, &["nowhere.yaml: cannot be read"]);
    let heavy = "tasks:\n- {name: a, run_time: 2s, period: 10s}\n- {name: b, run_time: 10s, period: 11s}\n\
                 - {name: c, run_time: 2s, period: 10s}\n";
    let file = cli.file("heavy.yaml", heavy);
    let said =
        cli.run(&["plan", file, "--preemptive", "--policy", "edf", "--slots", "2", "--any-slot"]).await;
    assert_eq!(said.status, 12, "{said:#?}");
    assert!(said.stdout.contains("1.3091 <= 1.0909 does not hold"), "{said:#?}");
    assert!(said.stdout.contains("the bound is of b, the largest: 0.9091 of a slot"), "{said:#?}");
}
