//! How the ready tasks of a queue are ordered, and what may go before the first of them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::validate::nearest;

/// Which of a queue's ready tasks comes first. Equals go by submit, then by place in the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The higher priority, to which waiting adds where the queue has an `ageing`.
    #[default]
    Priority,
    /// The earlier submit.
    Fifo,
    /// The earlier submit, and each for a `quantum` at a time: whoever has had one stands still while others wait, and comes
    /// after those who wait by then.
    RoundRobin,
    /// The shorter estimate (shortest job first); what has none is last.
    Sjf,
    /// The higher (wait + estimate) / estimate, the wait counted from the submit (highest response ratio next; Brinch Hansen 1971);
    /// what has no estimate is last.
    Hrrn,
    /// The earlier deadline, counted from the submit (earliest deadline first); what has none is last.
    Edf,
    /// The shorter period (rate monotonic); what has none is last.
    Rms,
    /// The shorter relative deadline (deadline monotonic); what has none is last.
    Dms,
    /// That of the user who takes and took least, relative to the user's weight (dominant resource fairness; Ghodsi et al. 2011);
    /// of one user's the higher priority.
    Fair,
    /// The longer way, by estimates, to the end of its job (critical path; upward rank of Topcuoglu, Hariri & Wu 2002).
    CriticalPath,
}

/// What may go before a task that is first in its queue and finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backfill {
    /// Whatever finds room, but not for longer than the limit `starve_after_s`.
    #[default]
    FirstFit,
    /// Nothing of its queue.
    None,
    /// What, by its estimate, does not delay the first one (EASY; Lifka 1995).
    Easy,
    /// What, by its estimate, delays none that came before it (Mu'alem & Feitelson 2001).
    Conservative,
}

/// Who gives a queue's ready tasks to workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The leader.
    #[default]
    Push,
    /// Workers take them, through any replica (slotted ALOHA; Roberts 1975). Gangs, and what has waited too long, the leader
    /// places as in the other modes.
    Claim,
    /// The leader, and workers with room take what it has not given away yet.
    Hybrid,
}

macro_rules! named {
    ($type:ident, $what:literal, $($value:ident = $name:literal),*) => {
        impl $type {
            pub const ALL: &[$type] = &[$($type::$value),*];
            pub const NAMES: &[&str] = &[$($name),*];

            pub fn name(self) -> &'static str {
                match self {
                    $($type::$value => $name,)*
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }

        impl FromStr for $type {
            type Err = String;
            fn from_str(text: &str) -> Result<$type, String> {
                match text {
                    $($name => Ok($type::$value),)*
                    _ => Err(unknown($what, text, $type::NAMES)),
                }
            }
        }
    };
}

named!(
    Order,
    "order",
    Priority = "priority",
    Fifo = "fifo",
    RoundRobin = "round-robin",
    Sjf = "sjf",
    Hrrn = "hrrn",
    Edf = "edf",
    Rms = "rms",
    Dms = "dms",
    Fair = "fair",
    CriticalPath = "critical-path"
);
named!(
    Backfill,
    "backfill",
    FirstFit = "first-fit",
    None = "none",
    Easy = "easy",
    Conservative = "conservative"
);
named!(Mode, "mode", Push = "push", Claim = "claim", Hybrid = "hybrid");

/// Says that there is no such one, the nearest, and all there are.
pub fn unknown(what: &str, text: &str, names: &[&str]) -> String {
    let known = names.join(", ");
    match nearest(text, names.iter().copied()) {
        Some(near) => format!("there is no {what} `{text}`; did you mean `{near}`? There are {known}"),
        None => format!("there is no {what} `{text}`; there are {known}"),
    }
}

/// Whether a running task makes progress, in a queue that slices time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    Runs,
    StandsStill,
}

/// The policy of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuePolicy {
    #[serde(default)]
    pub order: Order,
    /// A task that has waited so long, since its job was submitted, counts as one of a priority higher by one. Zero: waiting
    /// adds nothing.
    #[serde(default, with = "crate::time::duration")]
    pub ageing: Duration,
    #[serde(default)]
    pub backfill: Backfill,
    /// A task that finds no room may have running ones of a lower priority stopped, which wait again then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preempt: bool,
    /// For how long a task of an order that slices time runs at a time, while others wait. Zero: the order has none.
    #[serde(default, with = "crate::time::duration", skip_serializing_if = "Duration::is_zero")]
    pub quantum: Duration,
    #[serde(default, skip_serializing_if = "Mode::is_default")]
    pub mode: Mode,
    /// A task stands still while one of the queue that comes before it runs, and goes on after it. Only slots of periodic sets
    /// have it, which run one task at a time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub yields: bool,
}

/// A change of a queue's policy that the cluster made by itself, with what it went by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adaptation {
    /// By the cluster's clock.
    pub at: Timestamp,
    /// As it was last set by hand.
    pub home: QueuePolicy,
    pub from: QueuePolicy,
    pub to: QueuePolicy,
    /// Tasks of the queue's history that were run again.
    pub tasks: u64,
    /// Their mean wait under the one and the other.
    #[serde(with = "crate::time::duration")]
    pub wait_from: Duration,
    #[serde(with = "crate::time::duration")]
    pub wait_to: Duration,
}

impl Mode {
    fn is_default(&self) -> bool {
        *self == Mode::default()
    }
}

/// Shortest and longest time that adds one to a priority.
pub const AGEING_MIN: Duration = Duration::from_millis(10);
pub const AGEING_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// Shortest and longest time slice: a switch costs an entry of the log and two messages, so that less would be mostly that.
pub const QUANTUM_MIN: Duration = Duration::from_millis(10);
pub const QUANTUM_MAX: Duration = Duration::from_secs(24 * 3600);
pub const QUANTUM_DEFAULT: Duration = Duration::from_secs(1);

impl QueuePolicy {
    /// What is wrong with it: a field, and why.
    pub fn refusal(&self) -> Option<(&'static str, String)> {
        if self.preempt && self.order != Order::Priority {
            let message = format!("only the order priority has preemption, not {}; take it away", self.order);
            return Some(("preempt", message));
        }
        self.mode_refusal().or_else(|| self.quantum_refusal()).or_else(|| self.ageing_refusal())
    }

    /// Whoever claims sees what fits its own worker: what the queue as a whole has to see to, it cannot.
    fn mode_refusal(&self) -> Option<(&'static str, String)> {
        if !self.may_be_claimed() {
            return None;
        }
        let keeps = match () {
            () if self.backfill != Backfill::FirstFit => format!("the backfill {}", self.backfill),
            () if self.preempt => "preemption".to_owned(),
            () if self.slices() => format!("the order {}", self.order),
            () => return None,
        };
        let mode = self.mode;
        Some((
            "mode",
            format!(
                "workers that claim cannot keep to {keeps}; take it away, or leave the mode push, not {mode}"
            ),
        ))
    }

    fn quantum_refusal(&self) -> Option<(&'static str, String)> {
        if !self.slices() {
            let message =
                format!("only the order round-robin has a quantum, not {}; leave it out", self.order);
            return (!self.quantum.is_zero()).then_some(("quantum", message));
        }
        if self.promises() {
            let message = format!(
                "the order round-robin promises no start; give first-fit or none, not {}",
                self.backfill
            );
            return Some(("backfill", message));
        }
        let fits = (QUANTUM_MIN..=QUANTUM_MAX).contains(&self.quantum);
        let nearest = if self.quantum < QUANTUM_MIN { "10ms" } else { "24h" };
        (!fits).then(|| ("quantum", format!("a quantum is 10ms to 24h; the nearest is {nearest}")))
    }

    fn ageing_refusal(&self) -> Option<(&'static str, String)> {
        if self.ageing.is_zero() {
            return None;
        }
        if self.order != Order::Priority {
            let message = format!("only the order priority has an ageing, not {}; give 0s", self.order);
            return Some(("ageing", message));
        }
        let fits = (AGEING_MIN..=AGEING_MAX).contains(&self.ageing);
        (!fits).then(|| ("ageing", "an ageing is 10ms to 30days, or 0s for none".to_owned()))
    }

    /// Why the cluster may not change it by itself: a field, and why.
    pub fn auto_refusal(&self) -> Option<(&'static str, String)> {
        let message = match () {
            () if self.preempt => {
                "whether tasks give way is for people to say; take preemption away, or auto"
            }
            () if self.slices() => "a history is replayed without time slices; take them away, or auto",
            () => return None,
        };
        Some(("auto", message.to_owned()))
    }

    /// Whether workers may take ready tasks themselves.
    pub fn may_be_claimed(&self) -> bool {
        self.mode != Mode::Push
    }

    /// Whether tasks run for a quantum at a time.
    pub fn slices(&self) -> bool {
        self.order == Order::RoundRobin
    }

    /// Whether estimates decide anything.
    pub fn asks_estimates(&self) -> bool {
        self.promises() || self.ranks_by_estimates()
    }

    /// Whether the place of a task among others follows from how long it is expected to take.
    pub fn ranks_by_estimates(&self) -> bool {
        matches!(self.order, Order::Sjf | Order::Hrrn | Order::CriticalPath)
    }

    /// Whether tasks that wait get a time by which they start.
    pub fn promises(&self) -> bool {
        self.backfill.promises()
    }
}

impl Backfill {
    /// Whether tasks that wait get a time by which they start.
    pub fn promises(self) -> bool {
        matches!(self, Backfill::Easy | Backfill::Conservative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for order in Order::ALL {
            assert_eq!(order.name().parse(), Ok(*order));
            assert_eq!(serde_json::to_string(order).unwrap(), format!("\"{order}\""));
        }
        for backfill in Backfill::ALL {
            assert_eq!(backfill.name().parse(), Ok(*backfill));
            assert_eq!(serde_json::to_string(backfill).unwrap(), format!("\"{backfill}\""));
        }
        for mode in Mode::ALL {
            assert_eq!(mode.name().parse(), Ok(*mode));
            assert_eq!(serde_json::to_string(mode).unwrap(), format!("\"{mode}\""));
        }
        let message = "eazy".parse::<Backfill>().unwrap_err();
        assert!(message.contains("did you mean `easy`?"), "{message}");
        assert!("best".parse::<Order>().unwrap_err().contains("critical-path"));
    }

    #[test]
    fn an_ageing_is_within_its_range_and_of_priorities() {
        let ageing = |text: &str, order| {
            let ageing = crate::time::parse_duration(text).unwrap();
            QueuePolicy { order, ageing, ..QueuePolicy::default() }.refusal().map(|(field, _)| field)
        };
        assert_eq!(ageing("0s", Order::Edf), None);
        assert_eq!(ageing("10m", Order::Priority), None);
        assert_eq!(ageing("1ms", Order::Priority), Some("ageing"));
        assert_eq!(ageing("31days", Order::Priority), Some("ageing"));
        assert_eq!(ageing("10m", Order::Fifo), Some("ageing"));
    }

    #[test]
    fn who_claims_keeps_to_nothing_that_only_the_leader_sees() {
        let queue = |mode| QueuePolicy { mode, ..QueuePolicy::default() };
        for mode in [Mode::Claim, Mode::Hybrid] {
            assert_eq!(queue(mode).refusal(), None);
            assert_eq!(QueuePolicy { order: Order::Fair, ..queue(mode) }.refusal(), None);
            let refused = |policy: QueuePolicy| policy.refusal().unwrap();
            let (field, why) = refused(QueuePolicy { backfill: Backfill::Easy, ..queue(mode) });
            assert_eq!(field, "mode");
            assert!(why.contains("the backfill easy"), "{why}");
            assert_eq!(refused(QueuePolicy { preempt: true, ..queue(mode) }).0, "mode");
            let quantum = QUANTUM_DEFAULT;
            let sliced = QueuePolicy { order: Order::RoundRobin, quantum, ..queue(mode) };
            assert_eq!(refused(sliced).0, "mode");
        }
    }

    #[test]
    fn a_quantum_is_within_its_range_and_of_round_robin() {
        let quantum = |text: &str, order, backfill| {
            let quantum = crate::time::parse_duration(text).unwrap();
            QueuePolicy { order, quantum, backfill, ..QueuePolicy::default() }.refusal()
        };
        let field = |text, order| quantum(text, order, Backfill::FirstFit).map(|(field, _)| field);
        assert_eq!(field("10ms", Order::RoundRobin), None);
        assert_eq!(field("24h", Order::RoundRobin), None);
        assert_eq!(field("25h", Order::RoundRobin), Some("quantum"));
        assert_eq!(field("0s", Order::RoundRobin), Some("quantum"));
        assert_eq!(field("1s", Order::Fifo), Some("quantum"));
        let (_, why) = quantum("9ms", Order::RoundRobin, Backfill::FirstFit).unwrap();
        assert!(why.contains("the nearest is 10ms"), "{why}");
        let promising = quantum("1s", Order::RoundRobin, Backfill::Easy).unwrap();
        assert_eq!(promising.0, "backfill");
    }
}
