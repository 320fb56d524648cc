//! Which way a task may go.

use super::allocations::Key;

/// Where a task is. `New`: accepted, and nothing has been told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    New,
    Blocked,
    Delayed,
    Ready,
    Placed,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    Skipped,
}

use State::{Blocked, Cancelled, Delayed, Failed, New, Placed, Ready, Running, Skipped, Succeeded};

impl State {
    pub fn named(name: &str) -> Option<State> {
        Some(match name {
            "blocked" => Blocked,
            "delayed" => Delayed,
            "ready" => Ready,
            "placed" => Placed,
            "running" => Running,
            "succeeded" => Succeeded,
            "failed" => Failed,
            "cancelled" => Cancelled,
            "skipped" => Skipped,
            _ => return None,
        })
    }

    pub fn is_final(self) -> bool {
        matches!(self, Succeeded | Failed | Cancelled | Skipped)
    }

    pub fn is_good(self) -> bool {
        self == Succeeded
    }

    pub fn is_owned(self) -> bool {
        matches!(self, Placed | Running)
    }

    pub fn waits(self) -> bool {
        matches!(self, New | Blocked | Delayed | Ready)
    }

    /// Whether one event may lead from here to there within a round. What opens a round is judged apart.
    pub fn may_become(self, to: State) -> bool {
        match self {
            New => to != Running && to != Succeeded && to != Failed && to != New,
            Blocked | Delayed => {
                matches!(to, Blocked | Ready | Delayed | Placed | Skipped | Cancelled) && to != self
            }
            Ready => matches!(to, Placed | Blocked | Delayed | Skipped | Cancelled),
            // Straight to its end: what is quick starts and ends in one report.
            Placed => matches!(to, Running | Ready | Delayed | Blocked | Succeeded | Failed | Cancelled),
            Running => matches!(to, Ready | Delayed | Blocked | Succeeded | Failed | Cancelled),
            Succeeded | Failed | Cancelled | Skipped => false,
        }
    }
}

/// One task as the log has it.
#[derive(Clone, Debug)]
pub struct Task {
    pub state: State,
    pub attempt: u64,
    /// Microseconds of the cluster's clock at which it became what it is.
    pub since: u64,
    /// The entry that made it so.
    pub since_entry: u64,
    /// What it runs in.
    pub owner: Option<Key>,
    /// Which retry of its job was the last when it became final.
    pub ended_in_round: u64,
    /// The last entry that gave it a new round.
    pub reopened_in: u64,
}

impl Default for Task {
    fn default() -> Task {
        Task {
            state: New,
            attempt: 0,
            since: 0,
            since_entry: 0,
            owner: None,
            ended_in_round: 0,
            reopened_in: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_final_stays_and_nobody_runs_who_was_not_placed() {
        for last in [Succeeded, Failed, Cancelled, Skipped] {
            for to in [Blocked, Ready, Placed, Running, Succeeded, Failed, Cancelled, Skipped] {
                assert!(!last.may_become(to));
            }
        }
        for from in [New, Blocked, Delayed, Ready] {
            assert!(!from.may_become(Running) && !from.may_become(Succeeded), "{from:?}");
        }
        assert!(Placed.may_become(Running) && Running.may_become(Succeeded) && Running.may_become(Ready));
        assert!(!Placed.may_become(Placed) && !Running.may_become(Placed), "a second owner");
    }
}
