//! Gangs in a round: all members begin at once, or nothing of it does (so that two gangs never wait for each other's part;
//! Feitelson & Rudolph 1992).

use std::collections::BTreeSet;

use machine::eligible::{Offered, has_room, members_when_all_idle, members_when_idle, misfits, standing};
use machine::state::index::ReadyKey;
use machine::state::sessions::{Class, ClassKey};
use machine::{Group, Reservation, State};
use model::policy::Backfill;
use model::validate::GANG_MEMBERS_MAX;
use model::views::ReasonView;
use model::{ClassId, JobId, Run, SessionId, UnitShare};

use crate::explain::reason;
use crate::overlay::{Taken, room};
use crate::place::Round;
use crate::queues::Line;

/// What came of looking for room for all members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sought {
    Placed,
    NoRoom,
    /// There is room, and whoever took it would delay somebody who was promised it.
    Delays,
}

impl Round<'_> {
    /// Places all of the gang, or drops its class from the line.
    pub(crate) fn place_gang_at_head(
        &mut self,
        line: &mut Line<'_>,
        class: ClassId,
        row: &Class,
        key: ReadyKey,
        group: &Group,
    ) {
        let taken = self.taken.tasks.get(&key.job).is_some_and(|taken| taken.touches(group.numbers()));
        if taken {
            return line.advance(key);
        }
        if self.ahead.is_some() {
            return line.pass_over(key);
        }
        let charge = |line: &mut Line<'_>| {
            let share = row.key.resources.dominant_share(self.state.total());
            line.charge(&row.key.resources, share, group.len, group.len);
        };
        if line.backfill == Backfill::Conservative {
            return if self.conserve_gang(line, class, row, key, group) {
                charge(line)
            };
        }
        if line.backfill == Backfill::Easy
            && !self.leaves_room_for_first(line, (key.job, key.group), group.len)
        {
            return line.skip(key);
        }
        let is_within = line.room >= u64::from(group.len);
        let sought = if is_within { self.place_gang(class, row, key, group) } else { Sought::NoRoom };
        match sought {
            Sought::Placed => charge(line),
            // It waits for its queue, and not for room.
            _ if !is_within && line.backfill != Backfill::None => line.pass_over(key),
            sought => self.wait(line, class, row, key, sought == Sought::Delays),
        }
    }

    /// Places all members, or leaves everything as it was. None of them is in flight.
    pub(crate) fn place_gang(&mut self, class: ClassId, row: &Class, key: ReadyKey, group: &Group) -> Sought {
        if self.start_gang(class, row, key, group) {
            return Sought::Placed;
        }
        let delays = !self.is_open_to_all() && self.finds_room(class, row, key, group);
        if delays { Sought::Delays } else { Sought::NoRoom }
    }

    /// The same, where nobody asks why not.
    pub(crate) fn start_gang(&mut self, class: ClassId, row: &Class, key: ReadyKey, group: &Group) -> bool {
        let members = self.seat(class, row, key, group, true);
        if members.len() < group.len as usize {
            return false;
        }
        for ((session, _), number) in members.iter().zip(group.first..) {
            self.note(key.job, Run::new(number, 1), *session, 0);
        }
        self.release_served(key.job, group.numbers());
        true
    }

    /// Whether there is room for the next task of the group, or for all of a gang, whomever it would delay.
    pub(crate) fn finds_room(&mut self, class: ClassId, row: &Class, key: ReadyKey, group: &Group) -> bool {
        if group.gang {
            let members = self.seat(class, row, key, group, false);
            let is_whole = members.len() == group.len as usize;
            self.unseat(key.job, members, row);
            return is_whole;
        }
        let Some(tasks) = self.next_tasks(key.job, group, 1) else { return true };
        let (order, least) = self.order_of(class, row);
        let has_room = |session| self.has_room(session, row, key.job, tasks);
        self.takers().first_open(order, least, has_room).is_some()
    }

    /// Takes room for all members and returns where; of fewer than all nothing is kept.
    fn seat(&mut self, class: ClassId, row: &Class, key: ReadyKey, group: &Group, heeds: bool) -> Vec<Seat> {
        let (order, least) = self.order_of(class, row);
        let estimate = self.estimate_if_asked(key.job, key.group);
        let (whose, numbers) = ((key.job, key.group), group.numbers());
        let kept = self.book_if_any();
        let mut members = Vec::new();
        for _ in 0..group.len {
            let is_open = |session| match heeds {
                true => self.is_open(session, row, whose, numbers, estimate),
                false => self.has_room(session, row, key.job, numbers),
            };
            let Some(session) = self.takers().first_open(order, least, is_open) else { break };
            members.push((session, self.occupy(key.job, key.group, session, row)));
            if heeds {
                self.see_owner(session, whose);
            }
        }
        if members.len() < group.len as usize || !heeds {
            kept.into_iter().for_each(|book| self.book = book);
        }
        if members.len() < group.len as usize {
            self.unseat(key.job, std::mem::take(&mut members), row);
        }
        members
    }

    fn unseat(&mut self, job: JobId, members: Vec<Seat>, row: &Class) {
        for (session, units) in members {
            self.vacate(job, session, row, &units);
        }
    }
}

/// A member's place, with the units that it would have.
type Seat = (SessionId, Vec<UnitShare>);

/// Has as many workers drain as all members need; none, if all together are too few. One gang at a time.
pub(crate) fn reserve(round: &mut Round<'_>, class: ClassId, row: &Class, key: ReadyKey, group: &Group) {
    let state = round.state;
    let is_ours = |(job, task): &(JobId, u32)| *job == key.job && group.numbers().contains(*task);
    if !round.reserved.values().all(is_ours) {
        return;
    }
    let idle = |id: SessionId| {
        state.session(id).map_or(0, |row_of| members_when_idle(&row_of.capacity.total, &row.key))
    };
    let had: u64 = round.reserved.keys().map(|id| idle(*id)).sum();
    let mut missing = u64::from(group.len).saturating_sub(had);
    let used: BTreeSet<u32> = round.reserved.values().map(|(_, task)| *task).collect();
    let mut open: Vec<SessionId> =
        round.takers_of(class, row).filter(|id| !round.reserved.contains_key(id)).collect();
    // Those that have drained in vain last; then the emptiest: they are the first to have room.
    let free = |id: &SessionId| round.rooms[id].free.dominant_share(state.total());
    open.sort_by_key(|id| (state.session(*id).is_some_and(|row| row.in_vain), u64::MAX - free(id), *id));
    let mut chosen = Vec::new();
    for session in open {
        if missing == 0 {
            break;
        }
        missing = missing.saturating_sub(idle(session));
        chosen.push(session);
    }
    if missing > 0 {
        return;
    }
    let tasks = (group.first..group.numbers().end()).filter(|task| !used.contains(task));
    for (session, task) in chosen.into_iter().zip(tasks) {
        round.reserved.insert(session, (key.job, task));
        round.plan.reservations.push(Reservation { session, job: key.job, task });
    }
}

/// What keeps a gang from starting that no single worker does, and whether it cannot start with the workers that are known.
pub(crate) fn told(state: &State, class: &ClassKey) -> (Option<ReasonView>, bool) {
    let size = u64::from(class.gang);
    let suits = |offered: Offered<'_>| misfits(offered, class).next().is_none();
    let known = members_when_all_idle(state, class).unwrap_or(0);
    let live = state.sessions().filter(|session| !session.ended && suits(Offered::from(*session)));
    let (mut idle, mut now) = (0, 0);
    for session in live {
        idle += members_when_idle(&session.capacity.total, class);
        if standing(state, session).is_none() {
            now += members_now(state, session, class);
        }
    }
    if idle < size {
        let message = format!(
            "the gang has {size} members, and all workers together have room for {idle}, however idle"
        );
        let fix = "submit it with fewer or smaller members, or start more workers";
        return (Some(reason("gang_too_large", message, size, fix)), known < size);
    }
    if now < size {
        let message = format!("its {size} members start together, and there is room for {now} now");
        return (
            Some(reason("gang_waits", message, size - now, "wait; nothing is held for a part of it")),
            false,
        );
    }
    (None, false)
}

fn members_now(state: &State, session: &machine::Session, class: &ClassKey) -> u64 {
    let mut room = room(state, session, &Taken::default());
    let mut members = 0;
    while members < u64::from(class.gang) && has_room(&room, class).is_ok() {
        let Some(units) = room.fit(&class.resources) else { break };
        room.take(&class.resources, &units);
        members += 1;
    }
    members
}

/// By what the round is cut short: members that are one decision do not fit into the rest of its plan.
pub(crate) fn exceeds(state: &State, class: ClassId, placed: usize, placements_max: usize) -> bool {
    // Mostly there is room for any.
    let could = placed > 0 && placed + GANG_MEMBERS_MAX as usize > placements_max;
    could && placed + state.class(class).map_or(0, |row| row.key.gang as usize) > placements_max
}

/// Whether the task is a member of one.
pub(crate) fn is_gang(state: &State, job: JobId, task: u32) -> bool {
    state.job(job).and_then(|job| job.group_of(task)).is_some_and(|(_, group)| group.gang)
}
