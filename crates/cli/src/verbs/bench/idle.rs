//! What a cluster costs that has nothing to do.

use std::time::Duration;

use super::bench::{Bench, cannot};
use super::figure::Figure;
use crate::clock::Stopwatch;
use crate::cluster::Process;
use crate::fault::Fault;

/// After whatever came before.
const SETTLE: Duration = Duration::from_secs(3);
const WATCHED_SECONDS: u64 = 20;

impl Bench<'_> {
    /// The share of a core that each replica takes, and what its log grows by.
    pub async fn idle(&self) -> Result<Vec<Figure>, Fault> {
        let cluster = self.own()?;
        let watched = Duration::from_secs(self.scaled(WATCHED_SECONDS));
        tokio::time::sleep(SETTLE).await;
        let before: Vec<Duration> = cluster.replicas.iter().map(cpu_time).collect::<Result<_, _>>()?;
        let log = self.client.cluster_status().await.map_err(cannot)?.last_log;
        let watch = Stopwatch::start();
        tokio::time::sleep(watched).await;
        let took = watch.elapsed();
        let grown = self.client.cluster_status().await.map_err(cannot)?.last_log - log;
        let share = |(replica, before): (&Process, Duration)| {
            let used = cpu_time(replica)?.saturating_sub(before);
            Ok(100.0 * used.as_secs_f64() / took.as_secs_f64())
        };
        let shares = cluster.replicas.iter().zip(before).map(share).collect::<Result<_, Fault>>()?;
        let name = "idle: share of a core, a value for each replica";
        let figure = Figure::of_rounds("idle", name, "%", 0, shares);
        Ok(vec![figure.set("seconds", took.as_secs()).set("log_entries", grown)])
    }
}

/// What the process has used of the processor, user and system.
fn cpu_time(process: &Process) -> Result<Duration, Fault> {
    let gone = || Fault::failed(format!("{} is not running", process.name));
    let pid = process.pid().ok_or_else(gone)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(gone)?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// utime and stime of `/proc/PID/stat`: the 14th and 15th field, counted past the name, which may have blanks (proc(5)).
fn ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
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
}
