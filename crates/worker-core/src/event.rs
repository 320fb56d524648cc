//! What goes into a step and what comes out of it.

use std::sync::Arc;
use std::time::Duration;

use model::settings::Lease;
use model::{JobId, LogIndex, Moment, Pace, Run, Seq, SessionId, Term, Timestamp, Token};

use crate::outbox::Batch;
use crate::{Ended, Order, Record, Report};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The stream that `Action::Connect` asked for is open.
    Up,
    /// It could not be opened, or it ended.
    Down,
    /// The leader said something.
    Said { term: Term, applied: LogIndex, message: Message },
    /// `task` of order `seq` runs.
    Started { seq: Seq, task: u32, at: Timestamp },
    /// `tasks` of order `seq` have ended, all alike.
    Ended { seq: Seq, tasks: Run, ended: Box<Ended> },
    /// This host could not start something, for lack of its own: disk, processes, open files.
    HostFailed,
    /// Take no new work and leave when idle, at `until` at the latest.
    Drain { until: Moment },
    /// Time has passed, or everything at hand has been stepped: batches go out now.
    Tick,
}

/// From the leader.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    Welcome(Welcome),
    Renewed {
        number: u64,
        /// How far apart the next heartbeats are to be; `None`: as the lease says.
        heartbeat: Option<Duration>,
    },
    Run(Arc<Order>),
    /// An order that this worker cannot read, and what it says of it.
    Unreadable(Box<Report>),
    Stop {
        seq: Seq,
        token: Token,
    },
    /// Stand still, or go on.
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
    FetchLog(Fetch),
    CloseFetch {
        fetch: u64,
    },
    NotLeader {
        leader: Option<String>,
    },
    Refused(Refusal),
    SessionEnded,
    Drain,
    /// The leader's drain is over.
    Resume,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Welcome {
    pub session: SessionId,
    pub lease: Lease,
    /// API addresses of all replicas.
    pub replicas: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub message: String,
    pub fix: String,
}

/// Send the output of an attempt. `attempt` 0: the last one that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub fetch: u64,
    pub job: JobId,
    pub task: u32,
    pub attempt: u32,
    pub follow: bool,
    pub stdout_offset: u64,
    pub stderr_offset: u64,
}

/// Something to do, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Must be written before any action after it is done.
    Save(Record),
    /// Ends an older stream, if there is one.
    Connect {
        address: String,
    },
    Disconnect,
    Send(Outgoing),
    /// Start `tasks` of the order: one task, or a run of noops.
    Start {
        order: Arc<Order>,
        tasks: Run,
    },
    /// Ask it to end, then kill it after a grace.
    Stop {
        seq: Seq,
    },
    /// Kill it at once.
    Kill {
        seq: Seq,
    },
    /// Make it stand still, or go on.
    Switch {
        seq: Seq,
        to: Pace,
    },
    /// The keeper kills what must not outlive this.
    Lease {
        until: Moment,
    },
    FetchLog(Fetch),
    CloseFetch {
        fetch: u64,
    },
    /// The last action.
    Leave(Leave),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Nothing runs any more, and the leader knows.
    Drained,
    /// The time for draining is over; what runs stays with the keeper.
    DrainTimeout,
    Refused(Refusal),
}

/// To the leader.
#[derive(Clone, Debug, PartialEq)]
pub enum Outgoing {
    Hello(Hello),
    Heartbeat { number: u64 },
    Reports(Batch),
    Goodbye,
}

/// The shell adds what does not change: name, secret, capacity, labels, kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Hello {
    pub session: Option<SessionId>,
    pub term: Term,
    pub watermark: Seq,
    pub gaps: Vec<Seq>,
    pub holds: Vec<Hold>,
    pub reports: Option<Batch>,
}

/// An order that is not yet through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub seq: Seq,
    pub token: Token,
    pub job: JobId,
    /// Those whose end the leader has not been told of.
    pub tasks: Run,
}
