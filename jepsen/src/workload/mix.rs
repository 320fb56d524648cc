//! Which operations a workload consists of, and how often each comes.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::{Queue, Shape};

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Submit(Shape),
    /// A submit that was accepted, once more under its request id.
    Again,
    /// Another body under a used request id.
    Conflict,
    Cancel,
    Retry,
    Read,
    Set,
    Get,
}

/// A named mixture of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Mixed,
    /// Submits, repeats and conflicts: nothing is lost, nothing is done twice.
    Submit,
    /// Writes and reads of registers: linearizability.
    Register,
    /// Jobs whose tasks wait for each other.
    Graph,
    /// More asked than the workers have.
    Capacity,
    /// Cancels and retries: one final state per round.
    Rounds,
    /// Tasks that write to a resource which checks their tokens.
    Fence,
    /// Tasks that start together or not at all.
    Gang,
    /// Running tasks that give way to more urgent ones, and users who share a queue.
    Preempt,
    /// Tasks that workers take themselves.
    Claim,
}

impl Workload {
    pub const ALL: [Workload; 10] = [
        Workload::Mixed,
        Workload::Submit,
        Workload::Register,
        Workload::Graph,
        Workload::Capacity,
        Workload::Rounds,
        Workload::Fence,
        Workload::Gang,
        Workload::Preempt,
        Workload::Claim,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Mixed => "mixed",
            Workload::Submit => "submit",
            Workload::Register => "register",
            Workload::Graph => "graph",
            Workload::Capacity => "capacity",
            Workload::Rounds => "rounds",
            Workload::Fence => "fence",
            Workload::Gang => "gang",
            Workload::Preempt => "preempt",
            Workload::Claim => "claim",
        }
    }

    pub fn about(self) -> &'static str {
        match self {
            Workload::Mixed => "all of the others together (W1 to W7, W9 to W12, W16, W17)",
            Workload::Submit => {
                "submits, repeats under their request ids, other bodies under used ids (W3, W11)"
            }
            Workload::Register => "writes and reads of single values through every replica (W1)",
            Workload::Graph => "jobs whose tasks wait for each other (W7)",
            Workload::Capacity => "tasks that together ask for more than there is (W9, W10)",
            Workload::Rounds => "cancels and retries of what runs, failed or was cancelled (W4)",
            Workload::Fence => "tasks that write to a resource which checks their tokens (W5, W6)",
            Workload::Gang => "gangs of several widths, some with a member that fails (W16)",
            Workload::Preempt => "tasks that give way to others, and users who share a queue (W10, W17)",
            Workload::Claim => "tasks that workers take themselves (W5, W9)",
        }
    }

    pub fn named(name: &str) -> Option<Workload> {
        Workload::ALL.into_iter().find(|workload| workload.name() == name)
    }

    fn parts(self) -> &'static [(Op, u32)] {
        use Op::{Again, Cancel, Conflict, Get, Read, Retry, Set, Submit};
        use Shape::{Array, Doomed, Failing, Fenced, Graph, Long, Noop, One, Wide};
        use Shape::{Gang, GangDoomed, GangFailing, GangStaged, GangWide};
        match self {
            Workload::Mixed => &[
                (Submit(One), 9),
                (Submit(Array), 1),
                (Submit(Graph), 2),
                (Submit(Fenced), 2),
                (Submit(Failing), 1),
                (Submit(Doomed), 1),
                (Submit(Wide), 2),
                (Submit(Long), 1),
                (Submit(Gang), 1),
                (Submit(GangFailing), 1),
                (Submit(Noop), 8),
                (Again, 8),
                (Conflict, 6),
                (Cancel, 4),
                (Retry, 4),
                (Read, 26),
                (Set, 13),
                (Get, 13),
            ],
            Workload::Submit => {
                &[(Submit(One), 25), (Submit(Noop), 25), (Again, 20), (Conflict, 10), (Read, 20)]
            }
            Workload::Register => &[(Set, 45), (Get, 45), (Submit(Noop), 5), (Read, 5)],
            Workload::Graph => &[(Submit(Graph), 15), (Submit(One), 5), (Cancel, 5), (Retry, 5), (Read, 70)],
            Workload::Capacity => {
                &[(Submit(Wide), 25), (Submit(One), 20), (Submit(Array), 5), (Cancel, 5), (Read, 45)]
            }
            Workload::Rounds => &[
                (Submit(One), 15),
                (Submit(Failing), 8),
                (Submit(Doomed), 8),
                (Submit(Graph), 4),
                (Cancel, 15),
                (Retry, 15),
                (Read, 35),
            ],
            Workload::Claim => &[
                (Submit(One), 14),
                (Submit(Array), 3),
                (Submit(Wide), 4),
                (Submit(Fenced), 4),
                (Submit(Failing), 2),
                (Submit(Doomed), 1),
                (Submit(Gang), 1),
                (Submit(Noop), 8),
                (Again, 5),
                (Conflict, 2),
                (Cancel, 5),
                (Retry, 5),
                (Read, 46),
            ],
            Workload::Fence => &[(Submit(Fenced), 30), (Cancel, 5), (Retry, 5), (Read, 60)],
            Workload::Gang => &[
                (Submit(Gang), 4),
                (Submit(GangWide), 2),
                (Submit(GangStaged), 2),
                (Submit(GangFailing), 2),
                (Submit(GangDoomed), 1),
                (Submit(One), 5),
                (Submit(Wide), 2),
                (Again, 6),
                (Conflict, 3),
                (Cancel, 8),
                (Retry, 8),
                (Read, 57),
            ],
            Workload::Preempt => &[
                (Submit(Long), 3),
                (Submit(Wide), 4),
                (Submit(One), 8),
                (Submit(Array), 1),
                (Submit(Gang), 1),
                // So that there is something to retry.
                (Submit(Doomed), 1),
                (Again, 6),
                (Conflict, 3),
                (Cancel, 6),
                (Retry, 6),
                (Read, 61),
            ],
        }
    }

    /// Where the job of that key goes: a part of them to each queue that the workload is about.
    pub fn queue_of(self, key: u64) -> Queue {
        match (self, key % 8) {
            (Workload::Mixed | Workload::Gang, 0) | (Workload::Preempt, 0..4) => Queue::Urgent,
            (Workload::Mixed | Workload::Gang, 1) | (Workload::Preempt, 4 | 5) => Queue::Shared,
            (Workload::Mixed, 2) | (Workload::Claim, 0..5) => Queue::Pool,
            (Workload::Mixed, 3) | (Workload::Claim, 5 | 6) => Queue::Both,
            _ => Queue::Default,
        }
    }

    /// All that its jobs go to.
    pub fn queues(self) -> impl Iterator<Item = Queue> {
        Queue::ALL.into_iter().filter(move |queue| (0..8).any(|key| self.queue_of(key) == *queue))
    }

    pub fn draw(self, chance: &mut SmallRng) -> Op {
        let parts = self.parts();
        let mut left = chance.random_range(0..parts.iter().map(|(_, share)| share).sum::<u32>());
        for (op, share) in parts {
            match left.checked_sub(*share) {
                Some(rest) => left = rest,
                None => return *op,
            }
        }
        unreachable!("the shares add up")
    }

    /// Whether the workload has operations of this kind.
    pub fn has(self, is: impl Fn(Op) -> bool) -> bool {
        self.parts().iter().any(|(op, _)| is(*op))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn only_some_workloads_need_more_queues_than_the_one_that_is_there() {
        let names = |workload: Workload| workload.queues().map(Queue::name).collect::<Vec<_>>();
        assert_eq!(names(Workload::Submit), ["default"]);
        for workload in [Workload::Gang, Workload::Preempt] {
            assert_eq!(names(workload), ["default", "urgent", "shared"]);
        }
        assert_eq!(names(Workload::Mixed), ["default", "urgent", "shared", "pool", "both"]);
        assert_eq!(names(Workload::Claim), ["default", "pool", "both"]);
    }

    #[test]
    fn every_part_is_drawn_about_as_often_as_its_share() {
        let mut chance = SmallRng::seed_from_u64(1);
        for workload in Workload::ALL {
            assert_eq!(Workload::named(workload.name()), Some(workload));
            let drawn: Vec<Op> = (0..20_000).map(|_| workload.draw(&mut chance)).collect();
            let all: u32 = workload.parts().iter().map(|(_, share)| share).sum();
            for (op, share) in workload.parts() {
                let count = drawn.iter().filter(|other| *other == op).count() as f64 / 20_000.0;
                let expected = f64::from(*share) / f64::from(all);
                assert!((count - expected).abs() < 0.02, "{} {op:?}: {count} {expected}", workload.name());
            }
        }
    }
}
