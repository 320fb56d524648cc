//! What must hold in every run, one file each.

mod acknowledged_survives;
mod answered_alike;
mod dependencies_first;
mod final_is_final;
mod gangs_whole;
mod limits_hold;
mod no_over_commit;
mod one_owner;
mod one_start_per_token;
mod placed_has_live_session;
mod released_once;
mod replicas_agree;
mod retries_bounded;
mod sound;
mod time_goes_on;
mod tokens_rise;

use std::collections::{BTreeMap, BTreeSet};

use machine::state::State;
use machine::{Applied, Entry, Event, Reply, Write};
use model::{JobId, LogIndex};

use crate::queue::Micros;
use crate::worker::Execution;

/// A replica has applied an entry; `state` is as it was left.
pub struct Step<'a> {
    pub now: Micros,
    pub replica: usize,
    pub index: LogIndex,
    pub entry: &'a Entry,
    pub applied: &'a Applied,
    pub state: &'a State,
}

impl Step<'_> {
    /// Jobs that the entry changed, as its events have it.
    pub fn jobs(&self) -> BTreeSet<JobId> {
        let of_event = |event: &Event| match event {
            Event::Job { job, .. } | Event::Tasks { job, .. } => Some(*job),
            Event::Worker { .. } | Event::Queue { .. } => None,
        };
        self.applied.events.iter().filter_map(of_event).collect()
    }
}

pub type Found = Vec<String>;

pub trait Invariant {
    fn name(&self) -> &'static str;
    /// By the first replica that applies it.
    fn applied(&mut self, _: &Step, _: &mut Found) {}
    /// By each of them.
    fn applied_by_each(&mut self, _: &Step, _: &mut Found) {}
    /// A client has its answer.
    fn acknowledged(&mut self, _: &Write, _: LogIndex, _: &Reply, _: &mut Found) {}
    /// A process of an attempt is started on a worker's host.
    fn started(&mut self, _worker: usize, _: &Execution, _: &mut Found) {}
    fn ended(&mut self, _worker: usize, _: &Execution) {}
    /// It stands still from now on, or goes on.
    fn switched(&mut self, _worker: usize, _: &Execution, _: &mut Found) {}
    /// The host of a worker stands still: nobody on it can act.
    fn frozen(&mut self, _worker: usize) {}
    /// Everything has come to rest.
    fn at_end(&mut self, _: &State, _: &mut Found) {}
    /// How often it had something to look at.
    fn looked(&self) -> u64;
}

pub struct Watch {
    invariants: Vec<Box<dyn Invariant>>,
    applied: LogIndex,
    pub found: Vec<String>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            invariants: vec![
                Box::<acknowledged_survives::AcknowledgedSurvives>::default(),
                Box::<answered_alike::AnsweredAlike>::default(),
                Box::<dependencies_first::DependenciesFirst>::default(),
                Box::<final_is_final::FinalIsFinal>::default(),
                Box::<gangs_whole::GangsWhole>::default(),
                Box::<limits_hold::LimitsHold>::default(),
                Box::<no_over_commit::NoOverCommit>::default(),
                Box::<one_owner::OneOwner>::default(),
                Box::<one_start_per_token::OneStartPerToken>::default(),
                Box::<placed_has_live_session::PlacedHasLiveSession>::default(),
                Box::<released_once::ReleasedOnce>::default(),
                Box::<replicas_agree::ReplicasAgree>::default(),
                Box::<retries_bounded::RetriesBounded>::default(),
                Box::<sound::Sound>::default(),
                Box::<time_goes_on::TimeGoesOn>::default(),
                Box::<tokens_rise::TokensRise>::default(),
            ],
            applied: 0,
            found: Vec::new(),
        }
    }
}

impl Watch {
    fn each(&mut self, now: Micros, mut look: impl FnMut(&mut dyn Invariant, &mut Found)) {
        for invariant in &mut self.invariants {
            let mut found = Vec::new();
            look(invariant.as_mut(), &mut found);
            let name = invariant.name();
            self.found.extend(found.into_iter().map(|what| told(now, name, &what)));
        }
    }

    pub fn applied(&mut self, step: &Step) {
        let is_first = step.index > self.applied;
        self.applied = self.applied.max(step.index);
        self.each(step.now, |invariant, found| {
            invariant.applied_by_each(step, found);
            if is_first {
                invariant.applied(step, found);
            }
        });
    }

    pub fn acknowledged(&mut self, now: Micros, write: &Write, index: LogIndex, reply: &Reply) {
        self.each(now, |invariant, found| invariant.acknowledged(write, index, reply, found));
    }

    pub fn started(&mut self, now: Micros, worker: usize, execution: &Execution) {
        self.each(now, |invariant, found| invariant.started(worker, execution, found));
    }

    pub fn ended(&mut self, now: Micros, worker: usize, execution: &Execution) {
        self.each(now, |invariant, _| invariant.ended(worker, execution));
    }

    pub fn switched(&mut self, now: Micros, worker: usize, execution: &Execution) {
        self.each(now, |invariant, found| invariant.switched(worker, execution, found));
    }

    pub fn frozen(&mut self, worker: usize) {
        self.invariants.iter_mut().for_each(|invariant| invariant.frozen(worker));
    }

    pub fn at_end(&mut self, now: Micros, state: &State) {
        self.each(now, |invariant, found| invariant.at_end(state, found));
    }

    pub fn break_with(&mut self, now: Micros, name: &str, what: String) {
        self.found.push(told(now, name, &what));
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        let count = |invariant: &dyn Invariant| (format!("looks: {}", invariant.name()), invariant.looked());
        self.invariants.iter().map(|invariant| count(invariant.as_ref())).collect()
    }
}

fn told(now: Micros, name: &str, what: &str) -> String {
    format!("{:.3} s, {name}: {what}", now as f64 / 1e6)
}
