//! Every call that only Linux has, and all that is unsafe.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use model::Moment;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::unistd::Pid;

pub type ProcessId = i32;

pub const SIGTERM: i32 = libc::SIGTERM;
pub const SIGKILL: i32 = libc::SIGKILL;
pub const SIGSTOP: i32 = libc::SIGSTOP;
pub const SIGCONT: i32 = libc::SIGCONT;

/// Orphans among the descendants of this process become its children.
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Detaches from the terminal and its signals.
pub fn new_session() {
    // It fails only for a group leader, which has nothing to detach from.
    let _ = nix::unistd::setsid();
}

/// The soft limit of open files before it was raised.
static OPEN_FILES_BEFORE: OnceLock<libc::rlim_t> = OnceLock::new();
/// More is of no use, and a limit may be as good as none.
const OPEN_FILES_MAX: libc::rlim_t = 1 << 20;

/// Raises this process's limit of open files as far as the host lets it: a keeper holds four for each attempt, a server
/// some for each connection. Attempts and keepers get the old limit back, since `select` cannot count beyond 1,024.
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    OPEN_FILES_BEFORE.get_or_init(|| soft);
    let wanted = soft.max(hard.min(OPEN_FILES_MAX));
    if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
        tracing::warn!(soft, hard, "the limit of open files cannot be raised");
    }
}

/// SAFETY: async-signal-safe.
unsafe fn restore_open_files(before: Option<libc::rlim_t>) -> io::Result<()> {
    let Some(before) = before else { return Ok(()) };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.rlim_cur = before.min(limit.rlim_max);
        match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Whether this host has run out of something, or its disk fails: whoever asked is not to blame.
pub fn is_hosts_fault(error: &io::Error) -> bool {
    let faults = [libc::ENOSPC, libc::EDQUOT, libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::EIO];
    error.raw_os_error().is_some_and(|code| faults.contains(&code))
}

/// The same of a failed fork, which also says that there are too many processes.
pub fn is_hosts_fault_in_fork(error: &io::Error) -> bool {
    is_hosts_fault(error) || error.raw_os_error() == Some(libc::EAGAIN)
}

/// Has the process that `command` starts open a session of its own, and with it a group.
pub fn detach(command: &mut Command) {
    let open_files = OPEN_FILES_BEFORE.get().copied();
    // SAFETY: setsid is async-signal-safe, and so is the other.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            restore_open_files(open_files)
        });
    }
}

/// What a child does between fork and exec.
pub struct ChildSetup {
    /// The `cgroup.procs` files to enter.
    pub cgroups: Vec<PathBuf>,
    /// RLIMIT_DATA in bytes.
    pub data_max: Option<u64>,
}

/// A session and group of its own, no blocked signals, its limits.
pub fn prepare_child(command: &mut Command, setup: ChildSetup) -> io::Result<()> {
    let path = |path: &PathBuf| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let cgroups: Vec<CString> = setup.cgroups.iter().map(path).collect::<io::Result<_>>()?;
    let (data_max, open_files) = (setup.data_max, OPEN_FILES_BEFORE.get().copied());
    // SAFETY: after the fork only async-signal-safe calls are made and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            for cgroup in &cgroups {
                enter_cgroup(cgroup)?;
            }
            restore_open_files(open_files)?;
            match data_max {
                Some(bytes) => limit_data(bytes),
                None => Ok(()),
            }
        });
    }
    Ok(())
}

/// SAFETY: async-signal-safe.
unsafe fn enter_cgroup(procs: &CString) -> io::Result<()> {
    unsafe {
        let fd = libc::open(procs.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // 0 stands for the writing process.
        let written = libc::write(fd, c"0".as_ptr().cast(), 1);
        let error = io::Error::last_os_error();
        libc::close(fd);
        if written == 1 { Ok(()) } else { Err(error) }
    }
}

/// SAFETY: async-signal-safe.
unsafe fn limit_data(bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    match unsafe { libc::setrlimit(libc::RLIMIT_DATA, &limit) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A child that has ended and been reaped.
pub struct Reaped {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub cpu_time: Duration,
    /// Bytes; of the largest process.
    pub memory_peak: u64,
}

/// A child that has ended and is not yet reaped: its id cannot be another's.
pub fn ended_child() -> Option<ProcessId> {
    // SAFETY: waitid fills the structure; zeroed is a valid one.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let done = libc::waitid(libc::P_ALL, 0, &mut info, flags);
        let pid = info.si_pid();
        (done == 0 && pid != 0).then_some(pid)
    }
}

pub fn reap(pid: ProcessId) -> Option<Reaped> {
    let mut status = 0;
    // SAFETY: wait4 fills both; zeroed is a valid rusage.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::wait4(pid, &mut status, libc::WNOHANG, &mut usage) != pid {
            return None;
        }
        usage
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1_000);
    Some(Reaped {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        cpu_time: time(usage.ru_utime) + time(usage.ru_stime),
        memory_peak: usage.ru_maxrss as u64 * 1024,
    })
}

/// Whether there was anything to signal.
pub fn signal_group(group: ProcessId, signal: i32) -> bool {
    let Ok(signal) = Signal::try_from(signal) else { return false };
    group > 1 && killpg(Pid::from_raw(group), signal).is_ok()
}

pub fn kill_process(pid: ProcessId) {
    signal_process(pid, SIGKILL);
}

pub fn signal_process(pid: ProcessId, signal: i32) {
    if let Ok(signal) = Signal::try_from(signal)
        && pid > 1
    {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

pub fn exists(pid: ProcessId) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// The children of this single-threaded process, zombies included.
pub fn children() -> Vec<ProcessId> {
    let own = std::process::id();
    match fs::read_to_string(format!("/proc/self/task/{own}/children")) {
        Ok(text) => text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without CONFIG_PROC_CHILDREN.
        Err(_) => processes().into_iter().filter(|pid| parent_of(*pid) == Some(own as ProcessId)).collect(),
    }
}

/// Every process of this host, or container.
pub fn processes() -> BTreeSet<ProcessId> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeSet::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn parent_of(pid: ProcessId) -> Option<ProcessId> {
    stat_field(pid, 4)?.parse().ok()
}

/// Field `number` of /proc/PID/stat as proc(5) counts them, from 3.
pub fn stat_field(pid: ProcessId, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number - 3).map(str::to_owned)
}

/// Whether the environment that the process began with has all of these `NAME=value`. `None`: cannot be told.
pub fn began_with(pid: ProcessId, marks: &[String]) -> Option<bool> {
    let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let vars: BTreeSet<&[u8]> = environ.split(|byte| *byte == 0).collect();
    if !vars.iter().any(|var| var.starts_with(b"BATON_TASK=")) {
        return None;
    }
    Some(marks.iter().all(|mark| vars.contains(mark.as_bytes())))
}

/// Kills what an attempt whose keeper is gone left behind, and waits until it is no more. Blocking.
pub fn kill_left(pid: Option<ProcessId>, marks: &[String]) {
    const ROUNDS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let mut killed = BTreeSet::from_iter(pid);
    for _ in 0..ROUNDS {
        // The group's number may have become another's, if its processes can be told from ours.
        let own_group = pid.filter(|pid| began_with(*pid, marks) != Some(false));
        let mut is_left = own_group.is_some_and(|group| signal_group(group, SIGKILL));
        for pid in processes().into_iter().filter(|pid| began_with(*pid, marks) == Some(true)) {
            is_left = true;
            killed.insert(pid);
            kill_process(pid);
        }
        // Those that became children of this process; nobody else waits for them.
        for pid in killed.iter().copied().chain(pid.into_iter().flat_map(orphans_of)) {
            reap(pid);
        }
        if !is_left {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Children of this process that began in the session of the attempt `session`: it was its leader, and an orphan that
/// has ended still tells its session when its environment is gone.
fn orphans_of(session: ProcessId) -> Vec<ProcessId> {
    let own = std::process::id() as ProcessId;
    let is_its = |pid: &ProcessId| {
        parent_of(*pid) == Some(own) && stat_field(*pid, 6).and_then(|id| id.parse().ok()) == Some(session)
    };
    processes().into_iter().filter(is_its).collect()
}

/// Changes with every boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Bytes of chance from the kernel.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    use std::io::Read;
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A pipe whose reading end does not block.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

/// `Ok(None)`: nothing now. `Ok(Some(0))`: the end.
pub fn read_some(fd: BorrowedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match nix::unistd::read(fd, buffer) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for descriptors, each known by a number.
pub struct Poller(Epoll);

impl Poller {
    pub fn new() -> io::Result<Poller> {
        Ok(Poller(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?))
    }

    pub fn add(&self, fd: impl AsFd, id: u64) -> io::Result<()> {
        Ok(self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, id))?)
    }

    /// Whether to hear when there is room to write, too.
    pub fn want_writable(&self, fd: impl AsFd, id: u64, wanted: bool) -> io::Result<()> {
        let out = if wanted { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        Ok(self.0.modify(fd, &mut EpollEvent::new(EpollFlags::EPOLLIN | out, id))?)
    }

    pub fn remove(&self, fd: impl AsFd) {
        let _ = self.0.delete(fd);
    }

    /// The numbers of those that have something.
    pub fn wait(&self) -> io::Result<Vec<u64>> {
        let mut events = [EpollEvent::empty(); 64];
        let count = match self.0.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            count => count?,
        };
        Ok(events[..count].iter().map(EpollEvent::data).collect())
    }
}

/// Rings at a moment, and at once after a suspension that it lay in.
pub struct Alarm(TimerFd);

impl Alarm {
    pub fn new() -> io::Result<Alarm> {
        Ok(Alarm(TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)?))
    }

    pub fn set(&self, at: Option<Moment>) -> io::Result<()> {
        let Some(at) = at else { return Ok(self.0.unset()?) };
        // Zero would switch it off.
        let at = TimeSpec::from(Duration::from_micros(at.0.max(1)));
        Ok(self.0.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?)
    }

    pub fn silence(&self) {
        let mut count = [0; 8];
        let _ = nix::unistd::read(&self.0, &mut count);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Readable when a child may have ended. Signals that would end a keeper are ignored while it lives.
pub struct ChildSignal(SignalFd);

impl ChildSignal {
    pub fn new() -> io::Result<ChildSignal> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        Ok(ChildSignal(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    pub fn silence(&self) {
        while let Ok(Some(_)) = self.0.read_signal() {}
    }
}

impl AsFd for ChildSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A path to `directory` short enough for a socket's address, good while the descriptor is open.
pub fn short_path(directory: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_gets_the_old_limit_of_open_files() {
        raise_open_files();
        let (raised, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let before = *OPEN_FILES_BEFORE.get().unwrap();
        assert!(raised >= before);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "ulimit -n"]);
        prepare_child(&mut command, ChildSetup { cgroups: Vec::new(), data_max: None }).unwrap();
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), before.to_string());
    }
}
