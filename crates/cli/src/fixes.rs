//! Every command that a message of any crate tells people to type is one that this binary takes.

use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};

use crate::Line;

/// Source files below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// What stands between backticks and begins with `baton `, outside of comments.
fn commands(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n").replace("\\\n", " ");
    let starts = code.match_indices("`baton ").map(|(at, _)| at + 1);
    starts.filter_map(|at| code[at..].split_once('`')).map(|(command, _)| filled_in(command)).collect()
}

/// With a value in each place of a format string.
fn filled_in(command: &str) -> String {
    let mut parts = command.split('{');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        text += if matches!(name, "priority" | "running_max") { "1" } else { "j1" };
        text += rest;
    }
    text
}

/// Only a verb is named: `baton explain` says why.
fn is_verb(words: &[&str]) -> bool {
    let mut verb = Line::command();
    words[1..].iter().all(|word| match verb.find_subcommand(word).cloned() {
        Some(found) => {
            verb = found;
            true
        }
        None => false,
    })
}

#[test]
fn every_command_that_a_message_names_is_understood() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder of all crates");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(crates).expect("the folder of all crates").flatten() {
        sources(&entry.path().join("src"), &mut files);
    }
    let mut count = 0;
    // This file names some that must not be understood.
    for file in files.into_iter().filter(|file| !file.ends_with("cli/src/fixes.rs")) {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for command in commands(&text) {
            count += 1;
            let words: Vec<&str> = command.split_whitespace().collect();
            if let Err(error) = Line::try_parse_from(&words)
                && !is_verb(&words)
            {
                panic!("{}: `{command}`: {error}", file.display());
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");
}

#[test]
fn a_place_to_fill_in_is_filled_in() {
    let text =
        "// `baton x`\nlet fix = \"see `baton job set {} --priority {priority}`, or \\\n  `baton ps`\";";
    assert_eq!(commands(text), ["baton job set j1 --priority 1", "baton ps"]);
    assert!(Line::try_parse_from(["baton", "ps", "--all"]).is_err());
    assert!(is_verb(&["baton", "job", "get"]) && !is_verb(&["baton", "settings", "set"]));
}
