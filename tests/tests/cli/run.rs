//! `baton run`: the output as it comes, and the end of the task.

use super::*;

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
