//! What the clients asked and heard, and what the nemesis did, in the order in which it happened (H1 and H4).
//!
//! `:fail` only where no effect is provable; a lost answer is `:info`, and the process that lost it is retired.

mod lines;

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use client::{Error, Happened};
use model::views::JobState;
use model::{JobId, LogIndex, RequestId};

use crate::clock::Clock;
use crate::edn::Edn;
use crate::workload::Shape;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `body` tells specs under one key apart.
    Submit {
        key: u64,
        id: RequestId,
        body: u8,
        shape: Shape,
    },
    Read {
        job: JobId,
    },
    Cancel {
        job: JobId,
    },
    /// Opens the next round of what failed or was cancelled.
    Retry {
        job: JobId,
    },
    /// Writes a register: the weight of a queue of that number.
    Set {
        register: u64,
        value: u32,
    },
    Get {
        register: u64,
    },
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Submitted {
        job: JobId,
        index: LogIndex,
    },
    Read {
        state: JobState,
        index: LogIndex,
    },
    /// Of a cancel, a retry or a write to a register.
    Changed {
        changed: u64,
        index: LogIndex,
    },
    /// `None`: there is no such register yet.
    Got {
        value: Option<u32>,
        index: LogIndex,
    },
    Failed {
        code: String,
        message: String,
    },
}

impl Answer {
    pub fn index(&self) -> Option<LogIndex> {
        match self {
            Answer::Submitted { index, .. }
            | Answer::Read { index, .. }
            | Answer::Changed { index, .. }
            | Answer::Got { index, .. } => Some(*index),
            Answer::Failed { .. } => None,
        }
    }
}

impl Call {
    /// The function's name in a history.
    pub fn f(&self) -> &'static str {
        match self {
            Call::Submit { .. } => "submit",
            Call::Read { .. } => "read",
            Call::Cancel { .. } => "cancel",
            Call::Retry { .. } => "retry",
            Call::Set { .. } => "set",
            Call::Get { .. } => "get",
        }
    }

    pub fn writes(&self) -> bool {
        !matches!(self, Call::Read { .. } | Call::Get { .. })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Client { time: u64, kind: Kind, process: u64, node: usize, call: Call, answer: Option<Answer> },
    Nemesis { time: u64, what: String, value: Edn },
}

/// A call with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub process: u64,
    pub node: usize,
    pub call: Call,
    pub invoked: u64,
    /// When its end was known; `Info` operations may happen at any later time.
    pub completed: u64,
    pub kind: Kind,
    pub answer: Option<Answer>,
}

impl Operation {
    pub fn is_ok(&self) -> bool {
        self.kind == Kind::Ok
    }

    pub fn index(&self) -> Option<LogIndex> {
        self.answer.as_ref().and_then(Answer::index)
    }
}

pub struct History {
    clock: Clock,
    entries: Mutex<Vec<Entry>>,
}

/// An operation that has been asked and not answered.
pub struct Open {
    process: u64,
    node: usize,
    call: Call,
}

impl History {
    pub fn new(clock: Clock) -> History {
        History { clock, entries: Mutex::new(Vec::new()) }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    // The time is read under the lock, so that the order of entries is the order of their times.
    fn add(&self, entry: impl FnOnce(u64) -> Entry) -> u64 {
        let mut entries = self.entries.lock().expect("nobody panics with it");
        let time = self.clock.now();
        entries.push(entry(time));
        time
    }

    pub fn invoke(&self, process: u64, node: usize, call: Call) -> Open {
        let open = Open { process, node, call: call.clone() };
        let kind = Kind::Invoke;
        self.add(|time| Entry::Client { time, kind, process, node, call, answer: None });
        open
    }

    pub fn complete(&self, open: Open, kind: Kind, answer: Answer) {
        let Open { process, node, call } = open;
        self.add(|time| Entry::Client { time, kind, process, node, call, answer: Some(answer) });
    }

    /// Returns the time that it noted.
    pub fn nemesis(&self, what: &str, value: Edn) -> u64 {
        self.add(|time| Entry::Nemesis { time, what: what.to_owned(), value })
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("nobody panics with it").clone()
    }
}

/// One EDN map per line.
pub fn write(path: &Path, entries: &[Entry], nodes: &[String]) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for (index, entry) in entries.iter().enumerate() {
        writeln!(file, "{}", lines::line(index as u64, entry, nodes))?;
    }
    file.flush()
}

/// What [`write`] has written. An error names the line.
pub fn read(path: &Path, nodes: &[String]) -> Result<Vec<Entry>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let entry = |(number, line): (usize, &str)| {
        let value = crate::edn::parse(line);
        let entry =
            value.and_then(|value| lines::entry(&value, nodes).ok_or_else(|| format!("no entry: {line}")));
        entry.map_err(|why| format!("{}, line {}: {why}", path.display(), number + 1))
    };
    text.lines().enumerate().map(entry).collect()
}

/// The same for Jepsen's own checkers, one file per independent key: each register for a linearizability checker, and
/// all submits as additions to a set which is read at the end.
pub fn write_keys(folder: &Path, entries: &[Entry], at_the_end: &[u64]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, lines) in lines::by_key(entries, at_the_end) {
        std::fs::write(folder.join(format!("{name}.edn")), lines.join("\n") + "\n")?;
    }
    Ok(())
}

/// What an error proves.
pub fn kind_of(error: &Error, writes: bool) -> Kind {
    match error.happened() {
        Happened::Maybe if writes => Kind::Info,
        Happened::Maybe | Happened::No => Kind::Fail,
    }
}

pub fn failed(error: &Error) -> Answer {
    Answer::Failed { code: error.code().to_owned(), message: error.to_string() }
}

/// Pairs invocations with their ends. An operation without an end is one that never stopped: `Info`, at the end of time.
pub fn operations(entries: &[Entry]) -> Vec<Operation> {
    let mut open = std::collections::BTreeMap::new();
    let mut operations: Vec<Operation> = Vec::new();
    for entry in entries {
        let Entry::Client { time, kind, process, node, call, answer } = entry else { continue };
        if *kind == Kind::Invoke {
            open.insert(*process, operations.len());
            operations.push(Operation {
                process: *process,
                node: *node,
                call: call.clone(),
                invoked: *time,
                completed: u64::MAX,
                kind: Kind::Info,
                answer: None,
            });
        } else if let Some(place) = open.remove(process) {
            let operation = &mut operations[place];
            (operation.completed, operation.kind, operation.answer) = (*time, *kind, answer.clone());
        }
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ended_is_info_for_ever() {
        let history = History::new(Clock::start());
        let first = history.invoke(0, 0, Call::Read { job: JobId(1) });
        history.invoke(1, 0, Call::Cancel { job: JobId(1) });
        history.complete(first, Kind::Ok, Answer::Read { state: JobState::Running, index: 1 });
        let operations = operations(&history.entries());
        assert_eq!((operations[0].kind, operations[1].kind), (Kind::Ok, Kind::Info));
        assert_eq!(operations[1].completed, u64::MAX);
    }
}
