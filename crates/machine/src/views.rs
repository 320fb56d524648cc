//! Pictures of the state for readers. Each is bounded: lists come in pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::views::{
    Counts, GroupView, JobState, JobView, QueueView, TaskState, TaskView, UserView, WorkerView,
};
use model::{Dependency, Elapsed, JobId, JobSpec, Outcome, RunSet, SessionId, TaskId, Timestamp};

use crate::apply::sessions::worker_state;
use crate::state::State;
use crate::state::jobs::{Cause, Group, Hold, Job, On};
use crate::state::queues::{Queue, usage_seconds};
use crate::state::sessions::{Allocation, Phase};
use crate::state::users::{User, UserId};

/// Rows looked at for one page, found or not: jobs, and groups of those that are found. Apply waits meanwhile.
pub const ROWS_PER_PAGE_MAX: usize = 1_000;
/// Entries of one ready list that are counted for a gauge.
const READY_COUNTED_MAX: usize = 20_000;

/// Which jobs; what is empty or `None` asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub queue: Option<String>,
    pub states: Vec<JobState>,
    pub name: Option<String>,
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub unfinished_only: bool,
}

impl JobFilter {
    fn takes(&self, state: &State, job: &Job) -> bool {
        let queue = |name: &String| state.queue(job.queue).is_some_and(|queue| queue.name == *name);
        self.queue.as_ref().is_none_or(queue)
            && (self.states.is_empty() || self.states.contains(&job.state))
            && self.name.as_ref().is_none_or(|name| *name == job.spec.name)
            && self.user.as_ref().is_none_or(|user| *user == job.actor.user)
            && self.labels.iter().all(|(label, value)| job.spec.labels.get(label) == Some(value))
            && !(self.unfinished_only && job.is_finished())
    }
}

impl State {
    pub fn job_view(&self, id: JobId) -> Option<JobView> {
        self.job(id).map(|job| self.view_of(job))
    }

    fn view_of(&self, job: &Job) -> JobView {
        JobView {
            id: job.id,
            name: job.spec.name.clone(),
            state: job.state,
            queue: self.queue(job.queue).map(|queue| queue.name.clone()).unwrap_or_default(),
            priority: job.priority,
            labels: (*job.spec.labels).clone(),
            actor: (*job.actor).clone(),
            submitted: job.submitted.wall,
            finished: job.finished.map(|stamp| stamp.wall),
            counts: held(job, job.counts()),
            groups: (0..job.groups.len()).map(|place| group_view(job, place)).collect(),
            after: (*job.after).clone(),
        }
    }

    /// What the job was submitted as, with what has been changed of it since.
    pub fn current_spec(&self, id: JobId) -> Option<JobSpec> {
        let job = self.job(id)?;
        let mut spec = (*job.spec).clone();
        if let Some(queue) = self.queue(job.queue) {
            spec.queue.clone_from(&queue.name);
        }
        (spec.priority, spec.after) = (job.priority, job.after.clone());
        let on = |on: &On| match on {
            On::Group(other) => Dependency::Task(job.task_spec(*other as usize).name.clone()),
            On::Job(other) => Dependency::Job(*other),
        };
        for (task, group) in spec.tasks.iter_mut().zip(&job.groups) {
            task.after = group.after.iter().map(on).collect();
        }
        Some(spec)
    }

    /// Newest first, below `before`; with the id to go on from, if there may be more.
    pub fn list_jobs(
        &self,
        filter: &JobFilter,
        before: Option<JobId>,
        limit: usize,
    ) -> (Vec<JobView>, Option<JobId>) {
        let mut found = Vec::new();
        let mut last = None;
        let mut rows = 0;
        for (_, job) in self.jobs.below(before.map_or(u64::MAX, |id| id.0)) {
            if found.len() == limit || rows >= ROWS_PER_PAGE_MAX {
                return (found, last);
            }
            last = Some(job.id);
            rows += 1;
            if filter.takes(self, job) {
                rows += job.groups.len();
                found.push(self.view_of(job));
            }
        }
        (found, None)
    }

    /// Tasks of a job from number `from` on, in those states (none: all) and of those numbers (`None`: all); with the
    /// number to go on from. `None` if the job is not in the hot state.
    pub fn list_tasks(
        &self,
        id: JobId,
        from: u32,
        limit: usize,
        states: &[TaskState],
        only: Option<&RunSet>,
    ) -> Option<(Vec<TaskView>, Option<u32>)> {
        let job = self.job(id)?;
        let mut found = Vec::new();
        let mut number = from;
        let mut scanned = 0;
        while number < job.tasks_count() {
            if found.len() == limit || scanned == ROWS_PER_PAGE_MAX {
                return Some((found, Some(number)));
            }
            scanned += 1;
            if only.is_none_or(|only| only.contains(number))
                && let Some((place, group)) = job.group_of(number)
            {
                let at = task_state(self, job, group, number - group.first);
                if states.is_empty() || states.contains(&at) {
                    found.push(self.task_of(job, place, number - group.first, at));
                }
            }
            number += 1;
        }
        Some((found, None))
    }

    pub fn task_view(&self, id: TaskId) -> Option<TaskView> {
        let job = self.job(id.job)?;
        let (place, group) = job.group_of(id.number)?;
        let position = id.number - group.first;
        Some(self.task_of(job, place, position, task_state(self, job, group, position)))
    }

    fn task_of(&self, job: &Job, place: usize, position: u32, state: TaskState) -> TaskView {
        let (group, spec) = (&job.groups[place], job.task_spec(place));
        let outcome = group.outcome_at(position);
        let live = group.live_at(position).and_then(|(_, live)| self.session(live.session));
        TaskView {
            id: TaskId { job: job.id, number: group.first + position },
            name: spec.name.clone(),
            array_index: spec.array_index(position),
            state,
            attempt: group.attempts(position),
            round: group.round(position),
            worker: live.map(|session| session.worker.clone()).or_else(|| last_worker(outcome)),
            outcome: outcome.map(|outcome| (**outcome).clone()),
            earlier: group
                .rows
                .get(&position)
                .map_or(Vec::new(), |row| row.earlier.iter().map(|outcome| (**outcome).clone()).collect()),
            note: note(self, job, place, position, state),
        }
    }

    pub fn queue_views(&self) -> Vec<QueueView> {
        self.queues()
            .filter(|queue| !queue.deleted)
            .map(|queue| QueueView {
                name: queue.name.clone(),
                weight: queue.weight,
                paused: queue.paused,
                running_max: queue.running_max,
                policy: queue.policy,
                auto: queue.auto,
                adapted: queue.adapted.as_deref().copied(),
                adaptations: queue.adaptations,
                counts: queue.counts,
                unfinished_jobs: queue.unfinished_jobs,
                usage: usage_seconds(queue.usage.spent(self.now(), self.half_life())),
                oldest_wait: self.oldest_wait(queue.id),
                preempted: queue.preempted,
                suspensions: queue.suspensions,
                suspended: self.suspended(queue.id).count() as u64,
                deadlines_met: queue.deadlines_met,
                deadlines_missed: queue.deadlines_missed,
                users: self.user_views(queue),
            })
            .collect()
    }

    fn user_views(&self, queue: &Queue) -> Vec<UserView> {
        let at = self.moment();
        let of_one = |millionths: u64| millionths as f64 / 1e6;
        let view = |(_, user): (UserId, &User)| UserView {
            name: user.name.clone(),
            weight: user.weight,
            jobs: user.jobs,
            share: of_one(user.share(None, at)),
            past_share: of_one(user.past(at)),
        };
        let mut users: Vec<UserView> = queue.users.iter().map(view).collect();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        users
    }

    /// How long the first ready group of each class has waited; the longest of them.
    fn oldest_wait(&self, queue: u32) -> Option<std::time::Duration> {
        let heads = self.ready_in(queue).filter_map(|(_, keys)| keys.first());
        let since = heads.filter_map(|key| Some(self.job(key.job)?.groups[key.group as usize].ready_since));
        since.min().map(|since| self.now().since(since))
    }

    pub fn worker_views(&self) -> Vec<WorkerView> {
        self.workers()
            .map(|worker| {
                let session = worker.session.and_then(|id| self.session(id));
                WorkerView {
                    name: worker.name.clone(),
                    state: worker_state(worker),
                    session: worker.session,
                    capacity: worker.capacity.clone(),
                    used: session.map(|session| session.used.clone()).unwrap_or_default(),
                    labels: worker.labels.clone(),
                    kinds: worker.kinds.clone(),
                    functions: worker.functions.clone(),
                    attempts: session.map_or(0, |session| session.allocations.len() as u64),
                    isolation: worker.isolation.clone(),
                }
            })
            .collect()
    }
}

/// None, if it waited too long for one.
fn last_worker(outcome: Option<&Arc<Outcome>>) -> Option<String> {
    outcome.filter(|outcome| outcome.attempt > 0).map(|outcome| outcome.worker.clone())
}

// What only a time holds back is shown as delayed, not as blocked by others.
fn held(job: &Job, mut counts: Counts) -> Counts {
    if job.hold != Hold::None && job.waiting == 0 {
        counts.delayed += std::mem::take(&mut counts.blocked);
    }
    counts
}

fn group_view(job: &Job, place: usize) -> GroupView {
    let (group, spec) = (&job.groups[place], job.task_spec(place));
    let name = |on: &On| match on {
        On::Group(other) => job.task_spec(*other as usize).name.clone(),
        On::Job(other) => other.to_string(),
    };
    GroupView {
        name: spec.name.clone(),
        first: group.first,
        len: group.len,
        is_array: spec.is_array(),
        counts: held(job, group.counts()),
        after: group.after.iter().map(name).chain(spec.after_each.iter().cloned()).collect(),
    }
}

/// Where the task is now.
pub fn task_state(state: &State, job: &Job, group: &Group, position: u32) -> TaskState {
    if let Some((_, live)) = group.live_at(position) {
        let allocation = state.session(live.session).and_then(|session| session.allocations.get(&live.seq));
        let running = allocation.is_some_and(|a| a.phase == Phase::Running && a.started.is_some());
        return if running { TaskState::Running } else { TaskState::Placed };
    }
    let held_back = job.hold != Hold::None && job.waiting == 0;
    let sets = [
        (&*group.arrived, TaskState::Running),
        (&group.succeeded, TaskState::Succeeded),
        (&group.failed, TaskState::Failed),
        (&group.cancelled, TaskState::Cancelled),
        (&group.skipped, TaskState::Skipped),
        (&group.ready, TaskState::Ready),
    ];
    let found = sets.iter().find(|(set, _)| set.contains(position)).map(|(_, state)| *state);
    match found {
        Some(state) => state,
        None if held_back || group.delayed.contains_key(&position) => TaskState::Delayed,
        None => TaskState::Blocked,
    }
}

const ARRIVED: &str = "has ended well and waits for the rest of its gang";
const SUSPENDED: &str = "stands still, for others of its queue have their turn";
const STOPPING: &str = "its earlier attempt is still being stopped";

fn note(state: &State, job: &Job, place: usize, position: u32, at: TaskState) -> String {
    let group = &job.groups[place];
    match at {
        TaskState::Skipped => match group.cause.as_deref().copied() {
            Some(Cause::Group(other)) => {
                format!("`{}` did not succeed", job.task_spec(other as usize).name)
            }
            Some(Cause::Job(other)) => format!("job {other} did not succeed"),
            None => String::new(),
        },
        TaskState::Running if group.arrived.contains(position) => ARRIVED.to_owned(),
        TaskState::Placed | TaskState::Running if is_suspended(state, group, position) => {
            SUSPENDED.to_owned()
        }
        TaskState::Blocked if group.stopping.contains(position) => STOPPING.to_owned(),
        TaskState::Blocked => waits_for(state, job, place),
        TaskState::Ready => {
            let expected = expected_start(state, job, place).map(|at| format!("expected to start by {at}"));
            let limit = waits_until(state, job, place).map(|at| format!("cancelled unless started by {at}"));
            expected.into_iter().chain(limit).collect::<Vec<_>>().join(", ")
        }
        TaskState::Delayed => format!("waits until {}", delayed_until(state, job, group, position)),
        _ => String::new(),
    }
}

/// When the delay of its retry is over, or that of its job, by the wall clock.
fn delayed_until(state: &State, job: &Job, group: &Group, position: u32) -> Timestamp {
    match (group.delayed.get(&position), job.hold) {
        (Some(at), _) => wall_at(state, *at),
        (None, Hold::Elapsed(at)) => wall_at(state, at),
        (None, Hold::Wall(at)) => at,
        (None, Hold::None) => state.stamp().wall,
    }
}

/// What the wall clock should say at that time of the log's.
fn wall_at(state: &State, at: Elapsed) -> Timestamp {
    let stamp = state.stamp();
    stamp.wall.plus(at.since(stamp.elapsed))
}

fn is_suspended(state: &State, group: &Group, position: u32) -> bool {
    let live = group.live_at(position).map(|(_, live)| live);
    let allocation = live.and_then(|live| state.session(live.session)?.allocations.get(&live.seq));
    allocation.is_some_and(Allocation::is_suspended)
}

/// When the next task of the group will have started, as it was promised, by the wall clock; none if its worker is gone since.
pub fn expected_start(state: &State, job: &Job, place: usize) -> Option<Timestamp> {
    let promise = state.queue(job.queue)?.promises.get(&(job.id, place as u32))?;
    let is_live = |id: SessionId| state.session(id).is_some_and(|session| !session.ended);
    promise.sessions().all(is_live).then(|| wall_at(state, promise.at))
}

/// Until when the ready tasks of the group may wait to be placed, by the wall clock.
pub fn waits_until(state: &State, job: &Job, place: usize) -> Option<Timestamp> {
    job.start_by(place).map(|at| wall_at(state, at))
}

/// What a blocked group waits for, in words.
pub fn waits_for(state: &State, job: &Job, place: usize) -> String {
    let open_jobs = |id: &&JobId| state.job(**id).is_some_and(|job| !job.is_finished());
    let jobs = job.after.iter().filter(open_jobs).map(|id| id.to_string());
    let group = &job.groups[place];
    let each = group.each.iter().filter(|other| !job.groups[**other as usize].all_succeeded());
    let tasks = each.map(|other| job.task_spec(*other as usize).name.clone());
    let groups = group.after.iter().filter_map(|on| match on {
        On::Group(other) if job.groups[*other as usize].all_succeeded() => None,
        On::Group(other) => Some(job.task_spec(*other as usize).name.clone()),
        On::Job(other) => {
            state.job(*other).filter(|job| !job.is_finished()).map(|_| Dependency::Job(*other).to_string())
        }
    });
    let list: Vec<String> = jobs.chain(groups).chain(tasks).collect();
    match (list.is_empty(), group.stopping.is_empty()) {
        (true, true) => String::new(),
        (true, false) => STOPPING.to_owned(),
        (false, _) => format!("waits for {}", list.join(", ")),
    }
}

/// What all ready tasks ask for, by queue and resource, in the units of [`model::Resources`].
pub fn unmet_demand(state: &State) -> BTreeMap<(String, String), u64> {
    let mut demand = BTreeMap::new();
    for (list, keys) in state.ready() {
        let (Some(queue), Some(class)) = (state.queue(list.queue), state.class(list.class)) else { continue };
        let ready = |key: &crate::state::index::ReadyKey| {
            state.job(key.job).map_or(0, |job| u64::from(job.groups[key.group as usize].ready.len()))
        };
        // A page of the longest list is enough for a gauge.
        let tasks: u64 = keys.iter().take(READY_COUNTED_MAX).map(ready).sum();
        for (name, amount) in class.key.resources.iter() {
            *demand.entry((queue.name.clone(), name.to_owned())).or_insert(0) += amount.saturating_mul(tasks);
        }
    }
    demand
}
