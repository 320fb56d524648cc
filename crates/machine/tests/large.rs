//! Work that is too much for one entry is finished by ticks, and no entry does more than its share.

mod finish;

use std::collections::BTreeSet;
use std::sync::Arc;

use machine::chores::ROWS_PER_APPLY_MAX;
use machine::state::State;
use machine::{
    Applied, Bootstrap, Command, Entry, Event, Op, Placement, Plan, Rejection, Reply, Stamp, Target, Write,
    check,
};
use model::views::{JobState, TaskState};
use model::{Actor, Dependency, JobId, JobSpec, RequestId, Run, RunSet, Settings, TaskSpec, Work};

const GROUPS: usize = 10_000;

struct World {
    state: State,
    requests: u128,
}

impl World {
    fn new() -> World {
        let mut world = World { state: State::default(), requests: 1 };
        world.apply(Command::Bootstrap(Bootstrap {
            cluster: "large".to_owned(),
            settings: Settings::default(),
            epoch: 0,
            next_node: 4,
        }));
        world
    }

    fn apply(&mut self, command: Command) -> Applied {
        let stamp = Stamp { elapsed: Default::default(), wall: model::Timestamp(1_767_225_600_000_000) };
        let entry = Entry { stamp, commands: vec![command] };
        let applied = self.state.apply(self.state.index() + 1, &entry);
        assert_eq!(check::broken(&self.state), Vec::<String>::new());
        applied
    }

    fn write(&mut self, op: Op) -> Applied {
        self.requests += 1;
        let request = RequestId(1_767_225_600_000u128 << 80 | self.requests);
        self.apply(Command::Write(Write { request, body_hash: 0, actor: Actor::new("ann", "cli"), op }))
    }

    fn submit(&mut self, tasks: Vec<TaskSpec>, after: Vec<JobId>) -> JobId {
        let job = JobId(self.state.last_job().0 + 1);
        let spec = Arc::new(JobSpec { after, ..JobSpec::of("large", tasks) });
        assert_eq!(self.write(Op::Submit { job, spec }).replies, [Reply::Submitted { job }]);
        job
    }

    /// Ticks while chores are left; returns how many it took. Each stays within its share.
    fn settle(&mut self) -> usize {
        let mut ticks = 0;
        while self.state.next_due().is_some_and(|due| due.elapsed == Some(Default::default())) {
            let applied = self.apply(Command::Tick);
            assert!(changed(&applied) <= ROWS_PER_APPLY_MAX, "{} rows in one entry", changed(&applied));
            ticks += 1;
            assert!(ticks < 100, "chores do not end");
        }
        ticks
    }

    fn state_of(&self, job: JobId) -> JobState {
        self.state.job(job).unwrap().state
    }
}

/// Groups that were changed: here each is one task.
fn changed(applied: &Applied) -> usize {
    let of_tasks = |event: &Event| match event {
        Event::Tasks { job, tasks, .. } => Some((*job, tasks.first)),
        Event::Job { .. } | Event::Worker { .. } | Event::Queue { .. } => None,
    };
    applied.events.iter().filter_map(of_tasks).collect::<BTreeSet<_>>().len()
}

fn tasks(count: usize) -> Vec<TaskSpec> {
    (0..count).map(|place| TaskSpec::new(&format!("t{place}"), Work::Noop)).collect()
}

/// All but the first wait for the first.
fn fan(count: usize) -> Vec<TaskSpec> {
    let mut all = tasks(count);
    all[1..].iter_mut().for_each(|task| task.after.push(Dependency::Task("t0".to_owned())));
    all
}

#[test]
fn a_large_job_opens_by_ticks() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    assert!(world.state.job(job).unwrap().counts.ready < GROUPS as u64);
    assert_eq!(world.settle(), 2);
    assert_eq!(world.state.job(job).unwrap().counts.ready, GROUPS as u64);
}

#[test]
fn a_large_cancel_is_marked_at_once_and_completed_by_ticks() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let later = world.submit(tasks(1), vec![job]);

    let applied = world.write(Op::Cancel { targets: vec![Target::job(job)] });
    assert_eq!(applied.replies, [Reply::Changed { tasks: GROUPS as u64 }]);
    assert!(changed(&applied) <= ROWS_PER_APPLY_MAX);
    let row = world.state.job(job).unwrap();
    assert!(row.cancelled && !row.is_finished() && row.counts.ready > 0);
    assert!(world.state.ready().is_empty(), "nothing of it is to be planned any more");

    assert_eq!(world.settle(), 2);
    assert_eq!(world.state_of(job), JobState::Cancelled);
    assert_eq!(world.state.job(job).unwrap().counts.cancelled, GROUPS as u64);
    assert_eq!(world.state_of(later), JobState::Failed, "what waited for it is skipped");
}

#[test]
fn what_is_placed_while_a_cancel_is_completed_stays_cancelled_whatever_its_worker_says() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let session = finish::open(&mut world.state);
    let last = GROUPS as u32 - 1;
    let placement = Placement { job, tasks: Run::new(last, 1), session, held: false };
    world.apply(Command::Place(Plan { placements: vec![placement], reservations: Vec::new() }));

    world.write(Op::Cancel { targets: vec![Target::job(job)] });
    finish::end_all(&mut world.state, session);
    let view = world.state.task_view(model::TaskId { job, number: last }).unwrap();
    assert_eq!(view.state, TaskState::Cancelled, "the cancel was answered before the success came");
    world.settle();
    assert_eq!(world.state_of(job), JobState::Cancelled);
    assert_eq!(world.state.session(session).unwrap().allocations.len(), 0);
}

#[test]
fn a_retry_in_the_middle_of_a_cancel_waits_for_it() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    world.write(Op::Cancel { targets: vec![Target::job(job)] });
    world.write(Op::Retry { targets: vec![Target::job(job)], failed_only: false });
    world.settle();
    let row = world.state.job(job).unwrap();
    assert_eq!((row.counts.ready, row.counts.cancelled), (GROUPS as u64, 0));
    assert_eq!(world.state.task_view(model::TaskId { job, number: 9_999 }).unwrap().round, 2);
}

#[test]
fn a_large_fan_is_skipped_reopened_and_released_by_ticks() {
    let mut world = World::new();
    let job = world.submit(fan(GROUPS), Vec::new());
    world.settle();
    let first = RunSet::of(Run::new(0, 1));
    world.write(Op::Cancel { targets: vec![Target { job, tasks: Some(first) }] });
    assert!(world.settle() >= 2);
    assert_eq!(world.state.job(job).unwrap().counts.skipped, GROUPS as u64 - 1);

    world.write(Op::Retry { targets: vec![Target::job(job)], failed_only: false });
    world.settle();
    assert_eq!(world.state.job(job).unwrap().counts.blocked, GROUPS as u64 - 1);
    finish::everything(&mut world.state);
    assert_eq!(world.state_of(job), JobState::Succeeded);
}

#[test]
fn ten_thousand_later_jobs_hear_of_it_even_when_it_leaves_the_hot_state_at_once() {
    let mut world = World::new();
    let mut settings = Settings::default();
    settings.limits.finished_jobs_max = 0;
    world.write(Op::PutSettings(Box::new(settings)));
    let first = world.submit(tasks(1), Vec::new());
    // Checking after every entry would make this quadratic.
    for number in 0..GROUPS as u64 {
        let job = JobId(first.0 + 1 + number);
        let spec = Arc::new(JobSpec { after: vec![first], ..JobSpec::of("later", tasks(1)) });
        let request = RequestId(1_767_225_600_000u128 << 80 | (1 << 40) | u128::from(number));
        let write =
            Write { request, body_hash: 0, actor: Actor::new("ann", "cli"), op: Op::Submit { job, spec } };
        let entry = Entry { stamp: world.state.stamp(), commands: vec![Command::Write(write)] };
        world.state.apply(world.state.index() + 1, &entry);
    }
    world.write(Op::Cancel { targets: vec![Target::job(first)] });
    world.settle();
    assert_eq!(world.state.unfinished_jobs(), 0);
}

#[test]
fn naming_too_many_tasks_one_by_one_is_refused() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let mut all_but_one = RunSet::new();
    all_but_one.insert(Run::new(1, GROUPS as u32 - 1));
    let applied = world.write(Op::Cancel { targets: vec![Target { job, tasks: Some(all_but_one) }] });
    assert!(matches!(&applied.replies[..], [Reply::Rejected(Rejection::Limit { .. })]), "{applied:?}");
    assert_eq!(world.state.job(job).unwrap().counts.ready, GROUPS as u64);
}
