//! What the binary says without a cluster: help, version, and how it refuses what it does not know.

use std::process::{Command, Output};

fn baton(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
    command.args(args).env_clear().output().expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The verbs that the help lists.
fn verbs() -> Vec<String> {
    let help = text(&baton(&["--help"]).stdout);
    let (_, list) = help.split_once("Commands:\n").expect("a list of verbs");
    let lines = list.lines().take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty()))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_verb_explains_itself_without_colour_or_cluster() {
    let verbs = verbs();
    assert!(verbs.len() > 15, "{verbs:?}");
    for verb in verbs {
        let output = baton(&[&verb, "--help"]);
        let help = text(&output.stdout);
        assert!(output.status.success() && help.contains("Usage:"), "{verb}: {help}");
        assert!(!help.contains('\x1b') && output.stderr.is_empty(), "{verb}: {help:?}");
    }
}

#[test]
fn the_version_is_one_line_and_an_unknown_verb_is_a_usage_error() {
    let version = baton(&["--version"]);
    assert!(version.status.success());
    assert_eq!(text(&version.stdout).lines().count(), 1);
    let unknown = baton(&["sumbit"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(unknown.stdout.is_empty() && text(&unknown.stderr).contains("submit"), "{unknown:?}");
}

#[test]
fn a_misused_run_ends_with_the_status_of_baton_s_own_failures() {
    for line in [
        &["run"][..],
        &["--color", "never", "run", "--arry", "0-9", "--", "true"],
        &["run", "-o", "nonsense"],
    ] {
        let output = baton(line);
        assert_eq!(output.status.code(), Some(125), "{line:?}: {}", text(&output.stderr));
    }
    let output = baton(&["run", "--context", "nowhere", "--", "true"]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
    assert_eq!(baton(&["run", "--help"]).status.code(), Some(0));
    assert_eq!(baton(&["submit"]).status.code(), Some(2));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = baton(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("baton"), "{shell}");
    }
}
