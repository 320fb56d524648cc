//! Who stands still for others. Round robin: whose time slice is over makes room for those of its queue that wait, and only then. What stands still goes on
//! at its own worker, in its place among all that wait: after the jobs that were there when it was suspended.

use std::collections::BTreeMap;
use std::time::Duration;

use machine::eligible::accepts;
use machine::state::index::ReadyKey;
use machine::state::queues::{Queue, QueueId};
use machine::state::sessions::Room;
use machine::{Allocation, Session, State, Switch, key_of, may_suspend};
use model::{ClassId, JobId, Pace, Run, Seq, SessionId};

use crate::backfill::{Whose, end};
use crate::overlay::Taken;
use crate::place::Round;
use crate::queues::Line;

/// Slices of one queue that one round ends.
const SUSPENSIONS_MAX: usize = 256;
/// Waiting tasks of a queue that are looked at in vain, while there are slices that could end.
const VAIN_MAX: usize = 256;

/// A task that stands still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub session: SessionId,
    pub seq: Seq,
    /// It comes after this job.
    pub behind: JobId,
    /// On a slot it comes where it came before it was begun.
    pub own: Option<ReadyKey>,
}

impl Standing {
    /// Those of a queue, in order, that no plan in flight lets go on.
    pub fn all_of(state: &State, taken: &Taken, queue: QueueId) -> Vec<Standing> {
        let is_slot = state.queue(queue).is_some_and(Queue::is_slot);
        let standing = |(session, allocation): (SessionId, &Allocation)| {
            let behind = allocation.slice?.behind?;
            let own = if is_slot { key_of(state, allocation) } else { None };
            Some(Standing { session, seq: allocation.seq, behind, own })
        };
        let in_flight = |standing: &Standing| taken.switched.contains_key(&(standing.session, standing.seq));
        let all = state.suspended(queue).filter_map(standing).filter(|standing| !in_flight(standing));
        let mut all: Vec<Standing> = all.collect();
        all.sort_by_key(|standing| standing.own);
        all
    }

    pub fn goes_before(&self, head: ReadyKey) -> bool {
        self.own.map_or(self.behind < head.job, |own| own < head)
    }
}

/// Who waits, in the order of the queue: by job, and what stands still after the job that it comes behind.
#[derive(Clone, Copy, Debug)]
enum Waits {
    Ready(ReadyKey, ClassId),
    Standing(Standing),
}

/// Lets it go on if its worker has the processor time. Returns whether it does.
pub(crate) fn resume(round: &mut Round<'_>, standing: Standing) -> bool {
    let Some(allocation) = allocation(round.state, standing) else { return false };
    let processor = allocation.processor();
    let Some((whose, left)) = whose(round, allocation) else { return false };
    if !round.allows(standing.session, whose, &processor, left) {
        return false;
    }
    round.use_again(standing.session, &processor);
    round.book.leave_to_firsts(standing.session, &processor, end(round.now(), left));
    if let Some(left) = left.filter(|_| allocation.is_suspended()) {
        // What it has kept while it stood still is given back then too.
        let back = round.given_back(standing.session, allocation.queue, round.now().plus(left));
        round.book.note_end(standing.session, back, allocation.resources.clone());
    }
    round.switch(standing.session, standing.seq, Pace::Runs);
    round.look_anew(standing.session);
    true
}

/// Whose it is, and how long it will still take if it goes on now.
fn whose(round: &Round<'_>, allocation: &Allocation) -> Option<(Whose, Option<Duration>)> {
    let (place, _) = round.state.job(allocation.job)?.group_of(allocation.tasks.first)?;
    let end = allocation.resumed_end(round.now());
    Some(((allocation.job, place as u32), end.map(|end| end.since(round.now()))))
}

/// What plans in flight switch of the session gives room, or takes it.
pub(crate) fn turn(session: &Session, taken: &Taken, room: &mut Room) {
    for ((_, seq), to) in taken.switched.range((session.id, 0)..=(session.id, Seq::MAX)) {
        let Some(allocation) = session.allocations.get(seq) else { continue };
        match to {
            Pace::StandsStill if !allocation.is_suspended() => room.free.add(&allocation.processor()),
            Pace::Runs if allocation.is_suspended() => room.free.subtract(&allocation.processor()),
            Pace::StandsStill | Pace::Runs => {}
        }
    }
}

/// Of a slot, how many plans in flight let go on.
pub(crate) fn resumed(state: &State, taken: &Taken, queue: &Queue) -> u64 {
    if !queue.is_slot() || taken.switched.is_empty() {
        return 0;
    }
    let resumes = |(session, row): &(SessionId, &Allocation)| {
        taken.switched.get(&(*session, row.seq)) == Some(&Pace::Runs)
    };
    state.suspended(queue.id).filter(resumes).count() as u64
}

/// What stands still of queues that are no more: the jobs were moved elsewhere meanwhile.
pub(crate) fn resume_left(round: &mut Round<'_>) {
    let state = round.state;
    let left = state.with_suspended().filter(|queue| state.queue(*queue).is_none());
    let standing: Vec<Standing> =
        left.flat_map(|queue| Standing::all_of(state, &round.taken, queue)).collect();
    for standing in standing {
        resume(round, standing);
    }
}

fn allocation(state: &State, standing: Standing) -> Option<&Allocation> {
    let row = state.session(standing.session).filter(|row| !row.ended)?;
    row.allocations.get(&standing.seq)
}

/// On a slot of a preemptive periodic set, the one that runs stands still from now on if the first that waits comes before it and
/// finds room then. Whether it does.
pub(crate) fn give_way(round: &mut Round<'_>, line: &mut Line<'_>) -> bool {
    let state = round.state;
    let Some((class, first)) = line.head().filter(|_| line.yields && line.room == 0) else { return false };
    let may_stand = |(session, allocation): &(SessionId, &Allocation)| {
        !round.taken.switched.contains_key(&(*session, allocation.seq))
            && round.rooms.contains_key(session)
            && may_suspend(state, allocation)
            && key_of(state, allocation).is_some_and(|own| first < own)
    };
    let Some((session, allocation)) = state.running_slices(line.queue).find(may_stand) else { return false };
    let (placed, before) = (round.plan.placements.len(), round.book_of(session));
    round.stop(session, allocation);
    round.look_again(class);
    line.room = 1;
    round.place_head(line, class, first);
    let gives_way = round.plan.placements.len() > placed;
    if !gives_way {
        line.room = 0;
        round.undo_stop(session, allocation);
        match before {
            Some(book) => round.book = book,
            None => round.look_anew(session),
        }
    }
    gives_way
}

/// Ends slices that are over, each for somebody of its queue that waits. Returns whether any did.
pub(crate) fn rotate(round: &mut Round<'_>, line: &mut Line<'_>) -> bool {
    let state = round.state;
    let is_free = |(session, allocation): &(SessionId, &Allocation)| {
        !round.taken.switched.contains_key(&(*session, allocation.seq)) && may_suspend(state, allocation)
    };
    let mut over: Vec<(SessionId, &Allocation)> =
        state.over_slices(line.queue).filter(is_free).take(SUSPENSIONS_MAX).collect();
    let mut waiting: BTreeMap<(JobId, bool, u32), Waits> = BTreeMap::new();
    for (key, class) in line.waiting().take(SUSPENSIONS_MAX) {
        waiting.insert((key.job, false, key.group), Waits::Ready(key, class));
    }
    for (place, standing) in (0..).zip(line.standing.iter()) {
        waiting.insert((standing.behind, true, place), Waits::Standing(*standing));
    }
    let (before, mut vain) = (round.plan.switches.len(), 0);
    while !over.is_empty()
        && vain < VAIN_MAX
        && let Some((place, next)) = waiting.pop_first()
    {
        match next {
            Waits::Ready(key, _) if is_placed(round, key) => {
                if let Some((key, class)) = line.advance_waiting(key) {
                    waiting.insert((key.job, false, key.group), Waits::Ready(key, class));
                }
            }
            Waits::Ready(key, class) if start(round, line, &mut over, key, class) => {
                // There may be more of its group.
                waiting.insert(place, next);
            }
            Waits::Standing(standing) if go_on(round, &mut over, standing) => {
                line.standing.retain(|other| (other.session, other.seq) != (standing.session, standing.seq));
            }
            Waits::Ready(..) | Waits::Standing(_) => vain += 1,
        }
    }
    let behind = state.last_job();
    let ended = round.plan.switches[before..].iter().filter(|switch| switch.to == Pace::StandsStill);
    // Where more became free than was needed, they go on at once.
    line.standing.extend(ended.map(|switch| Standing {
        session: switch.session,
        seq: switch.seq,
        behind,
        own: None,
    }));
    round.plan.switches.len() > before
}

/// Whether nothing of the group waits any more.
fn is_placed(round: &Round<'_>, key: ReadyKey) -> bool {
    let group = round.state.job(key.job).and_then(|job| job.groups.get(key.group as usize));
    group.is_none_or(|group| round.next_tasks(key.job, group, 1).is_none())
}

/// Starts the next task of the group where slices that are over make room for it.
fn start(
    round: &mut Round<'_>,
    line: &mut Line<'_>,
    over: &mut Vec<(SessionId, &Allocation)>,
    key: ReadyKey,
    class: ClassId,
) -> bool {
    let state = round.state;
    let Some((job, row)) = state.job(key.job).zip(state.class(class)) else { return false };
    let group = &job.groups[key.group as usize];
    let Some(tasks) = round.next_tasks(key.job, group, 1).filter(|_| line.room > 0 && !group.gang) else {
        return false;
    };
    let mut sessions: Vec<SessionId> = Vec::new();
    for (session, _) in over.iter() {
        if !sessions.contains(session) {
            sessions.push(*session);
        }
    }
    let estimate = round.estimate_if_asked(key.job, key.group);
    for session in sessions {
        let takes = state.session(session).is_some_and(|own| accepts(state, own, &row.key).is_ok());
        let whose = (key.job, key.group);
        let opens = |round: &Round<'_>| round.is_open(session, row, whose, tasks, estimate);
        if takes && make_room(round, over, session, |_| true, opens) {
            round.take(key.job, key.group, Run::new(tasks.first, 1), session, row);
            line.charge(&row.key.resources, row.key.resources.dominant_share(state.total()), 1, 1);
            return true;
        }
    }
    false
}

/// It takes the place of whose slice ended after it was stopped, or of anybody's once it has stood still for a quantum: those
/// that were to stop together with it have had no more than it.
fn go_on(round: &mut Round<'_>, over: &mut Vec<(SessionId, &Allocation)>, standing: Standing) -> bool {
    // What this round has stopped nobody stops for.
    let Some(allocation) = allocation(round.state, standing).filter(|row| row.is_suspended()) else {
        return false;
    };
    let (Some(slice), Some(queue)) = (allocation.slice, round.state.queue(allocation.queue)) else {
        return false;
    };
    let (processor, quantum) = (allocation.processor(), queue.policy.quantum);
    let has_waited = slice.since.plus(quantum) <= round.now();
    let Some((whose, left)) = whose(round, allocation) else { return false };
    let opens = |round: &Round<'_>| round.allows(standing.session, whose, &processor, left);
    let is_due = |victim: &Allocation| {
        has_waited || victim.slice.is_some_and(|other| other.since.plus(quantum) > slice.since)
    };
    make_room(round, over, standing.session, is_due, opens) && resume(round, standing)
}

/// Ends as few slices of the session as open it, the oldest first; none if all of them would not.
fn make_room(
    round: &mut Round<'_>,
    over: &mut Vec<(SessionId, &Allocation)>,
    session: SessionId,
    may_end: impl Fn(&Allocation) -> bool,
    opens: impl Fn(&Round<'_>) -> bool,
) -> bool {
    let (mut ended, mut before) = (Vec::new(), None);
    let of_session = over.iter().filter(|(other, victim)| *other == session && may_end(victim));
    for allocation in of_session.map(|(_, allocation)| *allocation).collect::<Vec<&Allocation>>() {
        if opens(round) {
            break;
        }
        if ended.is_empty() {
            before = round.book_of(session);
        }
        round.stop(session, allocation);
        ended.push(allocation);
    }
    if !opens(round) {
        ended.into_iter().for_each(|allocation| round.undo_stop(session, allocation));
        before.into_iter().for_each(|book| round.book = book);
        return false;
    }
    over.retain(|(other, allocation)| *other != session || ended.iter().all(|own| own.seq != allocation.seq));
    true
}

impl Round<'_> {
    fn stop(&mut self, session: SessionId, allocation: &Allocation) {
        self.use_less(session, &allocation.processor());
        self.switch(session, allocation.seq, Pace::StandsStill);
        self.look_anew(session);
    }

    fn undo_stop(&mut self, session: SessionId, allocation: &Allocation) {
        self.use_again(session, &allocation.processor());
        self.switch(session, allocation.seq, Pace::Runs);
    }

    /// What this round has turned already is as it was.
    fn switch(&mut self, session: SessionId, seq: Seq, to: Pace) {
        let before = self.plan.switches.len();
        self.plan.switches.retain(|switch| (switch.session, switch.seq) != (session, seq));
        if self.plan.switches.len() < before {
            self.taken.switched.remove(&(session, seq));
            return;
        }
        self.taken.switched.insert((session, seq), to);
        self.plan.switches.push(Switch { session, seq, to });
    }
}
