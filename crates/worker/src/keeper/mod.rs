//! The keeper: a small single-threaded process that holds a worker's attempts, so that they survive the worker.
//!
//! It spawns and reaps them, keeps their output and their ends until the worker has taken note, and kills what must
//! not outlive the lease when that ends, whether the worker lives or not. It is a child subreaper: what an attempt
//! leaves behind becomes the keeper's child and is killed. No PDEATHSIG anywhere: that fires when the spawning
//! *thread* ends.

mod attempt;
pub mod client;
mod output;
pub mod protocol;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Moment;

use self::attempt::{Attempt, NotSpawned};
pub use self::output::{TAIL_BYTES, cut_mark};
use self::protocol::{Cause, Key, Notice, Request, Spawn, decode, encode};
use crate::cgroup::Group;
use crate::clock;
use crate::sys::{self, Alarm, ChildSignal, Poller, ProcessId};

pub const SOCKET: &str = "keeper.sock";
pub const PID_FILE: &str = "keeper.pid";
const LOCK: &str = "keeper.lock";
/// Without a worker and with nothing running, past the lease.
const ALONE_MAX: Duration = Duration::from_secs(10);
/// Until the first worker comes.
const FIRST_MAX: Duration = Duration::from_secs(30);
/// How often what attempts left behind is looked for while there is any.
const SWEEP_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("another keeper holds {}", path.display())]
    Held { path: PathBuf },
    #[error("keeper of {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Runs the keeper of a worker's data directory until it has nothing to hold. To be called before any thread is
/// started.
pub fn run(data_dir: &Path) -> Result<(), KeeperError> {
    let failed = |source| KeeperError::Io { path: data_dir.to_owned(), source };
    let lock = File::create(data_dir.join(LOCK)).map_err(failed)?;
    if lock.try_lock().is_err() {
        return Err(KeeperError::Held { path: data_dir.to_owned() });
    }
    sys::new_session();
    sys::raise_open_files();
    sys::become_subreaper().map_err(failed)?;
    let mut keeper = Keeper::open(data_dir).map_err(failed)?;
    let done = keeper.serve().map_err(failed);
    let _ = fs::remove_file(data_dir.join(SOCKET));
    let _ = fs::remove_file(data_dir.join(PID_FILE));
    done
}

/// For the top of `main` of a program that a worker is built into, before any thread is started: if a worker of it has
/// started it as `keeper --data-dir PATH`, it is the keeper, and ends here.
#[allow(clippy::disallowed_methods)] // At the top of main there is nothing to destroy yet.
pub fn run_if_asked() {
    let Some(data_dir) = data_dir_of(std::env::args_os().skip(1)) else { return };
    match run(&data_dir) {
        Ok(()) => std::process::exit(0),
        Err(error) => {
            // To keeper.log, where the worker's own words point.
            let cause = std::error::Error::source(&error).map_or(String::new(), |cause| format!(": {cause}"));
            eprintln!("error: {error}{cause}");
            std::process::exit(1)
        }
    }
}

fn data_dir_of(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    match &arguments.collect::<Vec<_>>()[..] {
        [verb, flag, path] if verb == "keeper" && flag == "--data-dir" => Some(PathBuf::from(path)),
        _ => None,
    }
}

// What the poller calls the descriptors.
const SIGNALS: u64 = 0;
const ALARM: u64 = 1;
const LISTENER: u64 = 2;
const WORKER: u64 = 3;
const OUTPUTS: u64 = 4;

struct Keeper {
    poller: Poller,
    signals: ChildSignal,
    alarm: Alarm,
    listener: UnixListener,
    worker: Option<Worker>,
    attempts: BTreeMap<Key, Attempt>,
    /// Those that run.
    pids: BTreeMap<ProcessId, Key>,
    /// Number of the pipe -> whose it is.
    pipes: BTreeMap<u64, (Key, usize)>,
    next_pipe: u64,
    lease: Option<Moment>,
    /// With no worker.
    alone_since: Moment,
    alone_max: Duration,
    said_bye: bool,
    sweep_at: Option<Moment>,
    empty_groups: Vec<Group>,
    buffer: Vec<u8>,
}

/// The connection to the worker.
struct Worker {
    stream: UnixStream,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Keeper {
    fn open(data_dir: &Path) -> io::Result<Keeper> {
        let directory = File::open(data_dir)?;
        let path = sys::short_path(&directory).join(SOCKET);
        // The lock says that nobody listens there any more.
        let _ = fs::remove_file(data_dir.join(SOCKET));
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        fs::write(data_dir.join(PID_FILE), std::process::id().to_string())?;
        let (poller, signals, alarm) = (Poller::new()?, ChildSignal::new()?, Alarm::new()?);
        poller.add(&signals, SIGNALS)?;
        poller.add(&alarm, ALARM)?;
        poller.add(&listener, LISTENER)?;
        Ok(Keeper {
            poller,
            signals,
            alarm,
            listener,
            worker: None,
            attempts: BTreeMap::new(),
            pids: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: OUTPUTS,
            lease: None,
            alone_since: clock::moment(),
            alone_max: FIRST_MAX,
            said_bye: false,
            sweep_at: None,
            empty_groups: Vec::new(),
            buffer: Vec::new(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        while !self.is_done(clock::moment()) {
            self.alarm.set(self.due())?;
            for id in self.poller.wait()? {
                // First of all, whatever else is waiting.
                self.watch_lease(clock::moment());
                match id {
                    SIGNALS => self.signals.silence(),
                    ALARM => self.alarm.silence(),
                    LISTENER => self.accept(),
                    WORKER => self.converse(),
                    pipe => self.pump(pipe),
                }
            }
            self.reap();
            self.tend(clock::moment());
            self.flush();
        }
        Ok(())
    }

    fn is_done(&self, now: Moment) -> bool {
        if !self.pids.is_empty() || self.worker.is_some() {
            return false;
        }
        (self.said_bye && self.attempts.is_empty()) || now >= self.alone_until()
    }

    fn alone_until(&self) -> Moment {
        self.alone_since.max(self.lease.unwrap_or_default()).plus(self.alone_max)
    }

    fn due(&self) -> Option<Moment> {
        let lease = self.lease.filter(|_| self.attempts.values().any(Attempt::needs_lease));
        let alone = (self.worker.is_none() && self.pids.is_empty()).then(|| self.alone_until());
        let attempts = self.attempts.values().filter_map(Attempt::due).min();
        [lease, alone, attempts, self.sweep_at].into_iter().flatten().min()
    }

    fn watch_lease(&mut self, now: Moment) {
        if self.lease.is_some_and(|until| now < until) {
            return;
        }
        for attempt in self.attempts.values_mut().filter(|attempt| attempt.needs_lease()) {
            attempt.kill(Some(Cause::LeaseEnded), now);
        }
    }

    fn tend(&mut self, now: Moment) {
        self.watch_lease(now);
        let mut done = Vec::new();
        for (key, attempt) in &mut self.attempts {
            if attempt.due().is_some_and(|due| now >= due) && attempt.tend(now, &mut self.buffer) {
                done.push(*key);
            }
        }
        done.into_iter().for_each(|key| self.ended(key));
        if self.sweep_at.is_some_and(|at| now >= at) {
            self.sweep(now);
        }
    }
}

// Children.
impl Keeper {
    fn spawn(&mut self, spawn: Spawn) {
        let key = spawn.key;
        if self.attempts.contains_key(&key) {
            return;
        }
        let has_lease = spawn.keep || self.lease.is_some_and(|until| clock::moment() < until);
        if !has_lease {
            let why = "the lease ended before it was started".to_owned();
            return self.say(&Notice::NotSpawned { key, why, lease_ended: true, hosts_fault: false });
        }
        match Attempt::spawn(&spawn) {
            Ok(attempt) => self.started(attempt),
            Err(error) => {
                let NotSpawned { why, hosts_fault } = error;
                self.say(&Notice::NotSpawned { key, why, lease_ended: false, hosts_fault });
            }
        }
    }

    fn started(&mut self, attempt: Attempt) {
        let key = attempt.key;
        for (which, output) in attempt.outputs.iter().enumerate() {
            let Some(pipe) = output.pipe() else { continue };
            // Should it fail, the pipe is read when the attempt has ended.
            if self.poller.add(pipe, self.next_pipe).is_ok() {
                self.pipes.insert(self.next_pipe, (key, which));
            }
            self.next_pipe += 1;
        }
        self.pids.insert(attempt.pid, key);
        let held = attempt.held();
        self.attempts.insert(key, attempt);
        self.say(&Notice::Spawned { key, pid: held.pid, at: held.started });
    }

    fn pump(&mut self, pipe: u64) {
        let Some((key, which)) = self.pipes.get(&pipe).copied() else { return };
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        let output = &mut attempt.outputs[which];
        if output.pump(&mut self.buffer) {
            return;
        }
        if let Some(end) = output.pipe() {
            self.poller.remove(end);
        }
        output.finish(&mut self.buffer);
        self.pipes.remove(&pipe);
        if attempt.tend(clock::moment(), &mut self.buffer) {
            self.ended(key);
        }
    }

    fn reap(&mut self) {
        let running = self.pids.len();
        self.reap_ended();
        if self.pids.len() < running {
            self.sweep(clock::moment());
        }
    }

    fn reap_ended(&mut self) {
        while let Some(pid) = sys::ended_child() {
            let key = self.pids.remove(&pid);
            let attempt = key.and_then(|key| self.attempts.get_mut(&key));
            if let Some(attempt) = &attempt {
                // Its group while the id is surely its own: nothing of an attempt outlives it.
                attempt.end_group();
            }
            let Some(reaped) = sys::reap(pid) else { return };
            let Some(attempt) = attempt else { continue };
            let (key, now) = (attempt.key, clock::moment());
            if attempt.reaped(reaped, now, &mut self.buffer) {
                self.ended(key);
            }
        }
    }

    /// All is known of its end.
    fn ended(&mut self, key: Key) {
        self.pipes.retain(|_, (other, _)| *other != key);
        let Some(attempt) = self.attempts.get_mut(&key) else { return };
        self.empty_groups.extend(attempt.take_group());
        self.empty_groups.retain(|group| group.remove().is_err());
        if let Some(exit) = attempt.exit.clone() {
            self.say(&Notice::Exited { key, exit });
        }
    }

    /// Kills what attempts that have ended left behind: children of this process that are no attempts.
    fn sweep(&mut self, now: Moment) {
        let children = sys::children();
        let orphans = children.iter().filter(|pid| !self.pids.contains_key(pid));
        let stray: Vec<ProcessId> = orphans.copied().filter(|pid| self.is_stray(*pid)).collect();
        stray.iter().copied().for_each(sys::kill_process);
        self.empty_groups.retain(|group| group.remove().is_err());
        // What these leave behind in turn comes with the next round.
        let again = !stray.is_empty() || !self.empty_groups.is_empty();
        self.sweep_at = again.then(|| now.plus(SWEEP_EVERY));
    }

    /// Whether it belongs to no running attempt. One that shed its environment is spared while any attempt runs.
    fn is_stray(&self, pid: ProcessId) -> bool {
        let belongs = |attempt: &Attempt| sys::began_with(pid, &attempt.marks);
        let mut running = self.attempts.values().filter(|attempt| attempt.is_running());
        !running.any(|attempt| belongs(attempt) != Some(false))
    }
}

// The worker.
impl Keeper {
    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        // A second connection comes from a worker that took the first one's place.
        self.hang_up();
        if self.poller.add(&stream, WORKER).is_ok() {
            self.worker = Some(Worker { stream, incoming: Vec::new(), outgoing: Vec::new() });
            self.said_bye = false;
        }
    }

    fn hang_up(&mut self) {
        if let Some(worker) = self.worker.take() {
            self.poller.remove(&worker.stream);
            self.alone_since = clock::moment();
            self.alone_max = ALONE_MAX;
        }
    }

    fn converse(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let is_over = worker.receive(&mut self.buffer);
        let requests = decode::<Request>(&mut worker.incoming);
        let is_garbled = requests.is_err();
        requests.into_iter().flatten().for_each(|request| self.obey(request));
        if is_over || is_garbled {
            self.hang_up();
        }
    }

    fn obey(&mut self, request: Request) {
        let now = clock::moment();
        match request {
            Request::Attach => {
                let attempts = self.attempts.values().map(Attempt::held).collect();
                self.say(&Notice::State { lease_us: self.lease.map(|until| until.0), attempts });
            }
            Request::Spawn(spawn) => self.spawn(*spawn),
            Request::Stop { key } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.stop(Cause::Stopped, now);
                }
            }
            Request::Kill { key } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.kill(None, now);
                }
            }
            Request::Switch { key, to } => {
                if let Some(attempt) = self.attempts.get_mut(&key) {
                    attempt.switch(to, now);
                }
            }
            Request::Lease { boottime_us } => {
                // What the old one no longer covers is not brought back by a new one. Another session's may be shorter.
                self.watch_lease(now);
                self.lease = Some(Moment(boottime_us));
            }
            Request::Forget { key } => {
                if self.attempts.get(&key).is_some_and(|attempt| attempt.exit.is_some()) {
                    self.attempts.remove(&key);
                }
            }
            Request::Bye => self.said_bye = true,
        }
    }

    fn say(&mut self, notice: &Notice) {
        if let Some(worker) = &mut self.worker {
            worker.outgoing.extend(encode(notice));
        }
    }

    fn flush(&mut self) {
        let Some(worker) = &mut self.worker else { return };
        let sent = worker.send();
        let is_full = !worker.outgoing.is_empty();
        let polled = self.poller.want_writable(&worker.stream, WORKER, is_full);
        if sent.is_err() || polled.is_err() {
            self.hang_up();
        }
    }
}

impl Worker {
    /// True: it has gone.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> bool {
        const READ_BYTES: usize = 64 << 10;
        buffer.resize(READ_BYTES, 0);
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return true,
                Ok(count) => self.incoming.extend(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }

    /// As much as goes without waiting: a worker that does not read must not hold up the lease.
    fn send(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_asks_for_a_keeper() {
        let asked = |words: &[&str]| data_dir_of(words.iter().map(OsString::from));
        assert_eq!(asked(&["keeper", "--data-dir", "/d"]), Some(PathBuf::from("/d")));
        assert_eq!(asked(&["keeper"]), None);
        assert_eq!(asked(&["serve", "--data-dir", "/d"]), None);
    }
}
