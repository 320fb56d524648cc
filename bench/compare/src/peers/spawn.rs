//! What the kernel gives without any system: one thread that spawns /bin/true and waits for it, again and again.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Turn;
use crate::clock::Stopwatch;
use crate::fault::Fault;

const TASKS: u64 = 4_000;
/// After so many the loop lets others run, so that Ctrl-C is heard.
const BREATH: u64 = 64;

pub fn version() -> Result<String, Fault> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    let release = release.map_err(Fault::of("cannot read the version of the kernel"))?;
    // What follows the number is its builder's.
    Ok(format!("Linux {}", release.trim().split('-').next().unwrap_or_default()))
}

/// Processes per second.
pub async fn measure(turn: &Turn) -> Result<f64, Fault> {
    let tasks = turn.scaled(TASKS);
    run(&turn.dir.join("warm-up"), (tasks / 4).max(1)).await?;
    run(&turn.dir.join("measured"), tasks).await
}

async fn run(dir: &Path, tasks: u64) -> Result<f64, Fault> {
    std::fs::create_dir(dir).map_err(Fault::of("cannot make a folder for outputs"))?;
    let watch = Stopwatch::start();
    for task in 0..tasks {
        one(dir, task)?;
        if task % BREATH == 0 {
            tokio::task::yield_now().await;
        }
    }
    Ok(watch.rate(tasks))
}

/// The standard library spawns by posix_spawn where nothing but files is asked for, as here.
fn one(dir: &Path, task: u64) -> Result<(), Fault> {
    let output = |kind: &str| {
        File::create(dir.join(format!("{task}.{kind}"))).map_err(Fault::of("cannot keep an output"))
    };
    let mut command = Command::new("/bin/true");
    command.stdin(Stdio::null()).stdout(output("stdout")?).stderr(output("stderr")?);
    let status = command.status().map_err(Fault::of("cannot spawn /bin/true"))?;
    if status.success() { Ok(()) } else { Err(Fault::new(format!("/bin/true has failed ({status})"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_process_leaves_two_files() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("out");
        assert!(run(&dir, 5).await.unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 10);
    }
}
