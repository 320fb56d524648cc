//! Changes to jobs that still wait: pause and resume, priority, queue, dependencies.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use model::lean::Collection;
use model::views::{JobState, TaskState};
use model::{Dependency, JobId, Lean, Run, RunSet};

use crate::apply::cancel::{TARGETS_MAX, unknown};
use crate::apply::deps::{recount_group, recount_job, tell};
use crate::apply::parts;
use crate::apply::periodic::refuse_owned;
use crate::apply::submit::outcome_of;
use crate::apply::write::within;
use crate::chores::{Budget, Change, Chore};
use crate::state::State;
use crate::state::jobs::{Dependent, Job, On};
use crate::state::rank::{self, set_ranks};
use crate::{Edge, JobChange, Rejection, Reply};

/// Dependencies that one change may add or take away.
const EDGES_PER_CHANGE_MAX: u64 = 256;
/// Jobs looked at for a way back, when one is to wait for another.
const JOBS_SEARCHED_MAX: u64 = 4_096;

pub(crate) fn pause(state: &mut State, jobs: &[JobId]) -> Result<Reply, Rejection> {
    set_paused(state, jobs, true)
}

pub(crate) fn resume(state: &mut State, jobs: &[JobId]) -> Result<Reply, Rejection> {
    set_paused(state, jobs, false)
}

fn set_paused(state: &mut State, jobs: &[JobId], paused: bool) -> Result<Reply, Rejection> {
    within(jobs.len() as u64, TARGETS_MAX, "targets_max", "jobs named in one command")?;
    // Whoever names one twice means it once.
    let jobs: BTreeSet<JobId> = jobs.iter().copied().collect();
    for id in &jobs {
        unfinished(state, *id)?;
    }
    let (mut tasks, now) = (0, state.now());
    for id in &jobs {
        let places = unfinished(state, *id)?.places();
        tasks += state.rekeyed(*id, places, |job| {
            job.paused = paused;
            // Whatever a paused job waits, nobody passes it over.
            job.groups.iter_mut().filter(|_| !paused).for_each(|group| group.passed_since = now);
            waiting(job)
        });
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

/// Tasks that have not begun.
fn waiting(job: &Job) -> u64 {
    let counts = job.counts();
    counts.blocked + counts.delayed + counts.ready
}

pub(crate) fn set_job(state: &mut State, id: JobId, change: &JobChange) -> Result<Reply, Rejection> {
    unfinished(state, id)?;
    let queue = match &change.queue {
        None => None,
        Some(name) => {
            refuse_owned(state, name)?;
            // What runs, or stands still, on a slot is what it was tested with.
            let present = unfinished(state, id)?.queue;
            let present = state.queue(present).map(|queue| queue.name.clone());
            refuse_owned(state, &present.unwrap_or_default())?;
            let queue = state.queue_named(name).map(|queue| queue.id);
            Some(queue.ok_or_else(|| Rejection::UnknownQueue { queue: name.clone() })?)
        }
    };
    let edges = (change.add_after.len() + change.remove_after.len()) as u64;
    within(edges, EDGES_PER_CHANGE_MAX, "edges_per_change_max", "dependencies named in one change")?;
    let add = resolve(state, id, &change.add_after)?;
    let remove = resolve(state, id, &change.remove_after)?;
    check_edges(state, id, &add, &remove)?;

    let places = unfinished(state, id)?.places();
    let mut tasks = match change.priority {
        Some(priority) => {
            let ranks = ranks(state, id, None, priority);
            state.rekeyed(id, places, |job| {
                job.priority = priority;
                set_ranks(job, &ranks);
                waiting(job)
            })
        }
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

/// The ranks of its groups, were it in that queue (`None`: where it is) and of that priority.
fn ranks(state: &State, id: JobId, queue: Option<u32>, priority: i32) -> Vec<i64> {
    let Some(job) = state.job(id) else { return Vec::new() };
    let policy = state.queue(queue.unwrap_or(job.queue)).map(|queue| queue.policy).unwrap_or_default();
    rank::of_job(state, &policy, job, priority)
}

fn move_to_queue(state: &mut State, id: JobId, to: u32) -> u64 {
    let Some(job) = state.job(id) else { return 0 };
    let (from, counts, places) = (job.queue, job.counts(), job.places());
    let (actor, before) = (job.actor.clone(), job.user);
    let ranks = ranks(state, id, Some(to), job.priority);
    let user = state.join(to, &actor.user);
    state.leave(from, before);
    let waiting = state.rekeyed(id, places, |job| {
        (job.queue, job.user) = (to, user);
        set_ranks(job, &ranks);
        waiting(job)
    });
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
    if edges.is_empty() {
        return Ok(Vec::new());
    }
    let places: BTreeMap<&str, usize> =
        job.spec.tasks.iter().enumerate().map(|(place, task)| (task.name.as_str(), place)).collect();
    let place = |name: &str| {
        let found = places.get(name).copied();
        found.ok_or_else(|| Rejection::UnknownTask { job: id, task: name.to_owned() })
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

/// New edges close no cycle, hold back only what has not begun, and are not too many.
fn check_edges(state: &State, id: JobId, add: &[Resolved], remove: &[Resolved]) -> Result<(), Rejection> {
    let job = unfinished(state, id)?;
    let whole = add.iter().any(|edge| edge.group.is_none());
    let named = add.iter().filter_map(|edge| edge.group);
    let places: BTreeSet<usize> = if whole { (0..job.groups.len()).collect() } else { named.collect() };
    for place in places {
        check_waits(job, place)?;
    }
    check_count(state, job, add)?;
    for edge in add {
        if let On::Job(other) = edge.on {
            check_job_edge(state, id, other)?;
        }
    }
    let mut edges: Vec<Vec<usize>> = job.groups.iter().map(upstream).collect();
    for (group, on) in remove.iter().filter_map(within_job) {
        // An element-wise edge between the two stays.
        if !job.groups[group].each.contains(&(on as u32)) {
            edges[group].retain(|other| *other != on);
        }
    }
    for (group, on) in add.iter().filter_map(within_job) {
        edges[group].push(on);
    }
    match model::validate::find_cycle(&edges) {
        None => Ok(()),
        Some(cycle) => {
            let names: Vec<&str> = cycle.iter().map(|place| job.task_spec(*place).name.as_str()).collect();
            Err(Rejection::Cycle { path: names.join(" -> ") })
        }
    }
}

fn within_job(edge: &Resolved) -> Option<(usize, usize)> {
    match (edge.group, edge.on) {
        (Some(group), On::Group(on)) => Some((group, on as usize)),
        (Some(_), On::Job(_)) | (None, _) => None,
    }
}

fn check_waits(job: &Job, place: usize) -> Result<(), Rejection> {
    let group = &job.groups[place];
    let counts = group.counts();
    let begun = counts.running + counts.finished() > 0 || !group.stopping.is_empty();
    if begun || !group.began.is_empty() || group.rows.values().any(|row| row.attempts > 0) {
        return Err(Rejection::TaskBegun { job: job.id, task: job.task_spec(place).name.clone() });
    }
    Ok(())
}

/// As many dependencies as a job may be submitted with, no more.
fn check_count(state: &State, job: &Job, add: &[Resolved]) -> Result<(), Rejection> {
    let max = state.limits().dependencies_per_task_max;
    let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    add.iter().for_each(|edge| *counts.entry(edge.group).or_default() += 1);
    for (group, added) in counts {
        let before = match group {
            None => job.after.len(),
            Some(group) => job.groups[group].after.len() + job.groups[group].each.len(),
        };
        within((before + added) as u64, max.into(), "dependencies_per_task_max", "dependencies")?;
    }
    Ok(())
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
    // Who waits for the key on the way from `on`.
    let mut waits: BTreeMap<JobId, JobId> = BTreeMap::from([(on, id)]);
    let mut open = vec![on];
    while let Some(next) = open.pop() {
        if next == id {
            return Err(Rejection::Cycle { path: way(&waits, id) });
        }
        within(waits.len() as u64, JOBS_SEARCHED_MAX, "jobs_searched_max", "jobs that it would wait for")?;
        let Some(job) = state.job(next) else { continue };
        let in_groups = job.groups.iter().flat_map(|group| &group.after).filter_map(|on| match on {
            On::Job(job) => Some(*job),
            On::Group(_) => None,
        });
        for earlier in job.after.iter().copied().chain(in_groups) {
            if let Entry::Vacant(slot) = waits.entry(earlier) {
                slot.insert(next);
                open.push(earlier);
            }
        }
    }
    Ok(())
}

/// From `id` by those that it waits for back to it.
fn way(waits: &BTreeMap<JobId, JobId>, id: JobId) -> String {
    let mut names = vec![id.to_string()];
    let mut at = id;
    while let Some(next) = waits.get(&at) {
        names.push(next.to_string());
        at = *next;
        if at == id {
            break;
        }
    }
    names.reverse();
    names.join(" -> ")
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
    begin_holding(state, id, edge);
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

/// The new edge holds at once; a chore takes back to Blocked what was ready.
fn begin_holding(state: &mut State, id: JobId, edge: &Resolved) {
    let Some(job) = state.job(id) else { return };
    let places = edge.group.map_or(job.places(), |group| group as u32..group as u32 + 1);
    let chore = parts::chore(job, edge.group, Change::HoldBack);
    state.rekeyed(id, places, |job| match edge.group {
        Some(group) => job.groups[group].waiting += 1,
        None => {
            job.waiting += 1;
            job.open = false;
        }
    });
    state.chores.push_back(chore);
}

/// Nothing is delayed where nothing has begun.
pub(crate) fn take_ready_back(state: &mut State, id: JobId, place: usize, part: Run) {
    let mut held = RunSet::new();
    state.change_group(id, place, |group| {
        held.extend(group.ready.take(part));
        group.blocked.extend(held.runs());
    });
    tell(state, id, place, &held, TaskState::Blocked);
}

/// What is waited for has ended badly. Looked at again when the chore's turn comes: a retry of it may come before.
fn skip_edge(state: &mut State, id: JobId, edge: &Resolved) {
    let Some(job) = state.job(id) else { return };
    let chore = parts::chore(job, edge.group, Change::SkipDoomed);
    state.chores.push_back(chore);
}

fn remove_edge(state: &mut State, id: JobId, edge: &Resolved) {
    let had_succeeded = match edge.on {
        // Whether what is forgotten had been counted comes out when the rest is counted.
        On::Job(other) => {
            outcome_of(state, other).is_ok_and(|outcome| outcome == Some(JobState::Succeeded))
                || outcome_of(state, other).is_err()
        }
        On::Group(other) => group_outcome(state, id, other as usize) == Some(JobState::Succeeded),
    };
    let Some(job) = state.jobs.get_mut(id.0) else { return };
    let (list_had, group) = match (edge.group, edge.on) {
        (None, On::Job(other)) => (take_out(&mut job.rare, |rare| &mut rare.after, &other), None),
        (Some(group), on) => {
            (take_out(&mut job.groups[group].rare, |rare| &mut rare.after, &on), Some(group as u32))
        }
        (None, On::Group(_)) => (false, None),
    };
    // The other end may be in the middle of telling those that wait for it, or about to: it is heard out first.
    if list_had {
        state.chores.push_back(Chore::DropEdge { job: id, group, on: edge.on, had_succeeded });
    }
}

pub(crate) fn drop_edge(
    state: &mut State,
    id: JobId,
    group: Option<u32>,
    on: On,
    had_succeeded: bool,
    budget: &mut Budget,
) -> Option<Chore> {
    match on {
        On::Job(other) => {
            if let Some(earlier) = state.jobs.get_mut(other.0) {
                let dependent = Dependent { job: id, group };
                take_out(&mut earlier.rare, |rare| &mut rare.dependents, &dependent);
            }
        }
        On::Group(other) => {
            if let (Some(group), Some(job)) = (group, state.jobs.get_mut(id.0)) {
                take_out(&mut job.groups[other as usize].rare, |rare| &mut rare.dependents, &group);
            }
        }
    }
    let less = u32::from(!had_succeeded);
    match group {
        Some(group) => recount_group(state, id, group as usize, less, budget),
        None => {
            recount_job(state, id, less, budget);
            None
        }
    }
}

fn take_out<R: Collection, T: PartialEq + 'static>(
    rare: &mut Lean<R>,
    list: impl FnOnce(&mut R) -> &mut Lean<Vec<T>>,
    item: &T,
) -> bool {
    if rare.is_untouched() {
        return false;
    }
    let list = list(rare);
    let place = list.iter().position(|other| other == item);
    place.map(|place| list.remove(place));
    rare.tidy();
    place.is_some()
}
