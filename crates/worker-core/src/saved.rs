//! What lasts: everything that a worker which restarts must know. Changes only by records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::settings::Lease;
use model::{Pace, Run, Seq, SessionId, Term};
use serde::{Deserialize, Serialize};

use crate::{News, Order, Report};

/// Numbers skipped at once or missing altogether; beyond it the oldest count as received, and so never start.
pub const GAPS_MAX: usize = 65_536;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The highest seen.
    pub term: Term,
    pub session: Option<Session>,
    /// Numbers up to here have been received, but for the gaps.
    pub watermark: Seq,
    pub gaps: BTreeSet<Seq>,
    /// Received and not yet through.
    pub orders: BTreeMap<Seq, Taken>,
    /// Not acknowledged, by number of report.
    pub outbox: BTreeMap<u64, Report>,
    /// The last report's number.
    pub reported: u64,
    /// The last batch's number.
    pub batched: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub id: SessionId,
    pub lease: Lease,
}

/// An order and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub order: Arc<Order>,
    /// The first task that has not begun.
    pub next: u32,
    pub running: Option<Run>,
    /// Nothing more of it begins.
    pub stop: Option<Stop>,
    /// Others have their turn: it stands still, or is not begun yet.
    #[serde(default)]
    pub suspended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stop {
    /// By the leader.
    Ordered,
    LeaseEnded,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Record {
    Term(Term),
    Session(Session),
    SessionEnded,
    Taken(Arc<Order>),
    /// A number that will never be started: it was stopped before it came.
    Void(Seq),
    Begun {
        seq: Seq,
        tasks: Run,
    },
    Stopping {
        seq: Seq,
        stop: Stop,
    },
    Switched {
        seq: Seq,
        to: Pace,
    },
    /// The next report's.
    Reported(Report),
    /// The next batch's number is taken.
    Batched,
    Acked {
        first: u64,
        last: u64,
    },
}

impl Taken {
    pub fn has_begun(&self) -> bool {
        self.next > self.order.tasks.first
    }

    /// The tasks that have not ended.
    pub fn left(&self) -> Run {
        let first = self.running.map_or(self.next, |run| run.first);
        Run::new(first, self.order.tasks.end() - first)
    }
}

impl Saved {
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Term(term) => self.term = *term,
            Record::Session(session) => self.open(*session),
            Record::SessionEnded => *self = Saved { term: self.term, ..Saved::default() },
            Record::Taken(order) => {
                self.receive(order.seq);
                let taken = Taken {
                    order: order.clone(),
                    next: order.tasks.first,
                    running: None,
                    stop: None,
                    suspended: false,
                };
                self.orders.insert(order.seq, taken);
            }
            Record::Void(seq) => self.receive(*seq),
            Record::Begun { seq, tasks } => {
                if let Some(taken) = self.orders.get_mut(seq) {
                    (taken.running, taken.next) = (Some(*tasks), tasks.end());
                }
            }
            Record::Stopping { seq, stop } => {
                if let Some(taken) = self.orders.get_mut(seq) {
                    taken.stop = Some(*stop);
                }
            }
            Record::Switched { seq, to } => {
                if let Some(taken) = self.orders.get_mut(seq) {
                    taken.suspended = *to == Pace::StandsStill;
                }
            }
            Record::Reported(report) => self.report(report),
            Record::Batched => self.batched += 1,
            Record::Acked { first, last } => {
                while let Some((number, _)) = self.outbox.range(first..=last).next() {
                    let number = *number;
                    self.outbox.remove(&number);
                }
            }
        }
    }

    fn open(&mut self, session: Session) {
        if self.session.map(|old| old.id) != Some(session.id) {
            *self = Saved { term: self.term, ..Saved::default() };
        }
        self.session = Some(session);
    }

    /// Whether the number came before.
    pub fn has(&self, seq: Seq) -> bool {
        seq <= self.watermark && !self.gaps.contains(&seq)
    }

    fn receive(&mut self, seq: Seq) {
        self.gaps.remove(&seq);
        if seq > self.watermark {
            // A jump beyond the limit counts as received from below: such numbers never start.
            let from = (self.watermark + 1).max(seq.saturating_sub(GAPS_MAX as u64));
            self.gaps.extend(from..seq);
            self.watermark = seq;
        }
        while self.gaps.len() > GAPS_MAX {
            self.gaps.pop_first();
        }
    }

    fn report(&mut self, report: &Report) {
        self.reported += 1;
        self.outbox.insert(self.reported, report.clone());
        let Some(taken) = self.orders.get_mut(&report.seq) else { return };
        match report.news {
            News::Started { .. } => {}
            News::Recalled => drop(self.orders.remove(&report.seq)),
            News::Ended(_) if report.tasks.end() == taken.order.tasks.end() => {
                self.orders.remove(&report.seq);
            }
            News::Ended(_) => taken.running = None,
        }
    }
}
