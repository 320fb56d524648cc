//! Many kinds of requests at once: what a round costs when nearly every job asks for something else.

use machine::Command;
use model::{JobSpec, Resources};

use crate::load::round;
use crate::world::{World, single};

pub const CLASSES: u64 = 200;
pub const SESSIONS: u64 = 100;
const JOBS: u64 = 1_000;
const CORES_PER_SESSION: u64 = 2;
/// Placements that fill every session.
pub const PLACED: usize = (SESSIONS * CORES_PER_SESSION) as usize;

/// Jobs of one core whose memory tells `CLASSES` of them apart wait for `SESSIONS` with room for some.
pub fn waiting() -> World {
    let mut world = World::new();
    world.open_workers(SESSIONS, &Resources { memory: 64 << 30, ..Resources::cores(CORES_PER_SESSION) });
    world.submit_all((0..JOBS).map(of_class));
    world
}

/// The same once every session is full: all classes still wait.
pub fn full() -> World {
    let mut world = waiting();
    let plan = round(&world.state);
    world.run(vec![Command::Place(plan)]);
    world
}

fn of_class(number: u64) -> JobSpec {
    let resources = Resources { memory: (number % CLASSES + 1) << 20, ..Resources::cores(1) };
    let mut spec = single(number);
    spec.tasks.iter_mut().for_each(|task| task.resources = resources.clone());
    spec
}
