//! Stories of the state machine, told as text under `testscripts/`: some commands, `---`, and what came of them.
//!
//! `BATON_UPDATE=1 cargo test -p baton-machine --test golden` writes what comes of them now; review it as a diff.
//! The language is described in `testscripts/README.md`. After every entry the state is checked and read back from
//! its snapshot form.

mod script;

use std::path::{Path, PathBuf};
use std::{env, fs};

use script::world::World;

/// The text with every expectation replaced by what comes of its commands.
fn told_anew(story: &str) -> String {
    let mut world = World::new();
    let mut told = String::new();
    for block in story.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty()) {
        let commands = block.split("\n---").next().unwrap_or(block);
        if !told.is_empty() {
            told.push('\n');
        }
        told.push_str(commands);
        told.push('\n');
        let outcome = world.run(commands);
        if !outcome.is_empty() {
            told.push_str("---\n");
            told.push_str(&outcome);
        }
    }
    told
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testscripts");
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "txt")).collect();
    paths.sort();
    paths
}

/// The first line in which they differ, with its number.
fn first_difference(expected: &str, told: &str) -> String {
    let (mut expected, mut told) = (expected.lines(), told.lines());
    for number in 1.. {
        match (expected.next(), told.next()) {
            (None, None) => break,
            (left, right) if left == right => {}
            (left, right) => {
                let text = |line: Option<&str>| line.unwrap_or("(end)").to_owned();
                return format!("line {number}:\n  expected {}\n  but came {}", text(left), text(right));
            }
        }
    }
    "they differ in blank lines only".to_owned()
}

#[test]
fn every_story_is_told_as_written() {
    let update = env::var_os("BATON_UPDATE").is_some();
    let mut wrong = Vec::new();
    let paths = stories();
    assert!(paths.len() >= 10, "only {} stories found", paths.len());
    for path in paths {
        let story = fs::read_to_string(&path).unwrap();
        let told = told_anew(&story);
        if told == story {
            continue;
        }
        if update {
            fs::write(&path, told).unwrap();
        } else {
            wrong.push(format!("{}: {}", path.display(), first_difference(&story, &told)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
