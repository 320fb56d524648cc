//! Holds this process to a part of a core, so that who makes the load does not take the processor from who bears it. The
//! children that run already stay where they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";
/// Short, so that the load comes evenly. In microseconds.
const PERIOD_US: u64 = 20_000;

/// A control group with this process in it; when it is dropped the process is back where it was.
#[derive(Debug)]
pub struct Quota {
    group: PathBuf,
    home: PathBuf,
}

impl Quota {
    /// Percent of one core. None where this host does not let us.
    pub fn enter(percent: u64) -> Option<Quota> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let quota_us = PERIOD_US * percent / 100;
        v1(&own, quota_us).or_else(|| v2(&own, quota_us))
    }

    fn with(group: PathBuf, home: PathBuf, limit: impl FnOnce(&Path) -> io::Result<()>) -> Option<Quota> {
        fs::create_dir(&group).ok()?;
        // From here on it is removed again, whatever fails.
        let quota = Quota { group, home };
        limit(&quota.group).and_then(|()| join(&quota.group)).ok()?;
        Some(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = join(&self.home);
        let _ = fs::remove_dir(&self.group);
    }
}

/// All threads of this process.
fn join(group: &Path) -> io::Result<()> {
    fs::write(group.join("cgroup.procs"), std::process::id().to_string())
}

fn name() -> String {
    format!("baton-bench-{}", std::process::id())
}

/// Below the own group.
fn v1(own: &str, quota_us: u64) -> Option<Quota> {
    let (controllers, path) = own.lines().find_map(v1_cpu)?;
    let home = directory(&Path::new(MOUNT).join(controllers), path);
    Quota::with(home.join(name()), home, |group| {
        fs::write(group.join("cpu.cfs_period_us"), PERIOD_US.to_string())?;
        fs::write(group.join("cpu.cfs_quota_us"), quota_us.to_string())
    })
}

/// Beside the own group: below one that holds processes none may have controllers.
fn v2(own: &str, quota_us: u64) -> Option<Quota> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let home = directory(Path::new(MOUNT), path);
    let parent = if home == Path::new(MOUNT) { home.as_path() } else { home.parent()? };
    Quota::with(parent.join(name()), home.clone(), |group| {
        fs::write(group.join("cpu.max"), format!("{quota_us} {PERIOD_US}"))
    })
}

/// Its controllers and its path, if a line of /proc/self/cgroup is that of the cpu controller.
fn v1_cpu(line: &str) -> Option<(&str, &str)> {
    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
    controllers.split(',').any(|name| name == "cpu").then_some((controllers, path))
}

/// In a container the path may be another one than can be seen there.
fn directory(mount: &Path, path: &str) -> PathBuf {
    let below = mount.join(path.trim_start_matches('/'));
    if below.is_dir() { below } else { mount.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_controller_is_found_alone_and_beside_others() {
        assert_eq!(v1_cpu("1:cpu:/a/b"), Some(("cpu", "/a/b")));
        assert_eq!(v1_cpu("4:cpu,cpuacct:/"), Some(("cpu,cpuacct", "/")));
        assert_eq!(v1_cpu("2:cpuacct:/"), None);
        assert_eq!(v1_cpu("0::/x"), None);
    }

    #[test]
    fn a_quota_that_is_over_leaves_no_group() {
        // Where the host does not let us there is nothing to see.
        if let Some(quota) = Quota::enter(50) {
            let group = quota.group.clone();
            let inside = fs::read_to_string(group.join("cgroup.procs")).unwrap();
            assert!(inside.lines().any(|pid| pid == std::process::id().to_string()), "{inside}");
            drop(quota);
            assert!(!group.exists());
        }
    }
}
