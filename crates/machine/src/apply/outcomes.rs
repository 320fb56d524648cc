//! What is kept of how attempts ended, within the limits. Beyond `outcomes_per_group_max` only counts and states are.

use std::sync::Arc;

use model::settings::Limits;
use model::{Blob, JobId, Outcome, Run};

use crate::state::State;
use crate::state::jobs::{Group, OutcomeRun, TaskRow};

pub(crate) fn truncate(text: &mut String, max: usize) {
    if text.len() > max {
        let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

/// The result, if the limits leave room for so many records of it; else the message says what was cut.
pub(crate) fn keep_result(
    state: &State,
    id: JobId,
    copies: u32,
    result: Option<Box<Blob>>,
    message: &mut String,
) -> Option<Box<Blob>> {
    let blob = result?;
    let size = size(&blob);
    let all = size.saturating_mul(copies.into());
    let limits = state.limits();
    let over = [
        (size, limits.result_bytes_max, "result_bytes_max"),
        (state.job(id)?.results_bytes + all, limits.results_bytes_per_job_max, "results_bytes_per_job_max"),
        (state.meta.results_bytes + all, limits.results_bytes_max, "results_bytes_max"),
    ];
    if let Some((_, _, limit)) = over.iter().find(|(bytes, max, _)| bytes > max) {
        message.push_str(&format!("[result of {size} bytes not kept: above the limit {limit}]"));
        return None;
    }
    Some(blob)
}

fn size(blob: &Blob) -> u64 {
    blob.inline_bytes().map_or(0, |bytes| bytes.len() as u64)
}

/// Bytes of its result. Every record counts, for a snapshot holds each.
pub(crate) fn result_bytes(outcome: &Outcome) -> i64 {
    outcome.result.as_ref().map_or(0, |blob| size(blob) as i64)
}

/// By so many bytes the results that are kept have grown, or shrunk.
pub(crate) fn results_changed(state: &mut State, id: JobId, bytes: i64) {
    let Some(job) = state.jobs.get_mut(id.0).filter(|_| bytes != 0) else { return };
    job.results_bytes = job.results_bytes.saturating_add_signed(bytes);
    job.rare.tidy();
    state.meta.results_bytes = state.meta.results_bytes.saturating_add_signed(bytes);
}

/// Keeps the outcome as the last one of its tasks, and the one before as an earlier one, as far as there is room: first
/// the last one, then the earlier. Returns by how many bytes the results kept have grown.
pub(crate) fn record(group: &mut Group, positions: Run, outcome: &Arc<Outcome>, limits: &Limits) -> i64 {
    let max = limits.outcomes_per_group_max as usize;
    let (before, mut change) = take_outcome(group, positions, max);
    if group.outcomes_kept() < max {
        change += result_bytes(outcome);
        group.outcomes.insert(positions.first, OutcomeRun { len: positions.len, outcome: outcome.clone() });
    }
    // Tasks with a history are placed one by one, so that only those have an earlier outcome.
    let Some(before) = before.filter(|_| positions.len == 1 && group.outcomes_kept() < max) else {
        return change;
    };
    let attempts = group.attempts(positions.first);
    // One that waited too long has an outcome and no attempt, so its first attempt may find no row.
    let row = group.rows.entry(positions.first).or_insert_with(|| TaskRow { attempts, ..TaskRow::default() });
    change += result_bytes(&before);
    row.earlier.push(before);
    let excess = row.earlier.len().saturating_sub(limits.earlier_outcomes_max as usize);
    let dropped: i64 = row.earlier.drain(..excess).map(|outcome| result_bytes(&outcome)).sum();
    group.earlier_len = group.earlier_len + 1 - excess as u32;
    change - dropped
}

/// Takes the last outcomes of `positions` out; returns the first of them, and by how many bytes the results kept have
/// grown. Of a longer run the rest stays.
fn take_outcome(group: &mut Group, positions: Run, max: usize) -> (Option<Arc<Outcome>>, i64) {
    let from =
        group.outcomes.range(..=positions.first).next_back().map_or(positions.first, |(first, _)| *first);
    let near = group.outcomes.range(from..positions.end());
    let touched: Vec<Run> = near
        .map(|(first, run)| Run::new(*first, run.len))
        .filter(|run| run.overlap(positions).is_some())
        .collect();
    let (mut taken, mut change) = (None, 0);
    for run in touched {
        let Some(OutcomeRun { outcome, .. }) = group.outcomes.remove(&run.first) else { continue };
        let before = positions.first.saturating_sub(run.first);
        let after = run.end().saturating_sub(positions.end());
        let rests = [Run::new(run.first, before), Run::new(run.end() - after, after)];
        change -= result_bytes(&outcome);
        // Cutting a run in two must not be a way around the limit.
        for rest in rests.into_iter().filter(|rest| rest.len > 0) {
            if group.outcomes_kept() >= max {
                break;
            }
            change += result_bytes(&outcome);
            group.outcomes.insert(rest.first, OutcomeRun { len: rest.len, outcome: outcome.clone() });
        }
        taken.get_or_insert(outcome);
    }
    (taken, change)
}
