//! Queues that promise starts: what a round costs where somebody is first and others may only go before if they delay nobody.

use std::time::Duration;

use machine::{Command, Op, QueueSpec};
use model::policy::Backfill;
use model::{JobSpec, Resources, Timing};

use crate::load::round;
use crate::world::{World, single};

const SESSIONS: u64 = 100;
const CORES_PER_SESSION: u64 = 4;
const SHORT: u64 = 200;
const OTHERS: u64 = 50;
/// Cores that are free, all of which short work gets, or that of the other queue where nobody is delayed.
pub const PLACED: usize = SESSIONS as usize;

/// Who is first.
#[derive(Clone, Copy, Debug)]
pub enum First {
    /// One task that needs a whole worker.
    Wide,
    /// Half of all workers at once.
    Gang,
}

/// On every worker three of four cores are in use for ten minutes, more or less. One waits for more than there is; behind it 200
/// short ones, and in another queue 50 of which nobody knows how long they take.
pub fn waiting(backfill: Backfill, first: First) -> World {
    let mut world = World::new();
    world.open_workers(SESSIONS, &Resources::cores(CORES_PER_SESSION));
    for (name, backfill) in [("default", backfill), ("other", Backfill::FirstFit)] {
        let spec = QueueSpec { name: name.to_owned(), backfill: Some(backfill), ..QueueSpec::default() };
        let command = world.write(1, Op::PutQueue(spec));
        world.run(vec![command]);
    }
    world.submit_all((0..SESSIONS).map(|number| timed(number, CORES_PER_SESSION - 1, 550 + number)));
    let plan = round(&world.state);
    world.run(vec![Command::Place(plan)]);
    world.submit_all(std::iter::once(wide(first)));
    world.submit_all((0..SHORT).map(|number| timed(number, 1, 60)));
    world.submit_all((0..OTHERS).map(|number| single(number).with(|job| job.queue = "other".to_owned())));
    world
}

/// On each of so many workers three of four cores are in use for ten minutes, more or less; so many gangs wait, each of whole workers, two
/// in a hundred of all, but 1,000 at most.
pub fn gangs(backfill: Backfill, workers: u64, gangs: u64) -> World {
    let mut world = World::new();
    world.open_workers(workers, &Resources::cores(CORES_PER_SESSION));
    let spec = QueueSpec { name: "default".to_owned(), backfill: Some(backfill), ..QueueSpec::default() };
    let command = world.write(1, Op::PutQueue(spec));
    world.run(vec![command]);
    world.submit_all((0..workers).map(|number| timed(number, CORES_PER_SESSION - 1, 550 + number % 100)));
    loop {
        let plan = round(&world.state);
        if plan.placements.is_empty() {
            break;
        }
        world.run(vec![Command::Place(plan)]);
    }
    let members = u32::try_from((workers / 50).clamp(2, 1_000)).unwrap_or(u32::MAX);
    world.submit_all((0..gangs).map(|number| {
        let mut spec = timed(number, CORES_PER_SESSION, 60 + number % 50);
        spec.tasks[0].set_gang(members);
        spec
    }));
    world
}

fn wide(first: First) -> JobSpec {
    let mut spec = timed(0, CORES_PER_SESSION, 600);
    if matches!(first, First::Gang) {
        spec.tasks[0].set_gang(SESSIONS as u32 / 2);
    }
    spec
}

/// A job that takes so many cores for so many seconds.
fn timed(number: u64, cores: u64, seconds: u64) -> JobSpec {
    let mut spec = single(number);
    spec.tasks[0].resources = Resources::cores(cores);
    let estimate = Some(Duration::from_secs(seconds));
    spec.tasks[0].timing = Timing { estimate, ..Timing::default() }.boxed();
    spec
}
