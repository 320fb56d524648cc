//! A cluster of an older version becomes one of this version, replica by replica, while a task runs.

use super::*;

async fn levels(cluster: &Cluster) -> Vec<u32> {
    cluster.wait_agreed().await.iter().map(|view| view.level).collect()
}

/// Ends a replica as an operator does, and starts it anew with this highest level.
async fn restart(cluster: &mut Cluster, place: usize, level_max: &str) {
    assert!(cluster.replicas[place].terminate().await.success());
    cluster.replicas[place] = cluster.twin(place, &["--level-max", level_max]);
    cluster.replicas[place].start();
    cluster.leader().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_is_raised_once_every_replica_knows_it_and_never_goes_back() {
    let layout = Layout { level_max: Some("2"), ..Layout::of(3, 1).patient() };
    let mut cluster = Cluster::with(layout).await;
    let cli = Cli::of(&cluster);
    let stop = cli.path("stop");
    let script = format!("while [ ! -e {} ]; do sleep 0.1; done", stop.display());
    let job = cli.submit(&["--", "sh", "-c", &script]).await;
    let upgrade = ["cluster", "upgrade"];
    assert!(cli.ok(&upgrade).await.contains("level 2 already"));
    let said = cli.run(&[&upgrade[..], &["--level", "3", "--yes"]].concat()).await;
    assert_says(&said, 4, &["error[replicas]", "n1 knows 2 at the most", "n3", "The level is as it was"]);
    assert_says(&cli.run(&[&upgrade[..], &["--level", "0"]].concat()).await, 2, &["1.."]);

    restart(&mut cluster, 1, "3").await;
    restart(&mut cluster, 2, "3").await;
    cluster.wait_ready(1).await;
    for place in 0..3 {
        let through = Cli::to(&cluster.addresses[place]);
        let said = through.run(&[&upgrade[..], &["--yes"]].concat()).await;
        assert_says(
            &said,
            4,
            &["level 3 needs every replica to know it: n1 knows 2 at the most", "start n1 with"],
        );
    }
    let checked = cli.run(&[&upgrade[..], &["--check"]].concat()).await;
    assert_eq!(checked.status, 4, "a script can go by it: {checked:?}");
    assert!(checked.stdout.contains("do not answer: n1"), "{checked:?}");
    cluster.replicas[0].kill();
    cluster.leader().await;
    let through = Cli::to(&cluster.addresses[1]);
    let said = through.run(&[&upgrade[..], &["--yes"]].concat()).await;
    assert_says(&said, 4, &["n1 does not answer"]);
    cluster.replicas[0] = cluster.twin(0, &["--level-max", "3"]);
    cluster.replicas[0].start();
    assert_eq!(levels(&cluster).await, [2, 2, 2]);

    let status = cli.ok(&["cluster", "status"]).await;
    assert!(status.contains("level 2 · replicas know level 3: baton cluster upgrade"), "{status}");
    let checked = cli.json(&[&upgrade[..], &["--check"]].concat()).await;
    assert_eq!(
        (&checked["before"], &checked["level"], &checked["lacking"]),
        (&json!(2), &json!(3), &json!([]))
    );
    assert!(checked["begins"][0]["what"].as_str().expect("words").contains("timeout"), "{checked}");
    let said = cli.run(&upgrade).await;
    assert_says(&said, 2, &["the level from 2 to 3, for good", "--yes"]);
    assert_eq!(levels(&cluster).await, [2, 2, 2]);

    // Nothing is raised while the leader is gone; asked again with one request id, it is done once.
    let (killed, _) = cluster.kill_leader_now().await;
    let raise = [&upgrade[..], &["--level", "3", "--yes"]].concat();
    let said = cli.run(&raise).await;
    assert_says(&said, 4, &[&format!("n{} does not answer", killed + 1)]);
    cluster.replicas[killed].start();
    cluster.wait_agreed().await;
    let told: Value =
        serde_json::from_str(&cli.ok(&[&raise[..], &["-o", "json"]].concat()).await).expect("JSON");
    let id = told["request_id"].as_str().expect("an id");
    for place in 0..3 {
        let again = [&raise[..], &["--request-id", id, "-o", "json"]].concat();
        let through = Cli::to(&cluster.addresses[place]);
        let again: Value = serde_json::from_str(&through.ok(&again).await).expect("JSON");
        assert_eq!(again["request_id"], told["request_id"]);
    }
    assert_eq!(levels(&cluster).await, [3, 3, 3]);
    let said = cli.run(&[&upgrade[..], &["--level", "2", "--yes"]].concat()).await;
    assert_says(&said, 4, &["cannot go back to 2"]);
    let said = cli.run(&[&upgrade[..], &["--level", "2", "--check"]].concat()).await;
    assert_says(&said, 4, &["error[conflict]", "cannot go back to 2"]);
    let said = cli.run(&[&upgrade[..], &["--level", "4294967295", "--yes"]].concat()).await;
    assert_says(&said, 4, &["error[replicas]", "n2 knows 3 at the most"]);

    // A replica of the older version does not come back, and its data is none the worse for it.
    assert!(cluster.replicas[0].terminate().await.success());
    cluster.replicas[0] = cluster.twin(0, &["--level-max", "2"]);
    let (status, log) = cluster.replicas[0].refused().await;
    assert!(
        !status.success() && log.contains("level 3 and this version of baton knows none above 2"),
        "{log}"
    );
    cluster.replicas[0] = cluster.twin(0, &["--level-max", "3"]);
    cluster.replicas[0].start();
    assert_eq!(levels(&cluster).await, [3, 3, 3]);

    std::fs::write(&stop, "").expect("a file");
    cli.ok(&["wait", &job]).await;
    let view = cli.json(&["job", "get", &job]).await;
    assert_eq!(view["state"], json!("succeeded"), "{view}");
    let tasks = cli.json(&["ps", &job]).await;
    assert_eq!(tasks["items"][0]["attempt"], json!(1), "one attempt through it all: {tasks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_a_higher_level_is_refused_too() {
    let mut cluster = Cluster::start(1, 0).await;
    let cli = Cli::of(&cluster);
    let small = ["--snapshot-log-bytes", "64KiB"];
    assert!(cluster.replicas[0].terminate().await.success());
    cluster.replicas[0] = cluster.twin(0, &small);
    cluster.replicas[0].start();
    cluster.wait_ready(0).await;
    let words = "x".repeat(20_000);
    wait_until("there is a snapshot", async || {
        cli.submit(&["--", "true", &words]).await;
        cli.json(&["cluster", "status"]).await["snapshot"].as_u64() > Some(0)
    })
    .await;
    assert!(cluster.replicas[0].terminate().await.success());
    cluster.replicas[0] = cluster.twin(0, &[&small[..], &["--level-max", "1"]].concat());
    let (status, log) = cluster.replicas[0].refused().await;
    assert!(!status.success() && log.contains("knows none above 1"), "{log}");
    cluster.replicas[0] = cluster.twin(0, &small);
    cluster.replicas[0].start();
    cluster.wait_ready(0).await;
    let unknown = cluster.twin(0, &["--level-max", "99"]).refused().await;
    assert!(!unknown.0.success() && unknown.1.contains("this version knows levels 1 to 3"), "{}", unknown.1);
}
