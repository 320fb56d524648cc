//! What will happen, in the order of virtual time. Things at the same microsecond happen in the order in which they were
//! planned.

use std::collections::BTreeMap;

use machine::{Reply, Write};
use model::LogIndex;

use crate::nemesis::Heal;
use crate::raft::Message;

/// Microseconds since the run began.
pub type Micros = u64;
pub const NEVER: Micros = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    Replica(usize),
    Worker(usize),
    Client(usize),
    Nemesis,
}

#[derive(Clone, Debug)]
pub enum Happening {
    /// The time it asked for has come.
    Wake(Process),
    Raft {
        from: usize,
        to: usize,
        message: Message,
    },
    Request {
        to: usize,
        client: usize,
        call: u64,
        write: Box<Write>,
    },
    Response {
        client: usize,
        call: u64,
        response: Response,
    },
    /// A worker's stream arrives at its replica.
    Connect {
        stream: u64,
    },
    /// The next message of the stream, in one of its directions.
    Deliver {
        stream: u64,
        end: End,
    },
    /// This end learns that the other has closed the stream.
    Closed {
        stream: u64,
        end: End,
    },
    /// A process of an attempt has begun, or has ended.
    Began {
        worker: usize,
        execution: u64,
    },
    /// It ends by itself, if it was not made to stand still meanwhile.
    Done {
        worker: usize,
        execution: u64,
    },
    Ended {
        worker: usize,
        execution: u64,
    },
    /// The keeper looks whether its lease is over.
    KeeperLooks {
        worker: usize,
    },
    Restart(Process),
    Heal(Heal),
    /// A worker may claim something.
    Slot {
        worker: usize,
    },
}

/// Who hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Replica,
    Worker,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    Written { index: LogIndex, reply: Reply },
    NotLeader { leader: Option<usize> },
    NoQuorum,
    Overloaded,
    Unknown,
}

#[derive(Debug, Default)]
pub struct Queue {
    planned: BTreeMap<(Micros, u64), Happening>,
    count: u64,
}

impl Queue {
    pub fn push(&mut self, at: Micros, happening: Happening) {
        self.count += 1;
        self.planned.insert((at, self.count), happening);
    }

    pub fn pop(&mut self) -> Option<(Micros, Happening)> {
        self.planned.pop_first().map(|((at, _), happening)| (at, happening))
    }
}

impl Happening {
    /// A number for the trace.
    pub fn code(&self) -> u64 {
        match self {
            Happening::Wake(process) => 100 + process.code(),
            Happening::Raft { from, to, message } => {
                1_000 + 64 * message.code() + 8 * *from as u64 + *to as u64
            }
            Happening::Request { to, client, call, .. } => {
                2_000 + 8 * *client as u64 + *to as u64 + 64 * call
            }
            Happening::Response { client, call, .. } => 3_000 + *client as u64 + 64 * call,
            Happening::Connect { stream } => 4_000 + 8 * stream,
            Happening::Deliver { stream, end } => 4_002 + 8 * stream + *end as u64,
            Happening::Closed { stream, end } => 4_004 + 8 * stream + *end as u64,
            Happening::Began { worker, execution } => 5_000 + *worker as u64 + 16 * execution,
            Happening::Done { worker, execution } | Happening::Ended { worker, execution } => {
                6_000 + *worker as u64 + 16 * execution
            }
            Happening::KeeperLooks { worker } => 7_000 + *worker as u64,
            Happening::Restart(process) => 8_000 + process.code(),
            Happening::Heal(heal) => 9_000 + heal.code(),
            Happening::Slot { worker } => 10_000 + *worker as u64,
        }
    }
}

impl Process {
    fn code(self) -> u64 {
        match self {
            Process::Replica(id) => id as u64,
            Process::Worker(id) => 20 + id as u64,
            Process::Client(id) => 40 + id as u64,
            Process::Nemesis => 60,
        }
    }
}
