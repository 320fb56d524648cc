//! Reads: linearizable through any replica, or stale on request. Each says as of which index.

use std::collections::BTreeMap;

use model::views::{
    AskedJob, BookingView, ClusterView, Explanation, JobState, JobView, PeriodicView, QueueView, TaskState,
    TaskView, WorkerView,
};
use model::{JobId, JobSpec, LogIndex, RunSet, Settings, SpecError, TaskId};
use wire::v1;

use crate::call::Stub;
use crate::{Client, Error};

/// A value as of an index of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Read<T> {
    pub index: LogIndex,
    pub value: T,
}

/// Part of a list. `next` is where the rest begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T, N> {
    pub items: Vec<T>,
    pub next: Option<N>,
}

/// Which jobs; what is empty or absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub queue: Option<String>,
    pub states: Vec<JobState>,
    pub name: Option<String>,
    pub user: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub unfinished_only: bool,
}

/// Which tasks of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// By number; absent: all.
    pub tasks: Option<RunSet>,
    pub states: Vec<TaskState>,
}

fn unreadable(errors: Vec<SpecError>) -> Error {
    let list: Vec<String> = errors.iter().map(SpecError::to_string).collect();
    Error::unreadable(list.join("; "))
}

fn items<W, T>(list: Vec<W>) -> Result<Vec<T>, Error>
where
    T: TryFrom<W, Error = Vec<SpecError>>,
{
    list.into_iter().map(|item| T::try_from(item).map_err(unreadable)).collect()
}

impl Client {
    async fn get_job_reply(&self, job: JobId, with_spec: bool) -> Result<v1::GetJobReply, Error> {
        let message = v1::GetJobRequest { job: job.0, stale: self.stale, with_spec };
        let send = |mut stub: Stub, request| async move { stub.get_job(request).await };
        self.shared.call(message, None, send).await
    }

    pub async fn get_job(&self, job: JobId) -> Result<Read<JobView>, Error> {
        let reply = self.get_job_reply(job, false).await?;
        let view = reply.job.ok_or_else(|| Error::unreadable("no job"))?;
        Ok(Read { index: reply.index, value: JobView::try_from(view).map_err(unreadable)? })
    }

    pub async fn get_spec(&self, job: JobId) -> Result<Read<JobSpec>, Error> {
        let reply = self.get_job_reply(job, true).await?;
        let spec = reply.spec.ok_or_else(|| Error::unreadable("no spec"))?;
        Ok(Read { index: reply.index, value: JobSpec::try_from(spec).map_err(unreadable)? })
    }

    /// Newest first. `limit` at most 1,000; `before` from an earlier page's `next`.
    pub async fn list_jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        before: Option<JobId>,
    ) -> Result<Read<Page<JobView, JobId>>, Error> {
        let (index, jobs, next) = self.jobs_page(filter, limit, before, false).await?;
        Ok(Read { index, value: Page { items: items(jobs)?, next } })
    }

    /// The same, each with what its tasks ask for.
    pub async fn list_asked_jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        before: Option<JobId>,
    ) -> Result<Read<Page<AskedJob, JobId>>, Error> {
        let (index, jobs, next) = self.jobs_page(filter, limit, before, true).await?;
        Ok(Read { index, value: Page { items: items(jobs)?, next } })
    }

    async fn jobs_page(
        &self,
        filter: &JobFilter,
        limit: u32,
        before: Option<JobId>,
        with_asked: bool,
    ) -> Result<(LogIndex, Vec<v1::Job>, Option<JobId>), Error> {
        let message = v1::ListJobsRequest {
            stale: self.stale,
            queue: filter.queue.clone().unwrap_or_default(),
            states: filter.states.iter().map(|state| state.name().to_owned()).collect(),
            name: filter.name.clone().unwrap_or_default(),
            user: filter.user.clone().unwrap_or_default(),
            labels: filter.labels.clone().into_iter().collect(),
            limit,
            before: before.map_or(0, |job| job.0),
            unfinished_only: filter.unfinished_only,
            with_asked,
        };
        let send = |mut stub: Stub, request| async move { stub.list_jobs(request).await };
        let reply = self.shared.call(message, None, send).await?;
        Ok((reply.index, reply.jobs, (reply.next != 0).then_some(JobId(reply.next))))
    }

    /// In order of their numbers. `limit` at most 10,000; `from` from an earlier page's `next`.
    pub async fn list_tasks(
        &self,
        job: JobId,
        filter: &TaskFilter,
        limit: u32,
        from: u32,
    ) -> Result<Read<Page<TaskView, u32>>, Error> {
        let message = v1::ListTasksRequest {
            job: job.0,
            stale: self.stale,
            tasks: filter.tasks.iter().flat_map(RunSet::runs).map(v1::Run::from).collect(),
            states: filter.states.iter().map(|state| state.name().to_owned()).collect(),
            limit,
            from,
        };
        let send = |mut stub: Stub, request| async move { stub.list_tasks(request).await };
        let reply = self.shared.call(message, None, send).await?;
        Ok(Read { index: reply.index, value: Page { items: items(reply.tasks)?, next: reply.next } })
    }

    /// Every page of [`Client::list_tasks`].
    pub async fn all_tasks(&self, job: JobId, filter: &TaskFilter) -> Result<Vec<TaskView>, Error> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let page = self.list_tasks(job, filter, 10_000, from).await?.value;
            all.extend(page.items);
            match page.next {
                Some(next) => from = next,
                None => return Ok(all),
            }
        }
    }

    /// One task.
    pub async fn get_task(&self, task: TaskId) -> Result<Option<TaskView>, Error> {
        let tasks = Some(RunSet::of(model::Run::new(task.number, 1)));
        let page =
            self.list_tasks(task.job, &TaskFilter { tasks, states: Vec::new() }, 1, task.number).await?;
        Ok(page.value.items.into_iter().next())
    }

    /// Why a task does not run. `task` absent: the first of the job that waits, else its first.
    pub async fn explain(&self, job: JobId, task: Option<u32>) -> Result<Read<Explanation>, Error> {
        let message = v1::ExplainRequest { job: job.0, task, stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.explain(request).await };
        let reply = self.shared.call(message, None, send).await?;
        Ok(Read { index: reply.index, value: Explanation::try_from(reply).map_err(unreadable)? })
    }

    pub async fn queues(&self) -> Result<Read<Vec<QueueView>>, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.list_queues(request).await };
        let reply = self.shared.call(message, None, send).await?;
        let value = reply.queues.into_iter().map(QueueView::from).collect();
        Ok(Read { index: reply.index, value })
    }

    pub async fn bookings(&self) -> Result<Read<Vec<BookingView>>, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.list_bookings(request).await };
        let reply = self.shared.call(message, None, send).await?;
        let value = reply.bookings.into_iter().map(BookingView::from).collect();
        Ok(Read { index: reply.index, value })
    }

    pub async fn periodic_sets(&self) -> Result<Read<Vec<PeriodicView>>, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.list_periodic(request).await };
        let reply = self.shared.call(message, None, send).await?;
        let value = reply.sets.into_iter().map(PeriodicView::from).collect();
        Ok(Read { index: reply.index, value })
    }

    pub async fn workers(&self) -> Result<Read<Vec<WorkerView>>, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.list_workers(request).await };
        let reply = self.shared.call(message, None, send).await?;
        Ok(Read { index: reply.index, value: items(reply.workers)? })
    }

    pub async fn cluster_status(&self) -> Result<ClusterView, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.cluster_status(request).await };
        Ok(self.shared.call(message, None, send).await?.into())
    }

    pub async fn settings(&self) -> Result<Read<Settings>, Error> {
        let message = v1::ReadRequest { stale: self.stale };
        let send = |mut stub: Stub, request| async move { stub.get_settings(request).await };
        let reply = self.shared.call(message, None, send).await?;
        let value = serde_json::from_str(&reply.settings_json).map_err(Error::unreadable)?;
        Ok(Read { index: reply.index, value })
    }
}
