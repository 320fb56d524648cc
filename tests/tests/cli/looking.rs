//! Lists, logs, and why something waits.

use super::*;

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
