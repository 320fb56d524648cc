//! Why a task does not run: every reason, from the same code that plans.

use std::collections::BTreeMap;

use machine::eligible::{Ineligible, accepts, has_room, unreserved};
use machine::state::index::ReadyKey;
use machine::state::sessions::Class;
use machine::views::{task_state, waits_for};
use machine::{Group, Job, Session, State};
use model::resources::format_amount;
use model::views::{Explanation, ReasonView, TaskState};
use model::{Run, TaskId};

/// Workers named in one reason.
const WORKERS_NAMED_MAX: usize = 20;

/// `None` if the task is not in the hot state.
pub fn explain(state: &State, id: TaskId) -> Option<Explanation> {
    let job = state.job(id.job)?;
    let (place, group) = job.group_of(id.number)?;
    let at = task_state(state, job, group, id.number - group.first);
    let mut reasons = match at {
        TaskState::Blocked => blocked(state, job, place),
        TaskState::Delayed => vec![delayed(state, job, group, id.number - group.first)],
        TaskState::Ready => ready(state, job, place, id.number),
        _ => Vec::new(),
    };
    if !at.is_final() && at != TaskState::Running && at != TaskState::Placed {
        reasons.extend(held_back(state, job));
    }
    let summary = summary(job, at, &reasons, state, id);
    let name = job.task_spec(place).name.clone();
    Some(Explanation { task: id, name, state: at, summary, reasons })
}

fn summary(job: &Job, at: TaskState, reasons: &[ReasonView], state: &State, id: TaskId) -> String {
    let first = reasons.first().map(|reason| reason.message.clone());
    match at {
        TaskState::Running => format!("{id} is running"),
        TaskState::Placed => format!("{id} was given to a worker and is starting"),
        TaskState::Ready => match first {
            Some(reason) => format!("{id} is ready and waits: {reason}"),
            None => format!("{id} is ready and is placed at the next evaluation"),
        },
        TaskState::Skipped => {
            let note = state.task_view(id).map(|view| view.note).unwrap_or_default();
            format!("{id} was skipped: {note}")
        }
        at if at.is_final() => format!("{id} has {at}"),
        at => format!("{id} is {at}: {}", first.unwrap_or_else(|| format!("job {} holds it back", job.id))),
    }
}

fn reason(code: &str, message: String, count: u64, fix: &str) -> ReasonView {
    ReasonView { code: code.to_owned(), message, count, workers: Vec::new(), fix: fix.to_owned() }
}

fn blocked(state: &State, job: &Job, place: usize) -> Vec<ReasonView> {
    let note = waits_for(state, job, place);
    let waiting = u64::from(job.groups[place].waiting + job.waiting);
    let message = if note.is_empty() { "waits for earlier work".to_owned() } else { note };
    vec![reason(
        "dependencies",
        message,
        waiting,
        "look at what it waits for, or `baton job set --remove-after`",
    )]
}

fn delayed(state: &State, job: &Job, group: &Group, position: u32) -> ReasonView {
    use machine::state::jobs::Hold;
    let until = group.delayed.get(&position).copied();
    let message = match (until, job.hold) {
        (Some(at), _) => format!("waits {:?} before it is tried again", at.since(state.stamp().elapsed)),
        (None, Hold::Elapsed(at)) => format!("its job starts in {:?}", at.since(state.stamp().elapsed)),
        (None, Hold::Wall(at)) => format!("its job starts at {at}"),
        (None, Hold::None) => "its delay is over".to_owned(),
    };
    reason("delayed", message, 1, "")
}

fn held_back(state: &State, job: &Job) -> Vec<ReasonView> {
    let mut reasons = Vec::new();
    if job.paused {
        let fix = format!("baton resume {}", job.id);
        reasons.push(reason("job_paused", format!("job {} is paused", job.id), 1, &fix));
    }
    if let Some(queue) = state.queue(job.queue) {
        if queue.paused {
            let fix = format!("baton queue resume {}", queue.name);
            reasons.push(reason("queue_paused", format!("queue `{}` is paused", queue.name), 1, &fix));
        }
        if let Some(max) = queue.running_max.filter(|_| queue.room() == 0) {
            let message = format!("queue `{}` runs its running_max of {max} tasks", queue.name);
            let fix = format!("wait, or baton queue put {} --running-max N", queue.name);
            reasons.push(reason("queue_full", message, max.into(), &fix));
        }
    }
    reasons
}

fn ready(state: &State, job: &Job, place: usize, number: u32) -> Vec<ReasonView> {
    let group = &job.groups[place];
    let Some(class) = state.class(group.class) else { return Vec::new() };
    let sessions: Vec<&Session> = state.sessions().filter(|session| !session.ended).collect();
    let mut reasons = Vec::new();
    if sessions.is_empty() {
        let known = state.workers().count() as u64;
        let fix = "start one: baton worker --servers ADDRESS";
        reasons.push(reason("no_workers", format!("no worker is live ({known} known)"), 0, fix));
    }
    let (why, open) = refusals(state, class, &sessions, job, number);
    reasons.extend(too_large(class, &sessions, &why));
    reasons.extend(by_kind(why));
    let ahead = ahead(state, job, place);
    if open > 0 && ahead > 0 {
        let message = format!("{ahead} entries of the queue come before it");
        reasons.push(reason("behind_others", message, ahead, "baton job set --priority N"));
    }
    reasons.extend(gone(state));
    reasons
}

/// Why each session does not take it, and how many would.
fn refusals(
    state: &State,
    class: &Class,
    sessions: &[&Session],
    job: &Job,
    number: u32,
) -> (BTreeMap<Ineligible, Vec<String>>, u64) {
    let (mut why, mut open) = (BTreeMap::<Ineligible, Vec<String>>::new(), 0);
    for session in sessions {
        let verdict = accepts(state, session, &class.key)
            .and_then(|()| unreserved(state, session, job.id, Run::new(number, 1)))
            .and_then(|()| has_room(&session.room(), &class.key));
        match verdict {
            Ok(()) => open += 1,
            Err(refusal) => why.entry(refusal).or_default().push(session.worker.clone()),
        }
    }
    (why, open)
}

/// If no worker could ever take it: by how much it is too large for the largest.
fn too_large(
    class: &Class,
    sessions: &[&Session],
    why: &BTreeMap<Ineligible, Vec<String>>,
) -> Option<ReasonView> {
    let never = |refusal: &Ineligible| matches!(refusal, Ineligible::TooLarge { .. });
    if sessions.is_empty() || !why.keys().all(never) {
        return None;
    }
    let largest =
        |name: &str| sessions.iter().map(|session| session.capacity.total.get(name)).max().unwrap_or(0);
    let short = class.key.resources.iter().filter(|(name, asked)| *asked > largest(name));
    let parts: Vec<String> = short
        .map(|(name, asked)| {
            let (most, amount) = (largest(name), |amount| format_amount(name, amount));
            format!(
                "asks for {name} {}, the largest worker has {}: {} too much",
                amount(asked),
                amount(most),
                amount(asked - most)
            )
        })
        .collect();
    if parts.is_empty() {
        return None;
    }
    let fix = "submit it with less, or start a worker that has as much";
    Some(reason("fits_no_worker", parts.join("; "), sessions.len() as u64, fix))
}

/// Refusals that differ only in their figures are one reason, with the workers by name.
fn by_kind(why: BTreeMap<Ineligible, Vec<String>>) -> Vec<ReasonView> {
    let mut merged: BTreeMap<&'static str, ReasonView> = BTreeMap::new();
    for (refusal, workers) in why {
        let (code, fix) = code_and_fix(&refusal);
        let entry = merged.entry(code).or_insert_with(|| reason(code, refusal.to_string(), 0, fix));
        entry.count += workers.len() as u64;
        entry.workers.extend(workers);
        entry.workers.truncate(WORKERS_NAMED_MAX);
    }
    let mut reasons: Vec<ReasonView> = merged.into_values().collect();
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    reasons
}

fn code_and_fix(refusal: &Ineligible) -> (&'static str, &'static str) {
    match refusal {
        Ineligible::TooLarge { .. } => ("too_large", "ask for less, or start a larger worker"),
        Ineligible::NoRoom { .. } => ("no_room", "wait for running tasks to end, or start more workers"),
        Ineligible::Cordoned => ("cordoned", "baton worker uncordon NAME"),
        Ineligible::Draining => ("draining", "baton worker uncordon NAME, or start another worker"),
        Ineligible::Reserved { .. } => {
            ("reserved", "wait until the task that has waited longest has been placed")
        }
        Ineligible::Kind { .. } => ("kind", "start a worker that runs this kind of task"),
        Ineligible::Function { .. } => ("function", "start a worker that registers this function"),
        Ineligible::Label { .. } => ("labels", "start a worker with that label, or change the constraint"),
        Ineligible::SessionEnded => ("worker_gone", "start the worker again"),
        Ineligible::UnknownJob
        | Ineligible::NotReady
        | Ineligible::JobPaused
        | Ineligible::JobCancelled
        | Ineligible::QueuePaused
        | Ineligible::QueueFull { .. } => ("not_ready", ""),
    }
}

/// Groups of the queue that come before this one.
fn ahead(state: &State, job: &Job, place: usize) -> u64 {
    let key = ReadyKey { priority: std::cmp::Reverse(job.priority), job: job.id, group: place as u32 };
    let lists = state.ready().range((job.queue, 0)..=(job.queue, u32::MAX));
    // Counted up to a bound: a page is enough to say "many".
    lists.map(|(_, keys)| keys.range(..key).take(10_000).count() as u64).sum()
}

fn gone(state: &State) -> Option<ReasonView> {
    let gone: Vec<String> =
        state.workers().filter(|worker| worker.session.is_none()).map(|worker| worker.name.clone()).collect();
    if gone.is_empty() {
        return None;
    }
    let message = "workers that were here are gone".to_owned();
    let count = gone.len() as u64;
    let workers = gone.into_iter().take(WORKERS_NAMED_MAX).collect();
    Some(ReasonView {
        workers,
        ..reason("worker_gone", message, count, "start them again, or baton worker forget NAME")
    })
}
