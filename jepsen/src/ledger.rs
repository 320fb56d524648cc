//! What the tasks wrote themselves, outside the system (H2): when which attempt ran, in which process.

use std::collections::BTreeMap;
use std::path::Path;

use model::TaskId;

/// One attempt, as its token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub task: TaskId,
    pub token: u64,
    pub attempt: u32,
}

/// One process that ran as an attempt. Times are nanoseconds of the machine's wall clock, which no fault here touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    pub pid: i32,
    pub start: u64,
    /// Absent: it was killed, or still runs.
    pub end: Option<u64>,
}

pub type Ledger = BTreeMap<Key, Vec<Stay>>;

/// A task that writes a line when it starts and another when it ends, each in one piece.
pub fn script(path: &Path, seconds: &str) -> String {
    let path = path.display();
    let line = |what: &str| {
        format!("echo \"{what} $BATON_TASK $BATON_ATTEMPT $BATON_TOKEN $$ $(date +%s%N)\" >> {path}\n")
    };
    format!("#!/bin/sh\n{}sleep {seconds}\n{}", line("start"), line("end"))
}

pub fn read(path: &Path) -> Result<Ledger, String> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Ledger::new()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    parse(&text)
}

fn parse(text: &str) -> Result<Ledger, String> {
    let mut ledger = Ledger::new();
    // A line without its end is being written at this moment.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let torn = || format!("a torn line in the ledger: {line:?}");
        let words: Vec<&str> = line.split(' ').collect();
        let [what, task, attempt, token, pid, time] = words[..] else { return Err(torn()) };
        let task: TaskId = task.parse().map_err(|_| torn())?;
        let (attempt, token) = (attempt.parse().map_err(|_| torn())?, token.parse().map_err(|_| torn())?);
        let (pid, time): (i32, u64) = (pid.parse().map_err(|_| torn())?, time.parse().map_err(|_| torn())?);
        let stays = ledger.entry(Key { task, token, attempt }).or_default();
        match what {
            "start" => stays.push(Stay { pid, start: time, end: None }),
            "end" => {
                let stay = stays.iter_mut().rfind(|stay| stay.pid == pid && stay.end.is_none());
                stay.ok_or_else(|| format!("an end without a start: {line:?}"))?.end = Some(time);
            }
            _ => return Err(torn()),
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_stays() {
        let ledger =
            parse("start j1.0 1 9 77 100\nstart j1.1 1 9 78 101\nend j1.0 1 9 77 200\nstart j1.").unwrap();
        let key = Key { task: "j1.0".parse().unwrap(), token: 9, attempt: 1 };
        assert_eq!(ledger[&key], [Stay { pid: 77, start: 100, end: Some(200) }]);
        assert_eq!(ledger.len(), 2);
        assert!(parse("start j1.0 1\n").is_err() && parse("end j1.0 1 9 77 1\n").is_err());
    }
}
