//! What watchers see.

use machine::Event;
use model::views::{JobState, TaskState, WorkerState};
use model::{JobId, Run};

use super::{Errors, Malformed, none_if_empty, word};
use crate::v1;
use crate::v1::watch_reply::Event as WireEvent;

impl From<&Event> for WireEvent {
    fn from(event: &Event) -> WireEvent {
        match event {
            Event::Job { job, state } => {
                WireEvent::Job(v1::JobEvent { job: job.0, state: state.name().to_owned() })
            }
            Event::Tasks { job, tasks, state, attempt, worker } => WireEvent::Tasks(v1::TasksEvent {
                job: job.0,
                tasks: Some((*tasks).into()),
                state: state.name().to_owned(),
                attempt: *attempt,
                worker: worker.clone().unwrap_or_default(),
            }),
            Event::Worker { worker, state } => {
                WireEvent::Worker(v1::WorkerEvent { worker: worker.clone(), state: state.to_string() })
            }
            Event::Queue { queue } => WireEvent::Queue(v1::QueueEvent { queue: queue.clone() }),
        }
    }
}

/// `None` for the two messages of the stream that are no events: where it begins, and that it was compacted.
pub fn event(event: WireEvent) -> Result<Option<Event>, Malformed> {
    let mut errors = Errors::default();
    let event = match event {
        WireEvent::Begin(_) | WireEvent::Compacted(_) => return Ok(None),
        WireEvent::Job(event) => Event::Job {
            job: JobId(event.job),
            state: errors.take("state", word::read(&event.state, "job state"), JobState::Waiting),
        },
        WireEvent::Tasks(event) => Event::Tasks {
            job: JobId(event.job),
            tasks: errors.take("tasks", event.tasks.unwrap_or_default().try_into(), Run::new(0, 1)),
            state: errors.take("state", word::read(&event.state, "task state"), TaskState::Ready),
            attempt: event.attempt,
            worker: none_if_empty(event.worker),
        },
        WireEvent::Worker(event) => Event::Worker {
            worker: event.worker,
            state: errors.take("state", word::read(&event.state, "worker state"), WorkerState::Gone),
        },
        WireEvent::Queue(event) => Event::Queue { queue: event.queue },
    };
    errors.finish(Some(event))
}
