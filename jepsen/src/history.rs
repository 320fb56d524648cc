//! What the clients asked and heard, and what the nemesis did, in the order in which it happened (H1 and H4).
//!
//! `:fail` only where no effect is provable; a lost answer is `:info`, and the process that lost it is retired.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use client::{Error, Happened};
use model::views::JobState;
use model::{JobId, LogIndex, RequestId};

use crate::clock::Clock;
use crate::edn::Edn;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `body` tells specs under one key apart.
    Submit {
        key: u64,
        id: RequestId,
        body: u8,
        tasks: u32,
    },
    Read {
        job: JobId,
    },
    Cancel {
        job: JobId,
    },
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Submitted { job: JobId, index: LogIndex },
    Read { state: JobState, index: LogIndex },
    Cancelled { changed: u64, index: LogIndex },
    Failed { code: String, message: String },
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
    Nemesis { time: u64, what: &'static str, value: Edn },
}

/// A call with its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub node: usize,
    pub call: Call,
    pub invoked: u64,
    /// When its end was known; `Info` operations may happen at any later time.
    pub completed: u64,
    pub kind: Kind,
    pub answer: Option<Answer>,
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
    pub fn nemesis(&self, what: &'static str, value: Edn) -> u64 {
        self.add(|time| Entry::Nemesis { time, what, value })
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("nobody panics with it").clone()
    }

    /// One EDN map per line.
    pub fn write(&self, path: &Path, nodes: &[String]) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for (index, entry) in self.entries().iter().enumerate() {
            writeln!(file, "{}", line(index as u64, entry, nodes))?;
        }
        file.flush()
    }
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
    let mut open: Vec<(u64, usize)> = Vec::new();
    let mut operations: Vec<Operation> = Vec::new();
    for entry in entries {
        let Entry::Client { time, kind, process, node, call, answer } = entry else { continue };
        if *kind == Kind::Invoke {
            open.push((*process, operations.len()));
            operations.push(Operation {
                node: *node,
                call: call.clone(),
                invoked: *time,
                completed: u64::MAX,
                kind: Kind::Info,
                answer: None,
            });
            continue;
        }
        let place = open.iter().position(|(whose, _)| whose == process).expect("what ends has begun");
        let (_, operation) = open.swap_remove(place);
        let operation = &mut operations[operation];
        (operation.completed, operation.kind, operation.answer) = (*time, *kind, answer.clone());
    }
    operations
}

fn line(index: u64, entry: &Entry, nodes: &[String]) -> Edn {
    match entry {
        Entry::Client { time, kind, process, node, call, answer } => {
            let (f, value) = told(call, answer.as_ref());
            let mut map = head(index, *time, *kind, Edn::int(*process), f, value);
            map.push(("node", Edn::text(&nodes[*node])));
            if let Some(Answer::Failed { code, message }) = answer {
                map.push(("error", Edn::Vector(vec![Edn::text(code), Edn::text(message)])));
            }
            Edn::Map(map)
        }
        Entry::Nemesis { time, what, value } => {
            Edn::Map(head(index, *time, Kind::Info, Edn::Keyword("nemesis"), what, value.clone()))
        }
    }
}

fn head(
    index: u64,
    time: u64,
    kind: Kind,
    process: Edn,
    f: &'static str,
    value: Edn,
) -> Vec<(&'static str, Edn)> {
    let kind = match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    vec![
        ("index", Edn::int(index)),
        ("time", Edn::int(time)),
        ("type", Edn::Keyword(kind)),
        ("process", process),
        ("f", Edn::Keyword(f)),
        ("value", value),
    ]
}

/// The function, and what was asked with what was heard behind it.
fn told(call: &Call, answer: Option<&Answer>) -> (&'static str, Edn) {
    let (f, mut value) = match call {
        Call::Submit { key, id, body, tasks } => {
            let asked = [Edn::int(*key), Edn::text(id), Edn::int((*body).into()), Edn::int((*tasks).into())];
            ("submit", asked.to_vec())
        }
        Call::Read { job } => ("read", vec![Edn::text(job)]),
        Call::Cancel { job } => ("cancel", vec![Edn::text(job)]),
    };
    match answer {
        Some(Answer::Submitted { job, index }) => value.extend([Edn::text(job), Edn::int(*index)]),
        Some(Answer::Read { state, index }) => value.extend([Edn::Keyword(state.name()), Edn::int(*index)]),
        Some(Answer::Cancelled { changed, index }) => value.extend([Edn::int(*changed), Edn::int(*index)]),
        Some(Answer::Failed { .. }) | None => {}
    }
    (f, Edn::Vector(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_jepsen_writes_it() {
        let history = History::new(Clock::start());
        let open = history.invoke(3, 1, Call::Read { job: JobId(7) });
        history.complete(open, Kind::Ok, Answer::Read { state: JobState::Running, index: 12 });
        let nodes = ["n1".to_owned(), "n2".to_owned()];
        let entries = history.entries();
        let text = line(1, &entries[1], &nodes).to_string();
        let (before, after) = text.split_once(" :type").expect("a type");
        assert!(before.starts_with("{:index 1 :time "), "{before}");
        assert_eq!(after, " :ok :process 3 :f :read :value [\"j7\" :running 12] :node \"n2\"}");
    }

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
