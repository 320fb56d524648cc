//! Weighted deficit round robin between queues (Shreedhar & Varghese 1995), in its surplus form (Adiseshu, Parulkar & Varghese
//! 1996): a round gives each queue that waits a quantum relative to its weight, a queue is served while its deficit lasts, and
//! what a task costs is known, and taken off, as it runs.
//!
//! Rounds are reckoned, not walked: a queue that starts something while nothing is due to it shows how many have passed. Each
//! queue's part of them is added when it is looked at next.

use std::time::Duration;

use model::Elapsed;
use model::time::micros;
use serde::{Deserialize, Serialize};

use crate::state::queues::Queue;

/// Millionths of the cluster x microseconds that a round gives a queue per weight of 1. The smaller the finer: a round costs
/// nothing here.
const QUANTUM: i128 = 1_000;

/// Microseconds for which what runs, or is placed, counts beforehand: a queue that has just begun takes its turn.
pub const CHARGED_US: u64 = 1_000_000;

/// What is due to a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficit {
    /// Millionths of the cluster x microseconds, as of `at` and `round`: what rounds have given less what was used.
    due: i64,
    at: Elapsed,
    round: u64,
}

/// What was written before there were deficits: all begin alike, from the next time that anything of theirs starts or ends.
impl Default for Deficit {
    fn default() -> Deficit {
        Deficit { due: 0, at: Elapsed::MAX, round: u64::MAX }
    }
}

/// As of when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub now: Elapsed,
    /// Rounds so far.
    pub round: u64,
    /// Neither is more due to a queue, nor has it had more than it should, than what the whole cluster gives in this time.
    pub half_life: Duration,
}

impl Deficit {
    pub(crate) fn new(turn: Turn) -> Deficit {
        Deficit { due: 0, at: turn.now, round: turn.round }
    }

    /// For the digest.
    pub(crate) fn mark(&self) -> [u64; 3] {
        [self.due as u64, self.at.0, self.round]
    }

    fn due(&self, turn: Turn, weight: u32, rate: u64) -> i64 {
        let given = i128::from(turn.round.saturating_sub(self.round)) * i128::from(weight) * QUANTUM;
        let used = i128::from(rate) * i128::from(micros(turn.now.since(self.at)));
        let most = i128::from(micros(turn.half_life).max(1)) * 1_000_000;
        let most = most.min(i128::from(i64::MAX / 2));
        (i128::from(self.due) + given - used).clamp(-most, most) as i64
    }
}

impl Queue {
    /// Millionths of the cluster x microseconds that are due to it; below zero where it has had more than that. What runs counts
    /// as if it went on for a second.
    pub fn due(&self, turn: Turn) -> i64 {
        let ahead = self.usage.rate().saturating_mul(CHARGED_US);
        self.deficit.due(turn, self.weight, self.usage.rate()).saturating_sub_unsigned(ahead)
    }

    /// Before its weight or what it takes changes.
    pub(crate) fn settle_deficit(&mut self, turn: Turn) {
        let due = self.deficit.due(turn, self.weight, self.usage.rate());
        self.deficit = Deficit { due, ..Deficit::new(turn) };
    }

    /// It wants more again: rounds that passed meanwhile have made good for what it had, and gave it nothing.
    pub(crate) fn end_rest(&mut self, turn: Turn) {
        self.settle_deficit(turn);
        self.deficit.due = self.deficit.due.min(0);
    }

    /// Rounds that must have passed, where it has just started something.
    pub(crate) fn rounds_passed(&self, turn: Turn) -> u64 {
        let missing = u128::from(self.due(turn).min(0).unsigned_abs());
        missing.div_ceil((i128::from(self.weight.max(1)) * QUANTUM).unsigned_abs()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn turn(second: u64, round: u64) -> Turn {
        Turn { now: Elapsed(second * SECOND), round, half_life: Duration::from_secs(100) }
    }

    /// Of the cluster, by thousandths.
    fn queue(weight: u32, thousandths: u64) -> Queue {
        let mut queue = Queue::new(1, "q", weight, turn(0, 0));
        queue.usage.change_rate(Elapsed(0), Duration::from_secs(100), thousandths * 1_000, 0);
        queue
    }

    #[test]
    fn rounds_give_by_weight_and_what_runs_takes() {
        let half = queue(300, 500);
        assert_eq!(half.due(turn(0, 0)), -500_000_000_000, "what runs counts a second");
        assert_eq!(half.due(turn(4, 0)), -2_500_000_000_000);
        assert_eq!(half.due(turn(4, 10)), -2_500_000_000_000 + 10 * 300_000);
        let passed = half.rounds_passed(turn(4, 0));
        assert!((0..300_000).contains(&half.due(turn(4, passed))), "just so many that something is due");
        assert_eq!(half.rounds_passed(turn(4, passed)), 0);
        assert_eq!(queue(100, 0).rounds_passed(turn(4, 0)), 0);
    }

    #[test]
    fn neither_what_is_due_nor_what_was_too_much_grows_beyond_a_half_life_of_the_cluster() {
        let most = 100 * 1_000_000 * SECOND as i64;
        assert_eq!(queue(1, 1_000).due(turn(5_000, 0)), -most - 1_000_000_000_000);
        assert_eq!(queue(10_000, 0).due(turn(0, u64::MAX / 2)), most);
        let endless = Turn { half_life: Duration::MAX, ..turn(u64::MAX / SECOND, u64::MAX) };
        assert_eq!(queue(10_000, 0).due(endless), i64::MAX / 2);
    }

    #[test]
    fn a_rest_makes_good_and_gives_nothing() {
        let mut rested = queue(100, 0);
        rested.end_rest(turn(9, 1_000));
        assert_eq!(rested.due(turn(9, 1_000)), 0);
        assert_eq!(rested.due(turn(9, 1_001)), 100_000);
        let mut busy = queue(100, 1);
        busy.end_rest(turn(9, 10));
        assert_eq!(busy.due(turn(9, 10)), 10 * 100_000 - 9_000_000_000 - 1_000_000_000);
    }

    #[test]
    fn what_was_written_before_begins_at_nothing() {
        let mut old = Queue { deficit: Deficit::default(), ..queue(100, 1_000) };
        assert_eq!(old.due(turn(1_000, 77)), -1_000_000_000_000);
        old.settle_deficit(turn(1_000, 77));
        assert_eq!(old.due(turn(1_001, 77)), -2_000_000_000_000);
    }
}
