//! Tasks that are released every period.

use baton_tests::jobs::ledger_script;
use baton_tests::ledger::Ledger;

use super::*;

/// A file that every folder finds.
fn written(cli: &Cli, text: &str) -> String {
    let name = cli.file("set.yaml", text);
    cli.path(name).to_str().expect("a path in words").to_owned()
}

async fn tasks(cli: &Cli, set: &str) -> Vec<Value> {
    cli.json(&["periodic", "get", set]).await["tasks"].as_array().expect("tasks").clone()
}

fn count(task: &Value, what: &str) -> u64 {
    task[what].as_u64().unwrap_or_else(|| panic!("{what}: {task:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_set_is_released_through_leaders_that_die_and_never_twice() {
    let (mut cluster, cli) = cluster_and_cli().await;
    let ledger = cluster.folder().join("ledger");
    let script = cluster.folder().join("task.sh");
    std::fs::write(&script, ledger_script(&ledger, "0.01")).expect("written");
    let run = format!("run: [sh, {}]", script.display());
    let file = format!(
        "policy: edf\nslots: 1\ntasks:\n\
         - {{name: fast, run_time: 50ms, period: 300ms, {run}}}\n\
         - {{name: slow, run_time: 100ms, period: 1s, deadline: 800ms, {run}}}\n"
    );
    let file = written(&cli, &file);
    let said = Cli::to(&cluster.addresses[1]).ok(&["periodic", "put", "beat", &file]).await;
    assert!(said.contains("is admitted"), "{said}");
    let released = async |more: u64| {
        let before = count(&tasks(&cli, "beat").await[0], "released");
        let enough = async || count(&tasks(&cli, "beat").await[0], "released") >= before + more;
        wait_until("more is released", enough).await;
    };
    released(3).await;
    for _ in 0..2 {
        let gone = cluster.kill_leader().await;
        cluster.replicas[gone].start();
        released(3).await;
    }
    let listed = cli.json(&["periodic", "list"]).await;
    assert_eq!(listed["items"][0]["order"], "edf", "{listed:#}");
    assert!(!listed["items"][0]["admitted"].as_array().expect("tests").is_empty());
    let shown = cli.ok(&["periodic", "get", "beat"]).await;
    assert!(shown.contains("edf on 1 slot\n") && shown.contains("<="), "{shown}");

    // Its queue is its own, and the tasks that ran are jobs as any other.
    let other = cli.run(&["run", "--queue", "beat.1", "--", "true"]).await;
    assert_says(&other, 125, &["is a slot of the periodic set `beat`"]);
    let changed = cli.run(&["queue", "put", "beat.1", "--order", "fifo"]).await;
    assert_says(&changed, 4, &["which nobody else may use or change", "Nothing was changed"]);
    cli.ok(&["queue", "put", "beat.1", "--weight", "300"]).await;

    cli.ok(&["periodic", "delete", "beat"]).await;
    assert_says(&cli.run(&["periodic", "get", "beat"]).await, 3, &["there is no periodic set `beat`"]);
    let ends = async || {
        let jobs = cli.json(&["ps", "--queue", "beat.1"]).await;
        jobs["items"].as_array().expect("jobs").iter().all(|job| job["state"] == "succeeded")
    };
    wait_until("what was released has ended", ends).await;
    let ledger = Ledger::read(&ledger);
    assert!(ledger.started_twice().is_empty(), "{:?}", ledger.started_twice());
    assert!(ledger.tasks_ended().len() >= 9, "{:?}", ledger.tasks_ended());
}

/// The long one would hold the slot for more than the short one's period.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_preemptive_set_a_long_run_stands_still_for_a_short_one() {
    let (_cluster, cli) = cluster_and_cli().await;
    let loops = "for i in $(seq 15); do sleep 0.1; done";
    let file = |more: &str| {
        written(
            &cli,
            &format!(
                "policy: rms\n{more}tasks:\n\
                 - {{name: short, run_time: 100ms, period: 500ms, run: ['true']}}\n\
                 - {{name: long, run_time: 3s, period: 6s, run: [sh, -c, '{loops}']}}\n"
            ),
        )
    };
    let refused = cli.run(&["periodic", "put", "beat", &file("")]).await;
    assert_says(&refused, 2, &["misses its deadline first", "Nothing was changed"]);
    let said = cli.ok(&["periodic", "put", "beat", &file("preemptive: true\n")]).await;
    assert!(said.contains("is admitted"), "{said}");
    let ended =
        async || count(&tasks(&cli, "beat").await[1], "met") + count(&tasks(&cli, "beat").await[1], "missed");
    wait_until("the long one has ended", async || ended().await >= 1).await;
    let found = tasks(&cli, "beat").await;
    assert!(count(&found[0], "released") >= 3, "{found:#?}");
    assert_eq!((count(&found[0], "skipped"), count(&found[1], "missed")), (0, 0), "{found:#?}");
    let job = found[1]["last"].as_str().expect("a job").to_owned();
    let task = cli.json(&["ps", &job]).await["items"][0].clone();
    assert_eq!((&task["attempt"], &task["state"]), (&json!(1), &json!("succeeded")), "{task:#}");
    let queues = cli.json(&["queue", "list"]).await;
    let slot = queues["items"].as_array().expect("a list").iter().find(|queue| queue["name"] == "beat.1");
    let slot = slot.expect("the slot");
    assert!(slot["suspensions"].as_u64() >= Some(2), "{slot:#}");
    assert_eq!((&slot["policy"]["yields"], &slot["running_max"]), (&json!(true), &json!(1)), "{slot:#}");
    assert!(cli.ok(&["periodic", "get", "beat"]).await.contains("rms, preemptive on 1 slot\n"));

    let noop = written(
        &cli,
        "policy: rms\npreemptive: true\ntasks:\n- {name: a, run_time: 1ms, period: 1s, noop: true}\n",
    );
    let said = cli.run(&["periodic", "put", "other", &noop]).await;
    assert_says(
        &said,
        2,
        &["tasks[0].job", "nothing else can be made to stand still", "Nothing was changed"],
    );
    let any = written(
        &cli,
        "policy: edf\nany_slot: true\npreemptive: true\ntasks:\n- {name: a, run_time: 1ms, period: 1s, run: ['true']}\n",
    );
    let said = cli.run(&["periodic", "put", "other", &any]).await;
    assert_says(&said, 2, &["any_slot", "leave it out"]);
    cli.ok(&["periodic", "delete", "beat"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_are_missed_and_releases_that_are_skipped_are_counted() {
    let (_cluster, cli) = cluster_and_cli().await;
    // It says that it takes 50 ms, and takes longer than its period.
    let file = "policy: rms\ntasks:\n- {name: liar, run_time: 50ms, period: 200ms, run: [sleep, '0.5']}\n";
    let file = written(&cli, file);
    cli.ok(&["periodic", "put", "s", &file]).await;
    let late = async || {
        let liar = &tasks(&cli, "s").await[0];
        count(liar, "missed") >= 2 && count(liar, "skipped") >= 2 && count(liar, "met") == 0
    };
    wait_until("it is late", late).await;
    assert!(cli.ok(&["periodic", "list"]).await.contains(" of "), "late of how many");
    cli.ok(&["periodic", "delete", "s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_cannot_meet_its_deadlines_is_refused_with_the_test_and_who_misses() {
    let (cluster, cli) = cluster_and_cli().await;
    let of = |tasks: &str| written(&cli, &format!("policy: edf\ntasks:\n{tasks}"));
    let busy = "- {name: a, run_time: 600ms, period: 1s, run: ['true']}\n\
                - {name: b, run_time: 600ms, period: 1s, run: ['true']}\n";
    for address in &cluster.addresses {
        let said = Cli::to(address).run(&["periodic", "put", "s", &of(busy)]).await;
        assert_says(&said, 2, &["tasks", "<=", "Nothing was changed"]);
    }
    // On two slots it can, one each; `baton plan` says the same of the same file.
    assert_eq!(cli.run(&["plan", &of(busy), "--policy", "edf"]).await.status, 12);
    cli.ok(&["plan", &of(busy), "--policy", "edf", "--slots", "2"]).await;
    cli.ok(&["periodic", "put", "s", &of(busy), "--slots", "2"]).await;
    let queues: Vec<Value> = tasks(&cli, "s").await.iter().map(|task| task["queue"].clone()).collect();
    assert_eq!(queues, [json!("s.1"), json!("s.2")]);
    cli.ok(&["periodic", "delete", "s"]).await;

    let put = async |tasks: &str, words: &[&str]| {
        assert_says(&cli.run(&["periodic", "put", "t", &of(tasks)]).await, 2, words);
    };
    put("- {name: a, run_time: 1ms, period: 20ms, run: ['true']}\n", &["period", "the nearest is 100ms"])
        .await;
    put("- {name: a, run_time: 1ms, period: 1s}\n", &["says nothing of what is done", "run: [...]"]).await;
    put("- {name: a, run_time: 1ms, period: 1s, runn: ['true']}\n", &["tasks[0]", "runn"]).await;
    let array = "- {name: a, run_time: 1ms, period: 1s, run: ['true'], array: 0-3}\n";
    put(array, &["`array` has no place in a periodic task"]).await;
    put("- {name: a, run_time: 2s, period: 1s, run: ['true']}\n", &["cannot be done within"]).await;
    let order = cli.run(&["periodic", "put", "t", &of(busy), "--policy", "fifo"]).await;
    assert_says(&order, 2, &["rms, dms or edf"]);
    assert_says(
        &cli.run(&["periodic", "delete", "t"]).await,
        3,
        &["unknown-periodic-set", "baton periodic list"],
    );
    assert_eq!(cli.json(&["periodic", "list"]).await["items"], json!([]));
}
