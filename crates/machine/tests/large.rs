//! Work that is too much for one entry is finished by ticks, and no entry does more than its share.

mod finish;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use machine::state::State;
use machine::{
    Applied, Bootstrap, Command, Edge, Entry, Event, JobChange, Op, Placement, Plan, Rejection, Reply, Stamp,
    Target, Write, check,
};
use model::settings::ROWS_PER_APPLY;
use model::views::{JobState, TaskState};
use model::{
    Actor, Dependency, JobId, JobSpec, RequestId, Retry, Run, RunSet, SessionId, Settings, TaskSpec, Timing,
    Verdict, Work,
};

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
            level: machine::LEVEL,
        }));
        world
    }

    fn apply(&mut self, command: Command) -> Applied {
        let before = self.state.stamp();
        let wall = before.wall.max(model::Timestamp(1_767_225_600_000_000));
        let stamp = Stamp { elapsed: before.elapsed, wall };
        let entry = Entry { stamp, commands: vec![command] };
        let applied = self.state.apply(self.state.index() + 1, &entry);
        assert_eq!(check::broken(&self.state), Vec::<String>::new());
        applied
    }

    /// Looking at everything after each of many entries takes long.
    fn apply_unchecked(&mut self, command: Command) -> Applied {
        let entry = Entry { stamp: self.state.stamp(), commands: vec![command] };
        self.state.apply(self.state.index() + 1, &entry)
    }

    fn write(&mut self, op: Op) -> Applied {
        self.requests += 1;
        let now = self.state.stamp().wall.0 / 1_000;
        let request = RequestId(u128::from(now) << 80 | self.requests);
        self.apply(Command::Write(Write { request, body_hash: 0, actor: Actor::new("ann", "cli"), op }))
    }

    fn submit(&mut self, tasks: Vec<TaskSpec>, after: Vec<JobId>) -> JobId {
        let job = JobId(self.state.last_job().0 + 1);
        let spec = Arc::new(JobSpec::of("large", tasks).with(|job| job.after = after.into()));
        assert_eq!(self.write(Op::Submit { job, spec }).replies, [Reply::Submitted { job }]);
        job
    }

    /// Ticks while chores are left; returns how many it took. Each stays within its share.
    fn settle(&mut self) -> usize {
        let mut ticks = 0;
        while self.state.next_due().is_some_and(|due| due.elapsed == Some(Default::default())) {
            let applied = self.apply(Command::Tick);
            assert!(changed(&applied) <= ROWS_PER_APPLY as usize, "{} runs in one entry", changed(&applied));
            ticks += 1;
            assert!(ticks < 100, "chores do not end");
        }
        ticks
    }

    fn state_of(&self, job: JobId) -> JobState {
        self.state.job(job).unwrap().state
    }
}

/// Runs of tasks that were changed.
fn changed(applied: &Applied) -> usize {
    let of_tasks = |event: &Event| match event {
        Event::Tasks { job, tasks, .. } => Some((*job, tasks.first)),
        Event::Job { .. } | Event::Worker { .. } | Event::Queue { .. } => None,
    };
    applied.events.iter().filter_map(of_tasks).collect::<BTreeSet<_>>().len()
}

/// An array of 2 x GROUPS tasks, and one that waits for it task by task.
fn arrays() -> Vec<TaskSpec> {
    let array = |name: &str| {
        TaskSpec::new(name, Work::Noop).with(|task| {
            task.array = Some(format!("0-{}", 2 * GROUPS - 1).parse().unwrap());
            task.retry = Retry { max: 1, ..Retry::default() };
        })
    };
    let mut second = array("second");
    second.after_each.push("first".to_owned());
    vec![array("first"), second]
}

/// Every second task, from the first on, as a run of its own.
fn every_second() -> RunSet {
    let mut some = RunSet::new();
    some.extend((0..GROUPS as u32).map(|number| Run::new(2 * number, 1)));
    some
}

/// Has each of them run alone, and end so.
fn run_apart(world: &mut World, job: JobId, tasks: &RunSet, verdict: Verdict) -> SessionId {
    let session = finish::open(&mut world.state);
    let all: Vec<Run> = tasks.runs().collect();
    for some in all.chunks(1_000) {
        let placements = some
            .iter()
            .map(|tasks| Placement { job, tasks: *tasks, session, held: false, alternative: 0 })
            .collect();
        world.apply_unchecked(Command::Place(Plan { placements, ..Plan::default() }));
        finish::end_all_with(&mut world.state, session, verdict);
    }
    assert_eq!(check::broken(&world.state), Vec::<String>::new());
    session
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
    assert!(world.state.job(job).unwrap().counts().ready < GROUPS as u64);
    assert_eq!(world.settle(), 2);
    assert_eq!(world.state.job(job).unwrap().counts().ready, GROUPS as u64);
}

#[test]
fn a_large_cancel_is_marked_at_once_and_completed_by_ticks() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let later = world.submit(tasks(1), vec![job]);

    let applied = world.write(Op::Cancel { targets: vec![Target::job(job)] });
    assert_eq!(applied.replies, [Reply::Changed { tasks: GROUPS as u64 }]);
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize);
    let row = world.state.job(job).unwrap();
    assert!(row.cancelled && !row.is_finished() && row.counts().ready > 0);
    assert!(world.state.ready().is_empty(), "nothing of it is to be planned any more");

    assert_eq!(world.settle(), 2);
    assert_eq!(world.state_of(job), JobState::Cancelled);
    assert_eq!(world.state.job(job).unwrap().counts().cancelled, GROUPS as u64);
    assert_eq!(world.state_of(later), JobState::Failed, "what waited for it is skipped");
}

#[test]
fn what_is_placed_while_a_cancel_is_completed_stays_cancelled_whatever_its_worker_says() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let session = finish::open(&mut world.state);
    let last = GROUPS as u32 - 1;
    let placement = Placement { job, tasks: Run::new(last, 1), session, held: false, alternative: 0 };
    world.apply(Command::Place(Plan { placements: vec![placement], ..Plan::default() }));

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
    assert_eq!((row.counts().ready, row.counts().cancelled), (GROUPS as u64, 0));
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
    assert_eq!(world.state.job(job).unwrap().counts().skipped, GROUPS as u64 - 1);

    world.write(Op::Retry { targets: vec![Target::job(job)], failed_only: false });
    world.settle();
    assert_eq!(world.state.job(job).unwrap().counts().blocked, GROUPS as u64 - 1);
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
        let spec = Arc::new(JobSpec::of("later", tasks(1)).with(|job| job.after = vec![first].into()));
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
fn many_tasks_named_one_by_one_are_marked_at_once_and_cancelled_by_ticks() {
    let mut world = World::new();
    let job = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let mut all_but_one = RunSet::new();
    all_but_one.insert(Run::new(1, GROUPS as u32 - 1));
    let cancel = Op::Cancel { targets: vec![Target { job, tasks: Some(all_but_one) }] };
    let applied = world.write(cancel.clone());
    assert_eq!(applied.replies, [Reply::Changed { tasks: GROUPS as u64 - 1 }]);
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize);
    let ready: usize = world.state.ready().values().map(|keys| keys.len()).sum();
    assert_eq!(ready, 1, "nothing that was named is to be planned any more");
    assert_eq!(world.write(cancel).replies, [Reply::Changed { tasks: 0 }], "they are counted once");

    assert!(world.settle() >= 1);
    let row = world.state.job(job).unwrap();
    assert_eq!((row.counts().ready, row.counts().cancelled), (1, GROUPS as u64 - 1));
    assert!(row.cancelling.is_empty());
}

#[test]
fn what_an_array_has_waiting_to_try_again_is_cancelled_by_ticks() {
    let mut world = World::new();
    let job = world.submit(arrays(), Vec::new());
    world.settle();
    run_apart(&mut world, job, &every_second(), Verdict::Failed);
    assert_eq!(world.state.job(job).unwrap().counts().delayed, GROUPS as u64);

    let first = RunSet::of(Run::new(0, 2 * GROUPS as u32));
    let applied = world.write(Op::Cancel { targets: vec![Target { job, tasks: Some(first) }] });
    assert_eq!(applied.replies, [Reply::Changed { tasks: 2 * GROUPS as u64 }]);
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize);
    assert!(world.state.ready().is_empty());
    assert!(world.settle() >= 2);
    let row = world.state.job(job).unwrap();
    assert_eq!((row.counts().cancelled, row.counts().skipped), (2 * GROUPS as u64, 2 * GROUPS as u64));
    assert_eq!(world.state_of(job), JobState::Cancelled);
}

#[test]
fn a_retry_of_a_broken_up_array_is_done_by_ticks_and_begins_as_a_whole() {
    let mut world = World::new();
    let job = world.submit(arrays(), Vec::new());
    world.settle();
    run_apart(&mut world, job, &every_second(), Verdict::Succeeded);
    world.settle();
    world.write(Op::Cancel { targets: vec![Target::job(job)] });
    world.settle();
    let cancelled = 3 * GROUPS as u64;
    assert_eq!(world.state.job(job).unwrap().counts().cancelled, cancelled);

    let applied = world.write(Op::Retry { targets: vec![Target::job(job)], failed_only: false });
    assert_eq!(applied.replies, [Reply::Changed { tasks: cancelled }]);
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize);
    let row = world.state.job(job).unwrap();
    assert!(row.counts().cancelled > 0 && row.counts().ready > 0);
    assert!(world.state.ready().is_empty(), "nothing begins, and ends, before all have a new round");
    assert!(world.settle() >= 2);
    assert!(!world.state.ready().is_empty());
    finish::everything(&mut world.state);
    assert_eq!(world.state_of(job), JobState::Succeeded);
}

#[test]
fn a_new_edge_holds_back_a_broken_up_array_at_once_and_by_ticks() {
    let mut world = World::new();
    let earlier = world.submit(tasks(1), Vec::new());
    let job = world.submit(arrays(), Vec::new());
    world.settle();
    run_apart(&mut world, job, &every_second(), Verdict::Succeeded);
    world.settle();
    let ready = |world: &World| world.state.job(job).unwrap().groups[1].ready.runs_len();
    assert_eq!(ready(&world), GROUPS);

    let edge = Edge { task: Some("second".to_owned()), on: Dependency::Job(earlier) };
    let change = JobChange { add_after: vec![edge], ..JobChange::default() };
    let applied = world.write(Op::SetJob { job, change });
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize && ready(&world) > 0);
    let second = Placement {
        job,
        tasks: Run::new(4 * GROUPS as u32 - 2, 1),
        session: world.state.last_session(),
        held: false,
        alternative: 0,
    };
    assert!(machine::eligible(&world.state, &second).is_err(), "the answer has been given");
    assert!(world.settle() >= 2);
    assert_eq!(ready(&world), 0);
    finish::everything(&mut world.state);
    assert_eq!(world.state_of(job), JobState::Succeeded);
}

#[test]
fn a_worker_that_held_much_is_taken_back_by_ticks() {
    let mut world = World::new();
    let job = world.submit(arrays(), Vec::new());
    world.settle();
    let session = finish::open(&mut world.state);
    let runs = (0..2 * GROUPS as u32).step_by(1_000).map(|first| Run::new(first, 1_000));
    let placements =
        runs.map(|tasks| Placement { job, tasks, session, held: false, alternative: 0 }).collect();
    world.apply(Command::Place(Plan { placements, ..Plan::default() }));
    assert_eq!(world.state.job(job).unwrap().counts().running, 2 * GROUPS as u64);

    let applied = world.apply(Command::EndSession { session });
    assert!(changed(&applied) <= ROWS_PER_APPLY as usize);
    assert!(world.settle() >= 3);
    assert_eq!(world.state.job(job).unwrap().counts().running, 0);
    assert!(world.state.session(session).is_none());
}

#[test]
fn a_job_that_is_promised_another_round_has_its_place_before_it_comes_back() {
    let mut world = World::new();
    let mut settings = Settings::default();
    (settings.limits.unfinished_jobs_max, settings.limits.rows_per_apply_max) = (2, 512);
    world.write(Op::PutSettings(Box::new(settings)));
    let first = world.submit(tasks(1), Vec::new());
    world.write(Op::Cancel { targets: vec![Target::job(first)] });
    let large = world.submit(tasks(GROUPS), Vec::new());
    world.settle();
    let mut all_but_one = RunSet::new();
    all_but_one.insert(Run::new(1, GROUPS as u32 - 1));
    world.write(Op::Cancel { targets: vec![Target { job: large, tasks: Some(all_but_one) }] });
    let retry = Op::Retry { targets: vec![Target::job(first)], failed_only: false };
    assert_eq!(world.write(retry).replies, [Reply::Changed { tasks: 1 }]);
    assert_eq!(world.state.unfinished_jobs(), 1, "it comes back behind the cancel");
    let spec = Arc::new(JobSpec::of("third", tasks(1)));
    let third = world.write(Op::Submit { job: JobId(large.0 + 1), spec });
    assert!(matches!(third.replies[0].rejection(), Some(Rejection::Limit { max: 2, .. })), "{third:?}");
    world.settle();
    assert_eq!(world.state.unfinished_jobs(), 2);
}

/// Of waiting. Each step of `finish` takes an hour.
const LIMIT: Duration = Duration::from_secs(1_000 * 3_600);

fn limited(mut tasks: Vec<TaskSpec>) -> Vec<TaskSpec> {
    let start_within = Some(LIMIT);
    tasks.iter_mut().for_each(|task| task.timing = Timing { start_within, ..Timing::default() }.boxed());
    tasks
}

impl World {
    fn wait(&mut self, duration: Duration) {
        let before = self.state.stamp();
        let stamp = Stamp { elapsed: before.elapsed.plus(duration), wall: before.wall };
        self.state.apply(self.state.index() + 1, &Entry { stamp, commands: Vec::new() });
    }

    /// Ticks while a timer is due; returns how many it took. Each stays within its share.
    fn end_waits(&mut self) -> usize {
        let mut ticks = 0;
        let due = |state: &State| state.next_due().and_then(|due| due.elapsed);
        while due(&self.state).is_some_and(|at| at <= self.state.stamp().elapsed) {
            let applied = self.apply(Command::Tick);
            assert!(changed(&applied) <= ROWS_PER_APPLY as usize, "{} runs in one entry", changed(&applied));
            ticks += 1;
            assert!(ticks < 100, "waits do not end");
        }
        ticks
    }
}

#[test]
fn a_million_tasks_that_wait_too_long_have_one_timer_and_end_at_once_by_one_tick() {
    let mut world = World::new();
    let mut tasks = limited(tasks(2));
    tasks[0].array = Some("0-999999".parse().unwrap());
    tasks[1].after.push(Dependency::Task("t0".to_owned()));
    let job = world.submit(tasks, Vec::new());
    assert_eq!(world.state.job(job).unwrap().counts().ready, 1_000_000);
    world.wait(LIMIT - Duration::from_millis(1));
    assert_eq!(world.end_waits(), 0);
    world.wait(Duration::from_millis(1));
    let applied = world.apply(Command::Tick);
    assert_eq!(changed(&applied), 2);
    let row = world.state.job(job).unwrap();
    assert_eq!((row.counts().cancelled, row.counts().skipped), (1_000_000, 1));
    assert_eq!(row.groups[0].outcomes_kept(), 1, "why is kept once for all");
    assert_eq!(world.end_waits(), 0);
}

#[test]
fn an_array_in_many_pieces_that_waits_too_long_ends_by_ticks() {
    let mut world = World::new();
    let job = world.submit(limited(arrays()), Vec::new());
    world.settle();
    run_apart(&mut world, job, &every_second(), Verdict::Succeeded);
    world.settle();
    // The second array has become ready meanwhile, one task after the other.
    let ready = 2 * GROUPS as u64;
    assert_eq!(world.state.job(job).unwrap().counts().ready, ready);
    world.wait(LIMIT);
    assert!(world.end_waits() >= 4);
    let row = world.state.job(job).unwrap();
    assert_eq!((row.counts().ready, row.counts().cancelled, row.counts().skipped), (0, ready, GROUPS as u64));
    assert_eq!(world.state_of(job), JobState::Cancelled);

    world.write(Op::Retry { targets: vec![Target::job(job)], failed_only: false });
    world.settle();
    assert_eq!(world.end_waits(), 0, "all have all of their time again");
    finish::everything(&mut world.state);
    assert_eq!(world.state_of(job), JobState::Succeeded);
}
