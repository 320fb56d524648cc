//! What came of an entry, in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use machine::state::State;
use machine::{Allocation, Applied, Effect, Event, Phase, Reply, eligible};
use model::policy::{Adaptation, Mode};
use model::resources::format_amount;
use model::time::format_duration;
use model::views::{Counts, TaskView, UserView};
use model::{JobId, QueuePolicy, Run, Seq};

pub fn applied(applied: &Applied) -> String {
    let replies = applied.replies.iter().map(reply);
    let effects = applied.effects.iter().map(|effect| format!("  -> {}", self::effect(effect)));
    let events = applied.events.iter().map(|event| format!("  * {}", self::event(event)));
    replies.chain(events).chain(effects).map(|line| line + "\n").collect()
}

fn reply(reply: &Reply) -> String {
    match reply {
        Reply::Done => "done".to_owned(),
        Reply::Submitted { job } => format!("submitted {job}"),
        Reply::Changed { tasks } => format!("changed {tasks}"),
        Reply::Placed { taken, dropped } => format!("placed {taken}, dropped {dropped}"),
        Reply::SessionOpened(opened) => format!("opened {} for {:?}", opened.session, opened.lease.ttl),
        Reply::Reported { fenced } if fenced.is_empty() => "reported".to_owned(),
        Reply::Reported { fenced } => format!("reported, but fenced {fenced:?}"),
        Reply::Rejected(why) => format!("refused: {why}"),
    }
}

fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Run { session, seq } => format!("run {session}#{seq}"),
        Effect::Stop { session, seq } => format!("stop {session}#{seq}"),
        Effect::Switch { session, seq } => format!("switch {session}#{seq}"),
        Effect::SessionOpened { session } => format!("{session} opened"),
        Effect::SessionEnded { session } => format!("{session} ended"),
        Effect::Wake => "plan".to_owned(),
    }
}

fn event(event: &Event) -> String {
    match event {
        Event::Job { job, state } => format!("{job} {state}"),
        Event::Tasks { job, tasks, state, attempt, worker } => {
            let on = worker.as_ref().map(|worker| format!(" on {worker}")).unwrap_or_default();
            let nth = if *attempt > 0 { format!(" #{attempt}") } else { String::new() };
            format!("{job}.{}{nth} {state}{on}", run(*tasks))
        }
        Event::Worker { worker, state } => format!("worker {worker} {state}"),
        Event::Queue { queue } => format!("queue {queue}"),
    }
}

fn run(run: Run) -> String {
    if run.len == 1 { run.first.to_string() } else { format!("{}-{}", run.first, run.end() - 1) }
}

/// A line for every job, session and kind of chore.
pub fn rows(state: &State) -> BTreeMap<String, String> {
    let mut lines = BTreeMap::new();
    for job in state.jobs() {
        let key = format!("j{:06}", job.id.0);
        lines.insert(key, format!("{} {}: {}", job.id, job.state, counts(&job.counts())));
    }
    for session in state.sessions() {
        let (used, total) = (&session.used, &session.capacity.total);
        let share = |(name, all): (&str, u64)| {
            format!("{name} {}/{}", format_amount(name, used.get(name)), format_amount(name, all))
        };
        let room: Vec<String> = total.iter().map(share).collect();
        let mut line = format!("{} {}: {}", session.id, session.worker, room.join(", "));
        if session.ended {
            line.push_str(", ended");
        }
        if let Some((job, task)) = session.reserved {
            let _ = write!(line, ", reserved for {job}.{task}");
        }
        session.allocations.iter().for_each(|(seq, row)| line.push_str(&allocation(*seq, row)));
        lines.insert(format!("s{:06}", session.id.0), line);
    }
    lines
}

fn allocation(seq: Seq, row: &Allocation) -> String {
    let phase = match (row.phase, row.started) {
        (Phase::Held, _) => "held",
        (Phase::Running, None) => "placed",
        (Phase::Running, Some(_)) => "running",
        (Phase::Stopping, _) => "stopping",
    };
    let units: Vec<String> =
        row.units.iter().map(|share| format!("{}{}", share.resource, share.unit)).collect();
    let units = if units.is_empty() { String::new() } else { format!(" on {}", units.join("+")) };
    format!("; #{seq} {}.{} {phase}{units}", row.job, run(row.tasks))
}

fn counts(counts: &Counts) -> String {
    let all = [
        (counts.blocked, "blocked"),
        (counts.delayed, "delayed"),
        (counts.ready, "ready"),
        (counts.running, "running"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
    ];
    let some: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if some.is_empty() { "no tasks".to_owned() } else { some.join(", ") }
}

/// The lines that are new, other or gone.
pub fn changed(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    for (key, line) in now {
        if before.get(key) != Some(line) {
            let _ = writeln!(out, "  = {line}");
        }
    }
    for (key, line) in before.iter().filter(|(key, _)| !now.contains_key(*key)) {
        let name = line.split(' ').next().unwrap_or(key);
        let _ = writeln!(out, "  = {name} is gone");
    }
    out
}

pub fn show(state: &State, what: &str) -> Result<String, String> {
    match what.split_once(' ').unwrap_or((what, "")) {
        ("due", _) => Ok(due(state)),
        ("ready", _) => Ok(ready(state)),
        ("queues", _) => Ok(queues(state)),
        ("bookings", _) => Ok(bookings(state)),
        ("periodic", _) => Ok(periodic(state)),
        ("workers", _) => Ok(workers(state)),
        ("why", placement) => why(state, placement),
        ("jobs", _) => Ok(jobs(state)),
        (job, _) => tasks(state, job.parse().map_err(|error| format!("{error}"))?),
    }
}

fn bookings(state: &State) -> String {
    let mut out = String::new();
    for booking in state.booking_views() {
        let queue = booking.queue.as_deref().unwrap_or("nobody");
        let begun = if booking.has_begun { "since" } else { "from" };
        write!(out, "{}: for {queue}, {begun} {} to {}:", booking.name, booking.from, booking.to).unwrap();
        for part in &booking.parts {
            let free = if part.is_free { "" } else { ", not free" };
            write!(out, " {} ({}; {} used{free})", part.worker, part.resources, part.used).unwrap();
        }
        out.push('\n');
    }
    out
}

fn periodic(state: &State) -> String {
    let mut out = String::new();
    for set in state.periodic_views() {
        writeln!(out, "{}: {} on {} slots since {}", set.name, set.order, set.slots, set.since).unwrap();
        for task in &set.tasks {
            let last = task.last.map_or_else(|| "none".to_owned(), |job| job.to_string());
            writeln!(
                out,
                "  {} on {}: {} released (the last is {last}), {} skipped, {} met, {} missed, next {}",
                task.name, task.queue, task.released, task.skipped, task.met, task.missed, task.next
            )
            .unwrap();
        }
    }
    if out.is_empty() { "no periodic sets\n".to_owned() } else { out }
}

fn due(state: &State) -> String {
    match state.next_due() {
        None => "nothing is due\n".to_owned(),
        Some(due) => {
            let elapsed = due.elapsed.map(|at| format!("{at:?}"));
            let wall = due.wall.map(|at| at.to_string());
            format!("due {}\n", elapsed.into_iter().chain(wall).collect::<Vec<_>>().join(", "))
        }
    }
}

fn ready(state: &State) -> String {
    let name = |queue: &u32| state.queue(*queue).map_or("?", |queue| queue.name.as_str()).to_owned();
    let mut out = String::new();
    for (list, keys) in state.ready() {
        let keys: Vec<String> = keys.iter().map(|key| format!("{} group {}", key.job, key.group)).collect();
        let class = state.class(list.class).map(|class| class.key.resources.to_string()).unwrap_or_default();
        let of_user = state.queue(list.queue).and_then(|queue| queue.users.get(list.user));
        let of_user = of_user.map(|user| format!(" of {}", user.name)).unwrap_or_default();
        let _ = writeln!(out, "{}{of_user} ({class}): {}", name(&list.queue), keys.join(", "));
    }
    if out.is_empty() { "nothing is ready\n".to_owned() } else { out }
}

fn queues(state: &State) -> String {
    let line = |queue: model::views::QueueView| {
        let paused = if queue.paused { ", paused" } else { "" };
        let max = queue.running_max.map(|max| format!(", at most {max}")).unwrap_or_default();
        let counts = counts(&queue.counts);
        let QueuePolicy { order, ageing, backfill, preempt, quantum, mode, yields } = queue.policy;
        let ageing =
            if ageing.is_zero() { String::new() } else { format!(" +1 each {}", format_duration(ageing)) };
        let policy = match queue.policy == QueuePolicy::default() {
            true => String::new(),
            false if mode != Mode::Push => format!(", by {order}{ageing}, mode {mode}"),
            false if !quantum.is_zero() => {
                let (standing, ended) = (queue.suspended, queue.suspensions);
                format!(
                    ", by {order} for {quantum:?}, {backfill}: {standing} stand still, {ended} slices ended"
                )
            }
            false if yields => {
                let (standing, ended) = (queue.suspended, queue.suspensions);
                format!(", by {order}, giving way: {standing} stand still, {ended} have")
            }
            false if preempt => format!(", by {order}{ageing}, {backfill}, preempting: {}", queue.preempted),
            false => format!(", by {order}{ageing}, {backfill}"),
        };
        let auto = if queue.auto { ", auto" } else { "" };
        let adapted = queue.adapted.map(|last| {
            let Adaptation { home, tasks, wait_from, wait_to, at, .. } = last;
            format!(
                "  adapted at {at} by {tasks} tasks, {wait_from:?} to {wait_to:?}; by hand: {}, {}\n",
                home.order, home.backfill
            )
        });
        let adapted = adapted.unwrap_or_default();
        let row = state.queue_named(&queue.name).expect("it has a view");
        let promises: String = row
            .promises
            .iter()
            .map(|((job, group), promise)| {
                format!("  promised: {job} group {group} on {} at {:?}\n", promise.session, promise.at)
            })
            .collect();
        let users: String = queue
            .users
            .iter()
            .map(|user| {
                let UserView { name, weight, jobs, share, past_share } = user;
                format!(
                    "  user {name}: weight {weight}, {jobs} jobs, takes {share:.3}, before {past_share:.3}\n"
                )
            })
            .collect();
        let (met, missed) = (row.deadlines_met, row.deadlines_missed);
        let late =
            if met + missed > 0 { format!(", {missed} of {} late", met + missed) } else { String::new() };
        let loosened = if row.loosened { ", loosened" } else { "" };
        format!(
            "{}: weight {}{max}{policy}{auto}{loosened}{paused}{late}, {} open jobs: {counts}\n{adapted}{users}{promises}",
            queue.name, queue.weight, queue.unfinished_jobs
        )
    };
    state.queue_views().into_iter().map(line).collect()
}

fn workers(state: &State) -> String {
    let line = |worker: model::views::WorkerView| {
        let session = worker.session.map(|session| format!(" as {session}")).unwrap_or_default();
        format!("{} {}{session}, {} attempts\n", worker.name, worker.state, worker.attempts)
    };
    state.worker_views().into_iter().map(line).collect()
}

fn jobs(state: &State) -> String {
    let (views, _) = state.list_jobs(&machine::JobFilter::default(), None, 100);
    views.iter().map(|job| format!("{} {} in {}\n", job.id, job.state, job.queue)).collect()
}

/// `j1.0 s1`: why that cannot be placed now.
fn why(state: &State, placement: &str) -> Result<String, String> {
    let (task, session) = placement.split_once(' ').ok_or("show why j1.0 s1")?;
    let task: model::TaskId = task.parse().map_err(|error| format!("{error}"))?;
    let session = session.parse().map_err(|error| format!("{error}"))?;
    let placement = machine::Placement {
        job: task.job,
        tasks: Run::new(task.number, 1),
        session,
        held: false,
        alternative: 0,
    };
    Ok(match eligible(state, &placement) {
        Ok(()) => "it may be placed\n".to_owned(),
        Err(why) => format!("{why}\n"),
    })
}

fn tasks(state: &State, job: JobId) -> Result<String, String> {
    if let Some(tombstone) = state.tombstone(job) {
        return Ok(format!("{job} was {}\n", tombstone.state));
    }
    let (tasks, _) = state.list_tasks(job, 0, 1000, &[], None).ok_or("no such job")?;
    Ok(tasks.iter().map(task).collect())
}

fn task(view: &TaskView) -> String {
    let mut line = format!("{} {} {}", view.id, view.name, view.state);
    if view.attempt > 0 {
        let _ = write!(line, ", attempt {}", view.attempt);
    }
    if view.round > 1 {
        let _ = write!(line, ", round {}", view.round);
    }
    if let Some(outcome) = &view.outcome {
        let _ = write!(line, ", last {:?} ({:?}, round {})", outcome.verdict, outcome.reason, outcome.round);
        if !outcome.message.is_empty() {
            let _ = write!(line, " `{}`", outcome.message);
        }
        if let Some(result) = &outcome.result {
            let _ = write!(line, " result of {} bytes", result.size);
        }
    }
    if !view.earlier.is_empty() {
        let _ = write!(line, ", {} before", view.earlier.len());
    }
    if !view.note.is_empty() {
        let _ = write!(line, ", {}", view.note);
    }
    line + "\n"
}
