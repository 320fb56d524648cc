//! Queues whose policy the cluster sets by itself.

use super::history::run_a_burst;
use super::*;

/// The queue as it is listed.
async fn queue(cli: &Cli, name: &str) -> Value {
    let queues = cli.json(&["queue", "list"]).await;
    let found = queues["items"].as_array().expect("queues").iter().find(|queue| queue["name"] == name);
    found.expect("it is there").clone()
}

async fn is_adapted(cli: &Cli, name: &str) {
    let has_changed = async || queue(cli, name).await["policy"]["order"] == "sjf";
    wait_until("the queue has another policy", has_changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_auto_becomes_what_is_advised_and_back_though_leaders_die() {
    let (mut cluster, cli) = cluster_and_cli().await;
    cli.ok(&["config", "set", "limits.adapt_every_s", "1"]).await;
    cli.ok(&["queue", "put", "default", "--auto"]).await;
    cli.ok(&["queue", "put", "calm"]).await;
    let before = queue(&cli, "default").await;
    assert_eq!((&before["auto"], &before["adaptations"]), (&json!(true), &json!(0)), "{before:#}");

    run_a_burst(&cluster.client(), "default").await;
    is_adapted(&cli, "default").await;
    cluster.wait_agreed().await;
    for address in &cluster.addresses {
        let now = queue(&Cli::to(address), "default").await;
        let adapted = &now["adapted"];
        assert_eq!((&adapted["home"], &adapted["from"]), (&before["policy"], &before["policy"]), "{now:#}");
        assert_eq!(&adapted["to"], &now["policy"], "{now:#}");
        assert!(adapted["tasks"].as_u64() >= Some(20), "as soon as there are enough: {now:#}");
        assert_eq!((&now["auto"], &now["adaptations"]), (&json!(true), &json!(1)));
    }
    assert!(cli.ok(&["queue", "list", "-o", "wide"]).await.contains(", auto"));
    let advice = cli.ok(&["advise"]).await;
    assert!(advice.contains("the cluster has set order sjf"), "{advice}");
    assert_eq!(queue(&cli, "calm").await["policy"], before["policy"], "nobody asked for it");

    // What was found is in the log, and whoever leads next looks for itself.
    let gone = cluster.kill_leader().await;
    cluster.replicas[gone].start();
    assert_eq!(queue(&cli, "default").await["policy"]["order"], "sjf");
    cli.ok(&["queue", "put", "later", "--auto", "--order", "fifo"]).await;
    run_a_burst(&cluster.client(), "later").await;
    is_adapted(&cli, "later").await;

    for (place, name) in [(gone, "default"), ((gone + 1) % 3, "later")] {
        let through = Cli::to(&cluster.addresses[place]);
        let home = queue(&cli, name).await["adapted"]["home"].clone();
        let said = through.ok(&["queue", "undo", name]).await;
        assert!(said.contains("has its earlier policy again"), "{said}");
        let now = queue(&cli, name).await;
        assert_eq!((&now["policy"], &now["auto"], &now["adapted"]), (&home, &json!(false), &Value::Null));
        let again = through.run(&["queue", "undo", name]).await;
        assert_says(&again, 4, &["nothing to undo", "--no-auto", "Nothing was changed"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_adapted_is_refused() {
    let (_cluster, cli) = cluster_and_cli().await;
    let put = |more: &[&'static str]| [&["queue", "put", "q"], more].concat();
    let preempting = cli.run(&put(&["--auto", "--preempt"])).await;
    assert_says(&preempting, 2, &["auto", "give way", "Nothing was changed"]);
    let sliced = cli.run(&put(&["--auto", "--order", "round-robin"])).await;
    assert_says(&sliced, 2, &["auto", "without time slices"]);
    assert_says(&cli.run(&put(&["--auto", "--no-auto"])).await, 2, &["cannot be used with"]);
    assert_says(&cli.run(&["queue", "undo", "q"]).await, 3, &["unknown-queue", "baton queue put q"]);
    cli.ok(&put(&["--auto"])).await;
    assert_says(&cli.run(&put(&["--preempt"])).await, 2, &["auto", "give way"]);
    cli.ok(&put(&["--no-auto", "--preempt"])).await;
    let never = cli.run(&["config", "set", "limits.adapt_every_s", "0"]).await;
    assert_says(&never, 2, &["limits.adapt_every_s", "at least 1"]);
}
