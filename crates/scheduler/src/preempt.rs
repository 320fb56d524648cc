//! Which running tasks give way to waiting ones of a higher priority, where their queue wants it so: of the lowest priorities that
//! make room, and of those such that least is done twice.

use machine::eligible::goes_before;
use machine::state::index::ReadyKey;
use machine::state::sessions::{Class, Room};
use machine::{Allocation, Preemption, Reservation, State, may_give_way};
use model::policy::Backfill;
use model::time::micros;
use model::{ClassId, JobId, Resources, SessionId};

use crate::backfill::{Whose, end};
use crate::place::Round;
use crate::queues::Line;

/// Tasks for which room is made in one round.
pub(crate) const TASKS_MAX: usize = 16;
/// Workers looked at for each.
const SESSIONS_MAX: usize = 512;
/// Of those, workers whose tasks are looked at more closely: the cheapest at first sight.
const SEARCHED_MAX: usize = 8;

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

/// Whether there is no room any more for one that would have delayed somebody when it was its turn: others may give way for it.
pub(crate) fn has_lost_room(round: &mut Round<'_>, lines: &[Line<'_>]) -> bool {
    let state = round.state;
    // Under other backfills those are told apart when it is their turn, or nobody gives way for them.
    let preempts = |line: &&Line<'_>| {
        matches!(line.backfill, Backfill::Easy | Backfill::None)
            && line.room > 0
            && state.queue(line.queue).is_some_and(|queue| queue.policy.preempt)
    };
    let delay = lines.iter().filter(preempts).flat_map(|line| line.held_back().map(move |head| (line, head)));
    let mut delay = delay.collect::<Vec<_>>().into_iter();
    delay.any(|(line, (key, class))| {
        let Some((job, row)) = state.job(key.job).zip(state.class(class)) else { return false };
        row.key.gang == 0
            && round.leaves_room_for_first(line, (key.job, key.group), 1)
            && !round.finds_room(class, row, key, &job.groups[key.group as usize])
    })
}

fn make_room(round: &mut Round<'_>, class: ClassId, row: &Class, task: (JobId, u32)) -> bool {
    let Some(place) = state_place(round, task) else { return false };
    let (estimate, asked) = (round.estimate_if_asked(task.0, place), &row.key.resources);
    let over = end(round.now(), estimate);
    // Nobody makes room who might not use it.
    let is_open = |id: &SessionId| {
        round.book.allows_beside_firsts(*id, (task.0, place), asked, over)
            && round.reserved.get(id).is_none_or(|kept| goes_before(round.state, task.0, *kept))
            && round.is_unbooked_when_idle(*id, task.0, &row.key.resources, estimate)
    };
    let open = round.takers_of(class, row).filter(is_open).take(SESSIONS_MAX);
    let victims = |id: SessionId, steps_max: usize| {
        let victims = victims(round, id, row, (task.0, place), steps_max)?;
        let leaves = |row: &&Allocation| row.preempted || victims.seqs.contains(&row.seq);
        let leaves = round.state.session(id)?.allocations.values().filter(leaves);
        round.keeps_places(id, leaves, (task.0, place), asked, estimate).then_some(victims)
    };
    let cheap = open.filter_map(|id| Some((victims(id, 0)?.cost, id)));
    let mut cheap: Vec<_> = cheap.collect();
    cheap.sort();
    // A search for each would take too long.
    let best = cheap.into_iter().take(SEARCHED_MAX);
    let best = best.filter_map(|(_, id)| Some((victims(id, STEPS_MAX)?, id)));
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
    /// The highest priority among them, none being lower than any, then what they have done, in share of the cluster x
    /// microseconds, then how many they are.
    cost: (Option<i32>, u64, usize),
}

/// One that may give way, and what it has done.
#[derive(Clone, Copy)]
struct Able<'a> {
    allocation: &'a Allocation,
    priority: i32,
    done: u64,
}

fn able_of<'a>(state: &State, allocation: &'a Allocation) -> Able<'a> {
    let Allocation { job, share, placed, .. } = allocation;
    let priority = state.job(*job).map_or(i32::MAX, |job| job.priority);
    let passed = micros(state.stamp().elapsed.since(placed.elapsed));
    Able { allocation, priority, done: share.saturating_mul(passed) }
}

/// The cheapest of a session that make room, of as many sets as are looked at; `None`: even all of them do not.
fn victims(
    round: &Round<'_>,
    session: SessionId,
    row: &Class,
    whose: Whose,
    steps_max: usize,
) -> Option<Victims> {
    let (state, job) = (round.state, whose.0);
    let all = || state.session(session).into_iter().flat_map(|row| row.allocations.values());
    let mut able: Vec<Able<'_>> = all()
        .filter(|allocation| may_give_way(state, allocation, job))
        .map(|allocation| able_of(state, allocation))
        .collect();
    able.sort_by_key(|able| (able.priority, able.done, able.allocation.seq));
    let mut room = round.rooms.get(&session)?.clone();
    let asked = Asked {
        own: &row.key.resources,
        all: round.asked_beside_bookings(session, whose, &row.key.resources),
    };
    // What is free, and kept for others, nobody needs to make.
    if asked.fits(&room) {
        return None;
    }
    // What others are giving back already.
    let leaving = all().filter(|allocation| allocation.preempted);
    leaving.for_each(|allocation| room.give_back(&allocation.resources, &allocation.units));
    let needed = needed(&able, room.clone(), &asked)?;
    let highest = able[..needed].last().map(|able| able.priority);
    // None of a higher priority has to.
    able.retain(|able| Some(able.priority) <= highest);
    able.sort_by_key(|able| (able.done, able.allocation.seq));
    let mut search = Search { able: &able, asked: &asked, steps_left: steps_max, best: None };
    search.best = search.greedy(room.clone());
    search.visit(0, &room, &mut Vec::new(), 0);
    let ((done, count), chosen) = search.best?;
    let seqs = chosen.iter().map(|place| able[*place].allocation.seq).collect();
    Some(Victims { seqs, cost: (highest, done, count) })
}

/// What a task asks for, and that with what it must leave free there.
struct Asked<'a> {
    own: &'a Resources,
    all: Resources,
}

impl Asked<'_> {
    fn fits(&self, room: &Room) -> bool {
        room.free.covers(&self.all) && room.fit(self.own).is_some()
    }
}

/// How many of them make room together, from the first on.
fn needed(able: &[Able<'_>], mut room: Room, asked: &Asked<'_>) -> Option<usize> {
    for (count, able) in able.iter().enumerate() {
        if asked.fits(&room) {
            return Some(count);
        }
        room.give_back(&able.allocation.resources, &able.allocation.units);
    }
    asked.fits(&room).then_some(able.len())
}

/// Sets looked at for one worker: the best of small numbers of tasks is found, and of large ones a good one.
const STEPS_MAX: usize = 128;

/// For the set that makes room and has done least: what it has done and how many they are, and their places.
struct Search<'a> {
    /// The one that has done least first.
    able: &'a [Able<'a>],
    asked: &'a Asked<'a>,
    steps_left: usize,
    best: Option<((u64, usize), Vec<usize>)>,
}

impl Search<'_> {
    /// From the cheapest on as many as it takes, but for those that are in vain since a larger one came after.
    fn greedy(&self, mut room: Room) -> Option<((u64, usize), Vec<usize>)> {
        let count = needed(self.able, room.clone(), self.asked)?;
        let mut chosen: Vec<usize> = (0..count).collect();
        chosen.iter().for_each(|place| self.give_back(&mut room, *place));
        for place in (0..count).rev() {
            let Able { allocation, .. } = self.able[place];
            let mut without = room.clone();
            without.take(&allocation.resources, &allocation.units);
            if self.asked.fits(&without) {
                room = without;
                chosen.retain(|other| *other != place);
            }
        }
        let done = chosen.iter().map(|place| self.able[*place].done).fold(0, u64::saturating_add);
        Some(((done, chosen.len()), chosen))
    }

    /// All sets of the chosen ones with any from `next` on, depth first, but for those that cost more than the best does.
    fn visit(&mut self, next: usize, room: &Room, chosen: &mut Vec<usize>, done: u64) {
        if self.asked.fits(room) {
            let cost = (done, chosen.len());
            if self.best.as_ref().is_none_or(|(best, _)| cost < *best) {
                self.best = Some((cost, chosen.clone()));
            }
            return;
        }
        for place in next..self.able.len() {
            let done = done.saturating_add(self.able[place].done);
            let is_dearer = self.best.as_ref().is_some_and(|(best, _)| (done, chosen.len() + 1) >= *best);
            // Those that come after have done as much at least.
            if is_dearer || self.steps_left == 0 {
                return;
            }
            self.steps_left -= 1;
            let mut room = room.clone();
            self.give_back(&mut room, place);
            chosen.push(place);
            self.visit(place + 1, &room, chosen, done);
            chosen.pop();
        }
    }

    fn give_back(&self, room: &mut Room, place: usize) {
        let Able { allocation, .. } = self.able[place];
        room.give_back(&allocation.resources, &allocation.units);
    }
}
