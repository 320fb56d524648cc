//! What the leader hears and what it wants done: plain data, converted from and to the wire by the shell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use machine::{Applied, Entry, Reply, Report, Write};
use model::settings::Lease;
use model::{
    Capacity, JobId, JobSpec, Kind, LogIndex, Moment, Pace, Run, Seq, SessionId, Term, Timestamp, Token,
    UnitShare,
};

/// The two clocks of the leader's process, read once per step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub moment: Moment,
    pub wall: Timestamp,
}

/// A worker's stream, numbered by the shell and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A client that waits for an answer, numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A proposal of one leadership, numbered by the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProposalId(pub u64);

#[derive(Clone, Debug)]
pub enum Event {
    /// A fresh read index was confirmed after this leader's own blank entry was applied.
    Ready,
    /// A quorum has acknowledged this leader at that moment. Comes first when several events come at once.
    QuorumAcked {
        at: Moment,
    },
    /// The clocks of a majority of voters agree with this one.
    ClocksAgree,
    Write {
        ticket: Ticket,
        write: Box<Write>,
        bytes: usize,
    },
    Worker {
        stream: StreamId,
        message: FromWorker,
    },
    StreamClosed {
        stream: StreamId,
    },
    /// An entry was applied here, whoever proposed it.
    Applied {
        index: LogIndex,
        applied: Arc<Applied>,
    },
    /// Applied entries were missed: read the state afresh.
    Resync,
    /// A proposal of this leader was applied. Comes after the [`Event::Applied`] of the same entry or before it.
    Committed {
        proposal: ProposalId,
        index: LogIndex,
        replies: Vec<Reply>,
    },
    /// A proposal came to nothing (`maybe`: or its fate is not known).
    Failed {
        proposal: ProposalId,
        maybe: bool,
    },
    Timer,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FromWorker {
    Hello(Box<Hello>),
    Heartbeat { number: u64 },
    Reports(Reports),
    Goodbye,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hello {
    pub worker: String,
    pub secret: Vec<u8>,
    pub session: Option<SessionId>,
    pub offer: Offer,
    /// The highest term it has seen.
    pub term: Term,
    /// It has received every order up to here, but for the gaps.
    pub watermark: Seq,
    pub gaps: Vec<Seq>,
    pub holds: Vec<Held>,
    pub reports: Option<Reports>,
}

/// What a worker can do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    pub capacity: Capacity,
    pub labels: BTreeMap<String, String>,
    pub kinds: Vec<Kind>,
    pub functions: Vec<String>,
    pub isolation: String,
}

/// An attempt that a worker has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub seq: Seq,
    pub token: Token,
}

/// `bytes` is their approximate size in the log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    pub number: u64,
    pub reports: Vec<Report>,
    pub bytes: usize,
}

impl Hello {
    /// Whether the order of this number has reached the worker.
    pub fn has_received(&self, seq: Seq) -> bool {
        seq <= self.watermark && !self.gaps.contains(&seq)
    }

    pub fn holds(&self, seq: Seq) -> bool {
        self.holds.iter().any(|held| held.seq == seq)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Proposals are to be enqueued in the order in which they come.
    Propose {
        proposal: ProposalId,
        entry: Entry,
    },
    Send {
        stream: StreamId,
        message: ToWorker,
    },
    /// After what was sent to it.
    Close {
        stream: StreamId,
    },
    Answer {
        ticket: Ticket,
        answer: Answer,
    },
}

/// What a client's write came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Written {
        index: LogIndex,
        reply: Reply,
    },
    /// Never proposed: this leadership is over.
    NotLeader,
    /// Never proposed: no quorum answers.
    NoQuorum,
    Overloaded {
        retry_after: Duration,
    },
    TooLarge {
        bytes: usize,
        max: usize,
    },
    /// Proposed; whether it was or will be done is not known.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToWorker {
    Welcome {
        session: SessionId,
        lease: Lease,
        result_bytes_max: u64,
        tail_bytes_max: u64,
    },
    Renewed {
        number: u64,
        /// How far apart the next heartbeats are to be; `None`: as the lease says.
        heartbeat: Option<Duration>,
    },
    Run(Box<Order>),
    Stop {
        seq: Seq,
        token: Token,
    },
    /// Its process stands still from now on, or goes on. May be said again.
    Switch {
        seq: Seq,
        token: Token,
        to: Pace,
    },
    /// Give it back, unless it has begun.
    Recall {
        seq: Seq,
        token: Token,
    },
    Acked {
        number: u64,
        fenced: Vec<Seq>,
    },
    NotLeader,
    Refused {
        code: &'static str,
        message: String,
        fix: &'static str,
    },
    SessionEnded,
    Drain,
    /// The drain is over.
    Resume,
}

/// Start these tasks, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub seq: Seq,
    pub token: Token,
    pub job: JobId,
    /// Task numbers.
    pub tasks: Run,
    pub attempt: u32,
    /// Sent ahead: to be started when there is room.
    pub held: bool,
    pub spec: Arc<JobSpec>,
    /// Which of the spec's tasks.
    pub group: usize,
    /// `BATON_ARRAY_INDEX` of the first; the others follow by `array_step`.
    pub array_index: Option<u32>,
    pub array_step: u32,
    /// `BATON_LINE` of each.
    pub lines: Vec<String>,
    pub units: Vec<UnitShare>,
    pub traceparent: String,
    /// Of a member of a gang.
    pub gang: Option<Gang>,
}

/// What a member of a gang is told of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gang {
    pub rank: u32,
    /// Where each runs, by rank; empty where its worker did not say.
    pub addresses: Vec<String>,
    /// Which of the members at the same worker it is, and how many they are.
    pub local_rank: u32,
    pub local_size: u32,
    /// For the first to listen at.
    pub port: u16,
}
