//! A child process of this very binary, and the thread that starts such children.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fault::Fault;
use crate::tether;

/// One child, alive, stopped or ended.
pub struct Process {
    pub name: String,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    pub is_stopped: bool,
    pub is_cut_off: bool,
}

impl Process {
    pub fn new(name: &str, args: Vec<String>, folder: &Path) -> Process {
        let log = folder.join(format!("{name}.log"));
        Process { name: name.to_owned(), args, log, child: None, is_stopped: false, is_cut_off: false }
    }

    pub fn start(&mut self, spawner: &Spawner) -> Result<(), Fault> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| Fault::of_file("cannot write a log", &self.log, &error))?;
        let binary = std::env::current_exe()?;
        let mut command = Command::new(binary);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // Settings of the user's own clients are not for these processes.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("BATON_") && !name.starts_with("BATON_LOG"))
            {
                command.env_remove(name);
            }
        }
        command.env(tether::PARENT, std::process::id().to_string());
        let child = spawner.spawn(command)?;
        // For scripts that want to break something by themselves.
        std::fs::write(self.log.with_extension("pid"), format!("{}\n", child.id()))?;
        self.child = Some(child);
        self.is_stopped = false;
        self.is_cut_off = false;
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some() && !self.is_stopped
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill(Pid::from_raw(pid as i32), signal);
        }
    }

    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.is_stopped = false;
        self.is_cut_off = false;
    }

    /// SIGSTOP: it neither answers nor ends.
    pub fn freeze(&mut self) {
        self.signal(Signal::SIGSTOP);
        self.is_stopped = self.child.is_some();
    }

    pub fn thaw(&mut self) {
        self.signal(Signal::SIGCONT);
        self.is_stopped = false;
    }

    /// A replica that can be cut off loses its peers; clients and workers reach it as before.
    pub fn cut_off(&mut self) {
        self.signal(Signal::SIGUSR1);
        self.is_cut_off = self.child.is_some();
    }

    /// What [`Process::cut_off`] did ends. Anything else is not signalled: it would end by it.
    pub fn heal(&mut self) {
        if self.is_cut_off {
            self.signal(Signal::SIGUSR2);
            self.is_cut_off = false;
        }
    }

    pub fn last_lines(&self, count: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// Starts children from one thread that lives as long as this process: a child tied to its parent dies with the
/// *thread* that started it.
pub struct Spawner {
    orders: mpsc::Sender<(Command, mpsc::Sender<std::io::Result<Child>>)>,
}

impl Spawner {
    pub fn start() -> Spawner {
        let (orders, inbox) = mpsc::channel::<(Command, mpsc::Sender<std::io::Result<Child>>)>();
        let work = move || {
            while let Ok((mut command, answer)) = inbox.recv() {
                let _ = answer.send(command.spawn());
            }
            // The children are killed before the cluster goes; until the process ends nothing may end this thread.
            loop {
                std::thread::park();
            }
        };
        std::thread::Builder::new().name("spawner".to_owned()).spawn(work).expect("a thread can be started");
        Spawner { orders }
    }

    fn spawn(&self, command: Command) -> Result<Child, Fault> {
        let (answer, told) = mpsc::channel();
        let gone = || Fault::failed("the thread that starts processes is gone");
        self.orders.send((command, answer)).map_err(|_| gone())?;
        Ok(told.recv().map_err(|_| gone())??)
    }
}
