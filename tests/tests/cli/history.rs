//! The history of a real cluster: written out through any replica, replayed, and what is advised from it.

use std::time::Duration;

use baton_tests::jobs::finished;
use client::Client;
use model::{JobSpec, Resources, TaskSpec, Timing, Work};

use super::*;

/// A job of one task that takes so long on all cores of the worker, and says so.
fn wide_job(name: &str, seconds: f64, queue: &str) -> JobSpec {
    let span = Duration::from_secs_f64(seconds);
    let mut task = TaskSpec::new("task", Work::Sleep(span));
    task.resources = Resources::cores(4);
    task.timing = Timing { estimate: Some(span), ..Timing::default() }.boxed();
    JobSpec::of(name, vec![task]).with(|job| job.queue = queue.to_owned())
}

/// Three long jobs before many short ones, all submitted at once: nothing but a short wait for the short ones helps.
pub(super) async fn run_a_burst(client: &Client, queue: &str) {
    let mut jobs = Vec::new();
    for (count, seconds) in [(3, 1.5), (20, 0.05)] {
        for _ in 0..count {
            jobs.push(client.submit(&wide_job("burst", seconds, queue)).await.expect("it is accepted").job);
        }
    }
    for job in jobs {
        finished(client, job).await;
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON a line")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_the_same_through_every_replica_and_can_be_replayed() {
    let (cluster, cli) = cluster_and_cli().await;
    let pipeline = "job: nightly\npriority: 3\ntasks:\n\
        - {name: fetch, run: [sleep, '0.2'], estimate: 2s, deadline: 1m}\n\
        - {name: shard, run: ['false'], array: 0-2, after: [fetch], resources: {cpu: 0.5}}\n\
        - {name: merge, noop: true, after_each: [shard], array: 0-2}\n";
    let file = cli.file("pipeline.yaml", pipeline);
    let first = cli.ok(&["submit", file]).await.trim().to_owned();
    assert_eq!(cli.run(&["wait", &first]).await.status, 10);
    let after = cli.submit(&["--name", "later", "--delay", "1h", "--", "true"]).await;
    cluster.wait_agreed().await;

    let text = cli.ok(&["history"]).await;
    for address in &cluster.addresses {
        assert_eq!(Cli::to(address).ok(&["history"]).await, text, "through {address}");
    }
    assert_eq!(cli.ok(&["history", "-o", "json"]).await, text, "it has one form");
    let told = lines(&text);
    assert_eq!(told[0], json!({"format": "baton-history", "version": 1}));
    assert_eq!((&told[1]["job"], &told[2]["job"]), (&json!(after), &json!(first)), "the newest is first");
    let job = &told[2];
    for (field, value) in [("name", "nightly"), ("queue", "default"), ("user", "tester"), ("state", "failed")]
    {
        assert_eq!(job[field], value, "{job:#}");
    }
    assert_eq!(job["priority"], 3);
    let [fetch, shard, merge] = &job["tasks"].as_array().expect("tasks")[..] else { panic!("{job:#}") };
    assert_eq!((&fetch["estimate"], &fetch["estimate_from"]), (&json!("2s"), &json!("given")));
    assert_eq!((&fetch["deadline"], &fetch["cores"]), (&json!("1m"), &json!(1)));
    let run = &fetch["runs"][0];
    assert_eq!((&run["state"], &run["attempts"]), (&json!("succeeded"), &json!(1)));
    assert!(job["submitted"].as_str() <= run["started"].as_str(), "{job:#}");
    assert!(run["started"].as_str() < run["ended"].as_str(), "{job:#}");
    assert_eq!(
        (&shard["cores"], &shard["after"], &shard["count"]),
        (&json!(0.5), &json!(["fetch"]), &json!(3))
    );
    assert_eq!(shard["estimate"], Value::Null);
    assert_eq!((&merge["after_each"], &merge["after"]), (&json!(["shard"]), &Value::Null));
    let skipped = json!([{"first": 4, "count": 3, "state": "skipped", "attempts": 0}]);
    assert_eq!(merge["runs"], skipped, "those that are alike are one run");
    assert!(told[1]["not_before"].as_str() > told[1]["submitted"].as_str(), "{told:#?}");

    let said = cli.ok(&["history", "--file", "h.jsonl"]).await;
    assert_eq!(said, "2 jobs are in h.jsonl\n");
    assert_eq!(std::fs::read_to_string(cli.path("h.jsonl")).expect("written"), text);
    let replayed = cli.json(&["simulate", "--history", "h.jsonl", "--procs", "2", "--policy", "fcfs"]).await;
    assert_eq!((&replayed["tasks"], &replayed["left_out"]), (&json!(4), &json!(4)), "{replayed:#}");
    let took = |task: &Value| -> f64 {
        let time =
            |field: &str| -> model::Timestamp { task[field].as_str().expect("a time").parse().expect("one") };
        time("ended").since(time("started")).as_secs_f64()
    };
    let longest = shard["runs"].as_array().expect("runs").iter().map(took).fold(0.001, f64::max);
    let makespan = replayed["policies"][0]["makespan_s"].as_f64().expect("seconds");
    assert!((makespan - took(run) - longest).abs() < 0.003, "{makespan}: {job:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_comes_in_pages_of_a_queue_and_since_a_time() {
    let (cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "reports"]).await;
    let client = cluster.client_of(1);
    let noop = |queue: &str| {
        let tasks = vec![TaskSpec::new("task", Work::Noop)];
        JobSpec::of("n", tasks).with(|job| job.queue = queue.to_owned())
    };
    let mut last = None;
    for _ in 0..250 {
        last = Some(client.submit(&noop("default")).await.expect("it is accepted").job);
    }
    let other = client.submit(&noop("reports")).await.expect("it is accepted").job;
    for job in [last.expect("many"), other] {
        finished(&client, job).await;
    }
    let told = lines(&cli.ok(&["history"]).await);
    let ids: Vec<&str> = told[1..].iter().map(|job| job["job"].as_str().expect("an id")).collect();
    let all: Vec<String> = (1..=251).rev().map(|id| format!("j{id}")).collect();
    assert_eq!(ids, all);
    let told = lines(&cli.ok(&["history", "--queue", "reports"]).await);
    assert_eq!((told.len(), &told[1]["job"]), (2, &json!("j251")));
    assert_eq!(lines(&cli.ok(&["history", "--since", "1h"]).await).len(), 252);
    assert_eq!(lines(&cli.ok(&["history", "--since", "2999-01-01T00:00:00Z"]).await).len(), 1);
    let since = told[1]["submitted"].as_str().expect("a time");
    assert_eq!(lines(&cli.ok(&["history", "--since", since]).await).len(), 2);
    assert_says(&cli.run(&["history", "--since", "yesterday"]).await, 2, &["neither a span such as 2h"]);
    let said = cli.run(&["history", "--queue", "nowhere"]).await;
    assert_says(&said, 3, &["there is no queue `nowhere`", "baton queue list"]);
    let said = cli.run(&["history", "--file", "no/such/folder/h"]).await;
    assert_says(&said, 1, &["no/such/folder/h"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_says_where_an_estimate_is_from() {
    let (_cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "learning", "--order", "sjf"]).await;
    let learnt = cli.submit(&["--queue", "learning", "--name", "seen", "--", "sleep", "0.2"]).await;
    let ended = cli.submit(&["--timeout", "5m", "--name", "bound", "--", "true"]).await;
    cli.ok(&["wait", &learnt, &ended]).await;
    let told = lines(&cli.ok(&["history"]).await);
    let task = |job: &str| {
        let found = told.iter().find(|line| line["job"] == job).expect("it is kept");
        found["tasks"][0].clone()
    };
    assert_eq!(task(&learnt)["estimate_from"], "learnt", "{told:#?}");
    let estimate = task(&learnt)["estimate"].as_str().map(model::time::parse_duration).expect("it has one");
    // It slept for twice that. When it began is noted after it has begun.
    assert!(estimate.expect("a duration") >= Duration::from_millis(100), "{told:#?}");
    assert_eq!(
        (&task(&ended)["estimate_from"], &task(&ended)["estimate"]),
        (&json!("timeout"), &json!("5m"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_advised_is_what_the_printed_command_sets() {
    let (cluster, cli) = cluster_and_cli().await;
    let said = cli.run(&["advise"]).await;
    assert_says(&said, 1, &["there is no history of queue `default`", "none with a task that ended"]);
    let client = cluster.client();
    finished(&client, client.submit(&wide_job("one", 0.01, "default")).await.expect("it is accepted").job)
        .await;
    let few = cli.ok(&["advise"]).await;
    assert!(few.contains("no recommendation: 1 task ended, and fewer than 20 say too little"), "{few}");
    assert!(few.contains("present") && !few.contains("apply:"), "{few}");

    run_a_burst(&client, "default").await;
    let told = cli.json(&["advise"]).await;
    assert_eq!((&told["enough"], &told["cores"]), (&json!(true), &json!(4)), "{told:#}");
    assert_eq!(told["history"]["tasks"], 24);
    let advised = &told["recommendation"];
    assert_eq!(advised["order"], "sjf", "{told:#}");
    assert!(advised["gain"].as_f64() > Some(0.2), "{told:#}");
    let waits = |told: &Value, mark: &str| {
        let policies = told["policies"].as_array().expect("a list").clone();
        let found = policies.into_iter().find(|policy| policy[mark] == true);
        found.expect("it is marked")["mean_wait_s"].as_f64().expect("seconds")
    };
    assert!(waits(&told, "recommended") < 0.8 * waits(&told, "present"), "{told:#}");
    // A replay under the policy that it ran under needs no time between tasks, as the cluster does.
    let measured = told["history"]["measured_mean_wait_s"].as_f64().expect("seconds");
    assert!(waits(&told, "present") < 1.05 * measured, "{told:#}");

    let text = cli.ok(&["advise", "--last", "1h"]).await;
    assert!(text.contains("replayed waits assume the estimates as they were known"), "{text}");
    let command = |label: &str| {
        let line =
            text.lines().find_map(|line| line.trim().strip_prefix(label)).expect("the command is printed");
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<String>>()
    };
    let run_it = async |words: Vec<String>| {
        cli.ok(&words.iter().map(String::as_str).collect::<Vec<&str>>()).await;
        cli.json(&["queue", "list"]).await["items"][0]["policy"].clone()
    };
    let before = cli.json(&["queue", "list"]).await["items"][0]["policy"].clone();
    let policy = run_it(command("apply:")).await;
    assert_eq!((&policy["order"], &policy["backfill"]), (&json!("sjf"), &advised["backfill"]), "{text}");
    let again = cli.json(&["advise"]).await;
    assert_eq!(again["recommendation"], Value::Null, "{again:#}");
    assert!(cli.ok(&["advise"]).await.contains("the present policy is fine"));
    assert_eq!(run_it(command("undo:")).await, before, "{text}");

    let said = cli.run(&["advise", "nowhere"]).await;
    assert_says(&said, 3, &["there is no queue `nowhere`"]);
    let said = cli.run(&["advise", "--last", "soon"]).await;
    assert_says(&said, 2, &["is not a duration"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_cluster_is_replayed_with_workers_that_are_made_up() {
    let (cluster, cli) = cluster_and_cli().await;
    let said = cli.run(&["simulate", "--from-cluster"]).await;
    assert_says(&said, 2, &["the workload has no jobs that ran"]);
    cli.ok(&["queue", "put", "reports", "--order", "fifo", "--backfill", "none"]).await;
    let client = cluster.client();
    run_a_burst(&client, "reports").await;
    for address in &cluster.addresses {
        let told = Cli::to(address).json(&["simulate", "--from-cluster", "--queue", "reports"]).await;
        assert_eq!((&told["procs"], &told["tasks"]), (&json!(4), &json!(23)), "{told:#}");
        let names: Vec<&Value> =
            told["policies"].as_array().expect("a list").iter().map(|p| &p["name"]).collect();
        // The present one is `fcfs`, which is not run twice.
        assert_eq!(names, ["present", "sjf", "first-fit", "easy", "easy-sjf", "conservative"]);
        assert_eq!(told["present"]["policy"]["order"], "fifo");
    }
    let more = ["simulate", "--from-cluster", "--add-workers", "2", "--last", "1h", "--policy", "fcfs"];
    let told = cli.json(&more).await;
    assert_eq!((&told["procs"], &told["workers"]["added_cores_each"]), (&json!(12), &json!(4)), "{told:#}");
    let fewer = cli.json(&["simulate", "--from-cluster", "--policy", "fcfs"]).await;
    let wait = |told: &Value| told["policies"][0]["mean_wait_s"].as_f64().expect("seconds");
    assert!(wait(&told) < wait(&fewer), "{told:#}\n{fewer:#}");
    let said = cli.run(&more).await;
    assert_says(
        &said,
        0,
        &["4 of 1 live worker, and 2 x 4 assumed, the median size", "tasks that ended: 23"],
    );
    assert!(said.stdout.starts_with("POLICY") && said.stdout.lines().count() == 2, "{said:#?}");
    let page = cli.ok(&["simulate", "--from-cluster", "--policy", "fcfs", "-o", "html"]).await;
    assert!(page.starts_with("<!doctype html>"), "{page}");

    for (add, why) in [("0", "1..=10000"), ("10001", "1..=10000"), ("-1", "-1"), ("many", "invalid")] {
        let add = format!("--add-workers={add}");
        assert_says(&cli.run(&["simulate", "--from-cluster", &add]).await, 2, &[why]);
    }
    let said = cli.run(&["simulate", "--from-cluster", "--queue", "nowhere"]).await;
    assert_says(&said, 3, &["there is no queue `nowhere`"]);
    assert_says(&cli.run(&["simulate", "--from-cluster", "--procs", "4"]).await, 2, &["--procs"]);
    cli.ok(&["worker", "cordon", "w1"]).await;
    let said = cli.run(&["simulate", "--from-cluster"]).await;
    assert_says(&said, 1, &["no live worker has any cores", "1 worker known"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_history_is_refused_with_the_place() {
    let cli = Cli::to("");
    let head = "{\"format\":\"baton-history\",\"version\":1}\n";
    let job = r#"{"job":"j1","queue":"q","submitted":"2026-11-22T18:30:00Z","state":"succeeded","tasks":[{"name":"t","first":0,"count":1,"cores":2,"runs":[{"first":0,"count":1,"state":"succeeded","attempts":1,"started":"2026-11-22T18:30:01Z","ended":"2026-11-22T18:30:03Z"}]}]}"#;
    let refused = async |text: &str, words: &[&str]| {
        let file = cli.file("h.jsonl", text);
        assert_says(&cli.run(&["simulate", "--history", file, "--procs", "4"]).await, 2, words);
    };
    refused("", &["h.jsonl: is empty", "baton-history"]).await;
    refused(head, &["the workload has no jobs that ran"]).await;
    refused("1 0 -1 60 4\n", &["h.jsonl: line 1, column "]).await;
    refused(&format!("{head}{job}\n{job}\n"), &["line 3, column 8: job j1 stands in line 2 too"]).await;
    let bad = format!("{head}{}\n", job.replace("18:30:03Z", "18:61:03Z"));
    refused(&bad, &["h.jsonl: line 2, column 2", "is not a time such as"]).await;
    refused(&format!("{head}{}\n", &job[..40]), &["line 2, column 40: EOF"]).await;
    let file = cli.file("h.jsonl", &format!("{head}{job}\n"));
    assert_says(&cli.run(&["simulate", "--history", file]).await, 2, &["--procs"]);
    let said = cli.run(&["simulate", "--history", file, "--procs", "1"]).await;
    assert_says(&said, 2, &["asks for 2 cores, the cluster is to have 1", "--procs 2"]);
    let said = cli.run(&["simulate", "--history", file, "--procs", "4", "--queue", "p"]).await;
    assert_says(&said, 2, &["none of the 1 jobs is of queue `p`"]);
    let told = cli.json(&["simulate", "--history", file, "--procs", "4", "--queue", "q"]).await;
    assert_eq!(told["policies"][0]["makespan_s"], 2.0);
    assert_says(
        &cli.run(&["simulate", "--history", "nowhere", "--procs", "4"]).await,
        2,
        &["cannot be read"],
    );
    for flags in [&["--queue", "q"][..], &["--last", "1h"], &["--add-workers", "2"]] {
        let said = cli.run(&[&["simulate", "--generate", "9", "--procs", "4"], flags].concat()).await;
        assert_eq!(said.status, 2, "{flags:?} is of a history: {said:#?}");
    }
}
