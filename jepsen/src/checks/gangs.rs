//! W16 by the members' own ledger: those of one attempt are told the same, those of two are never there side by side, and a
//! gang that has succeeded has done so in one attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use model::JobId;

use crate::checks::{Evidence, FinalJob, Finding, not_asked};
use crate::ledger::{Key, Stay};
use crate::nemesis::Outage;
use crate::workload::{Op, Workload};

/// The processes of one gang, from the oldest token on.
type Members<'a> = Vec<(Key, &'a Stay)>;

pub fn check(evidence: &Evidence) -> Finding {
    let workload = evidence.asked.workload;
    if !workload.has(|op| matches!(op, Op::Submit(shape) if shape.gang().is_some())) {
        return not_asked("W16");
    }
    let (mut problems, mut attempts, mut starts, mut excused) = (Vec::new(), BTreeSet::new(), 0, 0);
    let last = evidence.last();
    let gangs: Vec<(&FinalJob, Range<u32>)> =
        last.values().filter_map(|job| Some((*job, job.shape()?.gang()?))).collect();
    for (job, numbers) in &gangs {
        let members = members(evidence, job.id, numbers);
        starts += members.len();
        attempts.extend(members.iter().map(|(key, _)| (job.id, key.attempt)));
        problems.extend(told_otherwise(&members, numbers));
        let (side_by_side, away) = side_by_side(&evidence.kept.deeds.outages, &members);
        problems.extend(side_by_side);
        excused += away;
        problems.extend(ended_apart(job, &members, numbers));
    }
    problems.truncate(50);
    let doubts = (workload == Workload::Gang && starts == 0).then(|| "no member of a gang ran".to_owned());
    let looked_at = format!(
        "{} gangs, {} attempts, {starts} starts, {excused} beside those of a host that was away",
        gangs.len(),
        attempts.len()
    );
    Finding::new("W16", "a gang runs whole or not at all", looked_at, problems)
        .unless(doubts.into_iter().collect())
}

fn members<'a>(evidence: &'a Evidence, job: JobId, numbers: &Range<u32>) -> Members<'a> {
    let first = |number| Key { task: model::TaskId { job, number }, token: 0, attempt: 0 };
    let of_gang = evidence.ledger.range(first(numbers.start)..first(numbers.end));
    let mut members: Members =
        of_gang.flat_map(|(key, stays)| stays.iter().map(|stay| (*key, stay))).collect();
    members.sort_by_key(|(key, stay)| (key.token, stay.start));
    members
}

/// All of one attempt have one token and one place to meet, and each knows its own number and how many they are.
fn told_otherwise(members: &Members, numbers: &Range<u32>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut told: BTreeMap<u32, (u64, &str)> = BTreeMap::new();
    for (Key { task, token, attempt }, stay) in members {
        let Some(place) = &stay.place else {
            problems.push(format!("{task}#{attempt} was told nothing of its gang"));
            continue;
        };
        let (rank, size) = (task.number - numbers.start, numbers.len() as u32);
        if (place.rank, place.size) != (rank, size) {
            problems.push(format!(
                "{task}#{attempt} was told that it is {} of {}, it is {rank} of {size}",
                place.rank, place.size
            ));
        }
        let own = (*token, place.meets_at.as_str());
        let first = *told.entry(*attempt).or_insert(own);
        if first != own {
            problems.push(format!("{task}#{attempt} was told {own:?}, another of that attempt {first:?}"));
        }
    }
    problems
}

/// A member of an older attempt that is still there, or only begins, when one of a newer has begun; and how many of them are
/// excused, since their host stood still or reached nobody at some time between the two.
fn side_by_side(outages: &[Outage], members: &Members) -> (Vec<String>, usize) {
    let mut begun: BTreeMap<u64, u64> = BTreeMap::new();
    for (key, stay) in members {
        let first = begun.entry(key.token).or_insert(stay.start);
        *first = (*first).min(stay.start);
    }
    let (mut problems, mut excused) = (Vec::new(), 0);
    for (key, stay) in members {
        let there_until = stay.end.unwrap_or(stay.start);
        let newer = begun.range(key.token + 1..).find(|(_, begun)| **begun < there_until);
        let Some((newer, begun)) = newer else { continue };
        if was_away(outages, stay, *begun) {
            excused += 1;
        } else {
            let Key { task, token, attempt } = key;
            problems
                .push(format!("{task}#{attempt} with token {token} is beside the attempt of token {newer}"));
        }
    }
    (problems, excused)
}

fn was_away(outages: &[Outage], stay: &Stay, other: u64) -> bool {
    let (from, to) = (stay.start.min(other), stay.start.max(other));
    outages.iter().any(|outage| outage.worker == stay.worker && outage.from < to && outage.to > from)
}

/// If the gang has succeeded, all of its members came to their end in one attempt.
fn ended_apart(job: &FinalJob, members: &Members, numbers: &Range<u32>) -> Option<String> {
    if job.state != model::views::JobState::Succeeded {
        return None;
    }
    let mut ended: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (key, _) in members.iter().filter(|(_, stay)| stay.end.is_some()) {
        ended.entry(key.token).or_default().insert(key.task.number);
    }
    let is_whole = ended.values().any(|those| those.len() == numbers.len());
    (!is_whole)
        .then(|| format!("{} succeeded, and its gang came to its end in no attempt: {ended:?}", job.id))
}
