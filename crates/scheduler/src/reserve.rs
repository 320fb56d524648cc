//! A task that was passed over for too long gets a worker that drains for it.
//!
//! Waiting alone is no reason: where everything waits its turn, a worker kept empty only makes it longer. So it is for
//! the first of a queue, or for one that something went before, and few workers drain at a time. Nor does anything drain for
//! whoever is promised a start: what goes before it ends by then. Once that time has come in vain, it may.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use machine::eligible::{accepts, goes_before, still_waits};
use machine::state::index::ReadyKey;
use machine::state::queues::{Queue, QueueId};
use machine::state::sessions::Class;
use machine::state::users::EVERYBODY;
use machine::{Group, Job, Reservation, Session, State};
use model::policy::Backfill;
use model::{ClassId, Elapsed, JobId, Run, SessionId};

use crate::backfill::Whose;
use crate::gang::{self, Sought};
use crate::place::Round;
use crate::queues::Line;
use crate::slices;

/// One worker in so many may drain, and always one.
const WORKERS_PER_RESERVATION: usize = 4;

/// Reserves for those of the groups that were passed over that have waited long enough. Whether all are to be looked at again: one could
/// be placed at once, since there was room, and promised to somebody who does not come before it any more; or who could have had
/// room where somebody drains from now on is to be promised a start elsewhere, or may have others give way for it there.
pub(crate) fn for_starving(round: &mut Round<'_>, lines: &mut [Line<'_>]) -> bool {
    let late: Vec<(ReadyKey, ClassId)> =
        lines.iter().flat_map(|line| first_without_room_by_now(round, line)).collect();
    let passed_over = lines.iter().flat_map(Line::passed_over).chain(late);
    let passed_over =
        passed_over.filter(|(key, _)| !round.book.awaits_start((key.job, key.group), round.now()));
    let mut starving: Vec<(Elapsed, ReadyKey, ClassId)> =
        passed_over.filter_map(|(key, class)| Some((since(round, key)?, key, class))).collect();
    let (mut has_placed, before) = (false, round.plan.reservations.clone());
    starving.sort();
    let reservations_max = (round.rooms.len() / WORKERS_PER_RESERVATION).max(1);
    for (_, key, class) in starving {
        if let Some((job, row)) = round.state.job(key.job).zip(round.state.class(class))
            && row.key.gang > 0
        {
            let group = &job.groups[key.group as usize];
            // One that waits for its queue needs no room.
            if !lines.iter().any(|line| line.queue == job.queue && line.room >= u64::from(group.len)) {
                continue;
            }
            gang::reserve(round, class, row, key, group);
            has_placed |=
                round.book.has_promised() && place_drained_gang(round, lines, class, row, key, group);
            continue;
        }
        if round.reserved.len() >= reservations_max {
            continue;
        }
        if let Some((session, task)) = reserve(round, key, class) {
            has_placed |= place_promised(round, lines, session, task);
        }
    }
    let is_new = |of: &&Reservation| !before.contains(of);
    let drains: Vec<Reservation> = round.plan.reservations.iter().filter(is_new).copied().collect();
    let puts_off = drains.iter().any(|of| round.puts_off(of));
    round.drains.late.extend(&drains);
    round.drains.puts_off |= puts_off;
    let gives_way = || round.state.queues().any(|queue| queue.policy.preempt);
    has_placed || puts_off || (!drains.is_empty() && gives_way())
}

/// Places the task on the session that drains for it from now on, if all that kept it from there was a promise.
fn place_promised(
    round: &mut Round<'_>,
    lines: &mut [Line<'_>],
    session: SessionId,
    task: (JobId, u32),
) -> bool {
    let state = round.state;
    let Some(queue) = state.job(task.0).and_then(|job| state.queue(job.queue)) else { return false };
    let line = lines.iter_mut().find(|line| line.queue == queue.id && line.room > 0);
    let Some(line) = line.filter(|_| round.book.has_promised()) else { return false };
    if is_outranked(state, queue, session, task) {
        return false;
    }
    let has_placed = place_before_promises(round, session, task);
    if has_placed {
        charge(round, line, task, 1);
        round.plan.reservations.retain(|reservation| reservation.session != session);
    }
    has_placed
}

/// Places all members of the gang if nothing keeps them from it but what is promised on the sessions that drain for it.
fn place_drained_gang(
    round: &mut Round<'_>,
    lines: &mut [Line<'_>],
    class: ClassId,
    row: &Class,
    key: ReadyKey,
    group: &Group,
) -> bool {
    let queue = round.state.job(key.job).map(|job| job.queue);
    let line = lines.iter_mut().find(|line| Some(line.queue) == queue && line.room >= u64::from(group.len));
    let Some(line) = line else { return false };
    let of_gang = |(session, (job, task)): (&SessionId, &(JobId, u32))| {
        (*job == key.job && group.numbers().contains(*task)).then_some(*session)
    };
    let drained: Vec<SessionId> = round.reserved.iter().filter_map(of_gang).collect();
    let start = |round: &mut Round<'_>| round.place_gang(class, row, key, group) == Sought::Placed;
    let has_placed = !drained.is_empty() && round.goes_before_promises((key.job, key.group), &drained, start);
    if has_placed {
        round.plan.reservations.retain(|reservation| !drained.contains(&reservation.session));
        charge(round, line, (key.job, group.first), group.len);
    }
    has_placed
}

/// So many tasks, each in an allocation of its own, were placed out of turn.
fn charge(round: &Round<'_>, line: &mut Line<'_>, (id, task): (JobId, u32), tasks: u32) {
    let Some(job) = round.state.job(id) else { return };
    let class = job.group_of(task).and_then(|(_, group)| round.state.class(group.class));
    if let Some(class) = class {
        let asked = &class.key.resources;
        line.charge_user(job.user, asked, asked.dominant_share(round.state.total()), tasks, tasks);
    }
}

/// For whom a session drains comes before those who were promised a start there.
fn place_before_promises(round: &mut Round<'_>, session: SessionId, task: (JobId, u32)) -> bool {
    let place_of = |job: &Job| job.group_of(task.1).map(|(place, _)| place as u32);
    let Some(group) = round.state.job(task.0).and_then(place_of) else { return false };
    round.goes_before_promises((task.0, group), &[session], |round| place(round, session, task))
}

/// The first that would have delayed somebody when it was its turn, and for which there is no room any more, if it comes before
/// all that found none.
fn first_without_room_by_now(round: &mut Round<'_>, line: &Line<'_>) -> Option<(ReadyKey, ClassId)> {
    if line.room == 0 || line.skipped().next().is_none() {
        return None;
    }
    let state = round.state;
    let before = line.waiting().map(|(key, _)| key).min().unwrap_or(ReadyKey::MAX);
    let mut skipped = line.skipped().filter(|(key, _)| *key < before && is_starving(round, *key));
    // What has its place in time keeps it.
    let may_starve = |class: ClassId| {
        let row = state.class(class)?;
        (line.backfill != Backfill::Conservative || row.key.gang > 0).then_some(row)
    };
    let (key, class) = skipped.find(|(_, class)| may_starve(*class).is_some())?;
    let (job, row) = state.job(key.job).zip(state.class(class))?;
    let has_room = round.finds_room(class, row, key, &job.groups[key.group as usize]);
    (!has_room).then_some((key, class))
}

pub(crate) fn is_starving(round: &Round<'_>, key: ReadyKey) -> bool {
    since(round, key).is_some()
}

/// Since when the group has been passed over, if that is too long.
fn since(round: &Round<'_>, key: ReadyKey) -> Option<Elapsed> {
    let state = round.state;
    let job = state.job(key.job)?;
    let group = &job.groups[key.group as usize];
    let taken = round.taken.tasks.get(&key.job);
    if taken.is_some_and(|taken| taken.touches(group.numbers())) {
        // Something of it is on its way.
        return None;
    }
    let since = group.passed_since.max(state.queue(job.queue)?.resumed);
    let patience = Duration::from_secs(state.limits().starve_after_s);
    (state.stamp().elapsed.since(since) >= patience).then_some(since)
}

fn reserve(round: &mut Round<'_>, key: ReadyKey, class: ClassId) -> Option<(SessionId, (JobId, u32))> {
    let state = round.state;
    let (job, row) = state.job(key.job).zip(state.class(class))?;
    let group = &job.groups[key.group as usize];
    let run = group.ready.first()?;
    let task = (key.job, group.first + run.first);
    if round.reserved.values().any(|other| *other == task) {
        return None;
    }
    // Not again the one that has drained in vain; then the emptiest: it is the first to have room.
    let was_in_vain = |session: &SessionId| state.session(*session).is_some_and(|s| s.reserved == Some(task));
    let free = |session: &SessionId| round.rooms[session].free.dominant_share(state.total());
    // What would not take it even when idle need not drain.
    let estimate = round.estimate_if_asked(key.job, key.group);
    let open = round.takers_of(class, row).filter(|session| {
        !round.reserved.contains_key(session)
            && round.is_unbooked_when_idle(*session, key.job, &row.key.resources, estimate)
    });
    let best = open.min_by_key(|session| (was_in_vain(session), Reverse(free(session)), *session));
    let session = best?;
    round.reserved.insert(session, task);
    round.plan.reservations.push(Reservation { session, job: task.0, task: task.1 });
    Some((session, task))
}

/// Places tasks whose worker has drained for them, but for those that others go before.
pub(crate) fn place_drained(round: &mut Round<'_>) {
    let state = round.state;
    for (session, task) in round.reserved.clone() {
        if gang::is_gang(state, task.0, task.1) {
            continue;
        }
        let Some(queue) = state.job(task.0).and_then(|job| state.queue(job.queue)) else { continue };
        if may_run_more(round, queue)
            && !is_outranked(state, queue, session, task)
            && place(round, session, task)
        {
            note_begun(round, queue.id, task);
        }
    }
    // For the tasks of a queue that runs as many as it may nobody drains before that changes.
    let queue_of = |id: JobId| state.job(id).and_then(|job| state.queue(job.queue));
    let mut reserved = std::mem::take(&mut round.reserved);
    reserved.retain(|session, (id, task)| {
        // What a plan in flight has drain may be for one that has somebody stopped.
        round.taken.reserved.get(session) == Some(&(*id, *task))
            || queue_of(*id).is_some_and(|queue| may_run_more(round, queue))
    });
    round.reserved = reserved;
    // Nobody was refused anything yet.
    round.released = false;
}

/// With what plans in flight, and this one, start.
fn may_run_more(round: &Round<'_>, queue: &Queue) -> bool {
    let running = round.taken.running.get(&queue.id).copied().unwrap_or(0);
    round.state.room_in(queue) > running + slices::resumed(round.state, &round.taken, queue)
}

/// The same of gangs, once promises stand: members may begin on other workers too, beside what is promised there. Whether any
/// was placed.
pub(crate) fn place_drained_gangs(round: &mut Round<'_>, lines: &mut [Line<'_>]) -> bool {
    let (state, mut has_placed) = (round.state, false);
    let firsts: BTreeMap<Whose, u32> = round
        .reserved
        .values()
        .filter_map(|(id, task)| {
            let (place, group) = state.job(*id)?.group_of(*task)?;
            group.gang.then_some(((*id, place as u32), *task))
        })
        .collect();
    for ((id, place), task) in firsts {
        let Some(job) = state.job(id) else { continue };
        let group = &job.groups[place as usize];
        let key = ReadyKey { rank: group.rank, job: id, group: place };
        let in_flight = round.taken.tasks.get(&id).is_some_and(|taken| taken.touches(group.numbers()));
        if !in_flight
            && still_waits(state, id, task)
            && let Some(row) = state.class(group.class)
        {
            has_placed |= place_drained_gang(round, lines, group.class, row, key, group);
        }
    }
    if has_placed {
        round.settle_promises();
    }
    has_placed
}

/// The same of the others, now that those have had their turn. Whether any was placed.
pub(crate) fn place_outranked(round: &mut Round<'_>, lines: &mut [Line<'_>]) -> bool {
    let state = round.state;
    let mut has_placed = false;
    for (session, task) in round.reserved.clone() {
        let Some(queue) = state.job(task.0).and_then(|job| state.queue(job.queue)) else { continue };
        let line = lines.iter_mut().find(|line| line.queue == queue.id && line.room > 0);
        if let Some(line) = line
            && !gang::is_gang(state, task.0, task.1)
            && is_outranked(state, queue, session, task)
            && !would_give_way(round, line, session, task)
            && place_before_promises(round, session, task)
        {
            charge(round, line, task, 1);
            has_placed = true;
        }
    }
    has_placed
}

/// Whether it would make way at once for one that has room there now, and only waits lest it delay somebody.
fn would_give_way(round: &Round<'_>, line: &Line<'_>, session: SessionId, task: (JobId, u32)) -> bool {
    let (state, room) = (round.state, round.rooms.get(&session));
    let fits = |class: ClassId| {
        state.class(class).zip(room).is_some_and(|(row, room)| room.fit(&row.key.resources).is_some())
    };
    let mut delayed = line.skipped().filter(|(key, _)| goes_before(state, key.job, task));
    delayed.any(|(_, class)| takes(state, session, class) && fits(class))
}

fn takes(state: &State, session: SessionId, class: ClassId) -> bool {
    let (row, class) = (state.session(session), state.class(class));
    row.zip(class).is_some_and(|(row, class)| accepts(state, row, &class.key).is_ok())
}

/// Whether something waits that the session takes, and that may use it although it drains for the task, which is of that queue.
fn is_outranked(state: &State, queue: &Queue, session: SessionId, task: (JobId, u32)) -> bool {
    if !queue.policy.preempt {
        return false;
    }
    let mut firsts = state.ready_in(queue.id).filter_map(|(list, keys)| Some((list.class, keys.first()?)));
    firsts.any(|(class, key)| goes_before(state, key.job, task) && takes(state, session, class))
}

/// Places the task on the session that drains for it. Whether there was room.
fn place(round: &mut Round<'_>, session: SessionId, (id, task): (JobId, u32)) -> bool {
    let state = round.state;
    let in_flight = round.taken.tasks.get(&id).is_some_and(|taken| taken.contains(task));
    let found = state.job(id).and_then(|job| job.group_of(task));
    let Some((place, group)) = found.filter(|_| !in_flight && still_waits(state, id, task)) else {
        return false;
    };
    let (whose, tasks) = ((id, place as u32), Run::new(task, 1));
    let estimate = round.estimate_if_asked(id, whose.1);
    let row = state.class(group.class);
    let open = row.filter(|row| round.is_open(session, row, whose, tasks, estimate));
    open.inspect(|row| round.take(id, whose.1, tasks, session, row)).is_some()
}

/// Before there are lines, what is placed counts as what is in flight does.
fn note_begun(round: &mut Round<'_>, queue: QueueId, (id, task): (JobId, u32)) {
    let state = round.state;
    *round.taken.running.entry(queue).or_default() += 1;
    let Some(job) = state.job(id).filter(|job| job.user != EVERYBODY) else { return };
    let class = job.group_of(task).and_then(|(_, group)| state.class(group.class));
    let given = round.taken.users.entry((queue, job.user)).or_default();
    class.into_iter().for_each(|class| given.add(&class.key.resources));
}

/// Whether the session, for which `task` is reserved, can still come to take it.
pub(crate) fn holds(state: &State, session: &Session, (id, task): (JobId, u32)) -> bool {
    let class =
        state.job(id).and_then(|job| job.group_of(task)).and_then(|(_, group)| state.class(group.class));
    class.is_some_and(|class| accepts(state, session, &class.key).is_ok()) && still_waits(state, id, task)
}
