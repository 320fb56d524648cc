//! What the tasks wrote themselves, outside the system: the witness.

use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Default)]
pub struct Ledger {
    /// Starts by (task, attempt, token).
    pub starts: BTreeMap<(String, u32, u64), u32>,
    /// Ends by task.
    pub ends: BTreeMap<String, u32>,
}

impl Ledger {
    pub fn read(path: &Path) -> Ledger {
        let mut ledger = Ledger::default();
        for line in std::fs::read_to_string(path).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, task, attempt, token, _pid] = words[..] else { panic!("a torn line: {line:?}") };
            let (attempt, token) = (attempt.parse().expect("a number"), token.parse().expect("a number"));
            match what {
                "start" => *ledger.starts.entry((task.to_owned(), attempt, token)).or_default() += 1,
                "end" => *ledger.ends.entry(task.to_owned()).or_default() += 1,
                other => panic!("an unknown line: {other}"),
            }
        }
        ledger
    }

    /// Attempts that were started more than once: there must be none.
    pub fn started_twice(&self) -> Vec<&(String, u32, u64)> {
        self.starts.iter().filter(|(_, count)| **count > 1).map(|(attempt, _)| attempt).collect()
    }

    /// How many different tasks have run to their end.
    pub fn tasks_ended(&self) -> usize {
        self.ends.len()
    }
}
