//! Capacity that is booked for a queue, or for nobody.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_booked_is_kept_free_though_the_leader_dies() {
    let (mut cluster, cli) = cluster_and_cli().await;
    cli.ok(&["queue", "put", "night"]).await;
    cli.ok(&["booking", "put", "b", "--queue", "night", "--in", "60s", "--for", "1h", "--cpu", "3"]).await;
    // One of the four cores is left for what has no end, and all of them for what is over by then.
    let endless = cli.submit(&["--cpu", "2", "--", "sleep", "600"]).await;
    let small = cli.submit(&["--", "sleep", "600"]).await;
    let short = cli.submit(&["--cpu", "3", "--timeout", "20s", "--", "true"]).await;
    cli.ok(&["wait", &short]).await;
    let runs = async || cli.json(&["ps", &small]).await["items"][0]["state"] == "running";
    wait_until("the small one runs", runs).await;
    let told = cli.json(&["explain", &endless]).await;
    assert!(told["reasons"].to_string().contains("booked for others (`b`)"), "{told:#}");
    cluster.kill_leader().await;
    let lists = async || cli.run(&["booking", "list"]).await.status == 0;
    wait_until("the new leader answers", lists).await;
    let list = cli.json(&["booking", "list"]).await;
    assert_eq!(list["items"][0]["queue"], "night", "{list:#}");
    assert_eq!(list["items"][0]["parts"][0]["resources"]["cpu"], json!(3), "{list:#}");
    // For whom it is may have it; given back, everybody may.
    let own = cli.submit(&["--queue", "night", "--cpu", "3", "--", "sleep", "0.2"]).await;
    cli.ok(&["wait", &own]).await;
    cli.ok(&["booking", "delete", "b"]).await;
    let runs = async || cli.json(&["ps", &endless]).await["items"][0]["state"] == "running";
    wait_until("what waited runs", runs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_booked_for_nobody_is_free_in_time_and_open_again_after_it() {
    let (_cluster, cli) = cluster_and_cli().await;
    let workers = cli.json(&["worker", "list"]).await;
    let name = workers["items"][0]["name"].as_str().expect("a name").to_owned();
    cli.ok(&["booking", "put", "fix", "--worker", &name, "--for", "3s"]).await;
    let waits = cli.submit(&["--timeout", "1s", "--", "true"]).await;
    let wide = cli.ok(&["booking", "list", "-o", "wide"]).await;
    assert!(wide.contains("fix") && wide.contains(&name) && wide.contains("kept"), "{wide}");
    let told = cli.json(&["explain", &waits]).await;
    assert_eq!(told["reasons"][0]["code"], "booked", "{told:#}");
    cli.ok(&["wait", &waits]).await;
    assert_eq!(cli.json(&["booking", "list"]).await["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_booked_is_refused_with_what_could() {
    let (_cluster, cli) = cluster_and_cli().await;
    let put = |more: &[&'static str]| [&["booking", "put", "b"], more].concat();
    assert_says(&cli.run(&put(&["--for", "1h"])).await, 2, &["a booking is of something", "--worker"]);
    let many = put(&["--for", "1h", "--cpu", "1", "--count", "9"]);
    assert_says(&cli.run(&many).await, 2, &["count", "the nearest is 4", "Nothing was changed"]);
    let large = put(&["--for", "1h", "--cpu", "64"]);
    let nearest = "the nearest is (cpu 4), which `w1` has";
    assert_says(&cli.run(&large).await, 2, &["no live worker has (cpu 64)", nearest, "Nothing was changed"]);
    let odd = put(&["--for", "1h", "--cpu", "1", "--resource", "gpu=1"]);
    assert_says(&cli.run(&odd).await, 2, &["none has any gpu"]);
    let short = put(&["--for", "1ms", "--cpu", "1"]);
    assert_says(&cli.run(&short).await, 2, &["length", "the nearest is 1s"]);
    let past = put(&["--from", "2020-01-01T00:00:00Z", "--for", "1h", "--cpu", "1"]);
    assert_says(&cli.run(&past).await, 2, &["from", "it would be over"]);
    assert_says(&cli.run(&put(&["--for", "1h", "--worker", "nowhere"])).await, 3, &["unknown-worker"]);
    let kept = ["booking", "put", "kept", "--worker", "w1", "--from", "2100-01-01T00:00:00Z", "--for", "1h"];
    cli.ok(&kept).await;
    let within = put(&["--worker", "w1", "--from", "2100-01-01T00:30:00Z", "--for", "1h"]);
    let nearest = "the nearest from which all of it is free is 2100-01-01T01:00:00";
    assert_says(&cli.run(&within).await, 2, &["workers[0]", nearest, "Nothing was changed"]);
    cli.ok(&put(&["--worker", "w1", "--from", "2100-01-01T01:00:00Z", "--for", "1h"])).await;
    cli.ok(&["booking", "delete", "kept"]).await;
    cli.ok(&["booking", "delete", "b"]).await;
    let queue = put(&["--for", "1h", "--cpu", "1", "--queue", "nowhere"]);
    assert_says(&cli.run(&queue).await, 3, &["unknown-queue"]);
    assert_says(&cli.run(&["booking", "delete", "b"]).await, 3, &["unknown-booking", "baton booking list"]);
    assert_says(&cli.run(&put(&["--for", "1h", "--cpu", "much"])).await, 2, &["cpu"]);
    cli.ok(&put(&["--for", "1h", "--cpu", "1", "--queue", "default"])).await;
    let easy = cli.run(&["queue", "put", "default", "--backfill", "easy"]).await;
    assert_says(&easy, 2, &["backfill", "promises no start", "Nothing was changed"]);
}
