//! A process that does not outlive its owner: it leads a process group of its own, and the group ends when the value is
//! dropped, be it at the end of a turn, by an error or by Ctrl-C.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::clock::Stopwatch;
use crate::fault::Fault;

const POLL: Duration = Duration::from_millis(5);
/// How long a process that is asked to end may take.
const FAREWELL_MAX: Duration = Duration::from_secs(15);
/// How long the rest of a killed group may take; longer only where nobody reaps orphans.
const GROUP_MAX: Duration = Duration::from_secs(2);
/// Of its standard error, what a fault tells.
const TOLD_BYTES_MAX: usize = 600;
const TOLD_LINES_MAX: usize = 2;

/// How a process is ended when it is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// By SIGTERM first: it has processes of its own outside its group.
    Asked,
    /// By SIGKILL at once: its data go with it.
    Killed,
}

#[derive(Debug)]
pub struct Child {
    name: String,
    inner: std::process::Child,
    farewell: Farewell,
    out: PathBuf,
    err: PathBuf,
}

impl Child {
    /// Starts it with both outputs in files of `dir`, which is its folder for temporary files too.
    pub fn start(name: &str, mut command: Command, dir: &Path, farewell: Farewell) -> Result<Child, Fault> {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let created = |path: &Path| File::create(path).map_err(Fault::of(format!("cannot start {name}")));
        command.stdin(Stdio::null()).stdout(created(&out)?).stderr(created(&err)?);
        command.env("TMPDIR", dir).process_group(0);
        let inner = command.spawn().map_err(Fault::of(format!("cannot start {name}")))?;
        Ok(Child { name: name.to_owned(), inner, farewell, out, err })
    }

    /// An error if it has ended.
    pub fn check_alive(&mut self) -> Result<(), Fault> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(self.fault("has ended too early", status)),
        }
    }

    /// Waits until it ends well; gives what it wrote on standard output.
    pub async fn output(mut self, limit: Duration) -> Result<String, Fault> {
        let watch = Stopwatch::start();
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if watch.elapsed() > limit {
                let text = format!("{} has not ended within {} s", self.name, limit.as_secs());
                return Err(Fault::new(text).because(self.told()).fix("measure with a smaller --scale"));
            }
            tokio::time::sleep(POLL).await;
        };
        if !status.success() {
            return Err(self.fault("has failed", status));
        }
        std::fs::read_to_string(&self.out).map_err(Fault::of(format!("cannot read what {} wrote", self.name)))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, Fault> {
        self.inner.try_wait().map_err(Fault::of(format!("cannot wait for {}", self.name)))
    }

    fn fault(&self, what: &str, status: ExitStatus) -> Fault {
        Fault::new(format!("{} {what} ({status})", self.name)).because(self.told())
    }

    /// The end of its standard error, on one line.
    fn told(&self) -> String {
        let bytes = std::fs::read(&self.err).unwrap_or_default();
        let tail = &bytes[bytes.len().saturating_sub(TOLD_BYTES_MAX)..];
        let text = String::from_utf8_lossy(tail);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(TOLD_LINES_MAX)..].join(" | ");
        if last.is_empty() { "it says nothing".to_owned() } else { last }
    }

    /// SIGTERM to it alone, and some time for it to end what it started.
    fn ask(&mut self) {
        let watch = Stopwatch::start();
        let asked = kill(self.pid(), Signal::SIGTERM).is_ok();
        while asked && watch.elapsed() < FAREWELL_MAX && matches!(self.inner.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
    }

    /// Until none of the group is left, so that none writes into a folder that is being removed.
    fn wait_group(&self) {
        let watch = Stopwatch::start();
        while killpg(self.pid(), None).is_ok() && watch.elapsed() < GROUP_MAX {
            std::thread::sleep(POLL);
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.inner.id().cast_signed())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let is_running = matches!(self.inner.try_wait(), Ok(None));
        if is_running && self.farewell == Farewell::Asked {
            self.ask();
        }
        // The group is there as long as one of its processes is, whether or not the first has ended.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.inner.wait();
        self.wait_group();
    }
}

/// What a short command prints on standard output, for versions.
pub async fn printed(name: &str, command: Command) -> Result<String, Fault> {
    let dir = tempfile::tempdir().map_err(Fault::of("cannot make a temporary folder"))?;
    let limit = Duration::from_secs(60);
    Child::start(name, command, dir.path(), Farewell::Killed)?.output(limit).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn what_a_process_prints_is_given_and_a_failure_is_told() {
        assert_eq!(printed("sh", shell("echo v1")).await.unwrap(), "v1\n");
        let fault = printed("sh", shell("echo no room >&2; exit 3")).await.unwrap_err().to_string();
        assert!(fault.contains("exit status: 3") && fault.contains("no room"), "{fault}");
    }

    #[tokio::test]
    async fn the_whole_group_ends_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let script = "sleep 1000 & echo $!; wait";
        let child = Child::start("sh", shell(script), dir.path(), Farewell::Killed).unwrap();
        let out = dir.path().join("sh.out");
        let grandchild: i32 = loop {
            if let Ok(pid) = std::fs::read_to_string(&out).unwrap().trim().parse() {
                break pid;
            }
            tokio::time::sleep(POLL).await;
        };
        drop(child);
        // It is gone, or a zombie that nobody has reaped yet.
        let status = std::fs::read_to_string(format!("/proc/{grandchild}/status")).unwrap_or_default();
        assert!(
            status.is_empty() || status.contains("Z (zombie)") || status.contains("X (dead)"),
            "{status}"
        );
    }
}
