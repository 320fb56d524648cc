//! Queues, workers, replicas, contexts, and a cluster of one's own.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_its_settings_from_a_file_and_gives_its_secrets_to_tasks() {
    let (mut cluster, cli) = cluster_and_cli().await;
    std::fs::create_dir(cli.path("secrets")).expect("a folder");
    cli.file("secrets/key", "hush");
    let folder = cli.path("secrets");
    cli.file("worker.toml", &format!("secrets_dir = {folder:?}\nlabels = {{vault = \"yes\"}}\n"));
    let config = cli.path("worker.toml");
    cluster.add_worker("w2", &["--config", config.to_str().expect("a plain path")]);
    cluster.wait_ready(2).await;
    let file = "tasks:\n  - name: t\n    script: echo <$KEY>\n    constraints: [vault=yes]\n    \
                env: {KEY: {secret: key}}\n";
    let file = file.replace("echo <$KEY>", "echo \"<$KEY>\"");
    let said = cli.run(&["run", cli.file("secret.yaml", &file)]).await;
    assert_eq!((said.status, said.stdout.as_str()), (0, "<hush>\n"), "{said:#?}");
    assert!(!cli.ok(&["job", "export", "last"]).await.contains("hush"), "only the name is kept");
    let tasks = cli.json(&["ps", "last.t"]).await;
    assert_eq!(tasks["items"][0]["worker"], "w2");
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_are_made_paused_resumed_and_deleted() {
    let (_cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "reports", "--weight", "300", "--running-max", "2"]).await;
    cli.ok(&["queue", "pause", "reports"]).await;
    let held = cli.submit(&["--queue", "reports", "--", "true"]).await;
    let other = cli.submit(&["--", "true"]).await;
    cli.ok(&["wait", &other]).await;
    let list = cli.json(&["queue", "list"]).await;
    let reports = list["items"].as_array().expect("a list").iter().find(|queue| queue["name"] == "reports");
    let reports = reports.expect("it is listed");
    assert_eq!((&reports["weight"], &reports["paused"]), (&json!(300), &json!(true)));
    assert_eq!((&reports["running_max"], &reports["counts"]["ready"]), (&json!(2), &json!(1)));
    let explained = cli.json(&["explain", &held]).await;
    assert!(explained["reasons"].to_string().contains("pause"), "{explained:#}");
    assert_says(&cli.run(&["queue", "delete", "reports"]).await, 4, &["error[conflict]", "unfinished"]);
    cli.ok(&["queue", "resume", "reports"]).await;
    cli.ok(&["wait", &held]).await;
    let said = cli.run(&["submit", "--queue", "nowhere", "--", "true"]).await;
    assert_says(&said, 3, &["error[unknown-queue]", "nowhere", "NOT accepted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_replicas_and_settings_are_shown_and_changed() {
    let (cluster, cli) = cluster_and_cli().await;
    let workers = cli.json(&["worker", "list"]).await;
    assert_eq!((&workers["items"][0]["name"], &workers["items"][0]["state"]), (&json!("w1"), &json!("live")));
    cli.ok(&["worker", "cordon", "w1"]).await;
    assert_eq!(cli.json(&["worker", "list"]).await["items"][0]["state"], "cordoned");
    cli.ok(&["worker", "uncordon", "w1"]).await;
    assert_says(&cli.run(&["worker", "cordon", "w9"]).await, 3, &["error[unknown-worker]"]);

    let members = cli.json(&["cluster", "members"]).await;
    let names: Vec<&Value> =
        members["items"].as_array().expect("a list").iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    let leader = cluster.leader().await;
    let next = &cluster.replicas[(leader + 1) % 3].name;
    assert_eq!(cli.json(&["cluster", "transfer-leader", next]).await["leader"], json!(next));
    wait_until("the status shows the new leader", async || {
        cli.json(&["cluster", "status"]).await["leader"] == json!(next)
    })
    .await;
    assert!(cli.ok(&["cluster", "status"]).await.contains(&format!("leader {next}")));
    assert_eq!(cli.ok(&["config", "get", "limits.starve_after_s"]).await, "60\n");
    cli.ok(&["config", "set", "limits.starve_after_s", "30"]).await;
    assert_eq!(cli.ok(&["config", "get", "limits.starve_after_s"]).await, "30\n");
    // Two writers of two settings do not undo each other, and a repeat is the same write.
    let set = ["config", "set", "limits.queues_max", "7", "-o", "json"];
    let told: Value = serde_json::from_str(&cli.ok(&set).await).expect("JSON");
    cli.ok(&["config", "set", "limits.retries_max", "9"]).await;
    let id = told["request_id"].as_str().expect("an id");
    cli.ok(&[&set[..], &["--request-id", id]].concat()).await;
    let limits: Value = cli.json(&["config", "get", "limits"]).await;
    let values = ["queues_max", "retries_max", "starve_after_s"].map(|name| limits[name].as_u64());
    assert_eq!(values, [Some(7), Some(9), Some(30)]);
    assert_eq!(cli.ok(&["config", "get", "-o", "jsonl"]).await.lines().count(), 1);
    assert_says(
        &cli.run(&["config", "set", "limits.queue_max", "7"]).await,
        2,
        &["did you mean `queues_max`?"],
    );
    // The limits that the cluster has set are those that a file is checked against.
    let eager = cli.file("eager.yaml", "tasks: [{name: a, noop: true, retry: {max: 10}}]\n");
    let also = cli.file("also.yaml", "tasks: [{name: a}]\n");
    let said = cli.run(&["job", "validate", eager, also]).await;
    assert_says(&said, 2, &["eager.yaml:1:", "retries_max = 9", "also.yaml:1:", "2 errors in 2 files"]);
    assert_eq!(cli.run(&["health"]).await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_it_says_what_why_and_how_to_mend_it() {
    let nobody = free_addresses(2);
    let cli = Cli::to(&nobody.join(","));
    let said = cli.run(&["submit", "--call-timeout", "1s", "--name", "etl", "--", "true"]).await;
    let words = ["cannot submit \"etl\"", "why:", "connection refused", "fix:", "NOT accepted", "request id"];
    assert_says(&said, 6, &words);
    assert_says(&said, 6, &[&nobody[0], &nobody[1]]);
    assert_eq!(said.stdout, "");
    let said = cli.run(&["ps", "--call-timeout", "1s", "-o", "json"]).await;
    let error: Value = serde_json::from_str(&said.stderr).expect("one JSON object on stderr");
    assert_eq!((said.status, &error["error"]["exit"]), (6, &json!(6)));
    assert_eq!(cli.run(&["health", "--within", "1s"]).await.status, 6);
    let said = cli.run(&["run", "--call-timeout", "1s", "--", "true"]).await;
    assert_says(&said, 125, &["error[unavailable]"]);
    let said = cli.run(&["cluster", "transfer-leader", "--call-timeout", "1s"]).await;
    assert_says(&said, 6, &["was not transferred", "a retry is safe"]);
    assert_eq!(cli.run(&["no-such-verb"]).await.status, 2);
    assert_eq!(cli.run(&["submit"]).await.status, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_submit_ends_with_six_and_says_whether_it_happened() {
    let (cluster, cli) = cluster_and_cli().await;
    for replica in &cluster.replicas[..2] {
        replica.freeze().await;
    }
    let said = cli.run(&["submit", "--call-timeout", "3s", "--", "true"]).await;
    assert_says(&said, 6, &["why:", "fix:", "safe"]);
    // Which of them depends on whether the leader was frozen with the write in its hands.
    assert!(said.stderr.contains("NOT accepted") || said.stderr.contains("UNKNOWN"), "{said:#?}");
    assert_eq!(said.stdout, "");
    let submit = ["submit", "--call-timeout", "3s", "-o", "json", "--name", "again", "--", "true"];
    let said = cli.run(&submit).await;
    let error: Value = serde_json::from_str(&said.stderr).expect("one JSON object on stderr");
    let happened = error["error"]["happened"].as_str().expect("whether it happened");
    assert!(matches!((said.status, happened), (6, "no" | "maybe")), "{said:#?}");
    let id = error["error"]["request_id"].as_str().expect("a request id");
    for replica in &cluster.replicas[..2] {
        replica.thaw();
    }
    cluster.wait_ready(1).await;
    let submit = ["--request-id", id, "--name", "again", "--", "true"];
    let job = cli.submit(&submit).await;
    assert_eq!(cli.submit(&submit).await, job);
    cli.ok(&["wait", &job]).await;
    assert_eq!(cli.ok(&["ps", "--name", "again", "-o", "name"]).await, format!("{job}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_name_clusters() {
    let cluster = Cluster::start(1, 1).await;
    let cli = Cli::to("");
    cli.ok(&["context", "add", "here", "--servers", &cluster.addresses[0]]).await;
    cli.ok(&["context", "add", "there", "--servers", "nowhere.invalid:1"]).await;
    cli.ok(&["context", "use", "here"]).await;
    assert_eq!(cli.ok(&["ps", "-o", "name"]).await, "");
    assert_says(&cli.run(&["context", "use", "elsewhere"]).await, 3, &["elsewhere"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_runs_a_command_against_a_cluster_of_its_own_and_leaves_nothing_behind() {
    let cli = Cli::to("");
    let data = cli.path("data");
    let binary = baton().display();
    let script = format!("{binary} run -- echo hello && {binary} cluster members -o name && exit 9");
    let data_dir = data.to_str().expect("a plain path");
    let said = cli.run(&["dev", "--port-base", "0", "--data-dir", data_dir, "--exec", &script]).await;
    assert_eq!((said.status, said.stdout.as_str()), (9, "hello\nn1\nn2\nn3\n"), "{said:#?}");
    let left = processes_of(&data);
    sweep(&data);
    assert!(left.is_empty(), "{left:?} still run");
}
