//! Time slices on a real cluster: tasks that take turns, leaders that die meanwhile.

use super::*;

/// Processor time that a process has used, in hundredths of a second.
fn used(pid: &str) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

/// Submits one that takes all cores and spins; where it writes its process id.
async fn spin(cli: &Cli, folder: &std::path::Path, name: &str) -> (String, std::path::PathBuf) {
    let file = folder.join(name);
    let script = format!("echo $$ > {}; while :; do :; done", file.display());
    (cli.submit(&["--cpu", "4", "--", "sh", "-c", &script]).await, file)
}

async fn pid(file: &std::path::Path) -> String {
    let read = || std::fs::read_to_string(file).unwrap_or_default();
    wait_until("it has begun", async || read().ends_with('\n')).await;
    read().trim().to_owned()
}

/// Waits until both have used so much more together, and as much as each other within 10 % of the larger. They are compared with
/// each other alone: how much of its time a slice gets is up to whatever else this machine does, which comes to the same for both
/// by and by. If one gets more than its part, waiting does not help.
async fn until_even(pids: &[String; 2], hundredths: u64) {
    let now = || [used(&pids[0]), used(&pids[1])];
    let before = now();
    let is_even = async || {
        let [a, b] = [now()[0] - before[0], now()[1] - before[1]];
        a + b >= hundredths && a.abs_diff(b) * 10 <= a.max(b)
    };
    wait_until("both have used as much, within 10 %", is_even).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_spin_get_as_much_and_go_on_under_the_next_leader() {
    let (mut cluster, cli) = cluster_and_cli().await;
    let folder = tempfile::tempdir().expect("a folder");
    cli.ok(&["queue", "put", "default", "--order", "round-robin", "--quantum", "50ms"]).await;
    let (one, file) = spin(&cli, folder.path(), "one").await;
    let first = pid(&file).await;
    let (other, file) = spin(&cli, folder.path(), "other").await;
    let pids = [first, pid(&file).await];
    until_even(&pids, 400).await;

    cluster.kill_leader().await;
    wait_until("the new leader answers", async || cli.run(&["ps", &one]).await.status == 0).await;
    let task = async |job: &str| cli.json(&["ps", job]).await["items"][0].clone();
    let stands = async || {
        let (one, other) = (task(&one).await, task(&other).await);
        format!("{}{}", one["note"], other["note"]).contains("stands still")
    };
    wait_until("one of them stands still", stands).await;
    let ended = async || cli.json(&["queue", "list"]).await["items"][0]["suspensions"].as_u64();
    let before = ended().await;
    until_even(&pids, 400).await;
    assert!(ended().await > before.map(|slices| slices + 10), "they take turns, and not one turn each");
    for job in [&one, &other] {
        assert_eq!(task(job).await["attempt"], 1);
    }
    let queue = cli.json(&["queue", "list"]).await["items"][0].clone();
    assert_eq!((&queue["suspended"], &queue["policy"]["quantum"]), (&json!(1), &json!("50ms")), "{queue:#}");
    assert!(queue["suspensions"].as_u64() > Some(10), "{queue:#}");

    // With another order whoever runs goes on, and the other one waits for its end; a cancel reaches it where it stands.
    cli.ok(&["queue", "put", "default", "--order", "fifo"]).await;
    let standing = if task(&one).await["note"].to_string().contains("stands still") { &one } else { &other };
    cli.ok(&["cancel", standing]).await;
    let is_gone = async || {
        let place = usize::from(standing == &other);
        !std::path::Path::new(&format!("/proc/{}", pids[place])).exists()
    };
    wait_until("what stood still is gone", is_gone).await;
    cli.ok(&["cancel", &one, &other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn short_tasks_pass_a_long_one_by_turns_and_what_is_no_quantum_is_refused() {
    let (_cluster, cli) = cluster_and_cli().await;
    let said = cli.run(&["queue", "put", "default", "--order", "round-robin", "--quantum", "9ms"]).await;
    assert_says(&said, 2, &["quantum", "10ms to 24h", "the nearest is 10ms", "Nothing was changed"]);
    let said = cli.run(&["queue", "put", "default", "--quantum", "1s"]).await;
    assert_says(&said, 2, &["only the order round-robin has a quantum, not priority"]);
    let said = cli.run(&["queue", "put", "default", "--order", "round-robin", "--backfill", "easy"]).await;
    assert_says(&said, 2, &["promises no start", "first-fit or none"]);
    assert_eq!(cli.json(&["queue", "list"]).await["items"][0]["policy"]["order"], "priority");

    cli.ok(&["queue", "put", "default", "--order", "round-robin", "--quantum", "50ms"]).await;
    let long = cli.submit(&["--cpu", "4", "--", "sleep", "600"]).await;
    let runs = async || cli.json(&["ps", &long]).await["items"][0]["state"] == "running";
    wait_until("the long one runs", runs).await;
    let short = cli.submit(&["--cpu", "4", "--array", "0-4", "--", "true"]).await;
    cli.ok(&["wait", &short]).await;
    assert_eq!(cli.json(&["ps", &long]).await["items"][0]["attempt"], 1);
    let told = cli.ok(&["queue", "list", "-o", "wide"]).await;
    assert!(told.contains("round-robin, 50ms each"), "{told}");
    cli.ok(&["cancel", &long]).await;
}
