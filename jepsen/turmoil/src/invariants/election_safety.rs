//! At most one leader per term, also among those that led unseen: a replica that has heard of a leader notes it on its
//! disk.

use std::collections::BTreeMap;

use replica::RaftState;

use super::{Found, Invariant};
use crate::observe::Seen;

#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, u64>,
    /// By node: ballots that were looked at.
    read: BTreeMap<u64, usize>,
}

impl ElectionSafety {
    fn claim(&mut self, term: u64, node: u64, found: &mut Found) {
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            found.push(format!("nodes {first} and {node} both lead in term {term}"));
        }
    }
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (node, inside) in seen.running() {
            if inside.state == RaftState::Leader {
                self.claim(inside.term, node.id, found);
            }
        }
        for node in &seen.nodes {
            let read = self.read.insert(node.id, node.disk.ballots.len()).unwrap_or(0);
            for ballot in node.disk.ballots[read..].iter().filter(|ballot| ballot.elected) {
                self.claim(ballot.term, ballot.node, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use replica::Ballot;

    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn a_second_leader_of_a_term_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), ElectionSafety::default());
        stage.node(1).lead(3);
        stage.node(2).lead(4);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(1).inside().state = RaftState::Follower;
        stage.node(3).lead(3);
        assert_eq!(stage.shown_to(&mut invariant), ["nodes 1 and 3 both lead in term 3"]);
    }

    #[test]
    fn one_that_only_a_disk_has_heard_of_counts() {
        let (mut stage, mut invariant) = (Stage::of(3), ElectionSafety::default());
        stage.node(1).lead(3);
        stage.node(2).disk.ballots.push(Ballot { term: 3, node: 3, elected: true });
        assert_eq!(stage.shown_to(&mut invariant), ["nodes 1 and 3 both lead in term 3"]);
        assert_eq!(stage.shown_to(&mut invariant), Found::new(), "once");
    }
}
