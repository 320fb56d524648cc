//! What a leader says is committed, or anybody has applied, lies on the disks of a majority, as an entry or within a
//! snapshot; and nothing is answered for that is not.

use super::{Found, Invariant};
use crate::history::Event;
use crate::observe::{Node, Seen};

#[derive(Default)]
pub struct CommittedOnQuorum {
    /// All up to this one were on a majority's disks when they were committed.
    upto: u64,
}

impl Invariant for CommittedOnQuorum {
    fn name(&self) -> &'static str {
        "committed on a quorum"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (node, inside) in seen.running() {
            for entry in node.committed(self.upto) {
                let index = entry.index;
                let has =
                    |node: &&Node| node.snapshot >= index || node.disk.entries.get(&index) == Some(entry);
                let holders: Vec<u64> = seen.nodes.iter().filter(has).map(|node| node.id).collect();
                if holders.len() < seen.majority() {
                    let (id, term) = (node.id, entry.term);
                    found.push(format!(
                        "node {id} has committed entry {index} of term {term}; on disk it is with {holders:?} only"
                    ));
                }
                self.upto = index;
            }
            // What it has only in a snapshot others had applied before.
            self.upto = self.upto.max(inside.applied);
        }
    }

    fn hear(&mut self, event: &Event, found: &mut Found) {
        let index = match event {
            Event::WriteDone { write, .. } => write.index,
            Event::ReadDone { index, .. } => *index,
            Event::WriteAsked { .. } | Event::ReadAsked { .. } => return,
        };
        if index > self.upto {
            found.push(format!("entry {index} was answered for, but only {} are committed", self.upto));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, heard};
    use super::*;

    #[test]
    fn an_entry_that_a_minority_has_on_disk_is_not_committed() {
        let (mut stage, mut invariant) = (Stage::of(3), CommittedOnQuorum::default());
        stage.node(1).append(0, &[1, 1, 1]).sync().lead(1).commit(2);
        stage.node(2).append(0, &[1, 1, 1]).sync();
        stage.node(3).append(0, &[1, 1, 1]);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(1).append(3, &[1, 1]).sync().commit(4);
        stage.node(2).append(3, &[1]).sync();
        let found = stage.shown_to(&mut invariant);
        assert_eq!(found, ["node 1 has committed entry 4 of term 1; on disk it is with [1] only"]);
    }

    #[test]
    fn another_entry_at_that_index_does_not_count_but_a_snapshot_does() {
        let (mut stage, mut invariant) = (Stage::of(3), CommittedOnQuorum::default());
        stage.node(1).append(0, &[1, 2]).sync().lead(2).commit(1);
        stage.node(2).append(0, &[1, 1]).sync();
        stage.node(3).snapshot = 1;
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        let mut invariant = CommittedOnQuorum::default();
        stage.node(3).snapshot = 0;
        assert_eq!(stage.shown_to(&mut invariant).len(), 1);
    }

    #[test]
    fn an_answer_from_what_is_not_committed_is_found() {
        let (mut stage, mut invariant) = (Stage::of(1), CommittedOnQuorum::default());
        stage.node(1).append(0, &[1, 1]).sync().lead(1).commit(1);
        stage.shown_to(&mut invariant);
        assert_eq!(heard(&mut invariant, Event::ReadDone { call: 1, index: 1, lacks: None }), Found::new());
        let found = heard(&mut invariant, Event::ReadDone { call: 1, index: 2, lacks: None });
        assert_eq!(found, ["entry 2 was answered for, but only 1 are committed"]);
    }
}
