//! Output of attempts. It lies on the worker that ran them; the leader asks for it over the worker's stream, and
//! any other replica passes the leader's answer on. What is missing is said, with the reason.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt, stream};
use model::views::{TaskState, TaskView};
use model::{JobId, TaskId};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Request, Response, Status};
use wire::error::{Failure, code};
use wire::v1;

use crate::api::call::Call;
use crate::api::forward::{marked, silent, told};
use crate::api::read::{no_job, no_task};
use crate::api::{Api, Replies, Running};
use crate::lead::FetchError;
use crate::ring::Position;

/// How often it is looked whether there still is a cluster to wait for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What can be said of the output before a worker is asked.
enum Begin {
    /// This attempt has output, or had.
    Attempt(u32),
    /// There is none, and why.
    None(String),
    /// There is none yet.
    Later,
}

impl Api {
    pub async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Replies<v1::LogsReply>>, Status> {
        let call = Call::of(self, request.metadata());
        let result = self.open_logs(&call, request.into_inner()).await;
        self.answer(result.map(|replies| replies.take_until(self.stopped()).boxed()))
    }

    async fn open_logs(
        &self,
        call: &Call,
        asked: v1::LogsRequest,
    ) -> Result<Replies<v1::LogsReply>, Failure> {
        let running = self.running_by(&call.deadline).await?;
        let place = self.shared.logs.clone().try_acquire_owned().map_err(|_| {
            let limit = self.shared.config.limits.logs_max;
            let message = format!("this replica has logs_max = {limit} outputs open");
            Failure::new(code::LIMIT, Code::ResourceExhausted, message).fix("read through another replica")
        })?;
        if running.leads() {
            // Raft's view of who leads may be old: without a quorum's word this state may be, too.
            self.reader(call, false).await?;
            begin(running, &asked)?;
            return Ok(held(self.clone().local_logs(asked), place));
        }
        if call.forwarded {
            return Err(Failure::not_leader(running.leader_address()));
        }
        let leader =
            running.leader_address().ok_or_else(|| Failure::no_leader("the cluster has no leader"))?;
        let mut there = self.shared.leaders.at(&leader)?;
        let opened = call.deadline.run(there.logs(marked(asked, None))).await;
        match opened {
            Some(Ok(replies)) => Ok(held(replies.into_inner(), place)),
            Some(Err(status)) => Err(told(&leader, &status)),
            None => Err(silent(&leader)),
        }
    }

    fn local_logs(self, asked: v1::LogsRequest) -> impl Stream<Item = Result<v1::LogsReply, Status>> + Send {
        stream::once(self.begun_logs(asked)).try_flatten()
    }

    async fn begun_logs(self, asked: v1::LogsRequest) -> Result<Replies<v1::LogsReply>, Status> {
        let running = self.running()?;
        loop {
            // Before the look: what changes after it is noticed.
            let seen = running.ring.newest();
            match begin(running, &asked)? {
                Begin::Attempt(attempt) => return fetch(running, asked, attempt).await,
                Begin::None(note) => return Ok(only(asked.attempt, note)),
                Begin::Later if asked.follow => self.wait_for_news(running, seen).await?,
                Begin::Later => {
                    let task = task_id(&asked);
                    return Ok(only(asked.attempt, format!("{task} has not started yet")));
                }
            }
            if !running.leads() {
                return Err(Failure::not_leader(running.leader_address()).into());
            }
        }
    }
}

impl Api {
    /// Returns when something was applied after `seen`, or after a while; an error if nothing may ever be.
    async fn wait_for_news(&self, running: &Running, seen: Position) -> Result<(), Failure> {
        let news = running.ring.wait_beyond(seen);
        if tokio::time::timeout(LOOK_EVERY, news).await.is_ok() {
            return Ok(());
        }
        self.readiness().map_err(|why| Failure::no_leader(format!("this replica cannot serve: {why}")))
    }
}

// The place is given back when the stream ends.
fn held(
    replies: impl Stream<Item = Result<v1::LogsReply, Status>> + Send + 'static,
    place: OwnedSemaphorePermit,
) -> Replies<v1::LogsReply> {
    let place = Arc::new(place);
    replies
        .map(move |reply| {
            let _held = &place;
            reply
        })
        .boxed()
}

fn task_id(asked: &v1::LogsRequest) -> TaskId {
    TaskId { job: JobId(asked.job), number: asked.task }
}

fn begin(running: &Running, asked: &v1::LogsRequest) -> Result<Begin, Failure> {
    let id = task_id(asked);
    let view = running.replica.read(|state| match state.task_view(id) {
        Some(view) => Ok(view),
        None if state.job(id.job).is_some() => Err(no_task(id)),
        None => Err(no_job(state, id.job)),
    })?;
    Ok(begin_of(&view, asked.attempt))
}

fn begin_of(task: &TaskView, attempt: u32) -> Begin {
    let wanted = if attempt == 0 { task.attempt } else { attempt };
    let waits = matches!(task.state, TaskState::Blocked | TaskState::Delayed | TaskState::Ready);
    match (wanted, task.attempt) {
        (0, _) if waits => Begin::Later,
        (0, _) => Begin::None(format!("{} is {} and never ran", task.id, task.state)),
        (wanted, last) if wanted <= last => Begin::Attempt(wanted),
        (_, _) if !task.state.is_final() => Begin::Later,
        (wanted, last) => Begin::None(format!("{} had {last} attempts, not {wanted}", task.id)),
    }
}

async fn fetch(
    running: &Running,
    asked: v1::LogsRequest,
    attempt: u32,
) -> Result<Replies<v1::LogsReply>, Status> {
    let wanted = v1::FetchLog {
        fetch: 0,
        job: asked.job,
        task: asked.task,
        attempt,
        follow: asked.follow,
        stdout_offset: asked.stdout_offset,
        stderr_offset: asked.stderr_offset,
    };
    match running.lead.fetch_log(wanted).await {
        Ok(chunks) => Ok(chunks.map_err(|error| Failure::from(error).into()).boxed()),
        Err(error @ FetchError::NotLeader { .. }) => Err(Failure::from(error).into()),
        Err(error) => Ok(only(attempt, with_tail(running, &asked, attempt, error.to_string()))),
    }
}

/// Of a failed attempt the state keeps the last of its output.
fn with_tail(running: &Running, asked: &v1::LogsRequest, attempt: u32, note: String) -> String {
    let view = running.replica.read(|state| state.task_view(task_id(asked)));
    let kept = view.and_then(|view| {
        let outcome =
            view.outcome.into_iter().chain(view.earlier).find(|outcome| outcome.attempt == attempt)?;
        Some(outcome.message).filter(|message| !message.is_empty())
    });
    match kept {
        Some(tail) => format!("{note}; what the cluster kept of it:\n{tail}"),
        None => note,
    }
}

/// No output but a note.
fn only(attempt: u32, note: String) -> Replies<v1::LogsReply> {
    let reply = v1::LogsReply { attempt, note, end: true, ..Default::default() };
    stream::once(async { Ok(reply) }).boxed()
}
