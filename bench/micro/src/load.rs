//! What is counted, by name.

use machine::{Applied, Entry, Event, Plan, State};
use model::policy::Backfill;
use scheduler::{Budget, Overlay, Scratch};

use crate::promises::{self, First};
use crate::world::{BATCH, Step, World, array, is_done};
use crate::{callgrind, classes};

pub struct Load {
    pub name: &'static str,
    pub about: &'static str,
    prepare: fn() -> Prepared,
    /// Runs of tasks that are changed, or placements.
    yields: usize,
}

const fn load(name: &'static str, about: &'static str, yields: usize, prepare: fn() -> Prepared) -> Load {
    Load { name, about, prepare, yields }
}

const FEW: u64 = 1_000;
const MANY: u64 = 100_000;

/// Each pair of 1k and 100k shows that a cost does not grow with what merely waits.
pub const LOADS: &[Load] = &[
    load("apply-submit-1k", "64 submits, 1,000 jobs wait", BATCH, || apply(FEW, Step::Submit)),
    load("apply-submit-100k", "64 submits, 100,000 jobs wait", BATCH, || apply(MANY, Step::Submit)),
    load("apply-place-1k", "64 placements, 1,000 jobs wait", BATCH, || apply(FEW, Step::Place)),
    load("apply-place-100k", "64 placements, 100,000 jobs wait", BATCH, || apply(MANY, Step::Place)),
    load("apply-finish-1k", "64 tasks end, 1,000 jobs wait", BATCH, || apply(FEW, Step::Finish)),
    load("apply-finish-100k", "64 tasks end, 100,000 jobs wait", BATCH, || apply(MANY, Step::Finish)),
    load("apply-array-1m", "an array of 1,000,000 is submitted", 1, apply_array),
    load("plan-2-workers-1k", "64 cores on 2 workers, 1,000 jobs wait", BATCH, || plan(FEW, 2)),
    load("plan-2-workers-100k", "64 cores on 2 workers, 100,000 jobs wait", BATCH, || plan(MANY, 2)),
    load("plan-64-workers-1k", "64 cores on 64 workers, 1,000 jobs wait", BATCH, || plan(FEW, 64)),
    load("plan-64-workers-100k", "64 cores on 64 workers, 100,000 jobs wait", BATCH, || plan(MANY, 64)),
    load("plan-classes", "200 classes wait, 200 cores on 100 workers", classes::PLACED, plan_classes),
    load("plan-classes-full", "200 classes wait, 100 workers are full", 0, plan_full),
    load("plan-easy", "250 wait behind one that is promised a worker", promises::PLACED, || {
        promised(Backfill::Easy, First::Wide)
    }),
    load("plan-easy-gang", "250 wait behind a gang that is promised 50 workers", promises::PLACED, || {
        promised(Backfill::Easy, First::Gang)
    }),
    load("plan-conservative", "201 are promised a start each, 50 wait beside them", promises::PLACED, || {
        promised(Backfill::Conservative, First::Gang)
    }),
];

/// Ready to be done once.
enum Prepared {
    Apply { state: Box<State>, entry: Entry },
    Plan { state: Box<State> },
}

enum Done {
    Applied(Applied),
    Planned(Plan),
}

fn apply(waiting: u64, step: Step) -> Prepared {
    let mut world = World::waiting(waiting, 2);
    let entry = world.come_to(step);
    Prepared::Apply { state: Box::new(world.state), entry }
}

fn apply_array() -> Prepared {
    let world = World::waiting(FEW, 2);
    let entry = world.submits(std::iter::once(array(1_000_000)));
    Prepared::Apply { state: Box::new(world.state), entry }
}

fn plan(waiting: u64, workers: u64) -> Prepared {
    Prepared::Plan { state: Box::new(World::waiting(waiting, workers).state) }
}

fn plan_classes() -> Prepared {
    Prepared::Plan { state: Box::new(classes::waiting().state) }
}

fn plan_full() -> Prepared {
    Prepared::Plan { state: Box::new(classes::full().state) }
}

fn promised(backfill: Backfill, first: First) -> Prepared {
    Prepared::Plan { state: Box::new(promises::waiting(backfill, first).state) }
}

/// One round of a leader that remembers nothing and has nothing in flight.
pub fn round(state: &State) -> Plan {
    scheduler::plan(state, &mut Scratch::default(), &Overlay::default(), Budget::default())
}

impl Load {
    pub fn named(name: &str) -> Option<&'static Load> {
        LOADS.iter().find(|load| load.name == name)
    }

    /// Does it once; only that is counted. Panics when not everything came of it that should have.
    pub fn count(&self) {
        let mut prepared = (self.prepare)();
        callgrind::start();
        let done = prepared.run();
        callgrind::stop();
        assert_eq!(done.yields(), self.yields, "what came of {}", self.name);
    }
}

impl Prepared {
    #[inline(never)]
    fn run(&mut self) -> Done {
        match self {
            Prepared::Apply { state, entry } => {
                let index = state.index() + 1;
                Done::Applied(state.apply(index, entry))
            }
            Prepared::Plan { state } => Done::Planned(round(state)),
        }
    }
}

impl Done {
    fn yields(&self) -> usize {
        match self {
            Done::Applied(applied) => {
                assert!(applied.replies.iter().all(is_done), "{:?}", applied.replies);
                applied.events.iter().filter(|event| matches!(event, Event::Tasks { .. })).count()
            }
            Done::Planned(plan) => plan.placements.len(),
        }
    }
}
