//! A leader has every entry that was committed in an earlier term.

use std::collections::{BTreeMap, BTreeSet};

use replica::{Inside, RaftState};

use super::{Found, Invariant};
use crate::observe::{Node, Seen};

struct Committed {
    term: u64,
    hash: u64,
    /// The term of whoever said so: it was committed in that one or before.
    by: u64,
}

#[derive(Default)]
pub struct LeaderCompleteness {
    committed: BTreeMap<u64, Committed>,
    /// Term and node.
    known: BTreeSet<(u64, u64)>,
}

impl LeaderCompleteness {
    fn judge(&self, leader: &Node, inside: &Inside, found: &mut Found) {
        let (id, term) = (leader.id, inside.term);
        let purged = leader.log.purged.map_or(0, |purged| purged.0);
        let earlier = self.committed.range(purged + 1..).filter(|(_, committed)| committed.by < term);
        for (index, committed) in earlier {
            let same =
                |entry: &&replica::Logged| (entry.term, entry.hash) == (committed.term, committed.hash);
            if leader.log.at(*index).filter(same).is_none() {
                let by = committed.by;
                found.push(format!("node {id} leads in term {term} without entry {index}, committed in term {by} at the latest"));
            }
        }
    }

    fn learn(&mut self, node: &Node, inside: &Inside) {
        let last = self.committed.last_key_value().map_or(0, |(index, _)| *index);
        for entry in node.committed(last) {
            let committed = Committed { term: entry.term, hash: entry.hash, by: inside.term };
            self.committed.insert(entry.index, committed);
        }
    }
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (node, inside) in seen.running() {
            if inside.state == RaftState::Leader && self.known.insert((inside.term, node.id)) {
                self.judge(node, inside, found);
            }
        }
        for (node, inside) in seen.running() {
            self.learn(node, inside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn a_leader_that_lacks_what_was_committed_before_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), LeaderCompleteness::default());
        stage.node(1).append(0, &[1, 1, 1]).lead(1).commit(2);
        stage.node(2).append(0, &[1, 1, 1]);
        stage.node(3).append(0, &[1, 1]);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(2).lead(2);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(3).lead(3);
        let lacking = "node 3 leads in term 3 without entry 2, committed in term 1 at the latest";
        assert_eq!(stage.shown_to(&mut invariant), [lacking]);
    }

    #[test]
    fn another_entry_in_its_place_is_none_and_a_later_commit_is_not_asked_for() {
        let (mut stage, mut invariant) = (Stage::of(3), LeaderCompleteness::default());
        stage.node(1).append(0, &[1, 1]).lead(1).commit(1);
        stage.shown_to(&mut invariant);
        // One of an older term that is only seen now.
        stage.node(1).append(2, &[4]).lead(4).commit(2);
        stage.shown_to(&mut invariant);
        stage.node(2).append(0, &[1, 1]).lead(3);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(3).append(0, &[1, 1, 3]).lead(5);
        assert_eq!(stage.shown_to(&mut invariant).len(), 1);
    }
}
