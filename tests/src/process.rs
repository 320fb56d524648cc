//! One child process: started, signalled by its pid, and known by what it logs.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{LOOK_AGAIN, PATIENCE, baton, wait_until};

pub struct Process {
    pub name: String,
    /// Words before the binary: `nsenter --net=..`.
    through: Vec<String>,
    binary: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Not started yet. Its stderr goes to `NAME.log` in the folder.
    pub fn new(name: &str, args: &[&str], folder: &Path) -> Process {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let log = folder.join(format!("{name}.log"));
        Process {
            name: name.to_owned(),
            through: Vec::new(),
            binary: None,
            args,
            env: Vec::new(),
            child: None,
            log,
        }
    }

    /// The same process, started by another command that becomes it.
    pub fn through(mut self, words: Vec<String>) -> Process {
        self.through = words;
        self
    }

    /// The same process of another binary.
    pub fn of(mut self, binary: &Path) -> Process {
        self.binary = Some(binary.to_owned());
        self
    }

    /// With one more variable in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Process {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let binary = self.binary.as_deref().unwrap_or_else(|| baton());
        let words: Vec<&OsStr> = self.through.iter().map(OsStr::new).chain([binary.as_os_str()]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Nothing of the tester's own configuration may reach the processes.
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("BATON_LOG", "info,openraft=error")
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.spawn().expect("baton starts"));
    }

    /// The same process with these flags, each in place of the one it had.
    pub fn with(mut self, flags: &[&str]) -> Process {
        for pair in flags.chunks(2) {
            let [flag, value] = pair else { panic!("{pair:?} is not a flag and its value") };
            if let Some(place) = self.args.iter().position(|arg| arg == flag) {
                self.args.drain(place..place + 2);
            }
            self.args.extend([(*flag).to_owned(), (*value).to_owned()]);
        }
        self
    }

    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        signal_process(self.pid().expect("the process runs"), signal);
    }

    /// SIGSTOP, and wait until none of its threads runs any more: on a busy machine that takes a while.
    pub async fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
        let pid = self.pid().expect("the process runs");
        wait_until(&format!("{} stands still", self.name), async || is_frozen(pid)).await;
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Whether it has not ended by itself.
    pub fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| child.try_wait().expect("a child can be waited for").is_none())
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and wait until it has left by itself.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.ended().await
    }

    /// Waits until it has left by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the process was started");
        let wait = async {
            loop {
                match child.try_wait().expect("the child can be waited for") {
                    Some(status) => return status,
                    None => tokio::time::sleep(LOOK_AGAIN).await,
                }
            }
        };
        if let Ok(status) = tokio::time::timeout(PATIENCE, wait).await {
            return status;
        }
        let _ = child.kill();
        panic!("{} does not leave:\n{}", self.name, self.log_tail());
    }

    /// Starts it and waits until it has given up. Returns its status and what it said.
    pub async fn refused(&mut self) -> (ExitStatus, String) {
        let before = self.log().len();
        self.start();
        let status = self.ended().await;
        (status, self.log()[before..].to_owned())
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, self.log_tail());
        }
        self.kill();
    }
}

pub fn signal_process(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("the process can be signalled");
}

/// Whether a process is there and has not ended.
pub fn is_alive(pid: i32) -> bool {
    state_of(&PathBuf::from(format!("/proc/{pid}"))).is_some_and(|state| !"ZX".contains(state))
}

/// Whether every thread of a process is stopped.
pub fn is_frozen(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| state_of(&thread.path()).is_none_or(|state| state == 'T'))
}

/// The letter of a process or thread under `/proc`; absent where it is gone.
fn state_of(path: &Path) -> Option<char> {
    let stat = std::fs::read_to_string(path.join("stat")).ok()?;
    // pid (name) state: the name may hold anything, a bracket too.
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Processes whose command line or environment names something in this folder.
pub fn processes_of(folder: &Path) -> Vec<i32> {
    let needle = folder.to_str().expect("a plain path").as_bytes();
    let names = |pid: i32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    let pids = std::fs::read_dir("/proc").expect("/proc is there").filter_map(|entry| {
        let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        (pid != std::process::id() as i32).then_some(pid)
    });
    pids.filter(|pid| is_alive(*pid) && (names(*pid, "cmdline") || names(*pid, "environ"))).collect()
}

/// Ends every process of this folder, whatever it starts meanwhile.
pub fn sweep(folder: &Path) {
    loop {
        let pids = processes_of(folder);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::yield_now();
    }
}
