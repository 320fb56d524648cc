//! What a worker has and says, against what the state says it has.

use machine::state::State;
use machine::state::sessions::{Allocation, Phase};
use machine::{Command, Ended, News, Reply, Report, ReportBatch, TASKS_PER_PLACEMENT_MAX};
use model::{Reason, RunSet, SessionId, Timestamp, Token, Verdict};

use crate::dispatch::send_paces;
use crate::lanes::ENTRY_BYTES_MAX;
use crate::propose::Item;
use crate::sessions::Stage;
use crate::{Action, Hello, Leader, Now, Reports, StreamId, ToWorker};

/// Approximate bytes in the log.
const LOST_BYTES: usize = 200;

fn ended_attempts(report: &Report) -> Option<(Verdict, u64)> {
    match &report.news {
        News::Ended(ended) => Some((ended.verdict, report.tasks.len.into())),
        News::Started { .. } | News::Recalled => None,
    }
}

/// Rows that the reports of one entry may change: as many as it may bring about by default.
const ROWS_PER_ENTRY_MAX: usize = model::settings::ROWS_PER_APPLY as usize;
/// What a row counts against an entry's bytes.
const ROW_BYTES: usize = ENTRY_BYTES_MAX / ROWS_PER_ENTRY_MAX;

/// Rows that the report changes: a success of several tasks is one, any other end is one for each.
fn rows(report: &Report) -> usize {
    match &report.news {
        News::Ended(ended) if ended.verdict != Verdict::Succeeded => {
            report.tasks.len.min(TASKS_PER_PLACEMENT_MAX) as usize
        }
        News::Ended(_) | News::Started { .. } | News::Recalled => 1,
    }
}

/// The reports in order, in parts of which each may be applied at once.
fn affordable(reports: Vec<Report>) -> Vec<Vec<Report>> {
    let (mut parts, mut part, mut left) = (Vec::new(), Vec::new(), ROWS_PER_ENTRY_MAX);
    for report in reports {
        let rows = rows(&report);
        if rows > left {
            parts.push(std::mem::take(&mut part));
            left = ROWS_PER_ENTRY_MAX;
        }
        left = left.saturating_sub(rows);
        part.push(report);
    }
    parts.push(part);
    parts
}

impl Leader {
    /// Compares what the worker has with what the state says it has. Its own reports are in the state by now.
    pub(crate) fn reconcile(
        &mut self,
        stream: StreamId,
        id: SessionId,
        hello: &Hello,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Some(session) = state.session(id).filter(|session| !session.ended) else {
            return self.tell_ended(stream, out);
        };
        self.streams.insert(stream, Stage::Attached { session: id, sent: session.last_seq });
        self.planning.forget_recalls(id);
        let newest = Token::new(state.epoch(), state.index());
        for held in &hello.holds {
            let known = session.allocations.get(&held.seq).filter(|known| known.token == held.token);
            let shall_stop = match known {
                Some(allocation) => allocation.phase == Phase::Stopping,
                // A newer token than this state may well be known to a newer one.
                None => held.token <= newest,
            };
            if shall_stop {
                out.push(Action::Send {
                    stream,
                    message: ToWorker::Stop { seq: held.seq, token: held.token },
                });
            }
        }
        // Before the orders that it has not had, which may need the room.
        send_paces(stream, session, |seq| hello.has_received(seq), out);
        for allocation in session.allocations.values() {
            if !hello.has_received(allocation.seq) {
                self.send_order(stream, allocation, session, state, out);
            } else if !hello.holds(allocation.seq) {
                self.report_lost(id, allocation, now.wall);
            }
        }
    }

    /// The worker has had this order and has nothing of it: nobody else will ever report its end.
    fn report_lost(&mut self, session: SessionId, allocation: &Allocation, ended: Timestamp) {
        let mut missing = RunSet::of(allocation.tasks);
        allocation.reported.runs().for_each(|run| missing.remove(run));
        let reports: Vec<Report> = missing
            .runs()
            .map(|tasks| Report {
                seq: allocation.seq,
                token: allocation.token,
                tasks,
                news: News::Ended(Box::new(Ended {
                    verdict: Verdict::Lost,
                    reason: Reason::WorkerLost,
                    exit_code: None,
                    signal: None,
                    message: "the worker came back without it".to_owned(),
                    result: None,
                    started: None,
                    ended,
                    cpu_time: std::time::Duration::ZERO,
                    memory_peak: 0,
                })),
            })
            .collect();
        self.queue_part(session, reports, LOST_BYTES, Item::Unanswered { session });
    }

    pub(crate) fn report(&mut self, stream: StreamId, reports: Reports, out: &mut Vec<Action>) {
        let Some(session) = self.streams.get(&stream).and_then(Stage::session) else { return };
        if !self.lanes.workers.has_room(reports.bytes) {
            // It comes back and says them again.
            self.detach(stream);
            out.push(Action::Close { stream });
            return;
        }
        self.queue_reports(stream, session, reports);
    }

    pub(crate) fn queue_reports(&mut self, stream: StreamId, session: SessionId, reports: Reports) {
        let Reports { number, reports, bytes } = reports;
        self.tally.reports += reports.len() as u64;
        self.tally.attempts_ended.extend(reports.iter().filter_map(ended_attempts));
        let each = bytes / reports.len().max(1);
        let mut parts = affordable(reports);
        // The last one is what the worker hears of: by then the others are in the state.
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            self.queue_part(session, part, each, Item::Unanswered { session });
        }
        self.queue_part(session, last, each, Item::Reports { stream, session, number });
    }

    fn queue_part(&mut self, session: SessionId, reports: Vec<Report>, bytes_each: usize, item: Item) {
        let bytes = (bytes_each * reports.len()).max(reports.iter().map(rows).sum::<usize>() * ROW_BYTES);
        self.lanes.workers.push((Command::Report(ReportBatch { session, reports }), item), bytes);
    }

    /// A batch of reports is in the state.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn reported(
        &mut self,
        stream: StreamId,
        session: SessionId,
        number: u64,
        reply: Reply,
        state: &State,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        if self.streams.get(&stream).and_then(Stage::session) != Some(session) {
            return;
        }
        let Reply::Reported { fenced } = reply else { return self.tell_ended(stream, out) };
        out.push(Action::Send { stream, message: ToWorker::Acked { number, fenced: fenced.to_vec() } });
        if let Some(Stage::Attaching { hello, .. }) = self.streams.get_mut(&stream) {
            let hello = std::mem::replace(hello, Box::new(Hello::default()));
            self.reconcile(stream, session, &hello, state, now, out);
        }
    }
}
