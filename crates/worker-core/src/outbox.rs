//! Reports on their way: gathered into numbered batches, kept until acknowledged, sent again after re-attaching.
//!
//! An end goes out with the next tick, together with what began because of it; a start waits a little for company.
//! Few batches are in flight at once, so that a slow log makes larger batches and not more of them.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Moment, Seq, Timestamp};

use crate::core::Core;
use crate::{Action, Ended, News, Outgoing, Record, Report};

pub const STARTED_DELAY: Duration = Duration::from_millis(200);
pub const BATCH_REPORTS_MAX: usize = 1_024;
/// As much as goes into one entry of the log: a larger batch would make other entries wait.
pub const BATCH_BYTES_MAX: usize = 32 << 10;
pub const BATCHES_IN_FLIGHT_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub number: u64,
    pub reports: Vec<Report>,
}

/// The part of the outbox that does not last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    /// Starts that wait for company.
    started: Vec<Report>,
    pub flush_at: Option<Moment>,
    /// Batch number -> numbers of its first and last report.
    in_flight: BTreeMap<u64, (u64, u64)>,
    /// Reports up to this number are in a batch of this stream.
    sent: u64,
}

impl Outbox {
    fn flush_by(&mut self, moment: Moment) {
        self.flush_at = Some(self.flush_at.map_or(moment, |at| at.min(moment)));
    }

    fn has_room(&self) -> bool {
        self.in_flight.len() < BATCHES_IN_FLIGHT_MAX
    }

    /// When a flush would do something.
    pub fn due(&self) -> Option<Moment> {
        self.flush_at.filter(|_| self.has_room())
    }

    /// Before a new stream: everything that is not acknowledged goes again.
    pub fn rewind(&mut self) {
        self.in_flight.clear();
        self.sent = 0;
        self.flush_at = Some(Moment(0));
    }
}

impl Core {
    pub(crate) fn report_started(&mut self, seq: Seq, task: u32, at: Timestamp, now: Moment) {
        let Some(report) = self.report(seq, model::Run::new(task, 1), News::Started { at }) else { return };
        self.outbox.started.push(report);
        self.outbox.flush_by(now.plus(STARTED_DELAY));
    }

    pub(crate) fn report_ended(&mut self, seq: Seq, tasks: model::Run, ended: Box<Ended>, now: Moment) {
        let Some(report) = self.report(seq, tasks, News::Ended(ended)) else { return };
        // The end says when it started.
        self.outbox.started.retain(|started| (started.seq, started.tasks) != (seq, tasks));
        self.save(Record::Reported(report));
        self.outbox.flush_by(now);
    }

    pub(crate) fn report_recalled(&mut self, seq: Seq, now: Moment) {
        let Some(taken) = self.saved().orders.get(&seq) else { return };
        let Some(report) = self.report(seq, taken.left(), News::Recalled) else { return };
        self.save(Record::Reported(report));
        self.outbox.flush_by(now);
    }

    /// Of an order that was stopped before it came.
    pub(crate) fn report_void(&mut self, seq: Seq, token: model::Token, now: Moment) {
        // Which tasks it had is unknown here: all of them.
        let tasks = model::Run::new(0, u32::MAX);
        self.save(Record::Void(seq));
        let report = Report { seq, token, job: model::JobId(0), tasks, news: News::Recalled };
        self.report_declined(report, now);
    }

    /// Of an order that was never taken.
    pub(crate) fn report_declined(&mut self, report: Report, now: Moment) {
        self.save(Record::Reported(report));
        self.outbox.flush_by(now);
    }

    fn report(&self, seq: Seq, tasks: model::Run, news: News) -> Option<Report> {
        let order = &self.saved().orders.get(&seq)?.order;
        Some(Report { seq, token: order.token, job: order.job, tasks, news })
    }

    pub(crate) fn flush(&mut self, now: Moment) {
        if self.outbox.due().is_none_or(|at| at > now) || !self.is_attached() {
            return;
        }
        self.gather_started();
        while self.outbox.has_room() {
            let Some(batch) = self.cut_batch() else { break };
            self.push(Action::Send(Outgoing::Reports(batch)));
        }
        if !self.has_unsent() {
            self.outbox.flush_at = None;
        }
    }

    pub(crate) fn gather_started(&mut self) {
        for report in std::mem::take(&mut self.outbox.started) {
            self.save(Record::Reported(report));
        }
    }

    pub(crate) fn has_unsent(&self) -> bool {
        self.saved().outbox.range(self.outbox.sent + 1..).next().is_some()
    }

    /// Reports that no batch of this stream holds.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = &Report> {
        self.saved().outbox.range(self.outbox.sent + 1..).map(|(_, report)| report)
    }

    pub(crate) fn cut_batch(&mut self) -> Option<Batch> {
        let (mut reports, mut bytes) = (Vec::new(), 0);
        let (mut first, mut last) = (0, 0);
        for (number, report) in self.saved().outbox.range(self.outbox.sent + 1..) {
            bytes += report.bytes();
            let is_full = reports.len() == BATCH_REPORTS_MAX || bytes > BATCH_BYTES_MAX;
            if is_full && !reports.is_empty() {
                break;
            }
            if reports.is_empty() {
                first = *number;
            }
            last = *number;
            reports.push(report.clone());
        }
        if reports.is_empty() {
            return None;
        }
        self.save(Record::Batched);
        let number = self.saved().batched;
        self.outbox.sent = last;
        self.outbox.in_flight.insert(number, (first, last));
        Some(Batch { number, reports })
    }

    pub(crate) fn acknowledge(&mut self, number: u64, now: Moment) {
        let Some((first, last)) = self.outbox.in_flight.remove(&number) else { return };
        self.save(Record::Acked { first, last });
        if self.has_unsent() {
            self.outbox.flush_by(now);
        }
    }

    pub(crate) fn forget_outbox(&mut self) {
        self.outbox = Outbox::default();
    }
}
