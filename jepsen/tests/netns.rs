//! The suite itself, short: every kind of fault once. Without root, `ip` or `iptables` it says so and passes.

use std::io::Write;
use std::process::Command;

#[test]
fn every_fault_once_and_everything_holds() {
    let mut suite = Command::new(env!("CARGO_BIN_EXE_baton-jepsen"));
    let output = suite.args(["--time", "32", "--seed", "1"]).output().expect("the suite starts");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    if let Some(why) = out.lines().find(|line| line.starts_with("SKIPPED: ")) {
        assert_eq!(output.status.code(), Some(2), "a run that did not take place proves nothing");
        // Not `eprintln`: what a test that passes prints is swallowed, and this must be seen.
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{out}\n{err}");
    assert!(out.contains("verdict: true"), "{out}");
}

#[test]
fn a_run_leaves_no_namespace_behind() {
    let list = || {
        let output = Command::new("ip").args(["netns", "list"]).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    // A schedule of one window: enough to have made and removed everything.
    let mut suite = Command::new(env!("CARGO_BIN_EXE_baton-jepsen"));
    let child = suite.args(["--time", "1", "--seed", "2"]).stdout(std::process::Stdio::null()).spawn();
    let mut child = child.expect("the suite starts");
    let mine = format!("baton-jepsen-{}-", child.id());
    child.wait().expect("it ends");
    let left = list().unwrap_or_default();
    assert!(!left.contains(&mine), "{left}");
}
