//! What was applied anywhere at an index is there for ever: every replica applies the same entry, and comes to the same
//! state.

use std::collections::BTreeMap;

use super::{Found, Invariant};
use crate::observe::{Node, Seen};

#[derive(Default)]
pub struct CommittedIsFinal {
    /// Term and hash by index.
    entries: BTreeMap<u64, (u64, u64)>,
    digests: BTreeMap<u64, u64>,
    /// By node: its life, and how far it was looked at.
    read: BTreeMap<u64, (u64, u64)>,
}

impl CommittedIsFinal {
    fn look_at(&mut self, node: &Node, applied: u64, digest: u64, found: &mut Found) {
        let (life, read) = self.read.get(&node.id).copied().unwrap_or_default();
        if (life, read) == (node.life, applied) {
            return;
        }
        self.read.insert(node.id, (node.life, applied));
        let from = if life == node.life { read } else { 0 };
        // What a snapshot has covered is judged by the digest.
        for entry in node.committed(from).take_while(|entry| entry.index <= applied) {
            let (index, own) = (entry.index, (entry.term, entry.hash));
            if *self.entries.entry(index).or_insert(own) != own {
                found.push(format!("node {} has applied another entry at {index}", node.id));
            }
        }
        let first = *self.digests.entry(applied).or_insert(digest);
        if first != digest {
            found.push(format!("node {} has digest {digest:016x} at {applied}, not {first:016x}", node.id));
        }
    }
}

impl Invariant for CommittedIsFinal {
    fn name(&self) -> &'static str {
        "committed is final"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (node, inside) in seen.running() {
            self.look_at(node, inside.applied, inside.digest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn another_entry_at_an_applied_index_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), CommittedIsFinal::default());
        stage.node(1).append(0, &[1, 1, 2]).apply(2);
        stage.node(2).append(0, &[1, 1]).apply(1);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(2).append(2, &[3]).apply(2);
        assert_eq!(stage.shown_to(&mut invariant), ["node 2 has applied another entry at 2"]);
    }

    #[test]
    fn another_state_at_the_same_index_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), CommittedIsFinal::default());
        stage.node(1).append(0, &[1, 1]).apply(1);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(3).append(0, &[1, 1]).apply(1).inside().digest = 1;
        let found = stage.shown_to(&mut invariant);
        assert_eq!(found, ["node 3 has digest 0000000000000001 at 1, not 0000000000000007"]);
    }

    #[test]
    fn a_restart_is_looked_at_from_its_beginning() {
        let (mut stage, mut invariant) = (Stage::of(1), CommittedIsFinal::default());
        stage.node(1).append(0, &[1, 1, 1]).apply(2);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        let node = stage.node(1);
        node.life = 2;
        node.append(0, &[1, 2]).apply(1);
        let found = stage.shown_to(&mut invariant);
        assert_eq!(found, ["node 1 has applied another entry at 1"]);
    }
}
