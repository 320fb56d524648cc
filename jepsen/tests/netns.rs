//! The suite itself, short, as a user runs it. Without root, `ip` or `iptables` it says so and passes.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Two runs at once would have half of a machine each.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn suite(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jepsen"));
    command.args(words).stdin(Stdio::null());
    command
}

fn run(words: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = suite(words).output().expect("the suite starts");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

/// Whether this machine can carry namespaces. If not, it says so past the harness: what a test that passes prints is swallowed.
fn can_run() -> bool {
    match jepsen::ground::net::obstacle() {
        None => {
            // Made now, if it has to be: those who wait for a run to begin do not wait for a build.
            baton_tests::cluster::chaos();
            true
        }
        Some(why) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
            false
        }
    }
}

fn left_of(child: u32) -> Vec<String> {
    let mine = format!("baton-jepsen-{child}-");
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&mine))
            .collect()
    };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter(|line| line.contains(&mine)).map(str::to_owned);
    [names("/run/netns"), names(&std::env::temp_dir().display().to_string()), mounts.collect()].concat()
}

#[test]
fn kills_and_partitions_and_everything_holds() {
    let _turn = alone();
    if !can_run() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let place = store.path().to_str().unwrap();
    let faults = "kill-leader,cut-leader-from-peers";
    let test =
        ["test", "--driver", "netns", "--nemesis", faults, "--time-limit", "18", "--store", place, "--quiet"];
    let (status, out, err) = run(&test);
    assert_eq!(status, Some(0), "{out}\n{err}");
    assert!(out.contains("verdict: true"), "{out}");

    // What is kept is judged alike.
    let kept = store.path().join("netns-mixed/latest");
    let kept = kept.to_str().unwrap();
    let (status, again, err) = run(&["check", kept]);
    assert_eq!(status, Some(0), "{again}\n{err}");
    assert!(out.starts_with(&again), "{out}\n{again}");
    let page = std::fs::read_to_string(Path::new(kept).join("report.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("kill-leader"));
    lose_a_job(kept);
    let (status, again, _) = run(&["check", kept]);
    assert_eq!(status, Some(1), "{again}");
    assert!(again.contains("W3          false"), "{again}");
}

/// Takes a job out of what the replicas told at the end.
fn lose_a_job(kept: &str) {
    let path = Path::new(kept).join("kept.json");
    let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for jobs in json["jobs"].as_array_mut().unwrap() {
        let jobs = jobs.as_array_mut().unwrap();
        let place = jobs.iter().position(|job| !job["key"].is_null()).unwrap();
        jobs.remove(place);
    }
    std::fs::write(path, json.to_string()).unwrap();
}

fn wait(child: &mut Child) {
    for _ in 0..1_200 {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("it does not end");
}

fn started(place: &str) -> Child {
    let words =
        ["test", "--driver", "netns", "--nemesis", "disk", "--time-limit", "60", "--store", place, "--quiet"];
    let mut child = suite(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    let begun = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        left_of(child.id()).len() > 4
    });
    if !begun {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it does not begin");
    }
    child
}

#[test]
fn nothing_is_left_behind_by_one_that_is_interrupted_or_killed() {
    let _turn = alone();
    if !can_run() {
        return;
    }
    let store = tempfile::tempdir().unwrap();
    let place = store.path().to_str().unwrap();
    let mut child = started(place);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    wait(&mut child);
    assert_eq!(left_of(child.id()), Vec::<String>::new(), "after an interrupt");

    let mut child = started(place);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_ne!(left_of(child.id()), Vec::<String>::new(), "a SIGKILL leaves no time to tidy up");
    // The next one does.
    let mut next = started(place);
    assert_eq!(left_of(child.id()), Vec::<String>::new(), "after the next start");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(next.id() as i32), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    wait(&mut next);
    assert_eq!(left_of(next.id()), Vec::<String>::new(), "after a SIGTERM");
}

#[test]
fn bad_input_is_told_with_the_way_out() {
    let cases: [(&[&str], &str); 5] = [
        (&["test", "--workload", "mixd"], "choose from mixed, submit"),
        (&["test", "--nemesis", "kil"], "choose from kill, pause"),
        (&["test", "--driver", "nets"], "choose from netns, compose, sim"),
        (&["mutants", "ack"], "choose from ack-before-sync"),
        (&["check", "/nowhere"], "store/NAME/TIME"),
    ];
    for (words, hint) in cases {
        let (status, out, err) = run(words);
        assert_eq!(status, Some(2), "{words:?}: {out}{err}");
        assert!(err.contains(hint), "{words:?}: {err}");
    }
    let (status, out, _) = run(&["list"]);
    assert_eq!(status, Some(0));
    for word in ["netns", "majorities-ring", "W1.register", "ack-before-sync"] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
}

#[test]
fn a_few_seeds_of_the_simulation_are_judged() {
    let store = tempfile::tempdir().unwrap();
    let place = store.path().to_str().unwrap();
    let (status, out, err) = run(&["test", "--driver", "sim", "--seeds", "4", "--store", place, "--quiet"]);
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(out.contains("4 true, 0 false"), "{out}");
}
