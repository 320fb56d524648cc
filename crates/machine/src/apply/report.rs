//! What workers say of their attempts. Only the current token counts.

use std::sync::Arc;
use std::time::Duration;

use model::views::TaskState;
use model::{Elapsed, JobId, Outcome, Reason, Retry, Run, RunSet, SessionId, Timestamp, Verdict};

use crate::apply::cancel::cancel_positions;
use crate::apply::deps::{each_final, tell};
use crate::apply::gang;
use crate::apply::outcomes::{keep_result, record, results_changed, truncate};
use crate::apply::place::{Uses, release};
use crate::mutants::Mutant;
use crate::state::State;
use crate::state::index::{Occasion, Timer};
use crate::state::jobs::Job;
use crate::state::sessions::{Allocation, Phase};
use crate::state::users::EVERYBODY;
use crate::{Ended, Event, News, Rejection, Reply, Report, ReportBatch};

pub(crate) fn apply(state: &mut State, batch: &ReportBatch) -> Result<Reply, Rejection> {
    let live = state.session(batch.session).is_some_and(|session| !session.ended);
    if !live {
        return Err(Rejection::SessionEnded { session: batch.session });
    }
    let mut fenced = Vec::new();
    for report in &batch.reports {
        if !apply_one(state, batch.session, report) {
            fenced.push(report.seq);
        }
    }
    Ok(Reply::Reported { fenced: fenced.into() })
}

/// False: it came too late and counts for nothing.
fn apply_one(state: &mut State, session: SessionId, report: &Report) -> bool {
    let allocation = state.session(session).and_then(|session| session.allocations.get(&report.seq));
    let current = allocation.filter(|allocation| allocation.token == report.token);
    let Some(allocation) = current else { return false };
    let Some(tasks) = allocation.tasks.overlap(report.tasks) else { return false };
    match &report.news {
        News::Started { at } => started(state, session, report.seq, tasks, *at),
        News::Ended(ended) => end(state, session, report.seq, tasks, ended),
        News::Recalled => recalled(state, session, report.seq, tasks),
    }
    true
}

fn allocation_mut(state: &mut State, session: SessionId, seq: u64) -> Option<&mut Allocation> {
    state.sessions.get_mut(session.0)?.allocations.get_mut(&seq)
}

fn started(state: &mut State, session: SessionId, seq: u64, tasks: Run, at: Timestamp) {
    begin_held(state, session, seq);
    let Some(allocation) = allocation_mut(state, session, seq) else { return };
    let first = allocation.started.is_none();
    allocation.started.get_or_insert(at);
    let (job, attempt, running) = (allocation.job, allocation.attempt, allocation.phase == Phase::Running);
    if first && running {
        let worker = state.session(session).map(|session| session.worker.clone());
        state.event(Event::Tasks { job, tasks, state: TaskState::Running, attempt, worker });
    }
}

/// Held work that has started takes its capacity from here on.
fn begin_held(state: &mut State, id: SessionId, seq: u64) {
    let held = state.session(id).and_then(|session| session.allocations.get(&seq));
    let Some(held) = held.filter(|allocation| allocation.phase == Phase::Held) else { return };
    // Whom it was sent ahead for may be forgotten by now, as somebody who uses nothing.
    let job = state.job(held.job).filter(|job| job.queue == held.queue);
    let user = job.map_or(EVERYBODY, |job| job.user);
    let Some(session) = state.sessions.get_mut(id.0) else { return };
    let room = session.room();
    let Some(allocation) = session.allocations.get_mut(&seq) else { return };
    allocation.phase = Phase::Running;
    allocation.user = user;
    // The worker counts as the state does; should it be wrong, what it runs is still taken from its capacity.
    allocation.units = room.fit(&allocation.resources).unwrap_or_default();
    state.index.set_end(id, allocation, true);
    state.index.set_held(id, seq, false);
    let (resources, units) = (allocation.resources.clone(), allocation.units.clone());
    let uses = Uses::of(allocation);
    session.take(&resources, &units);
    uses.begin(state);
}

fn end(state: &mut State, session: SessionId, seq: u64, tasks: Run, ended: &Ended) {
    begin_held(state, session, seq);
    let Some((allocation, news)) = settle_part(state, session, seq, tasks) else { return };
    let worker = state.session(session).map(|session| session.worker.clone()).unwrap_or_default();
    finish(state, session, &allocation, tasks, ended, &worker);
    remember_cancelled(state, &allocation, &news, ended, &worker);
    stopped(state, &allocation, &news);
}

/// Notes that these tasks of the allocation are over; the last of them frees it. Returns it with those of the tasks that
/// were not over before.
fn settle_part(state: &mut State, session: SessionId, seq: u64, tasks: Run) -> Option<(Allocation, RunSet)> {
    let allocation = allocation_mut(state, session, seq)?;
    let news = allocation.unreported(tasks);
    allocation.reported.insert(tasks);
    let copy = allocation.clone();
    if copy.is_reported() {
        state.sessions.get_mut(session.0)?.allocations.remove(&seq);
        release(state, session, &copy);
    }
    Some((copy, news))
}

/// The session is over, and with it what was left of the allocation.
pub(crate) fn lose(state: &mut State, session: SessionId, allocation: &Allocation, worker: &str) {
    let lost = lost(state.stamp().wall, "the worker's lease ended");
    let left = allocation.unreported(allocation.tasks);
    finish(state, session, allocation, allocation.tasks, &lost, worker);
    remember_cancelled(state, allocation, &left, &lost, worker);
    stopped(state, allocation, &left);
    release(state, session, allocation);
}

/// Attempts of these tasks are over: those that were cancelled under way and have a new round may begin it.
fn stopped(state: &mut State, allocation: &Allocation, tasks: &RunSet) {
    let id = allocation.job;
    let Some((place, gone)) = stopping(state, allocation, tasks) else { return };
    state.change_group(id, place, |group| gone.runs().for_each(|run| group.stopping.remove(run)));
    gone.runs().for_each(|run| crate::apply::deps::release(state, id, place, run));
}

/// Positions of `tasks` whose attempt was being stopped.
fn stopping(state: &State, allocation: &Allocation, tasks: &RunSet) -> Option<(usize, RunSet)> {
    let (place, group) = state.job(allocation.job)?.group_of(allocation.tasks.first)?;
    let positions = tasks.runs().filter_map(|run| group.positions_of(run));
    let found: RunSet = positions.flat_map(|run| group.stopping.parts_of(run)).collect();
    (!found.is_empty()).then_some((place, found))
}

fn recalled(state: &mut State, session: SessionId, seq: u64, tasks: Run) {
    let Some((allocation, news)) = settle_part(state, session, seq, tasks) else { return };
    for (place, positions) in owned(state, session, &allocation, tasks) {
        let is_gang = state.change_group(allocation.job, place, |group| {
            group.take_live(positions, Some((session, seq)));
            group.ready.insert(positions);
            // All have one attempt number.
            if group.gang {
                group.note_over(positions, allocation.attempt);
            }
            group.gang
        });
        tell(state, allocation.job, place, &RunSet::of(positions), TaskState::Ready);
        if is_gang {
            gang::member_failed(state, allocation.job, place, true);
        }
    }
    stopped(state, &allocation, &news);
}

/// The positions of `tasks` that this allocation still owns. A cancel may have taken some of them away.
fn owned(state: &State, session: SessionId, allocation: &Allocation, tasks: Run) -> Vec<(usize, Run)> {
    let Some(job) = state.job(allocation.job) else { return Vec::new() };
    let Some((place, group)) = job.group_of(tasks.first) else { return Vec::new() };
    let Some(positions) = group.positions_of(tasks) else { return Vec::new() };
    let from = group.live.range(..=positions.first).next_back().map_or(positions.first, |(first, _)| *first);
    let live = group.live.range(from..positions.end());
    let unfenced = state.has_bug(Mutant::NoFenceOnFinish);
    let ours = live.filter(|(_, live)| unfenced || live.session == session && live.seq == allocation.seq);
    ours.filter_map(|(first, live)| Run::new(*first, live.len).overlap(positions))
        .map(|run| (place, run))
        .collect()
}

/// Gives the attempts of `tasks` their outcome, and their tasks what follows from it.
fn finish(
    state: &mut State,
    session: SessionId,
    allocation: &Allocation,
    tasks: Run,
    ended: &Ended,
    worker: &str,
) {
    let id = allocation.job;
    for (place, positions) in owned(state, session, allocation, tasks) {
        let Some(job) = state.job(id) else { return };
        let (cancelled, counts) = cancelled_or_not(job, place, positions);
        // The cancel was answered, though its chore has not come here yet: nothing else may come of it.
        cancelled.runs().for_each(|run| cancel_positions(state, id, place, run));
        counts.runs().for_each(|run| finish_run(state, id, place, run, allocation, ended, worker));
    }
}

/// Of these positions those that a cancel was answered for, and the others.
fn cancelled_or_not(job: &Job, place: usize, positions: Run) -> (RunSet, RunSet) {
    let cancelled: RunSet = job.groups[place].named(&job.cancelling, positions).collect();
    let mut others = RunSet::of(positions);
    cancelled.runs().for_each(|run| others.remove(run));
    (cancelled, others)
}

fn finish_run(
    state: &mut State,
    id: JobId,
    place: usize,
    positions: Run,
    allocation: &Allocation,
    ended: &Ended,
    worker: &str,
) {
    let outcome = Arc::new(outcome(state, id, positions.len, allocation, ended, worker));
    match outcome.verdict {
        Verdict::Succeeded => {
            succeed(state, id, place, positions, &outcome);
            state.learn(id, place, run_time(state, allocation, &outcome));
        }
        // Nobody asked, or the task would not be live: the worker gave it up on its own.
        Verdict::Failed | Verdict::Lost | Verdict::Cancelled => {
            (positions.first..positions.end())
                .for_each(|position| fail(state, id, place, position, &outcome));
        }
    }
}

/// By the worker's clock where it has said when it started, else since it was placed.
fn run_time(state: &State, allocation: &Allocation, outcome: &Outcome) -> Duration {
    match outcome.started {
        Some(started) => outcome.ended.since(started),
        None => state.now().since(allocation.placed.elapsed),
    }
}

const PREEMPTED: &str = "it gave way to a task of a higher priority";

/// A cancel took tasks away while their attempt ran. They stay as they are; that the attempt is gone, and how, is kept.
fn remember_cancelled(
    state: &mut State,
    allocation: &Allocation,
    tasks: &RunSet,
    ended: &Ended,
    worker: &str,
) {
    let id = allocation.job;
    let Some((place, gone)) = stopping(state, allocation, tasks) else { return };
    let settings = state.meta.settings.clone();
    let reason = if ended.reason == Reason::Exited { Reason::Cancelled } else { ended.reason };
    let mut ended = Ended { verdict: Verdict::Cancelled, reason, result: None, ..ended.clone() };
    if allocation.preempted {
        ended.message = and_why(ended.message, PREEMPTED, state.limits().tail_bytes_max as usize);
    }
    let outcome = Arc::new(outcome(state, id, gone.len(), allocation, &ended, worker));
    let change = state.change_group(id, place, |group| {
        gone.runs().map(|run| record(group, run, &outcome, &settings.limits)).sum()
    });
    results_changed(state, id, change);
}

/// What it said last, as far as there is room, and then why it was stopped: the last line is what lists show.
fn and_why(mut message: String, why: &str, max: usize) -> String {
    truncate(&mut message, max.saturating_sub(why.len() + 1));
    if !message.is_empty() {
        message.push('\n');
    }
    message + why
}

fn outcome(
    state: &State,
    id: JobId,
    tasks: u32,
    allocation: &Allocation,
    ended: &Ended,
    worker: &str,
) -> Outcome {
    let mut message = ended.message.clone();
    truncate(&mut message, state.limits().tail_bytes_max as usize);
    // A success of several tasks is one record, a failure one for each.
    let copies = if ended.verdict == Verdict::Succeeded { 1 } else { tasks };
    let result = keep_result(state, id, copies, ended.result.clone(), &mut message);
    Outcome {
        verdict: ended.verdict,
        reason: ended.reason,
        exit_code: ended.exit_code,
        signal: ended.signal,
        message,
        result,
        placed: allocation.placed.wall,
        started: ended.started.or(allocation.started),
        ended: ended.ended,
        cpu_time: ended.cpu_time,
        memory_peak: ended.memory_peak,
        worker: worker.to_owned(),
        token: allocation.token,
        attempt: allocation.attempt,
        round: allocation.round,
    }
}

fn succeed(state: &mut State, id: JobId, place: usize, positions: Run, outcome: &Arc<Outcome>) {
    let limits = state.meta.settings.clone();
    let is_gang = state.job(id).is_some_and(|job| job.groups[place].gang);
    let mut is_whole = false;
    let change = state.change_group(id, place, |group| {
        group.take_live(positions, None);
        if is_gang {
            is_whole = gang::arrive(group, positions);
        } else {
            group.succeeded.insert(positions);
        }
        // Most have none, and to borrow what is not there would make it.
        if !group.rows.is_empty()
            && let Some(row) = group.rows.get_mut(&positions.first)
        {
            row.attempts = outcome.attempt;
        }
        record(group, positions, outcome, &limits.limits)
    });
    results_changed(state, id, change);
    if is_gang {
        if is_whole {
            gang::succeeded(state, id, place);
        }
        return;
    }
    tell_ended(state, id, place, positions, TaskState::Succeeded, outcome);
    each_final(state, id, place, RunSet::of(positions), true);
}

fn tell_ended(state: &mut State, id: JobId, place: usize, positions: Run, to: TaskState, outcome: &Outcome) {
    let Some(tasks) = state.job(id).map(|job| job.groups[place].numbers_of(positions)) else { return };
    let worker = Some(outcome.worker.clone());
    state.event(Event::Tasks { job: id, tasks, state: to, attempt: outcome.attempt, worker });
}

/// The task tries again, at once or later, or has failed for good.
fn fail(state: &mut State, id: JobId, place: usize, position: u32, outcome: &Arc<Outcome>) {
    let Some(job) = state.job(id) else { return };
    let retry = job.task_spec(place).retry.clone();
    let settings = state.meta.settings.clone();
    let now = state.now();
    let own = outcome.verdict == Verdict::Failed;
    let run = Run::new(position, 1);
    let (next, change) = state.change_group(id, place, |group| {
        group.take_live(run, None);
        let change = record(group, run, outcome, &settings.limits);
        let row = group.rows.entry(position).or_default();
        row.attempts = outcome.attempt;
        if own {
            row.failures += 1
        } else {
            row.lost += 1
        };
        let next = next_try(&retry, own, row.failures, row.lost, backoff_seed(id, position, row.attempts));
        match next {
            None => group.failed.insert(run),
            Some(wait) if wait.is_zero() => group.ready.insert(run),
            Some(wait) => drop(group.delayed.insert(position, now.plus(wait))),
        }
        (next, change)
    });
    results_changed(state, id, change);
    let to = match next {
        None => TaskState::Failed,
        Some(wait) if wait.is_zero() => TaskState::Ready,
        Some(wait) => {
            add_timer(state, id, place, position, now.plus(wait));
            TaskState::Delayed
        }
    };
    tell_ended(state, id, place, run, to, outcome);
    if next.is_none() {
        each_final(state, id, place, RunSet::of(run), false);
    }
    if state.job(id).is_some_and(|job| job.groups[place].gang) {
        gang::member_failed(state, id, place, next.is_some());
    }
}

fn add_timer(state: &mut State, job: JobId, place: usize, position: u32, at: Elapsed) {
    let what = Occasion::Delay { group: place as u32, position };
    state.index.timers.insert(Timer { at, job, what });
}

/// How long to wait before the next attempt; `None`: there is none.
fn next_try(retry: &Retry, own: bool, failures: u32, lost: u32, seed: u64) -> Option<Duration> {
    if !own {
        return (lost <= retry.lost_max).then_some(Duration::ZERO);
    }
    (failures <= retry.max).then(|| jittered(retry.backoff.after(failures), seed))
}

/// Between half of the wait and the whole, so that what failed together does not come back together.
fn jittered(wait: Duration, seed: u64) -> Duration {
    let half = wait / 2;
    // Whole numbers only: a fraction may be rounded otherwise on another machine.
    half + half * (seed % 1024) as u32 / 1024
}

fn backoff_seed(job: JobId, position: u32, attempt: u32) -> u64 {
    let bytes =
        [job.0.to_le_bytes(), u64::from(position).to_le_bytes(), u64::from(attempt).to_le_bytes()].concat();
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

/// What the cluster says of an attempt whose worker can say nothing any more.
fn lost(at: Timestamp, message: &str) -> Ended {
    Ended {
        verdict: Verdict::Lost,
        reason: Reason::WorkerLost,
        exit_code: None,
        signal: None,
        message: message.to_owned(),
        result: None,
        started: None,
        ended: at,
        cpu_time: Duration::ZERO,
        memory_peak: 0,
    }
}
