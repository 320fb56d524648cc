//! Periodic sets come, release their tasks, and go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use model::policy::{Order, QueuePolicy};
use model::validate::{is_name, validate};
use model::{Actor, Elapsed, JobId, JobSpec, Kind, SpecError};

use crate::apply::queues::{add, changed, drop_queue, heed};
use crate::apply::submit;
use crate::apply::write::within;
use crate::command::{PeriodicTaskSpec, WEIGHT_DEFAULT};
use crate::mutants::Mutant;
use crate::state::State;
use crate::state::periodic::{PeriodicSet, PeriodicTask, queue_of};
use crate::state::queues::Queue;
use crate::{PeriodicSpec, Rejection, Reply};

/// Sets of a cluster, and slots and tasks of one.
pub const SETS_MAX: u64 = 64;
pub const SLOTS_MAX: u32 = 64;
pub const TASKS_MAX: usize = 256;
/// A release is an entry of the log.
pub const PERIOD_MIN: Duration = Duration::from_millis(100);

fn invalid(path: &str, message: impl Into<String>) -> Rejection {
    Rejection::Invalid { errors: vec![SpecError { path: path.to_owned(), message: message.into() }] }
}

/// Jobs of others, and another policy, would break what the set was admitted by.
pub(crate) fn refuse_owned(state: &State, queue: &str) -> Result<(), Rejection> {
    match state.queue_named(queue).and_then(|queue| queue.owner.clone()) {
        Some(set) => Err(Rejection::QueueOwned { queue: queue.to_owned(), set }),
        None => Ok(()),
    }
}

pub(crate) fn put(state: &mut State, spec: &PeriodicSpec, actor: &Actor) -> Result<Reply, Rejection> {
    check(state, spec)?;
    let began = state.stamp();
    // Of one that is replaced, the jobs that have not ended are not to have another beside them.
    let earlier = state.periodic.get(&spec.name).map_or(&[][..], |set| &set.tasks);
    let last = |name: &str| earlier.iter().find(|task| task.name == name)?.last;
    let task = |task: &PeriodicTaskSpec| PeriodicTask {
        name: task.name.clone(),
        run_time: task.run_time,
        period: task.period,
        deadline: task.deadline,
        slot: task.slot,
        job: task.job.clone(),
        next: 0,
        released: 0,
        skipped: 0,
        met: 0,
        missed: 0,
        last: last(&task.name).filter(|id| is_open(state, *id)),
    };
    let set = PeriodicSet {
        name: spec.name.clone(),
        order: spec.order,
        slots: spec.slots,
        preemptive: spec.preemptive,
        admitted: spec.admitted.clone(),
        actor: actor.clone(),
        began,
        tasks: spec.tasks.iter().map(task).collect(),
        due: began.elapsed,
    };
    let before = state.periodic.insert(spec.name.clone(), set).map_or(0, |set| set.slots);
    (0..spec.slots).for_each(|slot| own(state, spec, slot));
    (spec.slots..before).for_each(|slot| disown(state, &spec.name, slot));
    changed(state, &queue_of(&spec.name, 0))
}

fn is_open(state: &State, id: JobId) -> bool {
    state.job(id).is_some_and(|job| !job.is_finished())
}

/// The queue of the slot: one task at a time, in the order of the set.
fn own(state: &mut State, spec: &PeriodicSpec, slot: u32) {
    let name = queue_of(&spec.name, slot);
    let known = state.index.queue_names.get(&name).copied();
    let id = known.unwrap_or_else(|| add(state, &name));
    let policy = QueuePolicy { order: spec.order, yields: spec.preemptive, ..QueuePolicy::default() };
    let queue = state.queues.get_mut(&id).expect("found or added above");
    let before = std::mem::replace(&mut queue.policy, policy);
    if std::mem::take(&mut queue.deleted) {
        // One that comes back is as a new one would be.
        (queue.paused, queue.weight) = (false, WEIGHT_DEFAULT);
    }
    (queue.owner, queue.running_max) = (Some(spec.name.clone()), Some(1));
    (queue.auto, queue.adapted) = (false, None);
    heed(state, id, before);
}

/// What still has a task stays, as any other queue.
fn disown(state: &mut State, set: &str, slot: u32) {
    let name = queue_of(set, slot);
    let Some(id) = state.queue_named(&name).map(|queue| queue.id) else { return };
    let queue = state.queues.get_mut(&id).expect("looked up by name");
    (queue.owner, queue.policy.yields) = (None, false);
    queue.deleted = queue.unfinished_jobs == 0;
    if queue.deleted && queue.jobs == 0 {
        drop_queue(state, id);
    }
}

pub(crate) fn delete(state: &mut State, name: &str) -> Result<Reply, Rejection> {
    let set = state.periodic.remove(name);
    let set = set.ok_or_else(|| Rejection::UnknownPeriodic { set: name.to_owned() })?;
    (0..set.slots).for_each(|slot| disown(state, name, slot));
    changed(state, &queue_of(name, 0))
}

fn check(state: &State, spec: &PeriodicSpec) -> Result<(), Rejection> {
    if !is_name(&spec.name) || !is_name(&queue_of(&spec.name, SLOTS_MAX)) {
        return Err(invalid("name", "a set's name has letters, digits, -, _ and . only, and is short"));
    }
    if !matches!(spec.order, Order::Rms | Order::Dms | Order::Edf) {
        return Err(invalid(
            "policy",
            format!("{} tests no periodic tasks; give rms, dms or edf", spec.order),
        ));
    }
    if !(1..=SLOTS_MAX).contains(&spec.slots) {
        return Err(invalid("slots", format!("{} is not 1 to {SLOTS_MAX}", spec.slots)));
    }
    if spec.tasks.is_empty() || spec.tasks.len() > TASKS_MAX {
        return Err(invalid("tasks", format!("{} are given; a set has 1 to {TASKS_MAX}", spec.tasks.len())));
    }
    let known = state.periodic.get(&spec.name);
    let count = state.periodic.len() as u64 + u64::from(known.is_none());
    within(count, SETS_MAX, "periodic_sets_max", "periodic sets")?;
    let is_new = |slot: &u32| !state.index.queue_names.contains_key(&queue_of(&spec.name, *slot));
    let queues = (state.queues.len() + (0..spec.slots).filter(is_new).count()) as u64;
    within(queues, state.limits().queues_max.into(), "queues_max", "queues")?;
    for slot in 0..spec.slots {
        let name = queue_of(&spec.name, slot);
        let is_others =
            |queue: &&Queue| queue.owner.as_ref() != Some(&spec.name) && queue.unfinished_jobs > 0;
        let others = state.queue_named(&name).filter(is_others);
        if let Some(queue) = others {
            return Err(Rejection::QueueInUse { queue: name, jobs: queue.unfinished_jobs });
        }
    }
    let mut names = BTreeSet::new();
    for (place, task) in spec.tasks.iter().enumerate() {
        let path = |field: &str| format!("tasks[{place}].{field}");
        if !is_name(&task.name) || !names.insert(&task.name) {
            return Err(invalid(&path("name"), "each has a name of its own, of letters, digits, -, _ and ."));
        }
        check_times(task).map_err(|(field, message)| invalid(&path(field), message))?;
        if task.slot >= spec.slots {
            return Err(invalid(&path("slot"), format!("{} is not below {}", task.slot, spec.slots)));
        }
        check_job(state, spec, task).map_err(|message| invalid(&path("job"), message))?;
    }
    Ok(())
}

fn check_times(task: &PeriodicTaskSpec) -> Result<(), (&'static str, String)> {
    if task.period < PERIOD_MIN || task.period > model::validate::DURATION_MAX {
        let nearest = if task.period < PERIOD_MIN { "100ms" } else { "365 days" };
        let message = format!(
            "a period is 100ms to 365 days, for each release is an entry of the log; the nearest is {nearest}"
        );
        return Err(("period", message));
    }
    if task.deadline > task.period {
        return Err(("deadline", "is after the next release; it is at most the period".to_owned()));
    }
    if task.run_time.is_zero() || task.run_time > task.deadline {
        return Err(("run_time", "is more than 0, and at most the deadline".to_owned()));
    }
    Ok(())
}

fn check_job(state: &State, spec: &PeriodicSpec, task: &PeriodicTaskSpec) -> Result<(), String> {
    let job: &JobSpec = &task.job;
    let errors = validate(job, state.limits());
    if let Some(error) = errors.first() {
        return Err(error.to_string());
    }
    let [one] = &job.tasks[..] else { return Err("a release is one task".to_owned()) };
    let is_plain = one.array.is_none() && one.each_line.is_none() && job.after.is_empty();
    let is_timely = job.delay.is_none() && job.start_at.is_none();
    if !is_plain || !is_timely || job.queue != queue_of(&spec.name, task.slot) {
        return Err("a release is one task, which waits for nothing".to_owned());
    }
    if spec.preemptive && (one.work.kind() != Kind::Process || one.resources.cpu == 0 || one.gang) {
        let message = "in a preemptive set each is a script or a command that asks for processor time, and no gang: \
                       nothing else can be made to stand still";
        return Err(message.to_owned());
    }
    Ok(())
}

/// Releases what is due by now, the earliest first.
pub(crate) fn release(state: &mut State, first: JobId, count: u32) -> Result<Reply, Rejection> {
    if first <= state.meta.last_job {
        return Err(Rejection::StaleId);
    }
    let now = state.now();
    let mut id = first;
    for _ in 0..count {
        let due = state.periodic.values().filter(|set| set.due <= now).min_by_key(|set| set.due);
        let Some(name) = due.map(|set| set.name.clone()) else { break };
        let Some(job) = turn(state, &name, now) else { continue };
        let actor = state.periodic[&name].actor.clone();
        let is_released = submit::apply(state, id, &job.0, &actor).is_ok();
        let task = &mut state.periodic.get_mut(&name).expect("it is there").tasks[job.1];
        if is_released {
            task.released += 1;
            task.last = Some(id);
            id = JobId(id.0 + 1);
        } else {
            task.skipped += 1;
        }
    }
    Ok(Reply::Done)
}

/// Moves the first task that is due on to its next release; what is to be submitted for this one, and its place. Nothing, while
/// its job of before has not ended: that one has missed its deadline, and both would.
fn turn(state: &mut State, name: &str, now: Elapsed) -> Option<(Arc<JobSpec>, usize)> {
    let set = state.periodic.get(name)?;
    let began = set.began.elapsed;
    let (place, task) = set.tasks.iter().enumerate().min_by_key(|(place, task)| (task.due(began), *place))?;
    let overlaps = task.last.is_some_and(|id| is_open(state, id));
    // Of several that have passed only the newest: the others' time is over.
    let passed = now.since(began).as_micros() / task.period.as_micros().max(1);
    let number = (passed as u64).max(task.next);
    let lateness = now.since(Elapsed(began.0 + model::time::micros(task.period) * number));
    let is_due_again = number % 4 == 3 && state.has_bug(Mutant::ReleasedTwice);
    let set = state.periodic.get_mut(name)?;
    let task = &mut set.tasks[place];
    task.skipped += number - task.next + u64::from(overlaps);
    task.next = number + u64::from(!is_due_again);
    let job = task.job.clone();
    set.due = set.next_due();
    (!overlaps).then(|| (late(job, lateness), place))
}

/// The deadline counts from when it should have been released.
fn late(job: Arc<JobSpec>, lateness: Duration) -> Arc<JobSpec> {
    let lateness = Duration::from_millis(lateness.as_millis() as u64);
    if lateness.is_zero() {
        return job;
    }
    let mut spec = (*job).clone();
    for timing in spec.tasks.iter_mut().filter_map(|task| task.timing.as_mut()) {
        let left = timing.deadline.map(|deadline| deadline.saturating_sub(lateness));
        timing.deadline = left.map(|left| left.max(Duration::from_millis(1)));
    }
    Arc::new(spec)
}

/// The release of the set that this job is, if it is the newest of its task, has ended.
pub(crate) fn count(state: &mut State, set: &str, id: JobId, is_late: bool) {
    let tasks = state.periodic.get_mut(set).into_iter().flat_map(|set| &mut set.tasks);
    for task in tasks.filter(|task| task.last == Some(id)) {
        *if is_late { &mut task.missed } else { &mut task.met } += 1;
    }
}
