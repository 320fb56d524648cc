//! What of the workers keeps a task from running: every obstacle of every worker, merged where only figures differ.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use machine::eligible::{Ineligible, Offered, misfits, shortages, standing, unbooked, unreserved};
use machine::state::sessions::ClassKey;
use machine::{Session, State, Worker};
use model::resources::format_amount;
use model::views::ReasonView;
use model::{JobId, Run, TaskId};

use crate::explain::reason;

/// Workers named in one reason.
const WORKERS_NAMED_MAX: usize = 20;

pub(crate) struct Fit {
    /// That no live worker could take it, and by how much.
    pub never: Option<ReasonView>,
    /// That, and whatever else keeps it from a worker.
    pub reasons: Vec<ReasonView>,
    /// No worker that is known could take it, however idle.
    pub hopeless: bool,
    /// Workers that would take it now.
    pub open: u64,
}

impl Fit {
    pub fn of(state: &State, class: &ClassKey, id: TaskId) -> Fit {
        let sessions: Vec<&Session> = state.sessions().filter(|session| !session.ended).collect();
        let gone: Vec<&Worker> = state.workers().filter(|worker| worker.session.is_none()).collect();
        let suits = |offered| misfits(offered, class).next().is_none();
        let suits_live = sessions.iter().any(|session| suits(Offered::from(*session)));
        let suits_gone = gone.iter().any(|worker| suits(Offered::from(*worker)));
        let never = (!suits_live && !sessions.is_empty()).then(|| never(&sessions, class));
        let hopeless = never.is_some() && !suits_gone;

        let mut reasons: Vec<ReasonView> = never.iter().cloned().collect();
        if sessions.is_empty() {
            reasons.push(no_workers(state));
        }
        let (obstacles, open) = all_obstacles(state, &sessions, class, id);
        reasons.extend(told(obstacles));
        reasons.extend(told_gone(&gone, suits_gone));
        Fit { never, reasons, hopeless, open }
    }
}

impl Fit {
    /// Of what it asks for and its alternatives: told is the first that could find room some time.
    pub fn of_any(state: &State, class: &ClassKey, id: TaskId) -> Fit {
        let mut fit = Fit::of(state, class, id);
        for other in class.others() {
            let other = Fit::of(state, &other, id);
            let is_better = fit.never.is_some() && other.never.is_none();
            let (hopeless, open) = (fit.hopeless && other.hopeless, fit.open + other.open);
            fit = Fit { hopeless, open, ..if is_better { other } else { fit } };
        }
        if !class.alternatives.is_empty() && fit.open == 0 {
            let count = class.alternatives.len() as u64;
            let asks: Vec<String> = class.alternatives.iter().map(|other| format!("({other})")).collect();
            let message = format!("what would do as well finds no room either: {}", asks.join(", "));
            fit.reasons.push(reason("alternatives", message, count, ""));
        }
        fit
    }

    /// That each member alone would find room is not enough for a gang.
    pub fn add_gang(&mut self, (reason, hopeless): (Option<ReasonView>, bool)) {
        self.hopeless |= hopeless;
        let too_large = reason.clone().filter(|reason| reason.code == "gang_too_large");
        self.never = self.never.take().or(too_large);
        // It says what the workers one by one do not.
        if let Some(reason) = reason {
            self.reasons.insert(0, reason);
        }
    }
}

fn no_workers(state: &State) -> ReasonView {
    let known = state.workers().count();
    let fix = "start one: `baton worker --data-dir DIR --servers HOST:PORT`";
    reason("no_workers", format!("no worker is live ({known} known)"), 0, fix)
}

fn told_gone(gone: &[&Worker], suits: bool) -> Option<ReasonView> {
    let first = gone.first()?;
    let message = if suits {
        "workers that were here, and could take it, are gone"
    } else {
        "workers that were here are gone"
    };
    let fix = format!("start them again, or `baton worker forget {}`", first.name);
    let workers = gone.iter().take(WORKERS_NAMED_MAX).map(|worker| worker.name.clone()).collect();
    Some(ReasonView { workers, ..reason("worker_gone", message.to_owned(), gone.len() as u64, &fix) })
}

/// By how much it is too large for the largest worker, or that no worker is of its kind at all.
fn never(sessions: &[&Session], class: &ClassKey) -> ReasonView {
    let only_small = |session: &&Session| {
        misfits(Offered::from(*session), class).all(|refusal| matches!(refusal, Ineligible::TooLarge { .. }))
    };
    let sized: Vec<&Session> = sessions.iter().copied().filter(only_small).collect();
    let message = if sized.is_empty() {
        "no live worker could take it, however idle".to_owned()
    } else {
        let suited = if sized.len() < sessions.len() { " that suits it otherwise" } else { "" };
        too_much(&sized, class, suited).unwrap_or_else(|| nearest(&sized, class))
    };
    let fix = if sized.is_empty() {
        "start a worker that suits it, or submit it with other demands"
    } else {
        "submit it with less, or start a worker that has as much"
    };
    reason("fits_no_worker", message, sessions.len() as u64, fix)
}

/// What no worker at all has enough of.
fn too_much(sized: &[&Session], class: &ClassKey, suited: &str) -> Option<String> {
    let largest =
        |name: &str| sized.iter().map(|session| session.capacity.total.get(name)).max().unwrap_or(0);
    let short = class.resources.iter().filter(|(name, asked)| *asked > largest(name));
    let parts: Vec<String> = short
        .map(|(name, asked)| {
            let (most, amount) = (largest(name), |amount| format_amount(name, amount));
            let (asks, has, over) = (amount(asked), amount(most), amount(asked - most));
            format!("asks for {name} {asks}, the largest worker{suited} has {has}: {over} too much")
        })
        .collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// There is enough of each, but on no one worker of all: what the one that lacks least lacks.
fn nearest(sized: &[&Session], class: &ClassKey) -> String {
    let lacks = |session: &Session| {
        let total = session.capacity.total.clone();
        let short = class.resources.iter().filter(move |(name, asked)| *asked > total.get(name));
        short.map(|(name, asked)| (name, asked, session.capacity.total.get(name))).collect::<Vec<_>>()
    };
    // Millionths of what is asked.
    let gap = |(_, asked, total): &(&str, u64, u64)| {
        u128::from(asked - total) * 1_000_000 / u128::from((*asked).max(1))
    };
    let cost = |session: &&&Session| {
        let lacks = lacks(session);
        (lacks.len(), lacks.iter().map(gap).sum::<u128>(), session.id)
    };
    let Some(session) = sized.iter().min_by_key(cost) else { return String::new() };
    let parts: Vec<String> = lacks(session)
        .into_iter()
        .map(|(name, asked, total)| {
            let amount = |amount| format_amount(name, amount);
            let (asks, has, under) = (amount(asked), amount(total), amount(asked - total));
            format!("{name} {has} of {asks}: {under} too little")
        })
        .collect();
    let parts = parts.join(", ");
    format!("no one worker has all that it asks for; the nearest, {}, has {parts}", session.worker)
}

/// Obstacles that are alike, on all workers that have them.
struct Alike {
    first: Ineligible,
    workers: Vec<String>,
    /// Least and most of what the workers have.
    has: (u64, u64),
}

/// By what is alike in them; and how many workers have none.
fn all_obstacles(
    state: &State,
    sessions: &[&Session],
    class: &ClassKey,
    id: TaskId,
) -> (BTreeMap<Ineligible, Alike>, u64) {
    let (mut merged, mut open) = (BTreeMap::<Ineligible, Alike>::new(), 0);
    for session in sessions {
        let obstacles = obstacles(state, session, class, id);
        open += u64::from(obstacles.is_empty());
        for refusal in obstacles {
            let (topic, has) = without_figures(&refusal);
            let alike =
                merged.entry(topic).or_insert(Alike { first: refusal, workers: Vec::new(), has: (has, has) });
            alike.has = (alike.has.0.min(has), alike.has.1.max(has));
            alike.workers.push(session.worker.clone());
        }
    }
    (merged, open)
}

fn obstacles(state: &State, session: &Session, class: &ClassKey, id: TaskId) -> Vec<Ineligible> {
    let misfits: Vec<Ineligible> = misfits(Offered::from(session), class).collect();
    let suits = misfits.is_empty();
    let mut all: Vec<Ineligible> = standing(state, session).into_iter().chain(misfits).collect();
    // What is free now says nothing where it could never run.
    if suits {
        all.extend(unreserved(state, session, id.job, Run::new(id.number, 1)).err());
        let room = session.room();
        let short: Vec<Ineligible> = shortages(&room, class).collect();
        let job = state.job(id.job).and_then(|job| Some((job, job.group_of(id.number)?.0)));
        if short.is_empty()
            && let Some(of) = job
        {
            all.extend(unbooked(state, session, &room.free, class, of).err());
        }
        all.extend(short);
    }
    all
}

/// What is the same on every worker, and what the worker has.
fn without_figures(refusal: &Ineligible) -> (Ineligible, u64) {
    match refusal.clone() {
        Ineligible::TooLarge { resource, asked, total } => {
            (Ineligible::TooLarge { resource, asked, total: 0 }, total)
        }
        Ineligible::NoRoom { resource, asked, free } => {
            (Ineligible::NoRoom { resource, asked, free: 0 }, free)
        }
        Ineligible::Reserved { .. } => (Ineligible::Reserved { job: JobId(0), task: 0 }, 0),
        other => (other, 0),
    }
}

fn told(merged: BTreeMap<Ineligible, Alike>) -> Vec<ReasonView> {
    let mut reasons: Vec<ReasonView> = merged.into_values().map(Alike::told).collect();
    reasons.sort_by_key(|reason| Reverse(reason.count));
    reasons
}

impl Alike {
    fn told(mut self) -> ReasonView {
        let (code, fix) = self.code_and_fix();
        let (message, count) = (self.message(), self.workers.len() as u64);
        self.workers.truncate(WORKERS_NAMED_MAX);
        ReasonView { workers: self.workers, ..reason(code, message, count, &fix) }
    }

    fn message(&self) -> String {
        match &self.first {
            Ineligible::TooLarge { resource, asked, .. } => {
                self.figures(resource, *asked, "in all", "too much")
            }
            Ineligible::NoRoom { resource, asked, .. } => {
                self.figures(resource, *asked, "free now", "too little")
            }
            Ineligible::Reserved { .. } if self.workers.len() > 1 => {
                "the workers drain for other tasks, which have waited long".to_owned()
            }
            other => other.to_string(),
        }
    }

    fn figures(&self, resource: &str, asked: u64, of: &str, over: &str) -> String {
        let (least, most) = self.has;
        let range = |from: u64, to: u64| match from == to {
            true => format_amount(resource, from),
            false => format!("{} to {}", format_amount(resource, from), format_amount(resource, to)),
        };
        let who = if self.workers.len() == 1 { "the worker has" } else { "the workers have" };
        let (asks, has) = (format_amount(resource, asked), range(least, most));
        let by = if most >= asked {
            "in pieces of several units".to_owned()
        } else {
            format!("{} {over}", range(asked - most, asked - least))
        };
        format!("asks for {resource} {asks}, {who} {has} {of}: {by}")
    }

    fn code_and_fix(&self) -> (&'static str, String) {
        let name = self.workers.first().map_or("", String::as_str);
        let (code, fix) = match &self.first {
            // Of workers nobody asks that.
            Ineligible::NotWhole { .. } => ("gang_waits", ""),
            Ineligible::TooLarge { .. } => ("too_large", "ask for less, or start a larger worker"),
            Ineligible::NoRoom { .. } => ("no_room", "wait for running tasks to end, or start more workers"),
            Ineligible::Cordoned => return ("cordoned", format!("`baton worker uncordon {name}`")),
            Ineligible::Draining => {
                return ("draining", format!("`baton worker uncordon {name}`, or start another worker"));
            }
            Ineligible::Reserved { .. } => {
                ("reserved", "wait until the task that has waited longest has been placed")
            }
            Ineligible::Booked { .. } => (
                "booked",
                "give it an `estimate` or a `timeout` by which it ends before, or see `baton booking list`",
            ),
            Ineligible::Kind { .. } => ("kind", "start a worker that runs this kind of task"),
            Ineligible::Apart { .. } => {
                ("anti_affinity", "wait until the other task has ended, or start another worker")
            }
            Ineligible::Function { .. } => ("function", "start a worker that registers this function"),
            Ineligible::Label { .. } => {
                ("labels", "start a worker with that label, or submit it with another constraint")
            }
            Ineligible::SessionEnded => ("worker_gone", "start the worker again"),
            Ineligible::NoCredit
            | Ineligible::NotClaimed
            | Ineligible::UnknownJob
            | Ineligible::NotReady
            | Ineligible::JobPaused
            | Ineligible::JobCancelled
            | Ineligible::QueuePaused
            | Ineligible::QueueFull { .. } => ("not_ready", ""),
        };
        (code, fix.to_owned())
    }
}
