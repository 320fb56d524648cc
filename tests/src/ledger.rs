//! What the tasks wrote themselves, outside the system: the witness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One running of a task, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// `j42.7`.
    pub task: String,
    pub attempt: u32,
    pub token: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Pids of the processes that started as this attempt; more than one is a broken promise.
    pub starts: BTreeMap<Attempt, Vec<i32>>,
    /// Pids of those that came to their end.
    pub ends: BTreeMap<Attempt, Vec<i32>>,
}

impl Ledger {
    pub fn read(path: &Path) -> Ledger {
        let mut ledger = Ledger::default();
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A line is written in one piece, but perhaps at this moment.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, task, attempt, token, pid] = words[..] else { panic!("a torn line: {line:?}") };
            let number = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("no number: {line:?}"));
            let key =
                Attempt { task: task.to_owned(), attempt: number(attempt) as u32, token: number(token) };
            let lines = match what {
                "start" => &mut ledger.starts,
                "end" => &mut ledger.ends,
                other => panic!("an unknown line: {other}"),
            };
            lines.entry(key).or_default().push(number(pid) as i32);
        }
        ledger
    }

    /// Attempts that were started more than once: there must be none.
    pub fn started_twice(&self) -> Vec<&Attempt> {
        self.starts.iter().filter(|(_, pids)| pids.len() > 1).map(|(attempt, _)| attempt).collect()
    }

    /// Those that have started and not come to their end.
    pub fn running(&self) -> BTreeMap<Attempt, i32> {
        let open = self.starts.iter().filter(|(attempt, _)| !self.ends.contains_key(attempt));
        open.map(|(attempt, pids)| (attempt.clone(), pids[0])).collect()
    }

    /// Tasks that came to their end, in whichever attempt.
    pub fn tasks_ended(&self) -> BTreeSet<&str> {
        self.ends.keys().map(|attempt| attempt.task.as_str()).collect()
    }

    /// The attempts that one task has started.
    pub fn attempts(&self, task: &str) -> Vec<&Attempt> {
        self.starts.keys().filter(|attempt| attempt.task == task).collect()
    }
}
