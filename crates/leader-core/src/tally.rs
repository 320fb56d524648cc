//! What there is to count: taken by the shell after each step and shown as metrics.

use std::time::Duration;

use model::Verdict;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Placements that were taken by the state, and those that had become ineligible meanwhile.
    pub placed: u64,
    pub dropped: u64,
    pub refused_submits: u64,
    pub refused_controls: u64,
    pub renewals: u64,
    pub sessions_expired: u64,
    pub reports: u64,
    /// Attempts that workers said have ended, and how: those that are tried again, too.
    pub attempts_ended: Vec<(Verdict, u64)>,
    /// From the acceptance of a job to the first placement of tasks of it, and of how many.
    pub queue_waits: Vec<(Duration, u64)>,
    /// From a write's arrival to its proposal.
    pub lane_waits: Vec<Duration>,
}
