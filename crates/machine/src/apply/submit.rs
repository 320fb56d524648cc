//! A job is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::validate::{SpecError, validate};
use model::views::{Counts, JobState};
use model::{Actor, Dependency, JobId, JobSpec, Lean, QueuePolicy, RunSet, TaskSpec};

use crate::apply::write::within;
use crate::chores::{Change, Chore};
use crate::eligible::members_when_all_idle;
use crate::level::LEVEL_TURNS;
use crate::state::State;
use crate::state::jobs::{Cause, Dependent, Group, Hold, Job, On};
use crate::state::rank::{self, Ranked};
use crate::state::rare::{GroupRare, JobCounts, JobRare};
use crate::state::sessions::ClassKey;
use crate::{Event, Rejection, Reply};

pub(crate) fn apply(
    state: &mut State,
    id: JobId,
    spec: &Arc<JobSpec>,
    actor: &Actor,
) -> Result<Reply, Rejection> {
    if id <= state.meta.last_job {
        return Err(Rejection::StaleId);
    }
    let limits = &state.settings().limits;
    // The edge has validated it; checked again, because settings may have changed since and apply trusts nobody.
    let errors = validate(spec, limits);
    if !errors.is_empty() {
        return Err(Rejection::Invalid { errors });
    }
    within(state.promised_jobs() + 1, limits.unfinished_jobs_max, "unfinished_jobs_max", "unfinished jobs")?;
    let queue = state.queue_named(&spec.queue).map(|queue| queue.id);
    let queue = queue.ok_or_else(|| Rejection::UnknownQueue { queue: spec.queue.clone() })?;
    let earlier = EarlierJobs::look_up(state, spec)?;
    if state.level() >= LEVEL_TURNS
        && let Some(error) = too_large(state, spec)
    {
        return Err(Rejection::Invalid { errors: vec![error] });
    }

    state.meta.last_job = id;
    let mut groups = groups(state, spec, &earlier);
    rank_groups(state, queue, spec, &mut groups);
    let rare = JobRare {
        after: spec.after.clone(),
        waiting: earlier.waiting(&spec.after),
        hold: hold(state, spec),
        ..JobRare::default()
    };
    let job = Job {
        id,
        spec: spec.clone(),
        actor: state.shared(actor),
        submitted: state.stamp(),
        queue,
        user: state.join(queue, &actor.user),
        priority: spec.priority,
        paused: false,
        cancelled: false,
        open: false,
        state: JobState::Waiting,
        groups: groups.into(),
        settled: 0,
        counts: JobCounts::default(),
        finished: None,
        rare: rare.into(),
    };
    accept(state, job, &earlier);
    Ok(Reply::Submitted { job: id })
}

/// The first gang for which there never was room, by the workers that are known. Gangs of a class are looked at once.
fn too_large(state: &State, spec: &JobSpec) -> Option<SpecError> {
    let mut rooms: BTreeMap<ClassKey, Option<u64>> = BTreeMap::new();
    for (place, task) in spec.tasks.iter().enumerate().filter(|(_, task)| task.gang) {
        let key = ClassKey::of(task, spec.placement);
        let room = *rooms.entry(key).or_insert_with_key(|key| members_when_all_idle(state, key));
        let size = task.count();
        let Some(room) = room.filter(|room| *room < size.into()) else { continue };
        let nearest = match room {
            0 => "no worker that is known could take any: ask for less, or start such workers".to_owned(),
            room => format!(
                "all workers that are known have room for {room}, however idle: give it {room} at the most, or start more workers"
            ),
        };
        let message = format!("the gang has {size} members, and {nearest}");
        return Some(SpecError { path: format!("tasks[{place}].gang"), message });
    }
    None
}

fn rank_groups(state: &State, queue: u32, spec: &JobSpec, groups: &mut [Group]) {
    let policy = state.queue(queue).map(|queue| queue.policy).unwrap_or_default();
    let ranked = Ranked { spec, priority: spec.priority, submitted: state.now() };
    // All alike, as they mostly are, need no list.
    if policy == QueuePolicy::default() {
        groups.iter_mut().for_each(|group| group.rank = -i64::from(spec.priority));
        return;
    }
    let ranks = rank::of_groups(state, &policy, &ranked);
    groups.iter_mut().zip(ranks).for_each(|(group, rank)| group.rank = rank);
}

fn accept(state: &mut State, mut job: Job, earlier: &EarlierJobs) {
    let id = job.id;
    let mut counts = Counts::default();
    job.groups.iter().for_each(|group| counts.add(&group.counts()));
    job.counts = counts.into();
    let queue = state.queues.get_mut(&job.queue).expect("looked up above");
    queue.counts.add(&counts);
    queue.jobs += 1;
    queue.unfinished_jobs += 1;
    state.meta.unfinished_jobs += 1;
    state.event(Event::Job { job: id, state: JobState::Waiting });
    earlier.register(state, &job);
    let failed = job.after.iter().find(|after| earlier.failed(**after)).copied();
    let mut in_groups = job.groups.iter().flat_map(|group| &group.after).filter_map(|on| match on {
        On::Job(after) => Some(after),
        On::Group(_) => None,
    });
    let doomed = || in_groups.any(|after| earlier.failed(*after)).then_some(Change::SkipDoomed);
    let skips = failed.map(|after| Change::Skip(Cause::Job(after))).or_else(doomed);
    let open = job.waiting == 0 && job.hold == Hold::None;
    state.index.set_hold(id, job.hold, true);
    state.jobs.insert(id.0, job);
    if let Some(change) = skips {
        state.chores.push_back(Chore::Groups { job: id, next: 0, change });
    }
    if open {
        crate::apply::deps::open(state, id);
    }
}

fn hold(state: &State, spec: &JobSpec) -> Hold {
    match (spec.delay, spec.start_at) {
        (Some(delay), _) if !delay.is_zero() => Hold::Elapsed(state.now().plus(delay)),
        (_, Some(at)) if at > state.stamp().wall => Hold::Wall(at),
        _ => Hold::None,
    }
}

/// What became of the earlier jobs that a spec names.
struct EarlierJobs(BTreeMap<JobId, Option<JobState>>);

impl EarlierJobs {
    fn look_up(state: &State, spec: &JobSpec) -> Result<EarlierJobs, Rejection> {
        let in_tasks =
            spec.tasks.iter().flat_map(|task| &task.after).filter_map(|dependency| match dependency {
                Dependency::Job(job) => Some(job),
                Dependency::Task(_) => None,
            });
        let mut found = BTreeMap::new();
        for job in spec.after.iter().chain(in_tasks) {
            found.insert(*job, outcome_of(state, *job)?);
        }
        Ok(EarlierJobs(found))
    }

    fn unsatisfied(&self, job: JobId) -> bool {
        self.0.get(&job) != Some(&Some(JobState::Succeeded))
    }

    fn failed(&self, job: JobId) -> bool {
        matches!(self.0.get(&job), Some(Some(JobState::Failed | JobState::Cancelled)))
    }

    fn waiting(&self, jobs: &[JobId]) -> u32 {
        jobs.iter().filter(|job| self.unsatisfied(**job)).count() as u32
    }

    /// Has the earlier jobs tell this one when they finish.
    fn register(&self, state: &mut State, job: &Job) {
        let whole = job.after.iter().map(|after| (*after, None));
        let groups = job.groups.iter().enumerate().flat_map(|(place, group)| {
            group.after.iter().filter_map(move |on| match on {
                On::Job(after) => Some((*after, Some(place as u32))),
                On::Group(_) => None,
            })
        });
        for (after, group) in whole.chain(groups).collect::<Vec<_>>() {
            if let Some(earlier) = state.jobs.get_mut(after.0).filter(|_| self.unsatisfied(after)) {
                earlier.dependents.push(Dependent { job: job.id, group });
            }
        }
    }
}

/// `None`: not finished yet.
pub(crate) fn outcome_of(state: &State, id: JobId) -> Result<Option<JobState>, Rejection> {
    if let Some(job) = state.job(id) {
        return Ok(job.is_finished().then_some(job.state));
    }
    if let Some(tombstone) = state.tombstone(id) {
        return Ok(Some(tombstone.state));
    }
    if id <= state.meta.forgotten {
        Err(Rejection::JobTooOld { job: id })
    } else {
        Err(Rejection::UnknownJob { job: id })
    }
}

fn groups(state: &mut State, spec: &JobSpec, earlier: &EarlierJobs) -> Vec<Group> {
    let places: BTreeMap<&str, u32> =
        spec.tasks.iter().zip(0..).map(|(task, place)| (task.name.as_str(), place)).collect();
    let mut first = 0;
    let mut groups = Vec::with_capacity(spec.tasks.len());
    for task in &spec.tasks {
        let group = group(state, spec, task, first, &places, earlier);
        first += group.len;
        groups.push(group);
    }
    link(&mut groups);
    groups
}

/// Has every group know who waits for it.
fn link(groups: &mut [Group]) {
    for place in 0..groups.len() {
        for on in (*groups[place].after).clone() {
            if let On::Group(other) = on {
                groups[other as usize].dependents.push(place as u32);
            }
        }
        for other in (*groups[place].each).clone() {
            groups[other as usize].each_dependents.push(place as u32);
        }
    }
}

fn group(
    state: &mut State,
    spec: &JobSpec,
    task: &TaskSpec,
    first: u32,
    places: &BTreeMap<&str, u32>,
    earlier: &EarlierJobs,
) -> Group {
    let (mut after, mut seen): (Vec<On>, BTreeSet<On>) = Default::default();
    for dependency in &task.after {
        let on = match dependency {
            Dependency::Task(name) => On::Group(places[name.as_str()]),
            Dependency::Job(job) => On::Job(*job),
        };
        // Named twice is waited for once.
        if seen.insert(on) {
            after.push(on);
        }
    }
    let mut each: Vec<u32> = task.after_each.iter().map(|name| places[name.as_str()]).collect();
    each.sort_unstable();
    each.dedup();
    let unsatisfied = |on: &&On| match on {
        On::Group(_) => true,
        On::Job(job) => earlier.unsatisfied(*job),
    };
    let waiting = after.iter().filter(unsatisfied).count() as u32;
    let len = task.count();
    let rare = GroupRare { after: after.into(), each: each.into(), ..GroupRare::default() };
    Group {
        first,
        len,
        class: state.intern(ClassKey::of(task, spec.placement)),
        gang: task.gang,
        settled: false,
        waiting,
        live_len: 0,
        blocked: RunSet::of(model::Run::new(0, len)),
        ready: RunSet::new(),
        live: Lean::default(),
        succeeded: RunSet::new(),
        rank: 0,
        ready_since: state.now(),
        passed_since: state.now(),
        outcomes: Lean::default(),
        rare: rare.into(),
    }
}
