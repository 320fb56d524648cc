//! One attempt in the keeper's hands: from fork to the last byte of its output.

use std::fs::File;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use model::{Moment, Pace, Timestamp};

use super::output::Output;
use super::protocol::{Cause, Exit, Held, Key, Spawn};
use crate::cgroup::Group;
use crate::sys::{self, ChildSetup, ProcessId, Reaped};
use crate::{cgroup, clock};

/// After its end, what somebody else still may write is waited for so long.
const DRAIN: Duration = Duration::from_millis(500);
const KILL_AGAIN: Duration = Duration::from_secs(1);

pub struct Attempt {
    pub key: Key,
    pub pid: ProcessId,
    started: Timestamp,
    keep: bool,
    grace: Duration,
    pub marks: Vec<String>,
    /// Of its timeout.
    deadline: Option<Moment>,
    /// Since when it stands still.
    suspended: Option<Moment>,
    kill_at: Option<Moment>,
    /// Killed, but perhaps not yet reaped.
    is_killed: bool,
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
    pub fn spawn(spawn: &Spawn) -> Result<Attempt, NotSpawned> {
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
                suspended: None,
                kill_at: None,
                is_killed: false,
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

    /// Whether it is still to be killed when the lease ends.
    pub fn needs_lease(&self) -> bool {
        self.is_running() && !self.keep && !self.is_killed
    }

    /// TERM now, KILL later.
    pub fn stop(&mut self, cause: Cause, now: Moment) {
        if self.is_running() && self.cause.is_none() {
            self.cause = Some(cause);
            self.kill_at = Some(now.plus(self.grace));
            sys::signal_group(self.pid, sys::SIGTERM);
            // What stands still hears nothing.
            self.switch(Pace::Runs, now);
        }
    }

    /// Lets it stand still, or go on. Its timeout does not count what it was not let run.
    pub fn switch(&mut self, to: Pace, now: Moment) {
        match (to, self.suspended) {
            (Pace::StandsStill, None) if self.is_running() && self.cause.is_none() => {
                self.suspended = Some(now);
                self.signal_all(sys::SIGSTOP);
            }
            (Pace::Runs, Some(since)) => {
                self.suspended = None;
                self.deadline = self.deadline.map(|deadline| deadline.plus(now.since(since)));
                self.signal_all(sys::SIGCONT);
            }
            (Pace::StandsStill | Pace::Runs, _) => {}
        }
    }

    /// Its group, and what is in its control group besides: others of its processes may have left the former.
    fn signal_all(&self, signal: i32) {
        if !self.is_running() {
            return;
        }
        sys::signal_group(self.pid, signal);
        if let Some(group) = &self.group {
            group.signal(signal);
        }
    }

    /// KILL now, and again until it is reaped: what it forks meanwhile may have escaped.
    pub fn kill(&mut self, cause: Option<Cause>, now: Moment) {
        if self.is_running() {
            self.cause = self.cause.or(cause);
            (self.is_killed, self.kill_at) = (true, Some(now.plus(KILL_AGAIN)));
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
        let may_time_out = self.is_running() && self.cause.is_none() && self.suspended.is_none();
        let running = self.deadline.filter(|_| may_time_out);
        let grace = self.kill_at.filter(|_| self.is_running());
        let drain = self.drain_until.filter(|_| self.exit.is_none());
        [running, grace, drain].into_iter().flatten().min()
    }

    /// Time has passed. True: all is known of its end.
    pub fn tend(&mut self, now: Moment, buffer: &mut Vec<u8>) -> bool {
        if self.is_running() {
            if self.kill_at.is_some_and(|at| now >= at) {
                self.kill(None, now);
            } else if self.suspended.is_none() && self.deadline.is_some_and(|at| now >= at) {
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

/// Why an attempt was not started.
#[derive(Debug)]
pub struct NotSpawned {
    pub why: String,
    /// This host lacks something; the task is not to blame.
    pub hosts_fault: bool,
}

fn make_group(spawn: &Spawn) -> Result<Option<Group>, NotSpawned> {
    let (Some(parent), Some(memory_max)) = (&spawn.cgroup, spawn.memory_max) else { return Ok(None) };
    let Key { session, seq, task } = spawn.key;
    let name = format!("{}-{session}-{seq}-{task}", std::process::id());
    let group = cgroup::Parent::make(parent, &name, memory_max);
    group.map(Some).map_err(host("cannot make its control group"))
}

fn start(spawn: &Spawn, group: Option<&Group>) -> Result<(ProcessId, [Output; 2]), NotSpawned> {
    let open = |path| Output::open(path, spawn.output_bytes_max).map_err(host("cannot keep its output"));
    let (stdout, stdout_end) = open(&spawn.stdout)?;
    let (stderr, stderr_end) = open(&spawn.stderr)?;
    let stdin = match &spawn.stdin {
        Some(path) => Stdio::from(File::open(path).map_err(host("cannot open its stdin"))?),
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
    sys::prepare_child(&mut command, setup).map_err(host("cannot enter its control group"))?;
    let child = command.spawn().map_err(|error| NotSpawned {
        why: format!("cannot run {}: {error}", spawn.program.display()),
        hosts_fault: sys::is_hosts_fault_in_fork(&error),
    })?;
    // Not waited for through `child`: the keeper reaps whatever ends.
    Ok((child.id() as ProcessId, [stdout, stderr]))
}

/// Of what the task has no part in.
fn host(what: &str) -> impl FnOnce(io::Error) -> NotSpawned {
    move |error| NotSpawned { why: format!("{what}: {error}"), hosts_fault: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(dir: &std::path::Path) -> Spawn {
        Spawn {
            key: Key { session: 1, seq: 1, task: 0 },
            program: "/bin/sh".into(),
            argv: vec!["sh".to_owned(), "-c".to_owned(), "sleep 600".to_owned()],
            env: Vec::new(),
            workdir: dir.to_owned(),
            stdin: None,
            stdout: dir.join("stdout"),
            stderr: dir.join("stderr"),
            output_bytes_max: 1_000,
            keep: false,
            timeout: None,
            grace: Duration::ZERO,
            marks: Vec::new(),
            memory_max: None,
            cgroup: None,
        }
    }

    #[test]
    fn what_was_killed_is_not_due_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut attempt = Attempt::spawn(&sleeper(dir.path())).unwrap();
        assert!(attempt.needs_lease());
        let now = clock::moment();
        attempt.kill(Some(Cause::LeaseEnded), now);
        // Not reaped yet: the keeper must not look at the lease that has ended, over and over.
        assert!(attempt.is_running() && !attempt.needs_lease());
        assert_eq!(attempt.due(), Some(now.plus(KILL_AGAIN)));
        while sys::reap(attempt.pid).is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_stands_still_is_stopped_by_the_kernel_and_its_timeout_with_it() {
        let dir = tempfile::tempdir().unwrap();
        // One process: a shell that is about to start another stands still in another state, waiting for it.
        let argv = ["sh", "-c", "exec sleep 600"].map(str::to_owned).to_vec();
        let timed = Spawn { argv, timeout: Some(Duration::from_secs(60)), ..sleeper(dir.path()) };
        let mut attempt = Attempt::spawn(&timed).unwrap();
        let is_stopped = |attempt: &Attempt| sys::stat_field(attempt.pid, 3).as_deref() == Some("T");
        let until = |what: &dyn Fn() -> bool| {
            while !what() {
                std::thread::sleep(Duration::from_millis(1))
            }
        };
        let (now, due) = (clock::moment(), attempt.due().unwrap());
        attempt.switch(Pace::StandsStill, now);
        until(&|| is_stopped(&attempt));
        assert_eq!(attempt.due(), None, "it is not let run, so it does not time out");
        let hour = Duration::from_secs(3_600);
        attempt.switch(Pace::Runs, now.plus(hour));
        until(&|| !is_stopped(&attempt));
        assert_eq!(attempt.due(), Some(due.plus(hour)));
        attempt.switch(Pace::StandsStill, now);
        until(&|| is_stopped(&attempt));
        // A polite word reaches it all the same.
        attempt.stop(Cause::Stopped, now);
        let reaped = loop {
            if let Some(reaped) = sys::reap(attempt.pid) {
                break reaped;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert_eq!(reaped.signal, Some(sys::SIGTERM));
    }

    #[test]
    fn what_the_host_lacks_is_not_the_tasks_fault() {
        let dir = tempfile::tempdir().unwrap();
        let absent = Spawn { program: "/no/such/program".into(), ..sleeper(dir.path()) };
        assert!(!Attempt::spawn(&absent).err().unwrap().hosts_fault);
        let unkept = Spawn { stdout: dir.path().join("no/such/directory"), ..sleeper(dir.path()) };
        assert!(Attempt::spawn(&unkept).err().unwrap().hosts_fault);
    }
}
