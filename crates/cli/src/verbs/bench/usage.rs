//! What a process takes of its host, as proc(5) tells.

use std::time::Duration;

use crate::clock::Stopwatch;
use crate::cluster::Process;
use crate::fault::Fault;

/// From here on the processor's time is counted.
pub struct Span {
    began: Stopwatch,
    before: Duration,
}

impl Span {
    pub fn begin(process: &Process) -> Result<Span, Fault> {
        Ok(Span { before: cpu_time(process)?, began: Stopwatch::start() })
    }

    /// What the process has used of the processor since, user and system.
    pub fn used(&self, process: &Process) -> Result<Duration, Fault> {
        Ok(cpu_time(process)?.saturating_sub(self.before))
    }

    /// The same as a share of one core, in percent.
    pub fn percent(&self, process: &Process) -> Result<f64, Fault> {
        Ok(100.0 * self.used(process)?.as_secs_f64() / self.began.elapsed().as_secs_f64())
    }
}

fn read(process: &Process, file: &str) -> Result<String, Fault> {
    let pid = process.pid().ok_or_else(|| gone(process))?;
    Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
}

fn gone(process: &Process) -> Fault {
    Fault::failed(format!("{} is not running", process.name))
}

fn cpu_time(process: &Process) -> Result<Duration, Fault> {
    let ticks = ticks(&read(process, "stat")?).ok_or_else(|| gone(process))?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Bytes of memory that are really there.
pub fn resident(process: &Process) -> Result<u64, Fault> {
    kib(&read(process, "status")?, "VmRSS").map(|kib| kib * 1_024).ok_or_else(|| gone(process))
}

/// utime and stime of `/proc/PID/stat`: the 14th and 15th field, counted past the name, which may have blanks.
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A figure of `/proc/PID/status`.
fn kib(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_a_process_stand_behind_its_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 4 0 1 2 3";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (x) S 1"), None);
        let own = std::fs::read_to_string("/proc/self/stat").unwrap();
        assert!(ticks(&own).is_some());
    }

    #[test]
    fn memory_is_told_in_kib() {
        assert_eq!(
            kib("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n", "VmRSS"),
            Some(1_234)
        );
        assert_eq!(kib("Name:\tx\n", "VmRSS"), None);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(kib(&own, "VmRSS").unwrap() > 0);
    }
}
