//! The command line as a user has it: arguments in; status, stdout and stderr out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, PATIENCE, baton};

pub struct Cli {
    servers: String,
    /// Home and working directory.
    folder: TempDir,
}

#[derive(Debug)]
pub struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    pub fn of(cluster: &Cluster) -> Cli {
        Cli::to(&cluster.addresses.join(","))
    }

    /// Without servers it is up to the configuration.
    pub fn to(servers: &str) -> Cli {
        Cli { servers: servers.to_owned(), folder: TempDir::new().expect("a folder") }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the working directory and returns its name.
    pub fn file<'a>(&self, name: &'a str, text: &str) -> &'a str {
        std::fs::write(self.path(name), text).expect("a file can be written");
        name
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(baton());
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.folder.path());
        if !self.servers.is_empty() {
            command.env("BATON_SERVERS", &self.servers);
        }
        command.env("USER", "tester");
        command
    }

    /// Runs to the end, whatever the status.
    pub async fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "").await
    }

    pub async fn run_with(&self, args: &[&str], stdin: &str) -> Said {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("baton starts");
        let mut pipe = child.stdin.take().expect("piped");
        // Who does not read what it is given is no fault of ours.
        let _ = pipe.write_all(stdin.as_bytes());
        drop(pipe);
        said(child, args).await
    }

    /// Runs to the end and sees that it succeeded; returns what it printed.
    pub async fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args).await;
        assert_eq!(said.status, 0, "baton {args:?}\n{said:#?}");
        said.stdout
    }

    /// Likewise, with `-o json`.
    pub async fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[&["-o", "json"], args].concat()).await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("baton {args:?}: {error}\n{text}"))
    }

    /// Submits and returns the id.
    pub async fn submit(&self, args: &[&str]) -> String {
        let id = self.ok(&[&["submit"], args].concat()).await;
        assert!(
            id.starts_with('j') && id.ends_with('\n') && id.lines().count() == 1,
            "not an id alone: {id:?}"
        );
        id.trim().to_owned()
    }
}

/// Waits for the end of a child whose output is piped.
pub async fn said(child: Child, args: &[&str]) -> Said {
    let pid = child.id();
    let end = tokio::task::spawn_blocking(move || child.wait_with_output().expect("output can be read"));
    let Ok(end) = tokio::time::timeout(PATIENCE, end).await else {
        crate::process::signal_process(pid as i32, nix::sys::signal::Signal::SIGKILL);
        panic!("baton {args:?} does not end");
    };
    let output = end.expect("the waiting thread lives");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}
