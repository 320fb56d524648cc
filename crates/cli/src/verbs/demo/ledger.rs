//! What the tasks wrote themselves, outside of Baton: the witness.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use model::{JobId, TaskId, Token};

/// One start of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    pub attempt: u32,
    pub token: Token,
    pub pid: u32,
    /// Seconds of the host's uptime.
    pub from: f64,
    pub to: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    pub tasks: BTreeMap<TaskId, Vec<Started>>,
}

impl Ledger {
    pub fn read(path: &Path, job: JobId) -> Ledger {
        Ledger::parse(&std::fs::read_to_string(path).unwrap_or_default(), job)
    }

    /// Lines that are cut or of another job are left out: what is not there does not count as done.
    fn parse(text: &str, job: JobId) -> Ledger {
        let mut ledger = Ledger::default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
            if ledger.take(line, job).is_none() {
                tracing::debug!(line, "not a line of this ledger");
            }
        }
        ledger
    }

    fn take(&mut self, line: &str, job: JobId) -> Option<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, of, task, attempt, token, pid, at] = words[..] else { return None };
        let task: TaskId = task.parse().ok()?;
        if of.parse() != Ok(job) || task.job != job {
            return None;
        }
        let (attempt, token, pid) = (attempt.parse().ok()?, token.parse().ok()?, pid.parse().ok()?);
        let at: f64 = at.parse().ok()?;
        let starts = self.tasks.entry(task).or_default();
        match what {
            "start" => starts.push(Started { attempt, token, pid, from: at, to: None }),
            "end" => {
                let begun = starts.iter_mut().rfind(|start| start.pid == pid && start.token == token)?;
                begun.to = Some(at);
            }
            _ => return None,
        }
        Some(())
    }

    /// Tasks that have begun and not ended: their attempts.
    pub fn running(&self) -> BTreeMap<TaskId, Started> {
        let last = |(task, starts): (&TaskId, &Vec<Started>)| {
            let last = starts.last().filter(|start| start.to.is_none())?;
            Some((*task, last.clone()))
        };
        self.tasks.iter().filter_map(last).collect()
    }

    pub fn ended(&self) -> BTreeSet<TaskId> {
        let has_ended = |starts: &Vec<Started>| starts.iter().any(|start| start.to.is_some());
        self.tasks.iter().filter(|(_, starts)| has_ended(starts)).map(|(task, _)| *task).collect()
    }

    pub fn started_twice(&self) -> usize {
        self.tasks.values().filter(|starts| starts.len() > 1).count()
    }

    /// The process that ran this attempt is the same and ran to its end.
    pub fn ran_through(&self, task: TaskId, was: &Started) -> bool {
        let same = |start: &Started| start.pid == was.pid && start.token == was.token && start.to.is_some();
        self.tasks.get(&task).is_some_and(|starts| starts.iter().any(same))
    }
}

/// The same clock that the tasks read: seconds since the host started.
pub fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u32) -> TaskId {
        TaskId { job: JobId(1), number }
    }

    #[test]
    fn starts_without_an_end_run_and_two_starts_are_told() {
        let text = "start j1 j1.0 1 10 100 5.00\nend j1 j1.0 1 10 100 6.00\nstart j1 j1.1 1 11 101 5.50\n\
                    start j2 j2.0 1 12 102 5.60\nstart j1 j1.2 1 13 103 5.70\nstart j1 j1.2 2 20 104 9.00\n\
                    nonsense\nstart j1 j1.3 1 14";
        let ledger = Ledger::parse(text, JobId(1));
        assert_eq!(ledger.ended(), BTreeSet::from([task(0)]));
        assert_eq!(ledger.running().keys().copied().collect::<Vec<_>>(), [task(1), task(2)]);
        assert_eq!(ledger.started_twice(), 1);
        assert!(!ledger.tasks.contains_key(&task(3)), "a cut line counts for nothing");
    }

    #[test]
    fn an_attempt_ran_through_only_in_its_own_process() {
        let before = Ledger::parse("start j1 j1.0 1 10 100 5.00\n", JobId(1));
        let was = before.running()[&task(0)].clone();
        let after = |end: &str| Ledger::parse(&format!("start j1 j1.0 1 10 100 5.00\n{end}\n"), JobId(1));
        assert!(after("end j1 j1.0 1 10 100 7.00").ran_through(task(0), &was));
        assert!(!after("end j1 j1.0 2 20 104 7.00").ran_through(task(0), &was));
    }
}
