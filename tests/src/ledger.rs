//! What the tasks wrote themselves, outside the system: the witness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::Token;

/// One running of a task, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// `j42.7`.
    pub task: String,
    pub attempt: u32,
    pub token: u64,
}

/// What a line says of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Start,
    End,
    /// It was told to stop, and goes on for a while.
    Asked,
    /// It is about to be gone, as it was told.
    Stopped,
}

#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// In the order in which they were written.
    pub lines: Vec<(Word, Attempt)>,
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
            let pid = number(pid) as i32;
            let word = match what {
                "start" => Word::Start,
                "end" => Word::End,
                "asked" => Word::Asked,
                "stopped" => Word::Stopped,
                other => panic!("an unknown line: {other}"),
            };
            match word {
                Word::Start => ledger.starts.entry(key.clone()).or_default().push(pid),
                Word::End => ledger.ends.entry(key.clone()).or_default().push(pid),
                Word::Asked | Word::Stopped => {}
            }
            ledger.lines.push((word, key));
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

    /// The attempts that said so, each once for each line, as they wrote it.
    pub fn said(&self, word: Word) -> Vec<&Attempt> {
        self.lines.iter().filter(|(said, _)| *said == word).map(|(_, attempt)| attempt).collect()
    }

    /// Those that were told to stop and are not gone yet.
    pub fn stopping(&self) -> Vec<&Attempt> {
        let gone = self.said(Word::Stopped);
        self.said(Word::Asked).into_iter().filter(|attempt| !gone.contains(attempt)).collect()
    }

    /// Two attempts of one task of which the second began before the first was over. For tasks that say how they go.
    pub fn overlaps(&self) -> Vec<[&Attempt; 2]> {
        let (mut open, mut found): (BTreeMap<&str, Vec<&Attempt>>, Vec<_>) = Default::default();
        for (word, attempt) in &self.lines {
            let of_task = open.entry(&attempt.task).or_default();
            match word {
                Word::Start => {
                    found.extend(of_task.iter().map(|earlier| [*earlier, attempt]));
                    of_task.push(attempt);
                }
                Word::End | Word::Stopped => of_task.retain(|other| *other != attempt),
                Word::Asked => {}
            }
        }
        found
    }

    /// Whether some attempts were placed up to this entry of the log, and some after it.
    pub fn is_of_both(&self, index: u64) -> bool {
        let older = |attempt: &Attempt| Token(attempt.token).index() <= index;
        self.starts.keys().any(older) && !self.starts.keys().all(older)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Ledger {
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), lines.join("\n") + "\n").expect("written");
        Ledger::read(path.path())
    }

    #[test]
    fn an_attempt_that_begins_before_the_earlier_one_is_over_is_found() {
        let (first, second) = ("j1.0 1 10 7", "j1.0 2 20 8");
        let told = |gone: &str| told(&[&format!("start {first}"), gone, &format!("start {second}")]);
        for gone in [format!("end {first}"), format!("stopped {first}")] {
            assert!(told(&gone).overlaps().is_empty(), "{gone}");
        }
        let beside = told(&format!("asked {first}"));
        assert_eq!((beside.overlaps().len(), beside.stopping().len()), (1, 1), "{beside:#?}");
        assert!(told("start j2.0 1 15 9").overlaps().len() == 1, "another task is another matter");
        assert_eq!([9, 10, 19, 20].map(|index| beside.is_of_both(index)), [false, true, true, false]);
    }
}
