//! Writes. Each carries a request id, minted here unless one was given, and comes back with it.

use std::time::Duration;

use model::policy::{Backfill, Mode, Order};
use model::time::micros;
use model::{
    Constraint, Dependency, JobId, JobSpec, LogIndex, RequestId, Resources, RunSet, Settings, TaskSpec,
    Timestamp,
};
use tonic::{Request, Response, Status};
use wire::error::{Failure, Happened, code};
use wire::v1;

use crate::call::Stub;
use crate::{Client, Error};

/// An accepted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub job: JobId,
    pub request_id: RequestId,
    /// Of the log entry that holds it.
    pub index: LogIndex,
}

/// A write that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    pub request_id: RequestId,
    /// Tasks touched, where that has a meaning.
    pub changed: u64,
    pub index: LogIndex,
}

/// Tasks of a job by number; `None` is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub job: JobId,
    pub tasks: Option<RunSet>,
}

impl Target {
    pub fn job(job: JobId) -> Target {
        Target { job, tasks: None }
    }

    fn wire(&self) -> v1::Target {
        let runs = self.tasks.iter().flat_map(RunSet::runs);
        v1::Target { job: self.job.0, tasks: runs.map(v1::Run::from).collect() }
    }
}

/// What may change while tasks of a job wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobChange {
    pub priority: Option<i32>,
    pub queue: Option<String>,
    pub add_after: Vec<Edge>,
    pub remove_after: Vec<Edge>,
}

/// What may change of a queue; what is absent stays as it is, or is the default of a new queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueChange {
    /// 1 to 10,000.
    pub weight: Option<u32>,
    /// Tasks that may be placed at once.
    pub running_max: Option<u32>,
    /// Takes that ceiling away.
    pub no_running_max: bool,
    pub order: Option<Order>,
    /// Waiting so long adds one to a priority; zero: never.
    pub ageing: Option<Duration>,
    pub backfill: Option<Backfill>,
    /// Whether running tasks give way to those of a higher priority.
    pub preempt: Option<bool>,
    /// A time slice of the order `round-robin`, 10 ms to 24 h.
    pub quantum: Option<Duration>,
    /// Who gives its tasks to workers.
    pub mode: Option<Mode>,
    /// Whether the cluster sets order and backfill by itself.
    pub auto: Option<bool>,
    /// Weights of users for the order `fair`, 1 to 10,000. Who is not named keeps its own.
    pub shares: Vec<(String, u32)>,
}

/// Capacity that only one queue may use for a time, or nobody: whole workers by name, or `count` times `resources`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Booking {
    pub name: String,
    /// Whose tasks may use it. `None`: nobody's.
    pub queue: Option<String>,
    /// `None`: from now on.
    pub from: Option<Timestamp>,
    /// 1 s to 366 days.
    pub length: Duration,
    pub workers: Vec<String>,
    pub count: u32,
    /// Of each, on one worker.
    pub resources: Resources,
    /// What its workers are to be like.
    pub constraints: Vec<Constraint>,
}

/// Periodic tasks that are to meet their deadlines together.
#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicSet {
    pub name: String,
    /// `Rms`, `Dms` or `Edf`.
    pub order: Order,
    /// Tasks that run at a time, 1 to 64; each task gets a slot of its own.
    pub slots: u32,
    /// A task stands still while one that comes before it, on its slot, runs: each is a process that asks for processor time.
    pub preemptive: bool,
    /// 1 to 256.
    pub tasks: Vec<PeriodicTask>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PeriodicTask {
    pub name: String,
    /// C, T and D: `C <= D <= T`, and a period is at least 100 ms.
    pub run_time: Duration,
    pub period: Duration,
    pub deadline: Duration,
    /// What is done at each release.
    pub task: TaskSpec,
}

/// `task` of the job (`None`: every task) waits for `on`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    pub task: Option<String>,
    pub on: Dependency,
}

impl Edge {
    fn wire(&self) -> v1::Edge {
        v1::Edge { task: self.task.clone().unwrap_or_default(), on: self.on.to_string() }
    }
}

/// Whether a request id was refused for its time, and nothing was done under it.
pub(crate) fn is_misdated(failure: &Failure) -> bool {
    failure.code == code::REQUEST_EXPIRED && failure.happened == Happened::No
}

pub(crate) fn submit_request(header: v1::WriteHeader, spec: &JobSpec) -> v1::SubmitRequest {
    v1::SubmitRequest { header: Some(header), spec: Some(spec.into()) }
}

impl Client {
    pub(crate) fn header(&self, id: RequestId) -> v1::WriteHeader {
        let options = &self.shared.options;
        v1::WriteHeader {
            request_id: id.to_string(),
            tenant: String::new(),
            user: options.user.clone(),
            via: options.via.clone(),
            traceparent: options.traceparent.clone(),
        }
    }

    /// Under the given request id, or a new one. One that was made by a clock that is off is made anew once: by the
    /// refusal the cluster's clock is known.
    async fn send_named<Q, A, F, Fut>(
        &self,
        message: impl Fn(v1::WriteHeader) -> Q,
        send: F,
    ) -> Result<(RequestId, A), Error>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<A>, Status>>,
    {
        let id = self.request_id.unwrap_or_else(|| self.mint());
        let first = self.shared.call(message(self.header(id)), Some(id), &send).await;
        match first {
            Ok(reply) => Ok((id, reply)),
            Err(error) if self.request_id.is_none() && is_misdated(&error.failure) => {
                let id = self.mint();
                Ok((id, self.shared.call(message(self.header(id)), Some(id), &send).await?))
            }
            Err(error) => Err(error),
        }
    }

    async fn write<Q, F, Fut>(
        &self,
        message: impl Fn(v1::WriteHeader) -> Q,
        send: F,
    ) -> Result<Changed, Error>
    where
        Q: Clone,
        F: Fn(Stub, Request<Q>) -> Fut,
        Fut: Future<Output = Result<Response<v1::ChangeReply>, Status>>,
    {
        let (id, reply) = self.send_named(message, send).await?;
        Ok(Changed {
            request_id: reply.request_id.parse().unwrap_or(id),
            changed: reply.changed,
            index: reply.index,
        })
    }

    pub async fn submit(&self, spec: &JobSpec) -> Result<Submitted, Error> {
        let message = |header| submit_request(header, spec);
        let send = |mut stub: Stub, request| async move { stub.submit(request).await };
        let (id, reply) = self.send_named(message, send).await?;
        let request_id = reply.request_id.parse().unwrap_or(id);
        Ok(Submitted { job: JobId(reply.job), request_id, index: reply.index })
    }

    /// Returns at the commit; the processes end a moment later.
    pub async fn cancel(&self, targets: &[Target]) -> Result<Changed, Error> {
        let targets: Vec<v1::Target> = targets.iter().map(Target::wire).collect();
        let message = |header| v1::CancelRequest { header: Some(header), targets: targets.clone() };
        self.write(message, |mut stub: Stub, request| async move { stub.cancel(request).await }).await
    }

    /// Opens the next round of what failed, and unless `failed_only` of what was cancelled.
    pub async fn retry(&self, targets: &[Target], failed_only: bool) -> Result<Changed, Error> {
        let targets: Vec<v1::Target> = targets.iter().map(Target::wire).collect();
        let message =
            |header| v1::RetryRequest { header: Some(header), targets: targets.clone(), failed_only };
        self.write(message, |mut stub: Stub, request| async move { stub.retry(request).await }).await
    }

    pub async fn pause(&self, jobs: &[JobId]) -> Result<Changed, Error> {
        let message = |header| jobs_request(header, jobs);
        self.write(message, |mut stub: Stub, request| async move { stub.pause(request).await }).await
    }

    pub async fn resume(&self, jobs: &[JobId]) -> Result<Changed, Error> {
        let message = |header| jobs_request(header, jobs);
        self.write(message, |mut stub: Stub, request| async move { stub.resume(request).await }).await
    }

    pub async fn set_job(&self, job: JobId, change: &JobChange) -> Result<Changed, Error> {
        let message = |header| v1::SetJobRequest {
            header: Some(header),
            job: job.0,
            priority: change.priority,
            queue: change.queue.clone(),
            add_after: change.add_after.iter().map(Edge::wire).collect(),
            remove_after: change.remove_after.iter().map(Edge::wire).collect(),
        };
        self.write(message, |mut stub: Stub, request| async move { stub.set_job(request).await }).await
    }

    /// Creates a queue or changes it. What is absent stays as it is, or is the default of a new queue.
    pub async fn put_queue(
        &self,
        name: &str,
        weight: Option<u32>,
        running_max: Option<u32>,
    ) -> Result<Changed, Error> {
        let name = name.to_owned();
        self.put(v1::PutQueueRequest { name, weight, running_max, ..Default::default() }).await
    }

    /// The same with everything that a queue has.
    pub async fn change_queue(&self, name: &str, change: &QueueChange) -> Result<Changed, Error> {
        self.put(v1::PutQueueRequest {
            header: None,
            name: name.to_owned(),
            weight: change.weight,
            running_max: change.running_max,
            no_running_max: change.no_running_max,
            order: change.order.map(|order| order.to_string()),
            ageing_us: change.ageing.map(micros),
            backfill: change.backfill.map(|backfill| backfill.to_string()),
            preempt: change.preempt,
            quantum_us: change.quantum.map(micros),
            mode: change.mode.map(|mode| mode.to_string()),
            auto: change.auto,
            shares: change.shares.iter().cloned().collect(),
        })
        .await
    }

    async fn put(&self, queue: v1::PutQueueRequest) -> Result<Changed, Error> {
        let message = |header| v1::PutQueueRequest { header: Some(header), ..queue.clone() };
        self.write(message, |mut stub: Stub, request| async move { stub.put_queue(request).await }).await
    }

    pub async fn pause_queue(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| queue_request(header, name);
        self.write(message, |mut stub: Stub, request| async move { stub.pause_queue(request).await }).await
    }

    pub async fn resume_queue(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| queue_request(header, name);
        self.write(message, |mut stub: Stub, request| async move { stub.resume_queue(request).await }).await
    }

    pub async fn delete_queue(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| queue_request(header, name);
        self.write(message, |mut stub: Stub, request| async move { stub.delete_queue(request).await }).await
    }

    /// Sets the queue's policy back to what it was before the cluster changed it by itself, and lets it do so no more.
    pub async fn undo_queue(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| queue_request(header, name);
        self.write(message, |mut stub: Stub, request| async move { stub.undo_queue(request).await }).await
    }

    /// Makes the booking, or one of that name anew.
    pub async fn put_booking(&self, booking: &Booking) -> Result<Changed, Error> {
        let asked = v1::PutBookingRequest {
            header: None,
            name: booking.name.clone(),
            queue: booking.queue.clone().unwrap_or_default(),
            from_unix_us: booking.from.map(|at| at.0),
            length_us: micros(booking.length),
            workers: booking.workers.clone(),
            count: booking.count,
            resources: Some((&booking.resources).into()),
            constraints: booking.constraints.iter().map(ToString::to_string).collect(),
        };
        let message = |header| v1::PutBookingRequest { header: Some(header), ..asked.clone() };
        self.write(message, |mut stub: Stub, request| async move { stub.put_booking(request).await }).await
    }

    pub async fn delete_booking(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| v1::BookingRequest { header: Some(header), name: name.to_owned() };
        self.write(message, |mut stub: Stub, request| async move { stub.delete_booking(request).await }).await
    }

    /// Releases the tasks of the set from now on; refused, with the test and who misses first, if they cannot meet their deadlines.
    pub async fn put_periodic(&self, set: &PeriodicSet) -> Result<Changed, Error> {
        let task = |task: &PeriodicTask| v1::PeriodicTask {
            name: task.name.clone(),
            run_time_us: micros(task.run_time),
            period_us: micros(task.period),
            deadline_us: micros(task.deadline),
            task: Some((&task.task).into()),
        };
        let asked = v1::PutPeriodicRequest {
            header: None,
            name: set.name.clone(),
            policy: set.order.to_string(),
            slots: set.slots,
            preemptive: set.preemptive,
            tasks: set.tasks.iter().map(task).collect(),
        };
        let message = |header| v1::PutPeriodicRequest { header: Some(header), ..asked.clone() };
        self.write(message, |mut stub: Stub, request| async move { stub.put_periodic(request).await }).await
    }

    /// No more releases; what was released goes on.
    pub async fn delete_periodic(&self, name: &str) -> Result<Changed, Error> {
        let message = |header| v1::PeriodicRequest { header: Some(header), name: name.to_owned() };
        self.write(message, |mut stub: Stub, request| async move { stub.delete_periodic(request).await })
            .await
    }

    pub async fn cordon(&self, worker: &str) -> Result<Changed, Error> {
        let message = |header| worker_request(header, worker);
        self.write(message, |mut stub: Stub, request| async move { stub.cordon(request).await }).await
    }

    pub async fn uncordon(&self, worker: &str) -> Result<Changed, Error> {
        let message = |header| worker_request(header, worker);
        self.write(message, |mut stub: Stub, request| async move { stub.uncordon(request).await }).await
    }

    pub async fn drain(&self, worker: &str) -> Result<Changed, Error> {
        let message = |header| worker_request(header, worker);
        self.write(message, |mut stub: Stub, request| async move { stub.drain(request).await }).await
    }

    pub async fn forget_worker(&self, worker: &str) -> Result<Changed, Error> {
        let message = |header| worker_request(header, worker);
        self.write(message, |mut stub: Stub, request| async move { stub.forget_worker(request).await }).await
    }

    pub async fn put_settings(&self, settings: &Settings) -> Result<Changed, Error> {
        let json = serde_json::to_string(settings).map_err(|error| {
            let message = format!("the settings cannot be written: {error}");
            Error::of(Failure::new(code::INVALID_SPEC, tonic::Code::InvalidArgument, message))
        })?;
        let message = |header| v1::PutSettingsRequest { header: Some(header), settings_json: json.clone() };
        self.write(message, |mut stub: Stub, request| async move { stub.put_settings(request).await }).await
    }

    /// Changes one setting, as in `limits.queues_max` and `10`; the others stay as they are when it is applied.
    pub async fn put_setting(&self, path: &str, value: &str) -> Result<Changed, Error> {
        let message = |header| v1::PutSettingRequest {
            header: Some(header),
            path: path.to_owned(),
            value: value.to_owned(),
        };
        self.write(message, |mut stub: Stub, request| async move { stub.put_setting(request).await }).await
    }

    /// Raises the behaviour level of the cluster, if every replica knows it: for good.
    pub async fn upgrade(&self, level: u32) -> Result<Changed, Error> {
        let message = |header| v1::UpgradeRequest { header: Some(header), level };
        self.write(message, |mut stub: Stub, request| async move { stub.upgrade(request).await }).await
    }

    /// Returns the name of the new leader. `to` absent: the replica chooses the most up to date.
    pub async fn transfer_leader(&self, to: Option<&str>) -> Result<String, Error> {
        let message = v1::TransferLeaderRequest { to: to.unwrap_or_default().to_owned() };
        let send = |mut stub: Stub, request| async move { stub.transfer_leader(request).await };
        Ok(self.shared.call(message, None, send).await?.leader)
    }
}

fn jobs_request(header: v1::WriteHeader, jobs: &[JobId]) -> v1::JobsRequest {
    v1::JobsRequest { header: Some(header), jobs: jobs.iter().map(|job| job.0).collect() }
}

fn queue_request(header: v1::WriteHeader, name: &str) -> v1::QueueRequest {
    v1::QueueRequest { header: Some(header), name: name.to_owned() }
}

fn worker_request(header: v1::WriteHeader, name: &str) -> v1::WorkerRequest {
    v1::WorkerRequest { header: Some(header), name: name.to_owned() }
}
