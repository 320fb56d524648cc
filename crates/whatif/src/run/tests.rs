use model::policy::{Backfill, Order};
use model::{JobId, Run};

use super::*;
use crate::workload::Task;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Jobs of one task, all submitted at once: cores and seconds of each.
fn jobs(of: &[(u64, u64)]) -> Workload {
    let job = |(place, (cores, run)): (usize, &(u64, u64))| {
        let task = Task { estimate: Some(secs(*run)), ..Task::new(place.to_string(), *cores, secs(*run)) };
        Job { submit: Duration::ZERO, user: String::new(), priority: 0, tasks: vec![task] }
    };
    Workload { jobs: of.iter().enumerate().map(job).collect(), ..Workload::default() }
}

fn policy(name: &str) -> Policy {
    name.parse().unwrap()
}

#[test]
fn more_cores_in_use_than_there_are_end_a_run() {
    let workload = jobs(&[(4, 5), (4, 5)]);
    let mut world = World::new(&workload, 8, &policy("fcfs")).unwrap();
    world.cores = 7;
    let at = Duration::ZERO;
    assert_eq!(world.step(at), Err(Broken::Capacity { at, busy: 8, cores: 7 }));
}

#[test]
fn a_placement_that_is_not_taken_ends_a_run() {
    let workload = jobs(&[(1, 5)]);
    let mut world = World::new(&workload, 1, &policy("fcfs")).unwrap();
    let (job, tasks) = (JobId(9), Run::new(0, 1));
    let placement = machine::Placement { job, tasks, session: SESSION, held: false, alternative: 0 };
    let plan = Plan { placements: vec![placement], ..Plan::default() };
    let found = world.apply(vec![Command::Place(plan)]);
    assert_eq!(found, Err(Broken::Dropped { at: Duration::ZERO, placements: 1 }));
}

#[test]
fn a_command_that_is_refused_ends_a_run() {
    let workload = jobs(&[(1, 5)]);
    let mut wrong = policy("fcfs");
    (wrong.queue.order, wrong.queue.ageing) = (Order::Sjf, secs(60));
    let found = run(&workload, 1, &wrong).unwrap_err();
    assert!(matches!(&found, Broken::Refused { why, .. } if why.contains("ageing")), "{found}");
}

#[test]
fn what_never_ends_is_told() {
    assert_eq!(run(&jobs(&[(4, 5), (1, 5)]), 2, &policy("first-fit")), Err(Broken::Unfinished { tasks: 1 }));
}

/// Of two that wait, one has asked for less, and the other's user has always taken less.
#[test]
fn what_earlier_ones_of_the_user_took_is_expected_where_estimates_are_learnt() {
    let mut workload = jobs(&[(1, 4), (1, 6), (1, 50), (1, 5)]);
    for (job, (user, submit, estimate)) in
        workload.jobs.iter_mut().zip([("ann", 0, 100), ("ann", 4, 100), ("bob", 9, 60), ("ann", 9, 100)])
    {
        (job.user, job.submit) = (user.to_owned(), secs(submit));
        job.tasks[0].estimate = Some(secs(estimate));
    }
    let last_two = |workload: &Workload| {
        let run = run(workload, 1, &policy("sjf")).unwrap();
        run.tasks[2..].iter().map(|ran| (ran.job, ran.start.as_secs())).collect::<Vec<_>>()
    };
    assert_eq!(last_two(&workload), [(2, 10), (3, 60)]);
    // The rank is as old as the submit: by then one run of ann's had ended, after four seconds.
    assert_eq!(last_two(&workload.learnt()), [(3, 10), (2, 15)]);
}

#[test]
fn a_start_after_the_promised_one_ends_a_run_where_nothing_took_longer_than_expected() {
    let workload = jobs(&[(2, 5), (2, 5)]);
    let late = |policy_name: &str| {
        let mut world = World::new(&workload, 2, &policy(policy_name)).unwrap();
        world.step(Duration::ZERO).unwrap();
        assert_eq!(world.promised[1][0], Some(secs(5)));
        world.promised[1][0] = Some(secs(4));
        world.step(secs(5))
    };
    let found = Err(Broken::Promise { at: secs(5), job: 1, task: 0, promised: secs(4) });
    assert_eq!((late("easy"), late("conservative")), (found.clone(), found));
    // Of who comes first by another order than that of submits, nobody knows how long it stays so.
    assert_eq!(late("easy-sjf"), Ok(()));
}

#[test]
fn promises_hold_where_nothing_goes_before_and_nothing_takes_longer_than_expected() {
    let sound = jobs(&[(1, 5), (1, 5)]);
    let holds = |workload: &Workload, backfill, order| {
        let mut queue = policy("easy").queue;
        (queue.backfill, queue.order) = (backfill, order);
        broken::holds_promises(workload, &queue)
    };
    assert!(holds(&sound, Backfill::Easy, Order::Fifo) && holds(&sound, Backfill::Conservative, Order::Sjf));
    assert!(!holds(&sound, Backfill::Easy, Order::Sjf) && !holds(&sound, Backfill::FirstFit, Order::Fifo));
    let mut over = sound.clone();
    over.jobs[0].tasks[0].run = secs(6);
    assert!(!holds(&over, Backfill::Conservative, Order::Fifo));
    let mut after = sound;
    after.jobs[1].tasks[0].after_jobs = vec![0];
    assert!(
        !holds(&after, Backfill::Easy, Order::Fifo) && holds(&after, Backfill::Conservative, Order::Fifo)
    );
}
