//! One attempt in the keeper's hands: from fork to the last byte of its output.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use model::{Moment, Timestamp};

use super::output::Output;
use super::protocol::{Cause, Exit, Held, Key, Spawn};
use crate::cgroup::Group;
use crate::sys::{self, ChildSetup, ProcessId, Reaped};
use crate::{cgroup, clock};

/// After its end, what somebody else still may write is waited for so long.
const DRAIN: Duration = Duration::from_millis(500);

pub struct Attempt {
    pub key: Key,
    pub pid: ProcessId,
    started: Timestamp,
    keep: bool,
    grace: Duration,
    pub marks: Vec<String>,
    /// Of its timeout.
    deadline: Option<Moment>,
    kill_at: Option<Moment>,
    cause: Option<Cause>,
    pub outputs: [Output; 2],
    group: Option<Group>,
    /// Once it has been reaped.
    ended: Option<(Reaped, Timestamp)>,
    drain_until: Option<Moment>,
    /// Once all is known.
    pub exit: Option<Box<Exit>>,
}

impl Attempt {
    pub fn spawn(spawn: &Spawn) -> io::Result<Attempt> {
        let group = make_group(spawn)?;
        match start(spawn, group.as_ref()) {
            Ok((pid, outputs)) => Ok(Attempt {
                key: spawn.key,
                pid,
                started: clock::wall(),
                keep: spawn.keep,
                grace: spawn.grace,
                marks: spawn.marks.clone(),
                deadline: spawn.timeout.map(|timeout| clock::moment().plus(timeout)),
                kill_at: None,
                cause: None,
                outputs,
                group,
                ended: None,
                drain_until: None,
                exit: None,
            }),
            Err(error) => {
                if let Some(group) = group {
                    let _ = group.remove();
                }
                Err(error)
            }
        }
    }

    pub fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    pub fn needs_lease(&self) -> bool {
        self.is_running() && !self.keep
    }

    /// TERM now, KILL later.
    pub fn stop(&mut self, cause: Cause, now: Moment) {
        if self.is_running() && self.cause.is_none() {
            self.cause = Some(cause);
            self.kill_at = Some(now.plus(self.grace));
            sys::signal_group(self.pid, sys::SIGTERM);
        }
    }

    pub fn kill(&mut self, cause: Option<Cause>) {
        if self.is_running() {
            self.cause = self.cause.or(cause);
            self.kill_all();
        }
    }

    fn kill_all(&self) {
        sys::signal_group(self.pid, sys::SIGKILL);
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    pub fn due(&self) -> Option<Moment> {
        let running = self.deadline.filter(|_| self.is_running() && self.cause.is_none());
        let grace = self.kill_at.filter(|_| self.is_running());
        let drain = self.drain_until.filter(|_| self.exit.is_none());
        [running, grace, drain].into_iter().flatten().min()
    }

    /// Time has passed. True: all is known of its end.
    pub fn tend(&mut self, now: Moment, buffer: &mut Vec<u8>) -> bool {
        if self.is_running() {
            if self.kill_at.is_some_and(|at| now >= at) {
                self.kill_at = Some(now.plus(Duration::from_secs(1)));
                self.kill_all();
            } else if self.deadline.is_some_and(|at| now >= at) {
                self.stop(Cause::TimedOut, now);
            }
            return false;
        }
        self.settle(now, buffer)
    }

    /// The process has ended but is not yet reaped: its group cannot be another's.
    pub fn end_group(&self) {
        self.kill_all();
    }

    pub fn reaped(&mut self, reaped: Reaped, now: Moment, buffer: &mut Vec<u8>) -> bool {
        self.ended = Some((reaped, clock::wall()));
        self.drain_until = Some(now.plus(DRAIN));
        self.settle(now, buffer)
    }

    fn settle(&mut self, now: Moment, buffer: &mut Vec<u8>) -> bool {
        if self.exit.is_some() {
            return false;
        }
        let is_over = self.drain_until.is_some_and(|until| now >= until);
        for output in &mut self.outputs {
            if output.is_open() && (is_over || !output.pump(buffer)) {
                output.finish(buffer);
            }
        }
        if self.outputs.iter().any(Output::is_open) {
            return false;
        }
        self.exit = self.sum_up();
        self.exit.is_some()
    }

    fn sum_up(&mut self) -> Option<Box<Exit>> {
        let (reaped, ended) = self.ended.as_ref()?;
        let group = self.group.as_ref();
        Some(Box::new(Exit {
            code: reaped.code,
            signal: reaped.signal,
            cause: self.cause,
            out_of_memory: group.is_some_and(Group::out_of_memory),
            started: self.started,
            ended: *ended,
            cpu_time: reaped.cpu_time,
            memory_peak: group.and_then(Group::memory_peak).unwrap_or(reaped.memory_peak),
            stdout_tail: self.outputs[0].tail(),
            stderr_tail: self.outputs[1].tail(),
        }))
    }

    pub fn held(&self) -> Held {
        Held {
            key: self.key,
            pid: self.pid,
            started: self.started,
            marks: self.marks.clone(),
            exit: self.exit.clone(),
        }
    }

    /// To be removed once it is empty.
    pub fn take_group(&mut self) -> Option<Group> {
        self.group.take()
    }
}

fn make_group(spawn: &Spawn) -> io::Result<Option<Group>> {
    let (Some(parent), Some(memory_max)) = (&spawn.cgroup, spawn.memory_max) else { return Ok(None) };
    let Key { session, seq, task } = spawn.key;
    let name = format!("{}-{session}-{seq}-{task}", std::process::id());
    let group = cgroup::Parent::make(parent, &name, memory_max);
    group.map(Some).map_err(|error| context(error, "cannot make its control group"))
}

fn start(spawn: &Spawn, group: Option<&Group>) -> io::Result<(ProcessId, [Output; 2])> {
    let open = |path| Output::open(path, spawn.output_bytes_max);
    let (stdout, stdout_end) = open(&spawn.stdout).map_err(|e| context(e, "cannot keep its output"))?;
    let (stderr, stderr_end) = open(&spawn.stderr).map_err(|e| context(e, "cannot keep its output"))?;
    let stdin = match &spawn.stdin {
        Some(path) => Stdio::from(File::open(path).map_err(|e| context(e, "cannot open its stdin"))?),
        None => Stdio::null(),
    };
    let mut command = Command::new(&spawn.program);
    if let Some((name, arguments)) = spawn.argv.split_first() {
        std::os::unix::process::CommandExt::arg0(&mut command, name);
        command.args(arguments);
    }
    command.env_clear().envs(spawn.env.iter().map(|(name, value)| (name, value)));
    command.current_dir(&spawn.workdir).stdin(stdin).stdout(stdout_end).stderr(stderr_end);
    let setup = ChildSetup {
        cgroups: group.iter().map(|group| group.procs()).collect(),
        data_max: spawn.memory_max.filter(|_| group.is_none()),
    };
    sys::prepare_child(&mut command, setup)?;
    let what = format!("cannot run {}", spawn.program.display());
    let child = command.spawn().map_err(|error| context(error, &what))?;
    // Not waited for through `child`: the keeper reaps whatever ends.
    Ok((child.id() as ProcessId, [stdout, stderr]))
}

fn context(error: io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}
