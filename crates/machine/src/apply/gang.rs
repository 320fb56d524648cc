//! Gangs: a group whose tasks start together or not at all, and succeed together. When one of them fails, all begin anew.

use std::collections::BTreeMap;

use model::views::TaskState;
use model::{JobId, Lean, Run, RunSet, SessionId};

use crate::apply::cancel::{cancel_positions, stop_if_idle};
use crate::apply::deps::{each_final, release, tell};
use crate::eligible::{Ineligible, accepts, gate, has_room, unbooked, unreserved};
use crate::state::State;
use crate::state::jobs::{Group, Job};
use crate::state::sessions::Room;
use crate::{Event, Placement};

/// How many of the first placements are of one gang; at least one.
pub(crate) fn decision(state: &State, placements: &[Placement]) -> usize {
    let Some(first) = placements.first() else { return 0 };
    let gang = state.job(first.job).and_then(|job| job.group_of(first.tasks.first)).filter(|(_, g)| g.gang);
    let Some((_, group)) = gang else { return 1 };
    let is_of_it = |other: &&Placement| other.job == first.job && group.numbers().contains(other.tasks.first);
    placements.iter().take_while(is_of_it).count()
}

/// What a change of a part of the group is of: what befalls a member befalls all, in one entry.
pub(crate) fn whole(state: &State, id: JobId, place: usize, part: Run) -> Run {
    match state.job(id).map(|job| &job.groups[place]) {
        Some(group) if group.gang => group.positions(),
        _ => part,
    }
}

/// Whether all members may go where they are placed, together.
pub(crate) fn eligible(state: &State, members: &[Placement]) -> Result<(), Ineligible> {
    let first = members.first().ok_or(Ineligible::NotReady)?;
    let job = state.job(first.job).ok_or(Ineligible::UnknownJob)?;
    let (place, group) = job.group_of(first.tasks.first).ok_or(Ineligible::NotReady)?;
    gate(state, job, group)?;
    let mut named = RunSet::new();
    let is_plain = |member: &&Placement| member.tasks.len == 1 && !member.held && member.alternative == 0;
    for member in members.iter().filter(is_plain) {
        named.insert(member.tasks);
    }
    let is_whole = members.len() == group.len as usize && named == RunSet::of(group.numbers());
    if !is_whole {
        return Err(Ineligible::NotWhole { members: group.len });
    }
    let queue = state.queue(job.queue).ok_or(Ineligible::QueuePaused)?;
    if state.room_in(queue) < u64::from(group.len) {
        return Err(Ineligible::QueueFull { running_max: queue.running_max.unwrap_or(0) });
    }
    let class = &state.class(group.class).ok_or(Ineligible::UnknownJob)?.key;
    let mut rooms: BTreeMap<SessionId, Room> = BTreeMap::new();
    for member in members {
        let session = state.session(member.session).ok_or(Ineligible::SessionEnded)?;
        accepts(state, session, class)?;
        unreserved(state, session, job.id, group.numbers())?;
        let room = rooms.entry(session.id).or_insert_with(|| session.room());
        has_room(room, class)?;
        unbooked(state, session, &room.free, class, (job, place))?;
        let units = room.fit(&class.resources).ok_or(Ineligible::NotReady)?;
        room.take(&class.resources, &units);
    }
    Ok(())
}

/// All members are placed: nothing drains for them any more.
pub(crate) fn placed(state: &mut State, members: &[Placement]) {
    let Some(first) = members.first() else { return };
    let numbers = state.job(first.job).and_then(|job| job.group_of(first.tasks.first));
    let Some(numbers) = numbers.map(|(_, group)| group.numbers()) else { return };
    let drains = |task: Option<(JobId, u32)>| {
        task.is_some_and(|(job, task)| job == first.job && numbers.contains(task))
    };
    let drained = state.index.reserved.iter().filter_map(|id| state.session(*id));
    let drained: Vec<SessionId> = drained.filter(|row| drains(row.reserved)).map(|row| row.id).collect();
    drained.into_iter().for_each(|id| state.set_reserved(id, None));
}

/// A member has ended well: it waits for the others. Whether all have by now, and so have succeeded.
pub(crate) fn arrive(group: &mut Group, position: Run) -> bool {
    group.arrived.insert(position);
    if group.arrived.len() < group.len {
        return false;
    }
    group.arrived = Lean::default();
    let all = group.positions();
    group.succeeded.insert(all);
    true
}

/// Those that have arrived wait no longer, and their attempt has led to nothing.
pub(crate) fn depart(group: &mut Group) -> RunSet {
    if group.arrived.is_empty() {
        return RunSet::new();
    }
    let arrived: RunSet = (*group.arrived).clone();
    for position in arrived.numbers() {
        let attempt = group.attempts(position);
        group.note_over(Run::new(position, 1), attempt);
    }
    group.arrived = Lean::default();
    arrived
}

/// All have succeeded.
pub(crate) fn succeeded(state: &mut State, id: JobId, place: usize) {
    let Some(job) = state.job(id) else { return };
    let group = &job.groups[place];
    let all = RunSet::of(group.positions());
    let told: Vec<Event> = all.numbers().map(|position| ended_well(job, group, position)).collect();
    told.into_iter().for_each(|event| state.event(event));
    each_final(state, id, place, all, true);
}

fn ended_well(job: &Job, group: &Group, position: u32) -> Event {
    let run = Run::new(position, 1);
    let worker = group.outcome_at(position).map(|outcome| outcome.worker.clone());
    let (tasks, attempt) = (group.numbers_of(run), group.attempts(position));
    Event::Tasks { job: job.id, tasks, state: TaskState::Succeeded, attempt, worker }
}

/// A member has failed. If it tries again, so do all, once nothing of them runs any more; else all are over.
pub(crate) fn member_failed(state: &mut State, id: JobId, place: usize, tries_again: bool) {
    let Some(positions) = state.job(id).map(|job| job.groups[place].positions()) else { return };
    if !tries_again {
        cancel_positions(state, id, place, positions);
        return;
    }
    let (again, live) = state.change_group(id, place, |group| {
        let mut again = depart(group);
        let live = group.take_live(positions, None);
        for (run, live) in &live {
            again.insert(*run);
            group.note_stopping(*run, live.attempt);
        }
        again.runs().for_each(|run| group.blocked.insert(run));
        group.begin_rows(positions);
        (again, live)
    });
    live.into_iter().for_each(|(_, live)| stop_if_idle(state, id, place, live.session, live.seq));
    tell(state, id, place, &again, TaskState::Blocked);
    release(state, id, place, positions);
}
