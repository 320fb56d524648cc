//! Within a life of a replica what is applied and what is committed only grows, and nothing is applied before it is
//! committed.

use std::collections::BTreeMap;

use super::{Found, Invariant};
use crate::observe::Seen;

#[derive(Clone, Copy, Debug, Default)]
struct Before {
    life: u64,
    applied: u64,
    committed: u64,
}

#[derive(Default)]
pub struct AppliedAdvances {
    nodes: BTreeMap<u64, Before>,
}

impl Invariant for AppliedAdvances {
    fn name(&self) -> &'static str {
        "applied advances"
    }

    fn look(&mut self, seen: &Seen, found: &mut Found) {
        for (node, inside) in seen.running() {
            let now = Before { life: node.life, applied: inside.applied, committed: inside.committed };
            let before = self.nodes.insert(node.id, now).filter(|before| before.life == node.life);
            let Some(before) = before else { continue };
            let id = node.id;
            if now.applied < before.applied {
                found.push(format!("node {id} has applied {} after {}", now.applied, before.applied));
            }
            if now.committed < before.committed {
                found.push(format!("node {id} has committed {} after {}", now.committed, before.committed));
            }
            // What Raft tells of itself may be a tick behind its state machine.
            if before.applied > now.committed {
                found
                    .push(format!("node {id} has applied {} of {} committed", before.applied, now.committed));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::Stage;
    use super::*;

    #[test]
    fn going_back_within_a_life_is_found() {
        let (mut stage, mut invariant) = (Stage::of(1), AppliedAdvances::default());
        stage.node(1).commit(5).apply(5);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
        stage.node(1).apply(4);
        assert_eq!(stage.shown_to(&mut invariant), ["node 1 has applied 4 after 5"]);
        stage.node(1).commit(4);
        assert_eq!(stage.shown_to(&mut invariant), ["node 1 has committed 4 after 5"]);
        let node = stage.node(1);
        node.life = 2;
        node.commit(0).apply(0);
        assert_eq!(stage.shown_to(&mut invariant), Found::new());
    }

    #[test]
    fn applying_what_is_not_committed_is_found() {
        let (mut stage, mut invariant) = (Stage::of(1), AppliedAdvances::default());
        stage.node(1).commit(5).apply(6);
        assert_eq!(stage.shown_to(&mut invariant), Found::new(), "it may be told within a tick");
        assert_eq!(stage.shown_to(&mut invariant), ["node 1 has applied 6 of 5 committed"]);
    }
}
