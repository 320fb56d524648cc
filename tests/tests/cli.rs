//! The command line against a real cluster: stdout is data, stderr is the rest, each exit status means one thing.

use std::process::Stdio;

use baton_tests::cli::{Cli, Said, said};
use baton_tests::cluster::{Cluster, Layout, baton, free_addresses, wait_until};
use baton_tests::process::{processes_of, signal_process, sweep};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

async fn cluster_and_cli() -> (Cluster, Cli) {
    let cluster = Cluster::start(3, 1).await;
    let cli = Cli::of(&cluster);
    (cluster, cli)
}

#[track_caller]
fn assert_says(said: &Said, status: i32, words: &[&str]) {
    assert_eq!(said.status, status, "{said:#?}");
    for word in words {
        assert!(said.stderr.contains(word), "`{word}` is missing: {said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_streams_the_output_and_ends_as_the_task_ends() {
    let (_cluster, cli) = cluster_and_cli().await;
    let said = cli.run(&["run", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]).await;
    assert_eq!((said.status, said.stdout.as_str()), (3, "out\n"), "{said:#?}");
    assert!(said.stderr.contains("err\n"), "{said:#?}");
    let said = cli.run(&["run", "--", "sh", "-c", "kill -9 $$"]).await;
    assert_eq!(said.status, 128 + 9, "{said:#?}");
    let said = cli.run(&["run", "--", "/no/such/binary"]).await;
    assert_says(&said, 127, &["/no/such/binary"]);
    let script = "echo $BATON_ARRAY_INDEX; exit $BATON_ARRAY_INDEX";
    let said = cli.run(&["run", "--array", "0-2", "--no-prefix", "--", "sh", "-c", script]).await;
    let mut lines: Vec<&str> = said.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((said.status, lines), (2, vec!["0", "1", "2"]), "{said:#?}");
    let lines = cli.file("lines.txt", "one\ntwo words\n");
    let said = cli
        .run(&["run", "--each-line", lines, "--no-prefix", "--", "sh", "-c", "echo \"<$BATON_LINE>\""])
        .await;
    let mut lines: Vec<&str> = said.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((said.status, lines), (0, vec!["<one>", "<two words>"]), "{said:#?}");
}

/// A `baton run` that has printed its first lines and waits for a gate.
struct Streaming {
    cluster: Cluster,
    cli: Cli,
    child: std::process::Child,
}

impl Streaming {
    async fn start() -> Streaming {
        let cluster = Cluster::with(Layout::of(3, 1).patient()).await;
        let cli = Cli::of(&cluster);
        let script = "echo $$; for i in 1 2 3; do echo $i; done; \
                      while ! [ -e $GATE ]; do sleep 0.1; done; echo $$ $BATON_ATTEMPT";
        let gate = format!("GATE={}", cli.path("gate").display());
        let create = |name| std::fs::File::create(cli.path(name)).expect("a file");
        let mut command = cli.command(&["run", "-e", &gate, "--", "sh", "-c", script]);
        let child = command.stdout(create("out")).stderr(create("err")).spawn().expect("baton starts");
        let streaming = Streaming { cluster, cli, child };
        wait_until("the output has begun", async || streaming.read("out").lines().count() == 4).await;
        streaming
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.cli.path(name)).unwrap_or_default()
    }

    /// Opens the gate and sees that the output is whole, and of one process. Returns what was said beside it.
    async fn finish(self) -> String {
        std::fs::write(self.cli.path("gate"), "").expect("the gate opens");
        let (out, err) = (self.cli.path("out"), self.cli.path("err"));
        let said = said(self.child, &["run"]).await;
        let read = |path| std::fs::read_to_string(path).expect("output");
        let (out, err) = (read(out), read(err));
        assert_eq!(said.status, 0, "{err}");
        let pid = out.lines().next().expect("a first line").to_owned();
        assert_eq!(out, format!("{pid}\n1\n2\n3\n{pid} 1\n"), "{err}");
        err
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn run_goes_on_from_the_same_process_when_the_leader_is_killed() {
    let mut run = Streaming::start().await;
    // A failover is told as what it saw before and after, so it must have seen the leader once.
    tokio::time::sleep(std::time::Duration::from_millis(800)).await;
    run.cluster.kill_leader().await;
    wait_until("the failover is told", async || run.read("err").contains("took over")).await;
    let err = run.finish().await;
    assert!(err.contains("same attempt"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn run_goes_on_when_the_leader_hands_over_and_when_the_worker_restarts() {
    let mut run = Streaming::start().await;
    let leader = run.cluster.leader().await;
    let next = run.cluster.replicas[(leader + 1) % 3].name.clone();
    assert_eq!(run.cluster.client().transfer_leader(Some(&next)).await.expect("transferred"), next);
    run.cluster.workers[0].kill();
    run.cluster.workers[0].start();
    run.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_interrupt_of_run_detaches_and_the_job_goes_on() {
    let (_cluster, cli) = cluster_and_cli().await;
    let gate = cli.path("gate");
    let script = format!("echo begun; while ! [ -e {} ]; do sleep 0.1; done; echo done", gate.display());
    let args = ["run", "--", "sh", "-c", &script];
    let out = cli.path("out");
    let mut command = cli.command(&args);
    command.stdout(std::fs::File::create(&out).expect("a file")).stderr(Stdio::piped());
    let child = command.spawn().expect("baton starts");
    wait_until("the output has begun", async || {
        std::fs::read_to_string(&out).is_ok_and(|out| out == "begun\n")
    })
    .await;
    signal_process(child.id() as i32, Signal::SIGINT);
    let said = said(child, &args).await;
    assert_says(&said, 130, &["detached", "baton logs -f j1", "baton cancel j1"]);
    std::fs::write(&gate, "").expect("the gate opens");
    cli.ok(&["wait", "last"]).await;
    assert_eq!(cli.ok(&["logs", "last"]).await, "begun\ndone\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_prints_the_id_alone_and_wait_says_how_it_ended() {
    let (_cluster, cli) = cluster_and_cli().await;
    let good = cli.submit(&["--name", "good", "--", "true"]).await;
    let bad = cli.submit(&["--name", "bad", "--", "false"]).await;
    let slow = cli.submit(&["--name", "slow", "--", "sleep", "600"]).await;
    assert_eq!(cli.run(&["wait", &good]).await.status, 0);
    assert_eq!(cli.run(&["wait", &good, &bad]).await.status, 10);
    assert_says(&cli.run(&["wait", "--timeout", "200ms", &slow]).await, 124, &["not finished within"]);
    cli.ok(&["cancel", "--wait", &slow]).await;
    assert_eq!(cli.run(&["wait", &slow]).await.status, 11);
    assert_eq!(cli.run(&["wait", "good@latest"]).await.status, 0);
    let waited = cli.json(&["wait", &good]).await;
    assert_eq!(waited["items"][0]["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_as_tables_json_lines_and_names() {
    let (_cluster, cli) = cluster_and_cli().await;
    let first = cli.submit(&["--name", "first", "-l", "team=a", "--", "true"]).await;
    let second = cli.submit(&["--name", "second", "--array", "0-2", "--", "true"]).await;
    cli.ok(&["wait", &first, &second]).await;
    let table = cli.ok(&["ps"]).await;
    assert!(table.contains("first") && table.contains("second") && table.contains("succeeded"), "{table}");
    assert!(!table.contains('\x1b'), "colour where there is no terminal: {table:?}");
    let list = cli.json(&["ps"]).await;
    assert_eq!(list["next"], Value::Null);
    let names: Vec<&Value> =
        list["items"].as_array().expect("a list").iter().map(|job| &job["name"]).collect();
    assert_eq!(names, ["second", "first"]);
    assert_eq!(list["items"][0]["counts"]["succeeded"], 3);
    let lines = cli.ok(&["ps", "-o", "jsonl"]).await;
    let parsed: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(Value::from(parsed), list["items"]);
    assert_eq!(cli.ok(&["ps", "-o", "name"]).await, format!("{second}\n{first}\n"));
    assert_eq!(cli.ok(&["ps", "-l", "team=a", "-o", "name"]).await, format!("{first}\n"));
    assert_eq!(cli.ok(&["ps", "--state", "failed", "-o", "name"]).await, "");
    let tasks = cli.json(&["ps", &second]).await;
    let ids: Vec<&Value> =
        tasks["items"].as_array().expect("a list").iter().map(|task| &task["id"]).collect();
    assert_eq!(
        ids,
        [&json!(format!("{second}.0")), &json!(format!("{second}.1")), &json!(format!("{second}.2"))]
    );
    let page = cli.json(&["ps", "--limit", "1"]).await;
    let next = page["next"].as_str().expect("there is more");
    assert_eq!(cli.ok(&["ps", "--before", next, "-o", "name"]).await, format!("{first}\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_tell_streams_attempts_and_tasks_apart() {
    let (_cluster, cli) = cluster_and_cli().await;
    let job = cli.submit(&["--", "sh", "-c", "echo out; echo err >&2"]).await;
    let out = cli.ok(&["logs", "-f", &job, "--stream", "stdout"]).await;
    assert_eq!(out, "out\n");
    let said = cli.run(&["logs", &job]).await;
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("out\n", "err\n"));
    let array = cli
        .submit(&["--name", "many", "--array", "0-1", "--", "sh", "-c", "echo I am $BATON_ARRAY_INDEX"])
        .await;
    cli.ok(&["wait", &array]).await;
    let said = cli.run(&["logs", &array]).await;
    let mut lines: Vec<&str> = said.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[sh[0]] I am 0", "[sh[1]] I am 1"], "{said:#?}");
    assert_eq!(cli.ok(&["logs", &format!("{array}.1")]).await, "I am 1\n");
    let text = cli.ok(&["logs", &format!("{array}.0"), "-o", "jsonl"]).await;
    let line: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!((&line["task"], &line["text"]), (&json!(format!("{array}.0")), &json!("I am 0\n")));
    assert_says(&cli.run(&["logs", "j999"]).await, 3, &["error[", "j999"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_follow_what_begins_later_and_every_attempt_of_it() {
    let (_cluster, cli) = cluster_and_cli().await;
    let gate = cli.path("gate");
    let file = json!({"tasks": [
        {"name": "first", "script": format!("echo a; while ! [ -e {} ]; do sleep 0.1; done", gate.display())},
        {"name": "second", "script": "echo b $BATON_ATTEMPT; [ $BATON_ATTEMPT = 2 ]", "after": ["first"],
         "retry": {"max": 1, "backoff": "10ms..10ms"}},
        {"name": "third", "array": "5-6", "script": "echo c; echo err >&2", "after": ["second"]}]});
    let job = cli.submit(&[cli.file("steps.json", &file.to_string())]).await;
    let follow = |name: &str, args: &[&str]| {
        let out = std::fs::File::create(cli.path(name)).expect("a file");
        cli.command(&[&["logs", "-f"], args].concat()).stdout(out).stderr(Stdio::piped()).spawn()
    };
    let read = |name: &str| std::fs::read_to_string(cli.path(name)).expect("output");
    let whole = follow("whole", &[&job]).expect("baton starts");
    let second = format!("{job}.second");
    let part = follow("part", &[&second, "--stream", "stdout", "-o", "json"]).expect("baton starts");
    wait_until("the first output is shown", async || read("whole") == "[first] a\n").await;
    std::fs::write(&gate, "").expect("the gate opens");
    let whole = said(whole, &["logs", "-f"]).await;
    assert_eq!(whole.status, 0, "{whole:#?}");
    let text = read("whole");
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["[first] a", "[second] b 1", "[second] b 2", "[third[5]] c", "[third[6]] c"]);
    assert!(whole.stderr.contains("[third[6]] err"), "{whole:#?}");
    let part = said(part, &["logs", "-f"]).await;
    assert_eq!(part.status, 0, "{part:#?}");
    let list: Value = serde_json::from_str(&read("part")).expect("one JSON document");
    let items = list["items"].as_array().expect("a list");
    let mut texts: Vec<&str> = items.iter().filter_map(|item| item["text"].as_str()).collect();
    texts.sort_unstable();
    assert_eq!((texts, &list["next"]), (vec!["b 1\n", "b 2\n"], &Value::Null));
    // Of the other stream there is nothing, in JSON as on a terminal.
    let err = cli.json(&["logs", &format!("{job}.third[5]"), "--stream", "stderr"]).await;
    assert_eq!(err["items"].as_array().map(Vec::len), Some(1), "{err:#}");
    assert_eq!(err["items"][0]["text"], "err\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_themselves_again_when_something_changes() {
    let (_cluster, cli) = cluster_and_cli().await;
    let watched = [
        ("jobs", vec!["ps"]),
        ("queues", vec!["queue", "list"]),
        ("workers", vec!["worker", "list"]),
        ("cluster", vec!["cluster", "status"]),
    ];
    let mut children = Vec::new();
    for (name, args) in &watched {
        let out = std::fs::File::create(cli.path(name)).expect("a file");
        let args = [&args[..], &["--watch", "-o", "jsonl"]].concat();
        children.push(cli.command(&args).stdout(out).stderr(Stdio::null()).spawn().expect("baton starts"));
    }
    let shown = |name: &str| std::fs::read_to_string(cli.path(name)).unwrap_or_default();
    // An empty list of jobs is no line.
    for name in ["queues", "workers", "cluster"] {
        wait_until("the first picture", async || shown(name).ends_with("}\n")).await;
    }
    cli.ok(&["queue", "put", "reports"]).await;
    cli.ok(&["worker", "cordon", "w1"]).await;
    let job = cli.submit(&["--name", "seen", "--queue", "reports", "--delay", "1h", "--", "true"]).await;
    for (name, word) in [
        ("jobs", "\"seen\""),
        ("queues", "\"reports\""),
        ("workers", "cordoned"),
        ("cluster", "\"unfinished_jobs\":1"),
    ] {
        wait_until("the change is shown", async || shown(name).contains(word)).await;
    }
    cli.ok(&["cancel", &job]).await;
    wait_until("the next change is shown", async || shown("jobs").contains("\"cancelled\"")).await;
    for mut child in children {
        assert!(child.try_wait().expect("it can be asked").is_none(), "a watch does not end by itself");
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed_in_pages_wide_and_by_whether_they_are_finished() {
    let (_cluster, cli) = cluster_and_cli().await;
    let first = cli.submit(&["--array", "0-2", "--", "true"]).await;
    let second = cli.submit(&["--array", "0-1", "--delay", "1h", "--", "true"]).await;
    cli.ok(&["wait", &first]).await;
    let mut seen = Vec::new();
    let mut from: Option<String> = None;
    loop {
        let mut args = vec!["ps", &first, &second, "--limit", "2"];
        args.extend(from.as_deref().into_iter().flat_map(|from| ["--from", from]));
        let page = cli.json(&args).await;
        let items = page["items"].as_array().expect("a list");
        assert!(items.len() <= 2, "{page:#}");
        seen.extend(items.iter().map(|task| task["id"].as_str().expect("an id").to_owned()));
        match page["next"].as_str() {
            Some(next) => from = Some(next.to_owned()),
            None => break,
        }
    }
    let all: Vec<String> = [(&first, 0..3), (&second, 0..2)]
        .into_iter()
        .flat_map(|(job, numbers)| numbers.map(move |number| format!("{job}.{number}")))
        .collect();
    assert_eq!(seen, all);
    let unfinished = cli.ok(&["ps", &first, &second, "--unfinished", "-o", "name"]).await;
    assert_eq!(unfinished, format!("{second}.0\n{second}.1\n"));
    let (table, wide) = (cli.ok(&["ps", &first]).await, cli.ok(&["ps", &first, "-o", "wide"]).await);
    let columns = |text: &str| text.lines().next().map_or(0, |line| line.split_whitespace().count());
    assert!(columns(&wide) > columns(&table), "{table}\n{wide}");
    let said = cli.run(&["ps", &first, "--queue", "default"]).await;
    assert_says(&said, 2, &["--queue"]);
    let mut coloured = cli.command(&["ps", "--color", "always"]);
    let coloured = coloured.env("NO_COLOR", "1").output().expect("baton runs");
    assert!(String::from_utf8_lossy(&coloured.stdout).contains('\x1b'), "a flag comes before NO_COLOR");
    let mut plain = cli.command(&["ps"]);
    let plain = plain.env("NO_COLOR", "1").output().expect("baton runs");
    assert!(!String::from_utf8_lossy(&plain.stdout).contains('\x1b'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_moves_to_another_queue_and_gets_and_loses_what_it_waits_for() {
    let (_cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "held"]).await;
    cli.ok(&["queue", "pause", "held"]).await;
    let gate = cli.submit(&["--delay", "1h", "--", "true"]).await;
    let file = cli.file("two.yaml", "queue: held\ntasks: [{name: a, noop: true}, {name: b, noop: true}]\n");
    let job = cli.submit(&[file]).await;
    let blocked = ["ps", &job, "--state", "blocked", "-o", "name"];
    assert_eq!(cli.ok(&blocked).await, "");
    cli.ok(&["job", "set", &job, "--add-after", "b:a", "--add-after", &gate]).await;
    cli.ok(&["job", "set", &job, "--queue", "default"]).await;
    let view = cli.json(&["job", "get", &job]).await;
    assert_eq!(
        (&view["queue"], &view["groups"][1]["after"][0]),
        (&json!("default"), &json!("a")),
        "{view:#}"
    );
    assert_eq!(cli.ok(&blocked).await, format!("{job}.0\n{job}.1\n"));
    let said = cli.run(&["job", "set", &job, "--add-after", "a:b"]).await;
    assert_says(&said, 2, &["cycle: a -> b -> a", "Nothing was changed"]);
    cli.ok(&["job", "set", &job, "--remove-after", "b:a", "--remove-after", &gate]).await;
    cli.ok(&["wait", &job]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_member_waits_for_the_one_at_its_own_place() {
    let (_cluster, cli) = cluster_and_cli().await;
    let file = "tasks:\n  - {name: a, array: 0-2, script: 'exit $((BATON_ARRAY_INDEX == 1))'}\n  \
                - {name: b, array: 0-2, noop: true, after_each: [a]}\n";
    let job = cli.submit(&[cli.file("each.yaml", file)]).await;
    assert_eq!(cli.run(&["wait", &job]).await.status, 10);
    let tasks = cli.json(&["ps", &job]).await;
    let states: Vec<&str> = (0..6).filter_map(|place| tasks["items"][place]["state"].as_str()).collect();
    assert_eq!(states, ["succeeded", "failed", "succeeded", "succeeded", "skipped", "succeeded"]);
}

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
async fn an_example_can_be_printed_and_submitted_from_anywhere() {
    let (_cluster, cli) = cluster_and_cli().await;
    for (name, file) in [("pipeline", "pipeline.yaml"), ("toml", "pipeline.toml")] {
        let text = cli.ok(&["example", name]).await;
        let job = cli.submit(&[cli.file(file, &text)]).await;
        cli.ok(&["wait", &job]).await;
        let fetched = cli.ok(&["logs", &format!("{job}.fetch")]).await;
        assert_eq!(fetched, "fetched the data of 2026-11-22\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_paused_resumed_cancelled_retried_and_changed() {
    let (_cluster, cli) = cluster_and_cli().await;
    let flag = cli.path("flag");
    let script = format!("[ $BATON_ARRAY_INDEX = 0 ] || [ -e {} ]", flag.display());
    let flaky = cli.submit(&["--array", "0-1", "--", "sh", "-c", &script]).await;
    assert_eq!(cli.run(&["wait", &flaky]).await.status, 10);
    std::fs::write(&flag, "").expect("the flag is set");
    cli.ok(&["retry", "--failed", &flaky]).await;
    cli.ok(&["wait", &flaky]).await;
    let rounds = cli.json(&["ps", &flaky]).await;
    assert_eq!((&rounds["items"][0]["round"], &rounds["items"][1]["round"]), (&json!(1), &json!(2)));

    let waiting = cli.submit(&["--delay", "1h", "--", "true"]).await;
    cli.ok(&["pause", &waiting]).await;
    assert_eq!(cli.json(&["job", "get", &waiting]).await["state"], "paused");
    cli.ok(&["resume", &waiting]).await;
    assert_eq!(cli.json(&["job", "get", &waiting]).await["state"], "waiting");
    cli.ok(&["job", "set", &waiting, "--priority", "7"]).await;
    assert_eq!(cli.json(&["job", "get", &waiting]).await["priority"], 7);
    let changed = cli.json(&["cancel", &waiting]).await;
    assert_eq!((&changed["changed"], &changed["names"]), (&json!(1), &json!([waiting])));
    assert_eq!(cli.json(&["job", "get", &waiting]).await["state"], "cancelled");
    assert_says(&cli.run(&["job", "set", &waiting, "--priority", "1"]).await, 4, &["error[job-finished]"]);

    let one = cli.submit(&["--delay", "1h", "--", "true"]).await;
    assert_says(&cli.run(&["cancel", "all"]).await, 2, &["--yes", &one]);
    cli.ok(&["cancel", "all", "--yes"]).await;
    assert_eq!(cli.json(&["job", "get", &one]).await["state"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_why_and_by_how_much_and_its_status_says_that_it_is_hopeless() {
    let (_cluster, cli) = cluster_and_cli().await;
    let big = cli.submit(&["--cpu", "64", "--", "true"]).await;
    let said = cli.run(&["explain", &big]).await;
    assert_eq!(said.status, 12, "{said:#?}");
    for word in ["64", "cpu", "w1"] {
        assert!(said.stdout.contains(word), "`{word}` is missing: {said:#?}");
    }
    let said = cli.run(&["explain", &big, "-o", "json"]).await;
    let explained: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!((said.status, &explained["state"]), (12, &json!("ready")));
    let delayed = cli.submit(&["--delay", "1h", "--", "true"]).await;
    let explained = cli.json(&["explain", &delayed]).await;
    assert_eq!(explained["state"], "delayed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_file_reads_as_yaml_toml_and_json_and_an_export_submits_again() {
    let (_cluster, cli) = cluster_and_cli().await;
    std::fs::create_dir(cli.path("scripts")).expect("a folder");
    cli.file("scripts/hello.sh", "#!/bin/sh\necho hello $1 from $BATON_TASK\n");
    let yaml = "job: hello\ntasks:\n  - name: greet\n    run: [./hello.sh, you]\n    \
                files: [{to: hello.sh, from: scripts/hello.sh, mode: \"755\"}]\n  \
                - name: bye\n    script: |\n      echo bye\n    after: [greet]\n";
    let toml = "job = \"hello\"\n[[tasks]]\nname = \"greet\"\nrun = [\"./hello.sh\", \"you\"]\n\
                files = [{to = \"hello.sh\", from = \"scripts/hello.sh\", mode = \"755\"}]\n\
                [[tasks]]\nname = \"bye\"\nscript = \"echo bye\\n\"\nafter = [\"greet\"]\n";
    let json = json!({"job": "hello", "tasks": [
        {"name": "greet", "run": ["./hello.sh", "you"],
         "files": [{"to": "hello.sh", "from": "scripts/hello.sh", "mode": "755"}]},
        {"name": "bye", "script": "echo bye\n", "after": ["greet"]}]});
    cli.file("job.yaml", yaml);
    cli.file("job.toml", toml);
    cli.file("job.json", &json.to_string());
    let mut exports = Vec::new();
    for file in ["job.yaml", "job.toml", "job.json"] {
        cli.ok(&["job", "validate", file]).await;
        let job = cli.submit(&[file]).await;
        cli.ok(&["wait", &job]).await;
        assert_eq!(cli.ok(&["logs", &job, "--no-prefix"]).await, format!("hello you from {job}.0\nbye\n"));
        exports.push(cli.ok(&["job", "export", &job]).await);
    }
    assert!(exports.iter().all(|export| *export == exports[0]), "{exports:#?}");
    for format in ["yaml", "toml", "json"] {
        let export = cli.ok(&["job", "export", "last", "--format", format]).await;
        let name = format!("again.{format}");
        cli.file(&name, &export);
        let again = cli.submit(&[&name]).await;
        assert_eq!(cli.ok(&["job", "export", &again]).await, exports[0], "{format}");
    }
    let said = cli.run_with(&["submit", "-"], "tasks: [{name: a, noop: true}]").await;
    assert_eq!(said.status, 0, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_what_was_changed_after_the_submit() {
    let (_cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "later"]).await;
    cli.ok(&["queue", "pause", "later"]).await;
    cli.ok(&["queue", "pause", "default"]).await;
    let first = cli.submit(&["--", "true"]).await;
    let second = cli.submit(&["--", "true"]).await;
    cli.ok(&["job", "set", &second, "--priority", "7", "--queue", "later", "--add-after", &first]).await;
    let export = cli.ok(&["job", "export", &second]).await;
    for part in ["queue: later", "priority: 7", &first] {
        assert!(export.contains(part), "{export}");
    }
    assert!(cli.ok(&["job", "get", &second]).await.contains(&format!("after {first}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_job_file_names_every_error_with_its_place_and_nothing_is_submitted() {
    let (_cluster, cli) = cluster_and_cli().await;
    let bad = cli.file(
        "bad.yaml",
        "job: x\nquue: a\ntasks:\n  - name: a\n    run: echo hi\n    timeout: soon\n  - name: b\n    noop: true\n    after: [c]\n",
    );
    for verb in [["submit", bad].as_slice(), &["run", bad], &["job", "validate", bad]] {
        let said = cli.run(verb).await;
        let status = if verb[0] == "run" { 125 } else { 2 };
        let places = [
            "bad.yaml:2:1: quue: unknown field; did you mean `queue`?",
            "bad.yaml:5:10: tasks[0].run: expected a list",
            "bad.yaml:6:14: tasks[0].timeout",
            "bad.yaml:9:13: tasks[1].after[0]: there is no task `c`",
            "Nothing was submitted.",
        ];
        assert_says(&said, status, &places);
        assert_eq!(said.stdout, "");
    }
    let said = cli.run(&["submit", "-o", "json", bad]).await;
    let error: Value = serde_json::from_str(&said.stderr).expect("one JSON object on stderr");
    assert_eq!(
        (&error["error"]["code"], &error["error"]["happened"]),
        (&json!("invalid-spec"), &json!("no"))
    );
    assert_says(&cli.run(&["submit", "absent.yaml"]).await, 2, &["absent.yaml"]);
    cli.file("big.yaml", &"x".repeat(9 << 20));
    assert_says(&cli.run(&["submit", "big.yaml"]).await, 2, &["big.yaml", "larger than"]);
    assert_eq!(cli.ok(&["ps", "-o", "name"]).await, "");
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
async fn a_repeated_request_id_is_done_once_and_another_body_is_a_conflict() {
    let (_cluster, cli) = cluster_and_cli().await;
    let accepted = cli.json(&["submit", "--", "true"]).await;
    let id = accepted["request_id"].as_str().expect("an id").to_owned();
    let again = cli.json(&["submit", "--request-id", &id, "--", "true"]).await;
    assert_eq!(again["job"], accepted["job"]);
    let said = cli.run(&["submit", "--request-id", &id, "--", "false"]).await;
    assert_says(&said, 4, &["error[conflict]", "NOT accepted"]);
    assert_eq!(said.stdout, "");
    assert_says(&cli.run(&["submit", "--request-id", "nonsense", "--", "true"]).await, 2, &["nonsense"]);
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
