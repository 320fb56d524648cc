//! Control groups, where this process may make them: memory limits that hold for a whole attempt.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::sys::{self, ProcessId};

/// Where worker and keeper are, beside the groups of the attempts.
const LEAF: &str = "baton-worker";

/// Where groups for attempts can be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parent {
    V1 { memory: PathBuf },
    V2 { path: PathBuf },
}

impl Parent {
    /// The first that lets itself be used, by trying.
    pub fn detect() -> Option<Parent> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        v2(&own).or_else(|| v1(&own))
    }

    fn path(&self) -> &Path {
        match self {
            Parent::V1 { memory } => memory,
            Parent::V2 { path } => path,
        }
    }

    /// Removes what keepers that are gone have left: groups are named `PID-SESSION-SEQ-TASK` after their keeper. One that
    /// something is still in stays, and goes the next time.
    pub fn remove_left(&self) {
        for entry in fs::read_dir(self.path()).into_iter().flatten().flatten() {
            let keeper = entry.file_name().to_str().and_then(keeper_of);
            if keeper.is_some_and(|pid| !sys::exists(pid)) {
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    /// Makes a group with that limit. One left over from an earlier life is used again.
    pub fn make(&self, name: &str, memory_max: u64) -> io::Result<Group> {
        let path = self.path().join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let group = Group { path, is_v2: matches!(self, Parent::V2 { .. }) };
        group.limit(memory_max).inspect_err(|_| drop(group.remove()))?;
        Ok(group)
    }
}

/// By the name of a group.
fn keeper_of(name: &str) -> Option<ProcessId> {
    let numbers: Vec<u64> = name.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [keeper, _, _, _] = numbers[..] else { return None };
    keeper.try_into().ok()
}

/// The directory of this process below `mount`, or the mount itself where that is not to be seen.
fn own_directory(mount: &Path, own: &str, is_mine: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let line = own.lines().find(|line| is_mine(line))?;
    let path = mount.join(line.splitn(3, ':').nth(2)?.trim_start_matches('/'));
    Some(if path.is_dir() { path } else { mount.to_owned() })
}

fn v1(own: &str) -> Option<Parent> {
    let has_memory =
        |line: &str| line.split(':').nth(1).is_some_and(|list| list.split(',').any(|name| name == "memory"));
    let memory = own_directory(Path::new("/sys/fs/cgroup/memory"), own, has_memory)?.join("baton");
    let parent = Parent::V1 { memory };
    fs::create_dir_all(parent.path()).ok()?;
    try_out(parent)
}

/// Only in a group that holds nothing but this process, as under systemd's `Delegate=yes`: with others in it the
/// kernel refuses controllers for groups below, and moving others is not ours to do.
fn v2(own: &str) -> Option<Parent> {
    let mount = Path::new("/sys/fs/cgroup");
    let path = own_directory(mount, own, |line| line.starts_with("0::"))?;
    // A worker was here before, and its keeper may still be; or the service's `DelegateSubgroup=` says so.
    if path.file_name().is_some_and(|name| name == LEAF) {
        let path = path.parent()?.to_owned();
        fs::write(path.join("cgroup.subtree_control"), "+memory").ok()?;
        return try_out(Parent::V2 { path });
    }
    let controllers = fs::read_to_string(path.join("cgroup.controllers")).ok()?;
    if !controllers.split_whitespace().any(|name| name == "memory") {
        return None;
    }
    let own_id = std::process::id().to_string();
    let inside = fs::read_to_string(path.join("cgroup.procs")).ok()?;
    if inside.lines().any(|pid| pid != own_id) {
        return None;
    }
    let leaf = path.join(LEAF);
    fs::create_dir_all(&leaf).ok()?;
    fs::write(leaf.join("cgroup.procs"), "0").ok()?;
    if fs::write(path.join("cgroup.subtree_control"), "+memory").is_err() {
        let _ = fs::write(path.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(leaf);
        return None;
    }
    try_out(Parent::V2 { path })
}

fn try_out(parent: Parent) -> Option<Parent> {
    let group = parent.make(&format!("try-{}", std::process::id()), 1 << 30).ok()?;
    group.remove().ok()?;
    Some(parent)
}

/// The group of one attempt.
#[derive(Clone, Debug)]
pub struct Group {
    path: PathBuf,
    is_v2: bool,
}

impl Group {
    fn limit(&self, memory_max: u64) -> io::Result<()> {
        let bytes = memory_max.to_string();
        if self.is_v2 {
            fs::write(self.path.join("memory.max"), bytes)?;
            // Swap would make the limit soft.
            let _ = fs::write(self.path.join("memory.swap.max"), "0");
            return Ok(());
        }
        fs::write(self.path.join("memory.limit_in_bytes"), &bytes)?;
        let _ = fs::write(self.path.join("memory.memsw.limit_in_bytes"), bytes);
        Ok(())
    }

    /// A process that writes `0` to it is in.
    pub fn procs(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Kills everything in it.
    pub fn kill(&self) {
        if self.is_v2 && fs::write(self.path.join("cgroup.kill"), "1").is_ok() {
            return;
        }
        let inside = fs::read_to_string(self.procs()).unwrap_or_default();
        inside.lines().filter_map(|pid| pid.parse().ok()).for_each(sys::kill_process);
    }

    pub fn signal(&self, signal: i32) {
        let inside = fs::read_to_string(self.procs()).unwrap_or_default();
        inside.lines().filter_map(|pid| pid.parse().ok()).for_each(|pid| sys::signal_process(pid, signal));
    }

    pub fn out_of_memory(&self) -> bool {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count.trim() != "0")
    }

    /// Bytes.
    pub fn memory_peak(&self) -> Option<u64> {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.path.join(file)).ok()?.trim().parse().ok()
    }

    /// Fails while something is in it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_keepers_that_are_gone_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let own = format!("{}-1-2-3", std::process::id());
        // Beyond the largest id that Linux gives.
        for name in ["1073741824-1-2-3", "1073741824-1-2", "other", &own] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Parent::V2 { path: dir.path().to_owned() }.remove_left();
        let exist = |name: &str| dir.path().join(name).exists();
        assert!(!exist("1073741824-1-2-3"));
        assert!(exist("1073741824-1-2") && exist("other") && exist(&own));
    }
}
