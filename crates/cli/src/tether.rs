//! Children that die with their parent, and a parent that finds all of its descendants. Linux only; elsewhere
//! children are only ended when their parent ends in order.

/// Names the parent's pid to a child that is to die with it.
pub const PARENT: &str = "BATON_TETHER";

/// Called first thing by a process verb: if a parent asked for it, this process is killed when the parent ends.
/// Must run on the main thread; the parent must have started it from a thread that lives as long as the parent.
#[cfg(target_os = "linux")]
pub fn tie() -> std::io::Result<()> {
    use nix::sys::{prctl, signal::Signal};
    let Ok(parent) = std::env::var(PARENT) else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have ended before the call above.
    if nix::unistd::getppid().to_string() == parent {
        return Ok(());
    }
    Err(std::io::Error::other("the process that started this one has ended"))
}

#[cfg(not(target_os = "linux"))]
pub fn tie() -> std::io::Result<()> {
    Ok(())
}

/// Orphans of our children become ours, so that [`descendants`] finds them.
#[cfg(target_os = "linux")]
pub fn adopt_orphans() {
    let _ = nix::sys::prctl::set_child_subreaper(true);
}

#[cfg(not(target_os = "linux"))]
pub fn adopt_orphans() {}

/// Every process that descends from this one.
#[cfg(target_os = "linux")]
pub fn descendants() -> Vec<i32> {
    let parents = parents();
    let mut found = vec![std::process::id() as i32];
    let mut place = 0;
    while place < found.len() {
        let parent = found[place];
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        place += 1;
    }
    found.split_off(1)
}

/// Every process with its parent.
#[cfg(target_os = "linux")]
fn parents() -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let parent = |entry: std::fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state ppid: the name may hold anything, brackets too.
        let rest = stat.rsplit_once(')')?.1;
        Some((pid, rest.split_whitespace().nth(1)?.parse::<i32>().ok()?))
    };
    entries.flatten().filter_map(parent).collect()
}

#[cfg(not(target_os = "linux"))]
pub fn descendants() -> Vec<i32> {
    Vec::new()
}

/// Kills every descendant, keepers and tasks included, until there is none.
pub fn kill_descendants() {
    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;
    for _ in 0..100 {
        let all = descendants();
        if all.is_empty() {
            return;
        }
        for pid in all {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn grandchildren_are_found() {
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let pid = child.id() as i32;
        let is_grandchild = |found: &i32| parents().contains(&(*found, pid));
        while !descendants().iter().any(is_grandchild) {
            std::thread::yield_now();
        }
        let grandchildren: Vec<i32> = descendants().into_iter().filter(is_grandchild).collect();
        assert!(descendants().contains(&pid));
        for pid in grandchildren.into_iter().chain([pid]) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        child.wait().unwrap();
    }
}
