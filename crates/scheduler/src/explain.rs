//! Why a task does not run: every reason, from the same code that plans.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use machine::state::index::{ReadyKey, ReadyList};
use machine::state::jobs::{Hold, On};
use machine::views::{expected_start, task_state, waits_for, waits_until};
use machine::{Group, Job, State};
use model::policy::{Backfill, Mode, Order};
use model::time::{format_duration, micros};
use model::views::{Explanation, ReasonView, TaskState};
use model::{Outcome, Reason, TaskId};

use crate::fit::Fit;
use crate::gang;
use crate::queues::turns;
use crate::turns::{Turns, by_rank};

/// Entries of a queue that are counted: a page is enough to say "many".
const AHEAD_COUNTED_MAX: usize = 10_000;

/// `None` if the task is not in the hot state.
pub fn explain(state: &State, id: TaskId) -> Option<Explanation> {
    let job = state.job(id.job)?;
    let (place, group) = job.group_of(id.number)?;
    let position = id.number - group.first;
    let at = task_state(state, job, group, position);
    let waits = matches!(at, TaskState::Blocked | TaskState::Delayed | TaskState::Ready);
    let class = state.class(group.class).filter(|_| waits);
    let mut fit = class.map(|class| Fit::of_any(state, &class.key, id));
    if let (Some(fit), Some(class)) = (&mut fit, class.filter(|class| class.key.gang > 0)) {
        fit.add_gang(gang::told(state, &class.key));
    }
    let hopeless = fit.as_ref().is_some_and(|fit| fit.hopeless);
    let mut reasons = match at {
        TaskState::Blocked => vec![blocked(state, job, place)],
        TaskState::Delayed => vec![delayed(state, job, group, position)],
        _ => Vec::new(),
    };
    reasons.extend(fit.into_iter().flat_map(|fit| match at {
        TaskState::Ready => of_workers(state, job, place, fit),
        // Its time has not come; but that no worker could take it then is better known now.
        _ => fit.never.into_iter().collect(),
    }));
    if waits {
        reasons.extend(held_back(state, job));
    }
    let mut summary = summary(job, at, &reasons, state, id);
    let name = job.task_spec(place).name.clone();
    let expected_start = (at == TaskState::Ready).then(|| expected_start(state, job, place)).flatten();
    if let Some(at) = expected_start {
        summary += &format!("; expected to start by {at}");
    }
    if let Some(limit) = (at == TaskState::Ready).then(|| waits_until(state, job, place)).flatten() {
        summary += &format!("; cancelled unless started by {limit}");
    }
    Some(Explanation { task: id, name, state: at, summary, hopeless, reasons, expected_start })
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
        TaskState::Cancelled => match group_outcome(job, id).filter(|o| o.reason == Reason::WaitedTooLong) {
            Some(outcome) => format!("{id} was cancelled: {}", outcome.message),
            None => format!("{id} was cancelled"),
        },
        at if at.is_final() => format!("{id} has {at}"),
        at => format!("{id} is {at}: {}", first.unwrap_or_else(|| format!("job {} holds it back", job.id))),
    }
}

fn group_outcome(job: &Job, id: TaskId) -> Option<&Outcome> {
    let (_, group) = job.group_of(id.number)?;
    group.outcome_at(id.number - group.first).map(|outcome| &**outcome)
}

pub(crate) fn reason(code: &str, message: String, count: u64, fix: &str) -> ReasonView {
    ReasonView { code: code.to_owned(), message, count, workers: Vec::new(), fix: fix.to_owned() }
}

fn blocked(state: &State, job: &Job, place: usize) -> ReasonView {
    let note = waits_for(state, job, place);
    let waiting = u64::from(job.groups[place].waiting + job.waiting).max(1);
    let message = if note.is_empty() { "waits for earlier work".to_owned() } else { note };
    let fix = match open_edge(state, job, place) {
        Some((on, edge)) => {
            let id = job.id;
            format!("see `baton explain {on}`, or let it go with `baton job set {id} --remove-after {edge}`")
        }
        None => "look at what it waits for".to_owned(),
    };
    reason("dependencies", message, waiting, &fix)
}

/// The first that it waits for, as a selector and as an edge that can be taken away.
fn open_edge(state: &State, job: &Job, place: usize) -> Option<(String, String)> {
    let is_open = |id: &model::JobId| state.job(*id).is_some_and(|job| !job.is_finished());
    if let Some(earlier) = job.after.iter().find(|id| is_open(id)) {
        return Some((earlier.to_string(), earlier.to_string()));
    }
    let (group, task) = (&job.groups[place], &job.task_spec(place).name);
    group.after.iter().find_map(|on| match on {
        On::Job(earlier) => is_open(earlier).then(|| (earlier.to_string(), format!("{task}:{earlier}"))),
        On::Group(other) if job.groups[*other as usize].all_succeeded() => None,
        On::Group(other) => {
            let name = &job.task_spec(*other as usize).name;
            Some((format!("{}.{name}", job.id), format!("{task}:{name}")))
        }
    })
}

fn delayed(state: &State, job: &Job, group: &Group, position: u32) -> ReasonView {
    let until = group.delayed.get(&position).copied();
    let now = state.stamp().elapsed;
    let message = match (until, job.hold) {
        (Some(at), _) => format!("waits {} before it is tried again", rounded(at.since(now))),
        (None, Hold::Elapsed(at)) => format!("its job starts in {}", rounded(at.since(now))),
        (None, Hold::Wall(at)) => format!("its job starts at {at}"),
        (None, Hold::None) => "its delay is over".to_owned(),
    };
    reason("delayed", message, 1, "")
}

/// For people: to the second, or below ten seconds to the millisecond. Rounded up, so that it is never nothing.
fn rounded(wait: Duration) -> String {
    let unit = if wait < Duration::from_secs(10) { 1_000 } else { 1_000_000 };
    format_duration(Duration::from_micros(micros(wait).div_ceil(unit) * unit))
}

fn held_back(state: &State, job: &Job) -> Vec<ReasonView> {
    let mut reasons = Vec::new();
    if job.paused {
        let fix = format!("`baton resume {}`", job.id);
        reasons.push(reason("job_paused", format!("job {} is paused", job.id), 1, &fix));
    }
    if let Some(queue) = state.queue(job.queue) {
        if queue.paused {
            let fix = format!("`baton queue resume {}`", queue.name);
            reasons.push(reason("queue_paused", format!("queue `{}` is paused", queue.name), 1, &fix));
        }
        if let Some(max) = queue.running_max.filter(|_| state.room_in(queue) <= state.leaving(queue.id)) {
            let message = format!("queue `{}` runs its running_max of {max} tasks", queue.name);
            let running_max = max.saturating_mul(2).max(1);
            let fix = format!("wait, or `baton queue put {} --running-max {running_max}`", queue.name);
            reasons.push(reason("queue_full", message, max.into(), &fix));
        }
    }
    reasons
}

fn of_workers(state: &State, job: &Job, place: usize, fit: Fit) -> Vec<ReasonView> {
    let mut reasons = fit.reasons;
    let own = key(job, place);
    let ahead = ahead(state, job, own);
    let backfill = state.queue(job.queue).map(|queue| queue.policy.backfill).unwrap_or_default();
    // Even with room for it, nobody that waits before it is overtaken just so.
    let is_kept = backfill != Backfill::FirstFit;
    if (fit.open > 0 || is_kept) && ahead > 0 {
        let rule = match backfill {
            Backfill::FirstFit => "",
            Backfill::None => ", and it lets nothing overtake them",
            Backfill::Easy => ", and it lets nothing delay the first of them",
            Backfill::Conservative => ", and it lets nothing delay them",
        };
        let first = match users_ahead(state, job) {
            0 => String::new(),
            1 => ", with those of 1 user who has had less of it relative to their share".to_owned(),
            users => {
                format!(", with those of {users} users who have had less of it relative to their shares")
            }
        };
        let entries = if ahead == 1 { "entry of the queue comes" } else { "entries of the queue come" };
        let message = format!("{ahead} {entries} before it{first}{rule}");
        let fix = fix_of_order(state, job);
        reasons.push(reason("behind_others", message, ahead, &fix));
    }
    reasons.extend(to_be_claimed(state, job, place, fit.open));
    reasons
}

/// That the leader leaves it to the workers.
fn to_be_claimed(state: &State, job: &Job, place: usize, open: u64) -> Option<ReasonView> {
    let queue = state.queue(job.queue).filter(|queue| queue.policy.mode == Mode::Claim)?;
    if open == 0 || job.groups[place].gang {
        return None;
    }
    let workers = if open == 1 { "the worker" } else { "one of the workers" };
    let message =
        format!("queue `{}` is claimed from: it waits for {workers} with room to take it", queue.name);
    let fix = format!("wait, or have the leader place it: `baton queue put {} --mode push`", queue.name);
    Some(reason("to_be_claimed", message, open, &fix))
}

fn key(job: &Job, place: usize) -> ReadyKey {
    ReadyKey { rank: job.groups[place].rank, job: job.id, group: place as u32 }
}

/// Groups of the queue that come before this one.
fn ahead(state: &State, job: &Job, own: ReadyKey) -> u64 {
    if state.queue(job.queue).is_some_and(|queue| queue.policy.order == Order::Hrrn) {
        return ahead_by_ratio(state, job, own);
    }
    let turns = turns(state, job.queue);
    let its = turns.get(&job.user);
    let before = |(list, keys): (&ReadyList, &BTreeSet<ReadyKey>)| {
        // Of somebody else all come before it, or none.
        let keys = match turns.get(&list.user).cmp(&its) {
            _ if list.user == job.user => keys.range(..own),
            Ordering::Less => keys.range(..),
            Ordering::Equal => keys.range(..own),
            Ordering::Greater => return 0,
        };
        keys.take(AHEAD_COUNTED_MAX).count() as u64
    };
    state.ready_in(job.queue).map(before).sum()
}

/// The same where they go by their response ratios. Of those that take equally long who has waited longer is first.
fn ahead_by_ratio(state: &State, job: &Job, own: ReadyKey) -> u64 {
    let turns = Turns::Ratios(state);
    let place = |key: ReadyKey| (turns.turn(job.user, key), key);
    let its = place(own);
    let of_list = state.ready_in(job.queue).flat_map(|(_, keys)| by_rank(keys));
    let before =
        of_list.map(|keys| keys.take(AHEAD_COUNTED_MAX).take_while(|key| place(**key) < its).count() as u64);
    before.sum()
}

/// Users who wait and whose turn is before this one's.
fn users_ahead(state: &State, job: &Job) -> usize {
    let turns = turns(state, job.queue);
    let its = turns.get(&job.user);
    turns.values().filter(|turn| Some(*turn) < its).count()
}

/// What brings it to the front, where its queue goes by something that can be changed.
fn fix_of_order(state: &State, job: &Job) -> String {
    match state.queue(job.queue).map(|queue| (queue.policy.order, &queue.name)) {
        Some((Order::Priority, _)) => {}
        Some((Order::Fair, queue)) if users_ahead(state, job) > 0 => {
            let user = &job.actor.user;
            return format!("wait, or give its user more: `baton queue put {queue} --share {user}=200`");
        }
        _ => return "wait".to_owned(),
    }
    let priority = highest_priority(state, job).saturating_add(1);
    format!("wait, or `baton job set {} --priority {priority}`", job.id)
}

/// Of the first ones that are ready in the job's queue.
fn highest_priority(state: &State, job: &Job) -> i32 {
    let first =
        state.ready_in(job.queue).filter_map(|(_, keys)| keys.first()).filter_map(|key| state.job(key.job));
    first.map(|job| job.priority).max().unwrap_or(job.priority)
}
