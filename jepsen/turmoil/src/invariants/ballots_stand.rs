//! The vote on a disk never goes back, no replica votes for two nodes in one term over all its lives, and what Raft
//! takes for written is.

use std::collections::BTreeMap;

use replica::Ballot;

use super::{Found, Invariant};
use crate::observe::Seen;

#[derive(Default)]
pub struct BallotsStand {
    /// By node: ballots that were looked at.
    read: BTreeMap<u64, usize>,
    /// By node and term: whom it voted for.
    votes: BTreeMap<(u64, u64), u64>,
}

impl BallotsStand {
    fn voted(&mut self, node: u64, ballot: &Ballot, found: &mut Found) {
        if ballot.elected {
            // It follows whom others have elected, whomever it voted for itself.
            return;
        }
        let first = *self.votes.entry((node, ballot.term)).or_insert(ballot.node);
        if first != ballot.node {
            let Ballot { term, node: second, .. } = ballot;
            found.push(format!("node {node} votes for {first} and {second} in term {term}"));
        }
    }
}

impl Invariant for BallotsStand {
    fn name(&self) -> &'static str {
        "ballots stand"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for node in &seen.nodes {
            let ballots = &node.disk.ballots;
            let read = self.read.insert(node.id, ballots.len()).unwrap_or(0);
            for at in read..ballots.len() {
                self.voted(node.id, &ballots[at], found);
                let before = at.checked_sub(1).map(|before| ballots[before]);
                if before.is_some_and(|before| rank(&before) > rank(&ballots[at])) {
                    found.push(format!("node {}: {:?} follows {before:?} on disk", node.id, ballots[at]));
                }
            }
        }
        for (node, inside) in seen.running().filter(|(_, inside)| inside.ballot.term > 0) {
            let (last, believed) = (node.disk.ballots.last(), &inside.ballot);
            if last == Some(believed) {
                continue;
            }
            self.voted(node.id, believed, found);
            if last.is_none_or(|last| rank(last) < rank(believed)) {
                found.push(format!("node {} takes {believed:?} for written, on disk is {last:?}", node.id));
            }
        }
    }
}

fn rank(ballot: &Ballot) -> (u64, bool) {
    (ballot.term, ballot.elected)
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn a_vote_that_goes_back_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), BallotsStand::default());
        stage.node(1).vote(2, 1).vote(4, 3);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(1).vote(3, 1);
        let found = stage.shown_to(&mut invariant);
        assert!(found.len() == 1 && found[0].contains("follows"), "{found:?}");
    }

    #[test]
    fn two_votes_in_one_term_are_found_over_a_restart() {
        let (mut stage, mut invariant) = (Stage::of(3), BallotsStand::default());
        stage.node(2).vote(2, 1);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        let node = stage.node(2);
        node.life = 2;
        node.vote(2, 3);
        assert_eq!(stage.shown_to(&mut invariant), ["node 2 votes for 1 and 3 in term 2"]);
    }

    #[test]
    fn following_whom_others_have_elected_is_no_second_vote() {
        let (mut stage, mut invariant) = (Stage::of(3), BallotsStand::default());
        stage.node(2).vote(2, 2);
        let elected = Ballot { term: 2, node: 1, elected: true };
        stage.node(2).disk.ballots.push(elected);
        stage.node(2).inside().ballot = elected;
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
    }

    #[test]
    fn a_vote_that_is_used_before_it_is_on_disk_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), BallotsStand::default());
        stage.node(3).vote(5, 3).disk.ballots.clear();
        let found = stage.shown_to(&mut invariant);
        assert!(found.len() == 1 && found[0].contains("for written"), "{found:?}");
    }
}
