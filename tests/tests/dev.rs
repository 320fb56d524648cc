//! `baton dev`: its keys at a terminal, and the example that it runs.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};

use baton_tests::cli::{Cli, said};
use baton_tests::cluster::{baton, example, wait_until};
use baton_tests::jobs::{command_job, succeeded};
use baton_tests::process::{processes_of, sweep};
use client::Client;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::Value;

/// `baton dev` at a terminal of its own.
struct Dev {
    child: Option<Child>,
    keyboard: File,
    terminal: OwnedFd,
    cli: Cli,
    /// Bytes of what it has said that were looked at.
    heard: usize,
}

impl Dev {
    async fn start() -> Dev {
        let cli = Cli::to("");
        let pty = nix::pty::openpty(None, None).expect("a terminal");
        let stdin = pty.slave.try_clone().expect("a second handle");
        let mut command = cli.command(&["dev", "--port-base", "0"]);
        command.stdin(stdin).stdout(Stdio::null()).env("TMPDIR", cli.folder());
        command.stderr(File::create(cli.path("said")).expect("a file"));
        let child = Some(command.spawn().expect("baton starts"));
        let mut dev = Dev { child, keyboard: File::from(pty.master), terminal: pty.slave, cli, heard: 0 };
        dev.hear("Keys:").await;
        dev
    }

    /// Waits until it says this, after what was heard before; returns the line.
    async fn hear(&mut self, words: &str) -> String {
        let mut line = None;
        wait_until(&format!("baton dev says `{words}`"), async || {
            let said = std::fs::read_to_string(self.cli.path("said")).expect("what it says");
            let end = said.rfind('\n').map_or(0, |end| end + 1);
            let mut place = self.heard;
            for one in said.get(self.heard..end).unwrap_or_default().split_inclusive('\n') {
                place += one.len();
                if one.contains(words) {
                    (self.heard, line) = (place, Some(one.to_owned()));
                    return true;
                }
            }
            false
        })
        .await;
        line.expect("heard above")
    }

    fn press(&mut self, key: char) {
        self.keyboard.write_all(key.to_string().as_bytes()).expect("a key is pressed");
    }

    /// Presses a key that takes the leader away; returns that one's name and its successor's.
    async fn change_leader(&mut self, key: char, told: &str) -> (String, String) {
        self.press(key);
        let line = self.hear(told).await;
        let gone = line.trim_start_matches(told).split(' ').next().expect("a name").to_owned();
        let line = self.hear(" leads after ").await;
        let next = line.split(' ').next().expect("a name").to_owned();
        assert_ne!(next, gone, "{line}");
        (gone, next)
    }

    async fn revive(&mut self, names: &str) {
        self.press('r');
        self.hear(&format!("revived {names}")).await;
        self.hear("leader ").await;
    }

    async fn client_of(&self, replica: &str) -> Client {
        let members = self.cli.json(&["cluster", "members"]).await;
        let members: &Vec<Value> = members["items"].as_array().expect("a list");
        let one = members.iter().find(|member| member["name"] == replica).expect("a member");
        Client::connect([one["api_address"].as_str().expect("an address")])
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- dev ----\n{}",
                std::fs::read_to_string(self.cli.path("said")).unwrap_or_default()
            );
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        sweep(self.cli.folder());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_of_dev_does_what_the_banner_says() {
    let mut dev = Dev::start().await;
    dev.press('w');
    dev.hear("added worker w3").await;
    wait_until("the third worker is live", async || {
        dev.cli.json(&["cluster", "status"]).await["workers_live"] == 3
    })
    .await;

    let (cut, next) = dev.change_leader('p', "cut leader ").await;
    let (away, there) = (dev.client_of(&cut).await, dev.client_of(&next).await);
    let job = there.submit(&command_job("meanwhile", &["true"])).await.expect("the others accept").job;
    succeeded(&there, job).await;
    assert!(away.stale().get_job(job).await.is_err(), "the cut one was told");
    dev.revive(&cut).await;
    wait_until("the cut one catches up", async || away.stale().get_job(job).await.is_ok()).await;

    let (killed, _) = dev.change_leader('k', "killed leader ").await;
    dev.revive(&killed).await;

    dev.press('K');
    dev.hear("stopped n3, n2 (SIGSTOP)").await;
    let hasty = there.with_deadline(std::time::Duration::from_secs(2));
    let refused = hasty.submit(&command_job("no", &["true"])).await;
    refused.expect_err("a minority accepts nothing");
    dev.revive("n2, n3").await;
    dev.cli.ok(&["run", "--", "true"]).await;

    dev.press('q');
    let said = said(dev.child.take().expect("it runs"), &["dev"]).await;
    assert_eq!(said.status, 0);
    let flags = tcgetattr(&dev.terminal).expect("a terminal").local_flags;
    assert!(flags.contains(LocalFlags::ICANON | LocalFlags::ECHO), "the terminal was left as it was in play");
    assert_eq!(processes_of(dev.cli.folder()), Vec::<i32>::new());
    let contexts = dev.cli.ok(&["context", "list"]).await;
    assert!(!contexts.contains("dev"), "{contexts}");
}

/// The whole of it, 10,000 tasks and five kills, is run by `.ci/run` with a release binary.
#[tokio::test(flavor = "multi_thread")]
async fn the_mini_scheduler_holds_while_leaders_are_killed() {
    let cli = Cli::to("");
    let program = format!("exec {} 450 2", example("mini_scheduler").display());
    let args = ["dev", "--port-base", "0", "--workers", "8", "--keep-up", "--exec", &program];
    let mut command = cli.command(&args);
    command.env("TMPDIR", cli.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let said = said(command.spawn().expect("baton starts"), &args).await;
    assert_eq!(said.status, 0, "{said:#?}");
    for words in ["460 tasks succeeded, 2 leaders were killed", "tasks/s, mean wait", "failure rate 0"] {
        assert!(said.stdout.contains(words), "`{words}` is missing: {said:#?}");
    }
    assert_eq!(said.stdout.matches("killed leader ").count(), 2, "{said:#?}");
    assert_eq!(processes_of(cli.folder()), Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_kept_is_served_at_the_same_ports_by_the_next_start() {
    let cli = Cli::to("");
    let data = cli.path("data").display().to_string();
    let baton = baton().display();
    let dev = async |more: &[&str], script: &str| {
        let args = [&["dev", "--data-dir", &data, "--workers", "1", "--exec", script], more].concat();
        cli.run(&args).await
    };
    let submit = format!("echo $BATON_SERVERS; exec {baton} run -- echo hello");
    let first = dev(&["--port-base", "0"], &submit).await;
    assert_eq!((first.status, first.stdout.lines().last()), (0, Some("hello")), "{first:#?}");
    let look = format!("echo $BATON_SERVERS; exec {baton} ps j1 -o name");
    let second = dev(&[], &look).await;
    assert_eq!(second.status, 0, "{second:#?}");
    let lines: Vec<&str> = second.stdout.lines().collect();
    assert_eq!(lines, [first.stdout.lines().next().unwrap_or_default(), "j1.0"], "{second:#?}");

    let other = dev(&["--replicas", "5"], "true").await;
    assert_eq!(other.status, 2, "{other:#?}");
    assert!(other.stderr.contains("a cluster of 3 replicas, not 5"), "{other:#?}");
    assert_eq!(processes_of(cli.folder()), Vec::<i32>::new());
}
