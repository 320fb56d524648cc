//! Changes to jobs that still wait: pause and resume, priority, queue, dependencies.

use model::{Dependency, JobId};

use crate::apply::cancel::unknown;
use crate::apply::deps::{job_satisfied, satisfied, skip_group};
use crate::apply::submit::outcome_of;
use crate::chores::Chore;
use crate::state::State;
use crate::state::index::{Timer, is_ready};
use crate::state::jobs::{Cause, Dependent, Job, On};
use crate::{Edge, JobChange, Rejection, Reply};
use model::views::JobState;

pub(crate) fn pause(state: &mut State, jobs: &[JobId]) -> Result<Reply, Rejection> {
    set_paused(state, jobs, true)
}

pub(crate) fn resume(state: &mut State, jobs: &[JobId]) -> Result<Reply, Rejection> {
    set_paused(state, jobs, false)
}

fn set_paused(state: &mut State, jobs: &[JobId], paused: bool) -> Result<Reply, Rejection> {
    for id in jobs {
        unfinished(state, *id)?;
    }
    let (mut tasks, now) = (0, state.now());
    for id in jobs {
        let waiting = rekeyed(state, *id, |job| {
            job.paused = paused;
            // Whatever a paused job waits, nobody passes it over.
            job.groups.iter_mut().filter(|_| !paused).for_each(|group| group.passed_since = now);
        });
        tasks += waiting;
        state.refresh_job(*id);
    }
    // A pause too: a worker that drained for one of them is open to others.
    state.wake();
    Ok(Reply::Changed { tasks })
}

fn unfinished(state: &State, id: JobId) -> Result<&Job, Rejection> {
    let job = state.job(id).ok_or_else(|| unknown(state, id))?;
    if job.is_finished() { Err(Rejection::JobFinished { job: id, state: job.state }) } else { Ok(job) }
}

/// Changes what the ready index is keyed by. Returns how many tasks wait. The index is not a row: it moves at once.
fn rekeyed(state: &mut State, id: JobId, change: impl FnOnce(&mut Job)) -> u64 {
    let job = state.jobs.get_mut(id.0).expect("looked up by the caller");
    for place in 0..job.groups.len() {
        if is_ready(job, &job.groups[place]) {
            state.index.set_ready(job, place, false);
        }
    }
    change(job);
    for place in 0..job.groups.len() {
        if is_ready(job, &job.groups[place]) {
            state.index.set_ready(job, place, true);
        }
    }
    job.counts.blocked + job.counts.delayed + job.counts.ready
}

pub(crate) fn set_job(state: &mut State, id: JobId, change: &JobChange) -> Result<Reply, Rejection> {
    unfinished(state, id)?;
    let queue = match &change.queue {
        None => None,
        Some(name) => {
            let queue = state.queue_named(name).map(|queue| queue.id);
            Some(queue.ok_or_else(|| Rejection::UnknownQueue { queue: name.clone() })?)
        }
    };
    let add = resolve(state, id, &change.add_after)?;
    let remove = resolve(state, id, &change.remove_after)?;
    check_edges(state, id, &add)?;

    let mut tasks = match change.priority {
        Some(priority) => rekeyed(state, id, |job| job.priority = priority),
        None => 0,
    };
    if let Some(queue) = queue {
        tasks = tasks.max(move_to_queue(state, id, queue));
    }
    remove.iter().for_each(|edge| remove_edge(state, id, edge));
    add.iter().for_each(|edge| add_edge(state, id, edge));
    tasks = tasks.max((add.len() + remove.len()) as u64);
    state.wake();
    Ok(Reply::Changed { tasks })
}

fn move_to_queue(state: &mut State, id: JobId, to: u32) -> u64 {
    let Some(job) = state.job(id) else { return 0 };
    let (from, counts) = (job.queue, job.counts);
    let waiting = rekeyed(state, id, |job| job.queue = to);
    if from == to {
        return waiting;
    }
    let old = state.queues.get_mut(&from).expect("a job's queue exists");
    old.jobs -= 1;
    old.unfinished_jobs -= 1;
    subtract(&mut old.counts, &counts);
    let new = state.queues.get_mut(&to).expect("looked up above");
    new.jobs += 1;
    new.unfinished_jobs += 1;
    new.counts.add(&counts);
    waiting
}

pub(crate) fn subtract(from: &mut model::views::Counts, counts: &model::views::Counts) {
    from.blocked -= counts.blocked;
    from.delayed -= counts.delayed;
    from.ready -= counts.ready;
    from.running -= counts.running;
    from.succeeded -= counts.succeeded;
    from.failed -= counts.failed;
    from.cancelled -= counts.cancelled;
    from.skipped -= counts.skipped;
}

/// An edge with its names looked up. `group` is `None` where the whole job waits.
#[derive(Clone, Copy)]
struct Resolved {
    group: Option<usize>,
    on: On,
}

fn resolve(state: &State, id: JobId, edges: &[Edge]) -> Result<Vec<Resolved>, Rejection> {
    let job = unfinished(state, id)?;
    let place = |name: &str| {
        job.group_named(name).ok_or_else(|| Rejection::UnknownTask { job: id, task: name.to_owned() })
    };
    let one = |edge: &Edge| {
        let group = edge.task.as_deref().map(place).transpose()?;
        let on = match &edge.on {
            Dependency::Task(name) => On::Group(place(name)? as u32),
            Dependency::Job(job) => On::Job(*job),
        };
        // "Every task after one of its own" would be a cycle.
        if let (None, Dependency::Task(name)) = (group, &edge.on) {
            return Err(Rejection::Cycle { path: format!("{name} -> {name}") });
        }
        Ok(Resolved { group, on })
    };
    edges.iter().map(one).collect()
}

/// New edges close no cycle, and hold back only what has not begun.
fn check_edges(state: &State, id: JobId, add: &[Resolved]) -> Result<(), Rejection> {
    let job = unfinished(state, id)?;
    for edge in add {
        let groups: Vec<usize> =
            edge.group.map_or_else(|| (0..job.groups.len()).collect(), |group| vec![group]);
        for place in groups {
            let counts = job.groups[place].counts();
            if counts.running + counts.finished() > 0
                || job.groups[place].rows.values().any(|row| row.attempts > 0)
            {
                let task = job.task_spec(place).name.clone();
                return Err(Rejection::TaskBegun { job: id, task });
            }
        }
        if let On::Job(other) = edge.on {
            check_job_edge(state, id, other)?;
        }
    }
    let mut edges: Vec<Vec<usize>> = job.groups.iter().map(upstream).collect();
    for edge in add {
        if let (Some(group), On::Group(on)) = (edge.group, edge.on) {
            edges[group].push(on as usize);
        }
    }
    match model::validate::find_cycle(&edges) {
        None => Ok(()),
        Some(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|place| job.task_spec(*place).name.as_str()).collect();
            Err(Rejection::Cycle { path: names.join(" -> ") })
        }
    }
}

fn upstream(group: &crate::state::jobs::Group) -> Vec<usize> {
    let after = group.after.iter().filter_map(|on| match on {
        On::Group(other) => Some(*other as usize),
        On::Job(_) => None,
    });
    after.chain(group.each.iter().map(|other| *other as usize)).collect()
}

/// A job waits only for jobs that do not, by any way, wait for it.
fn check_job_edge(state: &State, id: JobId, on: JobId) -> Result<(), Rejection> {
    outcome_of(state, on)?;
    let mut seen = std::collections::BTreeSet::new();
    let mut open = vec![on];
    while let Some(next) = open.pop() {
        if next == id {
            return Err(Rejection::Cycle { path: format!("{id} -> {on} -> {id}") });
        }
        let Some(job) = state.job(next).filter(|_| seen.insert(next)) else { continue };
        open.extend(job.after.iter().copied());
        open.extend(job.groups.iter().flat_map(|group| &group.after).filter_map(|on| match on {
            On::Job(job) => Some(*job),
            On::Group(_) => None,
        }));
    }
    Ok(())
}

fn add_edge(state: &mut State, id: JobId, edge: &Resolved) {
    let outcome = match edge.on {
        On::Job(other) => outcome_of(state, other).ok().flatten(),
        On::Group(other) => group_outcome(state, id, other as usize),
    };
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    match (edge.group, edge.on) {
        (None, On::Job(other)) if !job.after.contains(&other) => job.after.push(other),
        (Some(group), on) if !job.groups[group].after.contains(&on) => job.groups[group].after.push(on),
        // It is there already.
        _ => return,
    }
    if outcome == Some(JobState::Succeeded) {
        return;
    }
    hold_back(state, id, edge);
    let dependent = Dependent { job: id, group: edge.group.map(|group| group as u32) };
    match edge.on {
        On::Job(other) => {
            if let Some(earlier) = state.jobs.get_mut(other.0) {
                earlier.dependents.push(dependent);
            }
        }
        On::Group(other) => {
            if let (Some(group), Some(job)) = (edge.group, state.jobs.get_mut(id.0)) {
                job.groups[other as usize].dependents.push(group as u32);
            }
        }
    }
    if outcome.is_some() {
        skip_edge(state, id, edge);
    }
}

fn group_outcome(state: &State, id: JobId, place: usize) -> Option<JobState> {
    let group = &state.job(id)?.groups[place];
    let state = if group.all_succeeded() { JobState::Succeeded } else { JobState::Failed };
    group.settled.then_some(state)
}

/// Takes back to Blocked what the new edge holds.
fn hold_back(state: &mut State, id: JobId, edge: &Resolved) {
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    let places: Vec<usize> = match edge.group {
        Some(group) => {
            job.groups[group].waiting += 1;
            vec![group]
        }
        None => {
            job.waiting += 1;
            job.open = false;
            (0..job.groups.len()).collect()
        }
    };
    for place in places {
        let delayed = state.change_group(id, place, |group| {
            let ready: Vec<_> = group.ready.take(group.positions());
            group.blocked.extend(ready);
            let delayed = std::mem::take(&mut group.delayed);
            group.blocked.extend(delayed.keys().map(|position| model::Run::new(*position, 1)));
            delayed
        });
        for (position, at) in delayed {
            state.index.timers.remove(&Timer { at, job: id, task: Some((place as u32, position)) });
        }
    }
}

fn skip_edge(state: &mut State, id: JobId, edge: &Resolved) {
    let cause = match edge.on {
        On::Job(other) => Cause::Job(other),
        On::Group(other) => Cause::Group(other),
    };
    match edge.group {
        Some(group) => skip_group(state, id, group, cause),
        None => state.chores.push_back(Chore::SkipJob { job: id, next: 0, cause }),
    }
}

fn remove_edge(state: &mut State, id: JobId, edge: &Resolved) {
    let satisfied_before = match edge.on {
        // Of what is forgotten nothing waits any more.
        On::Job(other) => {
            outcome_of(state, other).is_ok_and(|outcome| outcome == Some(JobState::Succeeded))
                || outcome_of(state, other).is_err()
        }
        On::Group(other) => group_outcome(state, id, other as usize) == Some(JobState::Succeeded),
    };
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    let (list_had, group) = match (edge.group, edge.on) {
        (None, On::Job(other)) => (take_out(&mut job.after, &other), None),
        (Some(group), on) => (take_out(&mut job.groups[group].after, &on), Some(group as u32)),
        (None, On::Group(_)) => (false, None),
    };
    if !list_had {
        return;
    }
    match edge.on {
        On::Job(other) => {
            if let Some(earlier) = state.jobs.get_mut(other.0) {
                take_out(&mut earlier.dependents, &Dependent { job: id, group });
            }
        }
        On::Group(other) => {
            if let Some(group) = group {
                take_out(&mut job.groups[other as usize].dependents, &group);
            }
        }
    }
    if satisfied_before {
        return;
    }
    match group {
        Some(group) => satisfied(state, id, group as usize),
        None => job_satisfied(state, id),
    }
}

fn take_out<T: PartialEq>(list: &mut Vec<T>, item: &T) -> bool {
    let Some(place) = list.iter().position(|other| other == item) else { return false };
    list.remove(place);
    true
}
