//! The end of waits: what was not placed within its `start_within` is cancelled, of a gang all members or none.

use std::sync::Arc;
use std::time::Duration;

use model::time::format_duration;
use model::{JobId, Outcome, Reason, Run, Token, Verdict};

use crate::apply::cancel::cancel_positions;
use crate::apply::outcomes::{record, results_changed, truncate};
use crate::chores::Budget;
use crate::state::State;
use crate::state::jobs::{Group, Job};

/// Ends what is ready of the group, as far as the budget goes. There is no chore for the rest: its timer is still due, so that
/// the next tick goes on, and what is placed before has started.
pub(crate) fn end(state: &mut State, id: JobId, place: usize, budget: &mut Budget) {
    let Some(within) =
        state.job(id).filter(|job| is_free(job, place)).and_then(|job| job.start_within(place))
    else {
        return;
    };
    while let Some(part) = next_part(state, id, place) {
        let rows = note(state, id, place, part, within);
        cancel_positions(state, id, place, part);
        // A worker that drained for one of them is open to others.
        state.wake();
        budget.spend(rows);
        if budget.is_spent() {
            return;
        }
    }
}

/// A cancel that was answered says itself how they end, a retry opens all before any ends, and what has to wait for others by now
/// is ready no more. All have chores, so that this
/// is asked again soon.
fn is_free(job: &Job, place: usize) -> bool {
    let group = &job.groups[place];
    let has_begun = job.open && group.waiting == 0;
    has_begun && job.reopening == 0 && !job.is_cancelling(group)
}

fn next_part(state: &State, id: JobId, place: usize) -> Option<Run> {
    let group = &state.job(id)?.groups[place];
    let ready = group.ready.first()?;
    Some(if group.gang { group.positions() } else { alike(group, ready) })
}

/// The beginning of the run in which all have the same round, and no history or are alone.
fn alike(group: &Group, run: Run) -> Run {
    let mut end = run.end();
    match group.rows.range(run.first..end).next() {
        Some((position, _)) if *position == run.first => return Run::new(run.first, 1),
        Some((position, _)) => end = *position,
        None => {}
    }
    for set in &group.later {
        match set.parts_of(run).next() {
            Some(part) if part.first == run.first => end = end.min(part.end()),
            Some(part) => end = end.min(part.first),
            None => {}
        }
    }
    Run::new(run.first, end - run.first)
}

/// Keeps why they end. Returns how many records that took.
fn note(state: &mut State, id: JobId, place: usize, part: Run, within: Duration) -> usize {
    let settings = state.meta.settings.clone();
    let now = state.stamp().wall;
    let mut message = format!("not started within {}", format_duration(within));
    truncate(&mut message, settings.limits.tail_bytes_max as usize);
    let (rows, change) = state.change_group(id, place, |group| {
        let (mut rows, mut change, mut rest) = (0, 0, part);
        while rest.len > 0 {
            let run = alike(group, rest);
            let outcome = Arc::new(outcome(message.clone(), now, group.round(run.first)));
            change += record(group, run, &outcome, &settings.limits);
            rest = Run::new(run.end(), rest.end() - run.end());
            rows += 1;
        }
        (rows, change)
    });
    results_changed(state, id, change);
    rows
}

fn outcome(message: String, now: model::Timestamp, round: u32) -> Outcome {
    Outcome {
        verdict: Verdict::Cancelled,
        reason: Reason::WaitedTooLong,
        exit_code: None,
        signal: None,
        message,
        result: None,
        placed: now,
        started: None,
        ended: now,
        cpu_time: Duration::ZERO,
        memory_peak: 0,
        worker: String::new(),
        token: Token(0),
        attempt: 0,
        round,
    }
}
