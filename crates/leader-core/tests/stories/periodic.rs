//! Releases of periodic tasks.

use std::sync::Arc;
use std::time::Duration;

use machine::{Command, Op, PeriodicSpec, PeriodicTaskSpec};
use model::policy::Order as QueueOrder;
use model::{JobId, JobSpec, Resources, TaskSpec, Timing, Work};

use crate::world::*;

fn set(tasks: u64) -> Op {
    let second = Duration::from_secs(1);
    let task = |number: u64| {
        let mut task = TaskSpec::new("t", Work::Run(vec!["true".to_owned()]));
        let timing = Timing::periodic(second / 100, second, second);
        (task.resources, task.timing) = (Resources::cores(1), timing.boxed());
        let job = JobSpec::of("t", vec![task]).with(|job| job.queue = "s.1".to_owned());
        let (run_time, period, deadline) = (second / 100, second, second);
        let name = format!("t{number}");
        PeriodicTaskSpec { name, run_time, period, deadline, slot: 0, job: Arc::new(job) }
    };
    let (name, order) = ("s".to_owned(), QueueOrder::Edf);
    let tasks = (0..tasks).map(task).collect();
    Op::PutPeriodic(Box::new(PeriodicSpec {
        name,
        order,
        slots: 1,
        preemptive: false,
        admitted: Vec::new(),
        tasks,
    }))
}

fn releases(world: &World) -> Vec<(JobId, u32)> {
    let release = |command: &Command| match command {
        Command::Release { first, count } => Some((*first, *count)),
        _ => None,
    };
    world.proposed().into_iter().filter_map(release).collect()
}

#[test]
fn a_task_is_released_when_it_is_due_once_and_its_id_is_nobody_elses() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    world.write(set(2), 500);
    world.commit();
    assert_eq!(releases(&world), [(JobId(1), 2)]);
    assert_eq!(orders(&world.heard(1)).len(), 1, "one slot");
    world.forget();
    world.pass(400);
    assert!(releases(&world).is_empty(), "{:?}", world.proposed());
    // A submit meanwhile has the next id, and what is released then the one after.
    world.job(array(1));
    world.commit();
    world.pass(700);
    world.commit();
    let all = releases(&world);
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].0 > JobId(3) && all[0].1 == 2, "{all:?}");
}

#[test]
fn the_next_leader_goes_on_with_it() {
    let mut world = World::new();
    world.worker(1, "w", 1);
    world.write(set(1), 500);
    world.commit();
    world.next_leader();
    world.forget();
    world.pass(2_500);
    world.commit();
    assert_eq!(releases(&world).first(), Some(&(JobId(2), 1)), "{:?}", world.proposed());
    // Its first job has not ended.
    let task = &world.state.periodic_views()[0].tasks[0];
    assert_eq!((task.released, task.skipped), (1, 2));
}
