//! Two logs that have the same term at an index agree on that entry and on all before it. It is enough that the entry
//! and the term of its predecessor are the same wherever they are seen: the rest follows step by step.

use std::collections::BTreeMap;

use super::{Found, Invariant};
use crate::observe::{Node, Seen};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    hash: u64,
    /// Of the entry before it, unless nothing is known of that.
    before: Option<u64>,
}

#[derive(Default)]
pub struct LogMatching {
    /// By index and term.
    entries: BTreeMap<(u64, u64), Entry>,
}

impl LogMatching {
    fn look_at(&mut self, node: &Node, found: &mut Found) {
        for entry in node.fresh {
            let (index, term) = (entry.index, entry.term);
            let before = index.checked_sub(1).and_then(|before| node.log.term_at(before));
            if before.is_some_and(|before| before > term) {
                found.push(format!("node {}: the term falls to {term} at {index}", node.id));
            }
            let first = self.entries.entry((index, term)).or_insert(Entry { hash: entry.hash, before });
            first.before = first.before.or(before);
            let same = first.hash == entry.hash && (before.is_none() || first.before == before);
            if !same {
                found.push(format!(
                    "node {}: another entry is at {index} in term {term} than was seen",
                    node.id
                ));
            }
        }
    }
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for node in &seen.nodes {
            self.look_at(node, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn another_entry_under_the_same_name_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), LogMatching::default());
        stage.node(1).append(0, &[1, 1, 2]);
        stage.node(2).append(0, &[1, 1, 3]);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(3).append(0, &[1, 1, 2]).fresh[2].hash += 1;
        assert_eq!(stage.shown_to(&mut invariant), ["node 3: another entry is at 2 in term 2 than was seen"]);
    }

    #[test]
    fn another_past_of_the_same_entry_is_found() {
        let (mut stage, mut invariant) = (Stage::of(3), LogMatching::default());
        stage.node(1).append(0, &[1, 1, 3]);
        stage.node(2).append(0, &[1, 2, 3]);
        let found = stage.shown_to(&mut invariant);
        assert_eq!(found, ["node 2: another entry is at 2 in term 3 than was seen"]);
    }

    #[test]
    fn a_falling_term_is_found_and_an_unknown_past_is_not_held_against_it() {
        let (mut stage, mut invariant) = (Stage::of(3), LogMatching::default());
        // As behind a snapshot of which only the index is known.
        stage.node(1).append(5, &[3]);
        stage.node(2).append(4, &[2, 3]);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(3).append(7, &[3, 2]);
        assert_eq!(stage.shown_to(&mut invariant), ["node 3: the term falls to 2 at 8"]);
    }
}
