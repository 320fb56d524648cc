//! Jobs: files, submits, changes, and their ends.

use super::*;

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
async fn what_waits_too_long_is_cancelled_says_so_and_can_be_retried() {
    let (_cluster, cli) = cluster_and_cli().await;
    let long = cli.submit(&["--cpu", "99", "--start-within", "1h", "--", "true"]).await;
    let told = cli.run(&["-o", "json", "explain", &long]).await;
    assert!(told.stdout.contains("; cancelled unless started by 20"), "{told:#?}");
    assert!(cli.ok(&["ps", &long]).await.contains("cancelled unless started by 20"));

    let text = "tasks:\n- {name: a, noop: true, resources: {cpu: 99}, start_within: 500ms}\n\
                - {name: b, noop: true, after: [a]}\n";
    let job = cli.submit(&[cli.file("limited.yaml", text)]).await;
    let later = cli.submit(&["--after", &job, "--", "true"]).await;
    assert_eq!(cli.run(&["wait", &job]).await.status, 11);
    assert_eq!(cli.run(&["wait", &later]).await.status, 10);
    let tasks = cli.json(&["ps", &job]).await;
    let (first, second) = (&tasks["items"][0], &tasks["items"][1]);
    assert_eq!(first["outcome"]["reason"], "waited_too_long", "{tasks:#}");
    assert_eq!((&first["worker"], &first["attempt"]), (&Value::Null, &json!(0)), "{tasks:#}");
    assert_eq!((&first["state"], &second["state"]), (&json!("cancelled"), &json!("skipped")), "{tasks:#}");
    assert!(cli.ok(&["ps", &job]).await.contains("waited too long: not started within 500ms"));
    let told = cli.json(&["explain", &format!("{job}.a")]).await;
    assert_eq!(told["summary"], format!("{job}.0 was cancelled: not started within 500ms"), "{told:#}");
    assert_says(&cli.run(&["logs", &format!("{job}.0")]).await, 3, &["nothing of it has begun"]);
    let exported = cli.ok(&["job", "export", &job]).await;
    assert!(exported.contains("start_within: 500ms"), "{exported}");

    let run = ["run", "--cpu", "99", "--start-within", "500ms", "--", "true"];
    assert_says(&cli.run(&run).await, 11, &["waited too long: not started within 500ms"]);

    // A pause stops no clock; a retry has all of the time again.
    cli.ok(&["queue", "put", "held"]).await;
    cli.ok(&["queue", "pause", "held"]).await;
    let held = cli.submit(&["--queue", "held", "--start-within", "5s", "--", "true"]).await;
    assert_eq!(cli.run(&["wait", &held]).await.status, 11);
    cli.ok(&["queue", "resume", "held"]).await;
    cli.ok(&["retry", &held]).await;
    cli.ok(&["wait", &held]).await;
    let task = cli.json(&["ps", &held]).await["items"][0].clone();
    assert_eq!((&task["attempt"], &task["round"]), (&json!(1), &json!(2)), "{task:#}");
    assert_eq!(task["earlier"][0]["reason"], "waited_too_long", "{task:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_to_be_tried_again_keeps_the_output_of_its_attempt() {
    let (_cluster, cli) = cluster_and_cli().await;
    let go = cli.path("go");
    let script = format!("echo once; until [ -e {} ]; do sleep 0.1; done; exit 1", go.display());
    let job = cli.submit(&["--retries", "1", "--start-within", "1s", "--", "sh", "-c", &script]).await;
    let runs = async || cli.json(&["job", "get", &job]).await["counts"]["running"] == 1;
    wait_until("it has begun", runs).await;
    cli.ok(&["queue", "pause", "default"]).await;
    std::fs::write(&go, "").expect("a file can be written");
    assert_eq!(cli.run(&["wait", &job]).await.status, 11);
    assert_eq!(cli.ok(&["logs", &job]).await, "once\n");
    let task = cli.json(&["ps", &job]).await["items"][0].clone();
    assert_eq!(task["attempt"], 1, "{task:#}");
    let reasons = (&task["outcome"]["reason"], &task["earlier"][0]["reason"]);
    assert_eq!(reasons, (&json!("waited_too_long"), &json!("exited")), "{task:#}");
    // It has nothing to wait for: no attempt is being stopped.
    cli.ok(&["cancel", "--wait", &job]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_on_waiting_that_is_none_is_refused() {
    let (_cluster, cli) = cluster_and_cli().await;
    let said = cli.run(&["submit", "--start-within", "0s", "--", "true"]).await;
    assert_says(&said, 2, &["tasks[0].start_within", "shorter than 1ms", "Nothing was submitted"]);
    let said = cli.run(&["submit", "--start-within", "366days", "--", "true"]).await;
    assert_says(&said, 2, &["tasks[0].start_within", "longer than 365 days"]);
    let said = cli.run(&["submit", "--start-within", "soon", "--", "true"]).await;
    assert_says(&said, 2, &["--start-within", "`soon` is not a duration"]);
    let file = cli.file("odd.yaml", "tasks:\n- {name: a, noop: true, start_withn: 5m}\n");
    assert_says(&cli.run(&["submit", file]).await, 2, &["start_withn", "did you mean `start_within`?"]);
}
