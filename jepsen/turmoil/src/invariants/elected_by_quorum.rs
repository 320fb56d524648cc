//! Whoever leads has the votes of a majority, and these are on the disks of those that gave them: a vote that a power
//! failure could take back may be given a second time.

use std::collections::BTreeSet;

use replica::{Ballot, RaftState};

use super::{Found, Invariant};
use crate::observe::Seen;

#[derive(Default)]
pub struct ElectedByQuorum {
    /// Term and node.
    known: BTreeSet<(u64, u64)>,
}

impl Invariant for ElectedByQuorum {
    fn name(&self) -> &'static str {
        "elected by a quorum"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (leader, inside) in seen.running() {
            let term = inside.term;
            if inside.state != RaftState::Leader || !self.known.insert((term, leader.id)) {
                continue;
            }
            let voted =
                |ballot: &Ballot| (ballot.term, ballot.node, ballot.elected) == (term, leader.id, false);
            let voters = seen.nodes.iter().filter(|node| node.disk.ballots.iter().any(voted));
            let voters: Vec<u64> = voters.map(|node| node.id).collect();
            if voters.len() < seen.majority() {
                found.push(format!(
                    "node {} leads in term {term}; on disk only {voters:?} vote for it",
                    leader.id
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn a_leader_whose_votes_are_not_on_disk_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), ElectedByQuorum::default());
        stage.node(1).vote(2, 1).lead(2);
        stage.node(2).vote(2, 1).vote(3, 3);
        stage.node(3).vote(3, 3);
        assert_eq!(
            stage.shown_to(&mut invariant),
            Found::new(),
            "a vote counts though a later one was given"
        );
        stage.node(2).disk.ballots.pop();
        stage.node(3).lead(3);
        assert_eq!(stage.shown_to(&mut invariant), ["node 3 leads in term 3; on disk only [3] vote for it"]);
    }
}
