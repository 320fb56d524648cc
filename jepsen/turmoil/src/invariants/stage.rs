//! A cluster set up by hand, to show an invariant a bad example.

use std::sync::Arc;

use replica::{Ballot, Contents, Inside, Logged, RaftState};

use super::{Found, Invariant};
use crate::history::Event;
use crate::log::Log;
pub use crate::log::tests::entries;
use crate::observe::{Node, Seen};

pub struct Stage {
    pub actors: Vec<Actor>,
}

pub struct Actor {
    pub life: u64,
    pub inside: Option<Inside>,
    pub log: Log,
    pub fresh: Vec<Logged>,
    pub disk: Contents,
    pub snapshot: u64,
    pub covered: u64,
}

impl Stage {
    /// So many followers in term 1 with empty logs.
    pub fn of(nodes: usize) -> Stage {
        let actor = || Actor {
            life: 1,
            inside: Some(crate::log::tests::inside(0, 1)),
            log: Log::default(),
            fresh: Vec::new(),
            disk: Contents::default(),
            snapshot: 0,
            covered: 0,
        };
        Stage { actors: (0..nodes).map(|_| actor()).collect() }
    }

    /// By its id.
    pub fn node(&mut self, id: u64) -> &mut Actor {
        &mut self.actors[id as usize - 1]
    }

    pub fn shown_to(&self, invariant: &mut impl Invariant) -> Found {
        let nodes = self.actors.iter().zip(1..).map(|(actor, id)| Node {
            id,
            life: actor.life,
            inside: actor.inside,
            log: &actor.log,
            fresh: &actor.fresh,
            disk: Arc::new(actor.disk.clone()),
            snapshot: actor.snapshot,
            covered: actor.covered,
        });
        let mut found = Found::new();
        invariant.look(&Seen { nodes: nodes.collect() }, &mut found);
        found
    }
}

impl Actor {
    pub fn inside(&mut self) -> &mut Inside {
        self.inside.as_mut().expect("it runs")
    }

    /// These entries are new.
    pub fn append(&mut self, first: u64, terms: &[u64]) -> &mut Actor {
        self.fresh = entries(first, terms);
        let kept = (0..first).filter_map(|index| self.log.at(index).copied()).collect::<Vec<_>>();
        self.log = Log::of(self.log.purged, kept.into_iter().chain(self.fresh.iter().copied()));
        let last = self.log.last().copied();
        let inside = self.inside();
        (inside.last, inside.last_term) = last.map_or((0, 0), |last| (last.index, last.term));
        self
    }

    /// What it has appended is on its disk.
    pub fn sync(&mut self) -> &mut Actor {
        self.disk.entries.extend(self.fresh.iter().map(|entry| (entry.index, *entry)));
        self
    }

    pub fn vote(&mut self, term: u64, node: u64) -> &mut Actor {
        let ballot = Ballot { term, node, elected: false };
        self.disk.ballots.push(ballot);
        self.inside().ballot = ballot;
        self.inside().term = term;
        self
    }

    pub fn lead(&mut self, term: u64) -> &mut Actor {
        (self.inside().state, self.inside().term) = (RaftState::Leader, term);
        self
    }

    pub fn commit(&mut self, index: u64) -> &mut Actor {
        self.inside().committed = index;
        self
    }

    pub fn apply(&mut self, index: u64) -> &mut Actor {
        (self.inside().applied, self.inside().digest) = (index, index * 7);
        self
    }
}

pub fn heard(invariant: &mut impl Invariant, event: Event) -> Found {
    let mut found = Found::new();
    invariant.hear(&event, &mut found);
    found
}
