//! Policies by the names that the field has for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use model::policy::{Backfill, Order, QueuePolicy, unknown};

/// A policy under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: String,
    pub queue: QueuePolicy,
}

/// The quantum of `round-robin`, unless another is given after a colon, as in `round-robin:4s`.
pub const QUANTUM: Duration = Duration::from_secs(600);

/// Running tasks give way to those of a higher priority.
const PREEMPTING: &str = "priority-preempt";

/// Order and backfill of each. `fcfs`, `sjf` and `hrrn` are strict: nothing overtakes the first that waits.
const KNOWN: [(&str, Order, Backfill); 21] = [
    ("fcfs", Order::Fifo, Backfill::None),
    ("sjf", Order::Sjf, Backfill::None),
    ("hrrn", Order::Hrrn, Backfill::None),
    ("first-fit", Order::Fifo, Backfill::FirstFit),
    ("round-robin", Order::RoundRobin, Backfill::FirstFit),
    ("sjf-first-fit", Order::Sjf, Backfill::FirstFit),
    ("hrrn-first-fit", Order::Hrrn, Backfill::FirstFit),
    ("easy", Order::Fifo, Backfill::Easy),
    ("easy-sjf", Order::Sjf, Backfill::Easy),
    ("easy-hrrn", Order::Hrrn, Backfill::Easy),
    ("conservative", Order::Fifo, Backfill::Conservative),
    ("conservative-sjf", Order::Sjf, Backfill::Conservative),
    ("priority", Order::Priority, Backfill::FirstFit),
    (PREEMPTING, Order::Priority, Backfill::FirstFit),
    ("edf", Order::Edf, Backfill::FirstFit),
    ("rms", Order::Rms, Backfill::FirstFit),
    ("dms", Order::Dms, Backfill::FirstFit),
    ("critical-path", Order::CriticalPath, Backfill::FirstFit),
    ("easy-priority", Order::Priority, Backfill::Easy),
    ("fair", Order::Fair, Backfill::FirstFit),
    ("easy-fair", Order::Fair, Backfill::Easy),
];

/// All names.
pub const NAMES: [&str; KNOWN.len()] = {
    let mut names = [""; KNOWN.len()];
    let mut place = 0;
    while place < KNOWN.len() {
        names[place] = KNOWN[place].0;
        place += 1;
    }
    names
};

impl FromStr for Policy {
    type Err = String;
    fn from_str(text: &str) -> Result<Policy, String> {
        let (known, quantum) = match text.split_once(':') {
            Some((known, quantum)) => (known, Some(model::time::parse_duration(quantum)?)),
            None => (text, None),
        };
        let found = KNOWN.iter().find(|(name, ..)| *name == known);
        let (_, order, backfill) = found.ok_or_else(|| unknown("policy", known, &NAMES))?;
        let own = if *order == Order::RoundRobin { QUANTUM } else { Duration::ZERO };
        let quantum = quantum.unwrap_or(own);
        let preempt = known == PREEMPTING;
        let queue =
            QueuePolicy { order: *order, backfill: *backfill, preempt, quantum, ..QueuePolicy::default() };
        match queue.refusal() {
            Some((_, why)) => Err(why),
            None => Ok(Policy { name: text.to_owned(), queue }),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_one_policy() {
        for name in NAMES {
            assert_eq!(name.parse::<Policy>().unwrap().to_string(), name);
        }
        let sliced: Policy = "round-robin:4s".parse().unwrap();
        assert_eq!(
            (sliced.queue.quantum, sliced.to_string()),
            (Duration::from_secs(4), "round-robin:4s".to_owned())
        );
        let preempts = |name: &&str| name.parse::<Policy>().unwrap().queue.preempt;
        assert_eq!(NAMES.into_iter().filter(preempts).collect::<Vec<_>>(), ["priority-preempt"]);
        assert!("round-robin:9ms".parse::<Policy>().unwrap_err().contains("the nearest is 10ms"));
        assert!("easy:4s".parse::<Policy>().unwrap_err().contains("only the order round-robin"));
        assert!("fcsf".parse::<Policy>().unwrap_err().contains("did you mean `fcfs`"));
    }
}
