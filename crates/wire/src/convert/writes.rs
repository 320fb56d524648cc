//! What writes carry beside a spec: who asks, under which request id, and for which tasks.

use std::time::Duration;

use machine::command::weight_refusal;
use machine::{CLAIMS_MAX, Edge, JobChange, Op, Placement, QueueSpec, Target};
use model::actor::TENANT_DEFAULT;
use model::policy::{Backfill, Mode, Order};
use model::validate::{NAME_BYTES_MAX, is_name};
use model::{Actor, Dependency, JobId, RequestId, Run, SessionId, TraceId};

use super::{Errors, Malformed, none_if_empty, run_set};
use crate::v1;

/// Who asks; an empty tenant is the default one. Short, because it is kept with everything that is written.
pub fn actor(header: &v1::WriteHeader) -> Result<Actor, Malformed> {
    let mut errors = Errors::default();
    for (field, text) in [("tenant", &header.tenant), ("user", &header.user), ("via", &header.via)] {
        if text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
            errors.refuse(
                format!("header.{field}"),
                format!("has at most {NAME_BYTES_MAX} bytes and no control characters"),
            );
        }
    }
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise } else { text }.to_owned();
    errors.finish(Actor {
        tenant: or(&header.tenant, TENANT_DEFAULT),
        user: header.user.clone(),
        via: or(&header.via, "api"),
        // As the standard has it: what cannot be read is as if it were not there.
        trace: TraceId::of_traceparent(&header.traceparent),
    })
}

/// The name of a queue or a worker. A refusal of the state repeats it and is remembered, so it is looked at before.
pub fn name(text: String) -> Result<String, Malformed> {
    let mut errors = Errors::default();
    refuse_unless_name(&mut errors, "name", &text);
    errors.finish(text)
}

pub(super) fn refuse_unless_name(errors: &mut Errors, path: &str, text: &str) {
    if !is_name(text) {
        errors.refuse(path, format!("has 1 to {NAME_BYTES_MAX} letters, digits, -, _ and . only"));
    }
}

/// The client's request id, if it sent one.
pub fn request_id(header: &v1::WriteHeader) -> Result<Option<RequestId>, Malformed> {
    if header.request_id.is_empty() {
        return Ok(None);
    }
    let mut errors = Errors::default();
    let parsed = header.request_id.parse::<RequestId>().map_err(|error| error.to_string());
    let id = errors.take("header.request_id", parsed, RequestId::default());
    errors.finish(Some(id))
}

impl From<&Target> for v1::Target {
    fn from(target: &Target) -> v1::Target {
        let runs = target.tasks.iter().flat_map(|tasks| tasks.runs());
        v1::Target { job: target.job.0, tasks: runs.map(v1::Run::from).collect() }
    }
}

pub fn target(target: v1::Target, path: &str) -> Result<Target, Malformed> {
    Ok(Target { job: JobId(target.job), tasks: run_set(target.tasks, &format!("{path}.tasks"))? })
}

/// What is to be cancelled or retried; naming nothing is an error.
pub fn targets(list: Vec<v1::Target>) -> Result<Vec<Target>, Malformed> {
    let mut errors = Errors::default();
    if list.is_empty() {
        errors.refuse("targets", "names no job");
    }
    let mut read = Vec::with_capacity(list.len());
    for (place, wire) in list.into_iter().enumerate() {
        match target(wire, &format!("targets[{place}]")) {
            Ok(target) => read.push(target),
            Err(list) => list.into_iter().for_each(|error| errors.refuse(error.path, error.message)),
        }
    }
    errors.finish(read)
}

impl From<&Edge> for v1::Edge {
    fn from(edge: &Edge) -> v1::Edge {
        v1::Edge { task: edge.task.clone().unwrap_or_default(), on: edge.on.to_string() }
    }
}

fn edges(errors: &mut Errors, path: &str, list: Vec<v1::Edge>) -> Vec<Edge> {
    let mut read = Vec::with_capacity(list.len());
    for (place, edge) in list.into_iter().enumerate() {
        if edge.on.is_empty() {
            errors.refuse(format!("{path}[{place}].on"), "names no task and no job");
        } else {
            refuse_unless_name(errors, &format!("{path}[{place}].on"), &edge.on);
        }
        if !edge.task.is_empty() {
            refuse_unless_name(errors, &format!("{path}[{place}].task"), &edge.task);
        }
        read.push(Edge { task: none_if_empty(edge.task), on: Dependency::from(edge.on.as_str()) });
    }
    read
}

/// The job and what is to change of it.
pub fn job_change(request: v1::SetJobRequest) -> Result<(JobId, JobChange), Malformed> {
    let mut errors = Errors::default();
    if let Some(queue) = &request.queue {
        refuse_unless_name(&mut errors, "queue", queue);
    }
    let change = JobChange {
        priority: request.priority,
        queue: request.queue,
        add_after: edges(&mut errors, "add_after", request.add_after),
        remove_after: edges(&mut errors, "remove_after", request.remove_after),
    };
    if change == JobChange::default() {
        errors.refuse("change", "changes nothing: give a priority, a queue or dependencies");
    }
    errors.finish((JobId(request.job), change))
}

pub fn queue_spec(request: v1::PutQueueRequest) -> Result<QueueSpec, Malformed> {
    let mut errors = Errors::default();
    let v1::PutQueueRequest {
        header: _,
        name,
        weight,
        running_max,
        no_running_max,
        order,
        ageing_us,
        backfill,
        shares,
        preempt,
        quantum_us,
        mode,
        auto,
    } = request;
    let mode = mode.map(|text| errors.take("mode", text.parse(), Mode::default()));
    let order = order.map(|text| errors.take("order", text.parse(), Order::default()));
    let backfill = backfill.map(|text| errors.take("backfill", text.parse(), Backfill::default()));
    let ageing = ageing_us.map(Duration::from_micros);
    let quantum = quantum_us.map(Duration::from_micros);
    if let Some(why) = weight.and_then(weight_refusal) {
        errors.refuse("weight", why);
    }
    for (user, share) in &shares {
        if let Some(why) = weight_refusal(*share) {
            errors.refuse(format!("shares.{user}"), why);
        }
    }
    let shares = shares.into_iter().collect();
    refuse_unless_name(&mut errors, "name", &name);
    if no_running_max && running_max.is_some() {
        errors.refuse("running_max", "give either running_max or no_running_max");
    }
    errors.finish(QueueSpec {
        name,
        weight,
        running_max,
        no_running_max,
        order,
        ageing,
        backfill,
        preempt,
        quantum,
        mode,
        auto,
        shares,
    })
}

/// What a replica has written into the claim: its tasks.
pub fn claim(request: v1::ClaimRequest) -> Result<Op, Malformed> {
    let mut errors = Errors::default();
    let session = SessionId(request.session);
    if request.tasks.is_empty() || request.tasks.len() > CLAIMS_MAX {
        errors.refuse("tasks", format!("{} are not 1 to {CLAIMS_MAX}", request.tasks.len()));
    }
    let mut placements = Vec::new();
    for (nth, claimed) in request.tasks.into_iter().take(CLAIMS_MAX).enumerate() {
        let v1::Run { first, len } = claimed.tasks.unwrap_or_default();
        let alternative = u8::try_from(claimed.alternative);
        if len == 0 || first.checked_add(len).is_none() {
            errors.refuse(format!("tasks[{nth}].tasks"), "names no task");
        } else if alternative.is_err() {
            errors.refuse(format!("tasks[{nth}].alternative"), "there are 8 at most");
        }
        placements.push(Placement {
            job: JobId(claimed.job),
            tasks: Run::new(first, len),
            session,
            held: false,
            alternative: alternative.unwrap_or_default(),
        });
    }
    errors.finish(Op::Claim { session, placements })
}

impl From<&Placement> for v1::ClaimedTasks {
    fn from(placement: &Placement) -> v1::ClaimedTasks {
        let Placement { job, tasks, alternative, .. } = placement;
        v1::ClaimedTasks { job: job.0, tasks: Some((*tasks).into()), alternative: (*alternative).into() }
    }
}
