//! Reads: linearizable by read index, or stale and said to be so; each names the index it is as of.
//!
//! The state is held for a page at a time, so that apply never waits for a long list.

use std::sync::Arc;

use machine::{JobFilter, State};
use model::views::{Explanation, TaskState, TaskView};
use model::{JobId, LogIndex, NodeId, TaskId};
use replica::Replica;
use tonic::{Code, Request, Response, Status};
use wire::convert::{self, read_filter_states};
use wire::error::{Failure, code};
use wire::v1;

use crate::api::asked::{Listed, listed};
use crate::api::call::Call;
use crate::api::elected::is_elected;
use crate::api::{Api, Running};

const JOBS_DEFAULT: u32 = 100;
const JOBS_MAX: u32 = 1_000;
const TASKS_DEFAULT: u32 = 1_000;
const TASKS_MAX: u32 = 10_000;
/// Rows taken from the state at a time.
const PAGE: usize = 128;
/// Pages looked at for one reply, even if few rows pass the filter.
const PAGES_MAX: usize = 4_000;

impl Running {
    pub fn leads(&self) -> bool {
        is_elected(&self.replica.changes().borrow())
    }

    pub fn leader_id(&self) -> Option<NodeId> {
        self.replica.changes().borrow().leader.as_ref().map(|leader| leader.id)
    }

    pub fn leader_address(&self) -> Option<String> {
        let changes = self.replica.changes();
        let status = changes.borrow();
        status.leader.as_ref().map(|leader| leader.api_addr.clone()).filter(|address| !address.is_empty())
    }
}

impl Api {
    /// The replica, once what it has applied is as new as the reader asks.
    pub async fn reader(&self, call: &Call, stale: bool) -> Result<&Arc<Replica>, Failure> {
        let replica = &self.running_by(&call.deadline).await?.replica;
        // A replica that was just started may know less than it showed before: a reader must not go back in time.
        if stale && replica.has_caught_up() {
            return Ok(replica);
        }
        loop {
            let why = match call.deadline.run(replica.read_index()).await {
                Some(Ok(_)) => return Ok(replica),
                Some(Err(error)) => error.to_string(),
                None => "no quorum of replicas has confirmed a leader in time".to_owned(),
            };
            if call.deadline.is_over() {
                return Err(Failure::no_leader(why));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// One short look at the state.
    pub async fn look<R>(
        &self,
        call: &Call,
        stale: bool,
        look: impl FnOnce(&State) -> Result<R, Failure>,
    ) -> Result<(LogIndex, R), Failure> {
        let replica = self.reader(call, stale).await?;
        replica.read(|state| Ok((state.index(), look(state)?)))
    }

    pub async fn get_job(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobReply>, Status> {
        let call = Call::of(self, request.metadata());
        let asked = request.into_inner();
        let id = JobId(asked.job);
        let find = |state: &State| {
            let view = state.job_view(id).ok_or_else(|| no_job(state, id))?;
            let spec = asked.with_spec.then(|| state.current_spec(id)).flatten();
            Ok((view, spec))
        };
        let result = self.look(&call, asked.stale, find).await;
        self.answer(result.map(|(index, (view, spec))| v1::GetJobReply {
            index,
            job: Some((&view).into()),
            spec: spec.as_ref().map(v1::JobSpec::from),
        }))
    }

    pub async fn list_jobs(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.jobs_page(&call, request.into_inner()).await;
        self.answer(result.map(|(index, jobs, next)| v1::ListJobsReply {
            index,
            jobs,
            next: next.map_or(0, |id| id.0),
        }))
    }

    async fn jobs_page(
        &self,
        call: &Call,
        asked: v1::ListJobsRequest,
    ) -> Result<(LogIndex, Vec<v1::Job>, Option<JobId>), Failure> {
        let limit = at_most(asked.limit, JOBS_DEFAULT, JOBS_MAX);
        let filter = JobFilter {
            queue: some(asked.queue),
            states: read_filter_states(&asked.states, "job state")
                .map_err(|errors| Failure::invalid(&errors))?,
            name: some(asked.name),
            user: some(asked.user),
            labels: asked.labels,
            unfinished_only: asked.unfinished_only,
        };
        let replica = self.reader(call, asked.stale).await?;
        // As of the first page: what changes meanwhile is in the events that follow this index.
        let index = replica.read(State::index);
        let mut jobs = Vec::new();
        let mut next = (asked.before > 0).then_some(JobId(asked.before));
        for _ in 0..PAGES_MAX {
            let page = PAGE.min(limit - jobs.len());
            let (found, rest) = replica.read(|state| {
                let (found, rest) = state.list_jobs(&filter, next, page);
                let found = found.into_iter().map(|job| listed(state, job, asked.with_asked));
                (found.collect::<Vec<Listed>>(), rest)
            });
            jobs.extend(found.iter().map(v1::Job::from));
            next = rest;
            if next.is_none() || jobs.len() >= limit {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok((index, jobs, next))
    }

    pub async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.tasks_page(&call, request.into_inner()).await;
        self.answer(result.map(|(index, tasks, next)| v1::ListTasksReply {
            index,
            tasks: tasks.iter().map(v1::Task::from).collect(),
            next,
        }))
    }

    async fn tasks_page(
        &self,
        call: &Call,
        asked: v1::ListTasksRequest,
    ) -> Result<(LogIndex, Vec<TaskView>, Option<u32>), Failure> {
        let job = JobId(asked.job);
        let limit = at_most(asked.limit, TASKS_DEFAULT, TASKS_MAX);
        let invalid = |errors: Vec<model::SpecError>| Failure::invalid(&errors);
        let states: Vec<TaskState> = read_filter_states(&asked.states, "task state").map_err(invalid)?;
        let only = convert::run_set(asked.tasks, "tasks").map_err(invalid)?;
        let replica = self.reader(call, asked.stale).await?;
        let index = replica.read(State::index);
        let mut tasks = Vec::new();
        // Numbers before the first wanted one need not be looked at.
        let first = only.as_ref().and_then(|only| only.first()).map_or(0, |run| run.first);
        let mut from = asked.from.max(first);
        for _ in 0..PAGES_MAX {
            let page = PAGE.min(limit - tasks.len());
            let found = replica.read(|state| {
                state.list_tasks(job, from, page, &states, only.as_ref()).ok_or_else(|| no_job(state, job))
            });
            let (found, rest) = found?;
            tasks.extend(found);
            let Some(rest) = rest else { return Ok((index, tasks, None)) };
            from = rest;
            if tasks.len() >= limit {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok((index, tasks, Some(from)))
    }

    pub async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainReply>, Status> {
        let call = Call::of(self, request.metadata());
        let asked = request.into_inner();
        let result =
            self.look(&call, asked.stale, |state| explanation(state, JobId(asked.job), asked.task)).await;
        self.answer(
            result.map(|(index, explanation)| v1::ExplainReply {
                index,
                ..v1::ExplainReply::from(&explanation)
            }),
        )
    }

    pub async fn list_queues(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ListQueuesReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.look(&call, request.into_inner().stale, |state| Ok(state.queue_views())).await;
        self.answer(result.map(|(index, queues)| v1::ListQueuesReply {
            index,
            queues: queues.iter().map(v1::Queue::from).collect(),
        }))
    }

    pub async fn list_bookings(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ListBookingsReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.look(&call, request.into_inner().stale, |state| Ok(state.booking_views())).await;
        self.answer(result.map(|(index, bookings)| v1::ListBookingsReply {
            index,
            bookings: bookings.iter().map(v1::Booking::from).collect(),
        }))
    }

    pub async fn list_workers(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.look(&call, request.into_inner().stale, |state| Ok(state.worker_views())).await;
        self.answer(result.map(|(index, workers)| v1::ListWorkersReply {
            index,
            workers: workers.iter().map(v1::Worker::from).collect(),
        }))
    }

    pub async fn get_settings(
        &self,
        request: Request<v1::ReadRequest>,
    ) -> Result<Response<v1::SettingsReply>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.look(&call, request.into_inner().stale, |state| Ok(state.settings().clone())).await;
        self.answer(result.and_then(|(index, settings)| {
            let settings_json = serde_json::to_string(&settings)
                .map_err(|error| Failure::new(code::INTERNAL, Code::Internal, error.to_string()))?;
            Ok(v1::SettingsReply { index, settings_json })
        }))
    }
}

fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

fn at_most(asked: u32, default: u32, max: u32) -> usize {
    let wanted = if asked == 0 { default } else { asked };
    wanted.min(max) as usize
}

/// Why there is no such job to look at.
pub fn no_job(state: &State, id: JobId) -> Failure {
    let message = match state.tombstone(id) {
        Some(tombstone) => {
            format!("job {id} is {} since {} and no longer kept", tombstone.state, tombstone.finished.wall)
        }
        None => format!("job {id} is unknown"),
    };
    Failure::new(code::UNKNOWN_JOB, Code::NotFound, message).fix("see `baton ps` for the jobs there are")
}

pub fn no_task(id: TaskId) -> Failure {
    Failure::new(code::UNKNOWN_TASK, Code::NotFound, format!("job {} has no task {}", id.job, id.number))
        .fix(format!("see `baton job get {}` for its tasks", id.job))
}

fn explanation(state: &State, id: JobId, number: Option<u32>) -> Result<Explanation, Failure> {
    let job = state.job(id).ok_or_else(|| no_job(state, id))?;
    let task = TaskId { job: id, number: number.unwrap_or_else(|| first_waiting(job)) };
    scheduler::explain(state, task).ok_or_else(|| no_task(task))
}

/// The first task that waits, else the first.
fn first_waiting(job: &machine::Job) -> u32 {
    let first = |group: &machine::Group| {
        let sets =
            [&group.ready, &group.blocked].into_iter().filter_map(|set| set.first()).map(|run| run.first);
        sets.chain(group.delayed.keys().copied()).min().map(|position| group.first + position)
    };
    job.groups.iter().find_map(first).unwrap_or(0)
}
