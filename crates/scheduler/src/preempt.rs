//! Which running tasks give way to waiting ones of a higher priority, where their queue wants it so: as few as make room, of
//! the lowest priorities, and those that have run for the shortest time, so that least is done twice.

use machine::eligible::goes_before;
use machine::state::index::ReadyKey;
use machine::state::sessions::{Class, Room};
use machine::{Allocation, Preemption, Reservation, may_give_way};
use model::time::micros;
use model::{ClassId, JobId, SessionId};

use crate::place::Round;

/// Tasks for which room is made in one round.
pub(crate) const TASKS_MAX: usize = 16;
/// Workers looked at for each.
const SESSIONS_MAX: usize = 512;

/// Makes room for the tasks of the group at this key, which has found none. Who has a worker that drains for it has room soon.
pub(crate) fn for_head(round: &mut Round<'_>, class: ClassId, row: &Class, key: ReadyKey) {
    let state = round.state;
    let Some(job) = state.job(key.job) else { return };
    if row.key.gang > 0 || !state.queue(job.queue).is_some_and(|queue| queue.policy.preempt) {
        return;
    }
    let group = &job.groups[key.group as usize];
    let waiting = group.ready.numbers().map(|position| group.first + position);
    for task in waiting {
        let in_flight = round.taken.tasks.get(&job.id).is_some_and(|taken| taken.contains(task));
        if in_flight || round.reserved.values().any(|other| *other == (job.id, task)) {
            continue;
        }
        if round.preempts_left == 0 {
            round.is_cut_short = true;
            return;
        }
        if !make_room(round, class, row, (job.id, task)) {
            return;
        }
        round.preempts_left -= 1;
    }
}

fn make_room(round: &mut Round<'_>, class: ClassId, row: &Class, task: (JobId, u32)) -> bool {
    let place = state_place(round, task);
    let estimate = place.and_then(|place| round.estimate_if_asked(task.0, place));
    let is_open = |id: &SessionId| {
        round.reserved.get(id).is_none_or(|kept| goes_before(round.state, task.0, *kept))
            && round.is_unbooked_when_idle(*id, task.0, &row.key.resources, estimate)
    };
    let open = round.takers_of(class, row).filter(is_open).take(SESSIONS_MAX);
    let best = open.filter_map(|id| Some((victims(round, id, row, task.0)?, id)));
    let best = best.min_by_key(|(victims, id)| (victims.cost, *id));
    let Some((Victims { seqs, .. }, session)) = best else { return false };
    round.reserved.insert(session, task);
    round.plan.reservations.push(Reservation { session, job: task.0, task: task.1 });
    let (job, task) = task;
    let of = |seq| Preemption { session, seq, job, task };
    round.plan.preemptions.extend(seqs.into_iter().map(of));
    true
}

fn state_place(round: &Round<'_>, (job, task): (JobId, u32)) -> Option<u32> {
    let (place, _) = round.state.job(job)?.group_of(task)?;
    Some(place as u32)
}

struct Victims {
    seqs: Vec<u64>,
    /// The highest priority among them, none being lower than any, then what they have done, in share of the cluster x microseconds.
    cost: (Option<i32>, u64),
}

/// The fewest and cheapest of a session that make room; `None`: even all of them do not.
fn victims(round: &Round<'_>, session: SessionId, row: &Class, job: JobId) -> Option<Victims> {
    let state = round.state;
    let priority = |allocation: &Allocation| state.job(allocation.job).map_or(i32::MAX, |job| job.priority);
    let now = state.stamp().elapsed;
    let done = |allocation: &Allocation| {
        allocation.share.saturating_mul(micros(now.since(allocation.placed.elapsed)))
    };
    let cost = |allocation: &Allocation| (priority(allocation), done(allocation));
    let all = state.session(session)?.allocations.values();
    let mut able: Vec<&Allocation> = all.filter(|allocation| may_give_way(state, allocation, job)).collect();
    able.sort_by_key(|allocation| (cost(allocation), allocation.seq));
    let mut room = round.rooms.get(&session)?.clone();
    // What others are giving back already.
    let leaving = state.session(session)?.allocations.values().filter(|allocation| allocation.preempted);
    leaving.for_each(|allocation| room.give_back(&allocation.resources, &allocation.units));
    let fits = |room: &Room| room.fit(&row.key.resources).is_some();
    let mut chosen = Vec::new();
    for allocation in able {
        if fits(&room) {
            break;
        }
        room.give_back(&allocation.resources, &allocation.units);
        chosen.push(allocation);
    }
    if !fits(&room) {
        return None;
    }
    // Whoever was in vain, since a larger one came after, stays.
    for allocation in chosen.clone().into_iter().rev() {
        let mut without = room.clone();
        without.take(&allocation.resources, &allocation.units);
        if fits(&without) && chosen.len() > 1 {
            room = without;
            chosen.retain(|other| other.seq != allocation.seq);
        }
    }
    let highest = chosen.iter().map(|allocation| priority(allocation)).max();
    let wasted = chosen.iter().map(|allocation| done(allocation)).fold(0, u64::saturating_add);
    Some(Victims { seqs: chosen.iter().map(|allocation| allocation.seq).collect(), cost: (highest, wasted) })
}
