//! Where tasks go: two of one anti-affinity never to one worker, and what would do as well where there is room for it.

use super::*;

/// Fails if another one is where it is: the parent of a task is the keeper, of which each worker has one.
const ALONE: &str = "mkdir $DIR/$PPID || exit 9; sleep 0.3; rmdir $DIR/$PPID; echo $PPID";

#[tokio::test(flavor = "multi_thread")]
async fn two_of_one_name_never_meet_though_leaders_die() {
    let mut cluster = Cluster::with(Layout { cpu: "4", ..Layout::of(3, 2).patient() }).await;
    let cli = Cli::of(&cluster);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = format!("DIR={}", dir.path().display());
    let mut jobs = Vec::new();
    for _ in 0..2 {
        // Two jobs of the same name keep apart from each other as well.
        for _ in 0..2 {
            let args = ["--anti-affinity", "web", "--array", "0-2", "-e", &dir, "--", "sh", "-c", ALONE];
            jobs.push(cli.submit(&args).await);
        }
        let gone = cluster.kill_leader().await;
        cluster.replicas[gone].start();
    }
    let mut keepers = Vec::new();
    for job in &jobs {
        cli.ok(&["wait", job]).await;
        for number in 0..3 {
            keepers.push(cli.ok(&["logs", &format!("{job}.{number}")]).await);
        }
    }
    keepers.sort();
    keepers.dedup();
    assert_eq!(keepers.len(), 2, "both workers had some: {keepers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_apart_is_told_what_from_and_what_is_no_name_is_refused() {
    let (_cluster, cli) = cluster_and_cli().await;
    let first = cli.submit(&["--anti-affinity", "web", "--", "sleep", "600"]).await;
    let runs = async || cli.json(&["ps", &first]).await["items"][0]["state"] == "running";
    wait_until("the first runs", runs).await;
    let second = cli.submit(&["--anti-affinity", "db", "--anti-affinity", "web", "--", "true"]).await;
    let told = cli.json(&["explain", &second]).await;
    assert_eq!(told["reasons"][0]["code"], "anti_affinity", "{told:#}");
    let exported = cli.ok(&["job", "export", &second]).await;
    assert!(exported.contains("anti_affinity") && exported.contains("- web"), "{exported}");
    let again = cli.submit(&[cli.file("again.yaml", &exported)]).await;
    cli.ok(&["cancel", &first]).await;
    cli.ok(&["wait", &second, &again]).await;

    let bad = ["submit", "--anti-affinity", "a b", "--", "true"];
    assert_says(&cli.run(&bad).await, 2, &["anti_affinity", "letters, digits", "Nothing was submitted"]);
    let many: Vec<String> = (0..17).map(|n| format!("n{n}")).collect();
    let file =
        cli.file("many.yaml", &format!("tasks:\n- {{name: a, noop: true, anti_affinity: {many:?}}}\n"));
    assert_says(&cli.run(&["submit", file]).await, 2, &["tasks[0].anti_affinity", "16"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_do_as_well_is_taken_where_it_fits_and_the_task_is_told() {
    let cluster = Cluster::with(Layout { cpu: "2", ..Layout::of(3, 1).patient() }).await;
    let cli = Cli::of(&cluster);
    let submit = async || {
        let either = ["--cpu", "2", "--or", "cpu=0.5,memory=16MiB", "--or", "cpu=0.25"];
        cli.submit(&[&either[..], &["--", "sh", "-c", "echo $BATON_ALTERNATIVE"]].concat()).await
    };
    let busy = cli.submit(&["--cpu", "1.5", "--", "sleep", "600"]).await;
    let runs = async || cli.json(&["ps", &busy]).await["items"][0]["state"] == "running";
    wait_until("it runs", runs).await;
    let second = submit().await;
    cli.ok(&["wait", &second]).await;
    assert_eq!(cli.ok(&["logs", &second]).await.trim(), "1", "half a core is free");
    cli.ok(&["cancel", &busy]).await;
    cli.run(&["wait", &busy]).await;
    let first = submit().await;
    cli.ok(&["wait", &first]).await;
    assert_eq!(cli.ok(&["logs", &first]).await.trim(), "0");

    let exported = cli.ok(&["job", "export", &first]).await;
    assert!(exported.contains("alternatives"), "{exported}");
    let again = cli.submit(&[cli.file("again.yaml", &exported)]).await;
    cli.ok(&["wait", &again]).await;
    let never = cli.submit(&["--cpu", "64", "--or", "gpu=1", "--", "true"]).await;
    let said = cli.run(&["-o", "json", "explain", &never]).await;
    assert_eq!(said.status, 12, "it will never run: {said:#?}");
    assert!(said.stdout.contains("\"alternatives\""), "{said:#?}");

    let bad = ["submit", "--or", "gpu", "--", "true"];
    assert_says(&cli.run(&bad).await, 2, &["--or", "not key=value"]);
    let bad = ["submit", "--or", "cpu=x", "--", "true"];
    assert_says(&cli.run(&bad).await, 2, &["--or", "cpu"]);
    let gang = ["submit", "--gang", "2", "--or", "gpu=1", "--", "true"];
    assert_says(&cli.run(&gang).await, 2, &["alternatives", "all ask for the same", "Nothing was submitted"]);
}
