//! What the leader's task counts beside the process's own figures. Counters move only while this replica leads.

use std::sync::atomic::{AtomicU64, Ordering};

use leader_core::{Leader, Tally};
use model::Verdict;

use crate::metrics::{Counters, Histogram};

#[derive(Debug, Default)]
pub struct Metrics {
    /// Placements of plans that had become ineligible when they were applied.
    pub placements_dropped: AtomicU64,
    pub submits_refused: AtomicU64,
    pub controls_refused: AtomicU64,
    pub lease_renewals: AtomicU64,
    pub sessions_expired: AtomicU64,
    pub reports: AtomicU64,
    /// Entries proposed, and of these the ones that came to nothing as far as is known.
    pub proposals: AtomicU64,
    pub proposals_failed: AtomicU64,
    /// Of attempts that workers said have ended, by verdict.
    pub attempts_ended: Counters,
    /// From a client's write reaching the leader to its proposal.
    pub client_waits: Histogram,
    /// From a worker's message being read off its stream to the step that takes it in.
    pub worker_waits: Histogram,
    /// Times that this replica began to lead.
    pub leaderships: AtomicU64,
    /// Now.
    pub is_leading: AtomicU64,
    pub proposals_in_flight: AtomicU64,
    pub submits_queued: AtomicU64,
    pub controls_queued: AtomicU64,
    pub worker_commands_queued: AtomicU64,
    pub worker_streams: AtomicU64,
}

impl Metrics {
    pub(super) fn add(&self, tally: &Tally) {
        let add = |counter: &AtomicU64, more: u64| {
            counter.fetch_add(more, Ordering::Relaxed);
        };
        add(&self.placements_dropped, tally.dropped);
        add(&self.submits_refused, tally.refused_submits);
        add(&self.controls_refused, tally.refused_controls);
        add(&self.lease_renewals, tally.renewals);
        add(&self.sessions_expired, tally.sessions_expired);
        add(&self.reports, tally.reports);
        tally.lane_waits.iter().for_each(|wait| self.client_waits.observe(*wait));
        for (verdict, attempts) in &tally.attempts_ended {
            self.attempts_ended.add(word(*verdict), *attempts);
        }
    }

    pub(super) fn show(&self, leader: Option<&Leader>, streams: usize) {
        let set = |gauge: &AtomicU64, value: usize| gauge.store(value as u64, Ordering::Relaxed);
        let queued = leader.map(Leader::queued).unwrap_or_default();
        set(&self.is_leading, usize::from(leader.is_some()));
        set(&self.proposals_in_flight, leader.map_or(0, Leader::in_flight));
        set(&self.submits_queued, queued.submits);
        set(&self.controls_queued, queued.controls);
        set(&self.worker_commands_queued, queued.workers);
        set(&self.worker_streams, streams);
    }
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded => "succeeded",
        Verdict::Failed => "failed",
        Verdict::Lost => "lost",
        Verdict::Cancelled => "cancelled",
    }
}
