//! What must hold in every run, one file each. Each looks at the cluster after every tick, and hears what clients asked
//! and were answered, after that look.

mod acknowledged_in_order;
mod acknowledged_survives;
mod answered_alike;
mod applied_advances;
mod ballots_stand;
mod committed_is_final;
mod committed_on_quorum;
mod elected_by_quorum;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod reads_are_fresh;
#[cfg(test)]
mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use model::JobId;

use crate::history::Event;
use crate::observe::Seen;

pub type Found = Vec<String>;

pub trait Invariant {
    fn name(&self) -> &'static str;
    fn look(&mut self, _: &Seen, _: &mut Found) {}
    fn hear(&mut self, _: &Event, _: &mut Found) {}
    /// Everything is mended and at rest.
    fn end(&mut self, _: &[Final], _: &mut Found) {}
}

/// The state of a replica at the end.
#[derive(Clone, Debug, Default)]
pub struct Final {
    pub name: String,
    /// Known, or known to have been.
    pub jobs: BTreeSet<JobId>,
    pub unfinished: u64,
}

pub struct Watch {
    invariants: Vec<Box<dyn Invariant>>,
    pub found: Vec<String>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            invariants: vec![
                Box::<election_safety::ElectionSafety>::default(),
                Box::<elected_by_quorum::ElectedByQuorum>::default(),
                Box::<ballots_stand::BallotsStand>::default(),
                Box::<log_matching::LogMatching>::default(),
                Box::<committed_on_quorum::CommittedOnQuorum>::default(),
                Box::<committed_is_final::CommittedIsFinal>::default(),
                Box::<leader_completeness::LeaderCompleteness>::default(),
                Box::<applied_advances::AppliedAdvances>::default(),
                Box::<acknowledged_in_order::AcknowledgedInOrder>::default(),
                Box::<acknowledged_survives::AcknowledgedSurvives>::default(),
                Box::<answered_alike::AnsweredAlike>::default(),
                Box::<reads_are_fresh::ReadsAreFresh>::default(),
            ],
            found: Vec::new(),
        }
    }
}

impl Watch {
    pub fn look(&mut self, now: Duration, seen: &Seen, events: &[Event]) {
        self.each(now, |invariant, found| {
            invariant.look(seen, found);
            events.iter().for_each(|event| invariant.hear(event, found));
        });
    }

    pub fn end(&mut self, now: Duration, states: &[Final]) {
        self.each(now, |invariant, found| invariant.end(states, found));
    }

    fn each(&mut self, now: Duration, mut look: impl FnMut(&mut dyn Invariant, &mut Found)) {
        for invariant in &mut self.invariants {
            let mut found = Vec::new();
            look(invariant.as_mut(), &mut found);
            let name = invariant.name();
            self.found.extend(found.into_iter().map(|what| told(now, name, &what)));
        }
    }
}

pub fn told(now: Duration, name: &str, what: &str) -> String {
    format!("{:.3} s, {name}: {what}", now.as_secs_f64())
}
