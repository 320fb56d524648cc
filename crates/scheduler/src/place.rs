//! One round: heads of queues in turn, each to a session that has room.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use machine::eligible::{accepts, drains_for, may_use};
use machine::state::bookings::Booked;
use machine::state::index::ReadyKey;
use machine::state::queues::QueueId;
use machine::state::sessions::{Class, ClassKey, Room};
use machine::{Group, Placement, Plan, State};
use model::policy::Backfill;
use model::{ClassId, JobId, Kind, Pace, Resources, Run, SessionId, UnitShare};

use crate::backfill::{Book, Whose};
use crate::bookings;
use crate::drains::Drains;
use crate::gang;
use crate::overlay::{Overlay, Taken, room};
use crate::queues::{Line, lines, next_turn};
use crate::takers::{OrderId, Takers};
use crate::{Budget, held, preempt, reserve, slices};

pub(crate) struct Round<'a> {
    pub state: &'a State,
    pub taken: Taken,
    /// What is left of each session.
    pub rooms: BTreeMap<SessionId, Room>,
    /// For whom a session drains.
    pub reserved: BTreeMap<SessionId, (JobId, u32)>,
    takers: Takers,
    /// By class, with the least share that must be free.
    orders: BTreeMap<ClassId, (OrderId, u64)>,
    full: BTreeSet<ClassId>,
    /// Sessions that take the class, where gangs of it were looked at.
    pub seats_of: BTreeMap<ClassId, Arc<[SessionId]>>,
    pub drains: Drains,
    /// Something that drained for a task does so no more.
    pub released: bool,
    /// Tasks for which running ones may still be stopped.
    pub preempts_left: usize,
    /// Once everything that has room is placed: sessions that this round gave something long, behind which nothing waits.
    pub ahead: Option<BTreeSet<SessionId>>,
    pub book: Book,
    /// What of sessions is kept for others, now or later; of the others there is nothing.
    pub booked: BTreeMap<SessionId, Vec<Booked>>,
    pub plan: Plan,
    /// What comes next did not fit into the plan.
    pub is_cut_short: bool,
}

impl<'a> Round<'a> {
    pub fn new(state: &'a State, overlay: &Overlay) -> Round<'a> {
        let taken = overlay.taken(state);
        let mut rooms = BTreeMap::new();
        let mut reserved = BTreeMap::new();
        for session in state.sessions().filter(|session| !session.ended) {
            rooms.insert(session.id, room(state, session, &taken));
            let known = drains_for(state, session).or(taken.reserved.get(&session.id).copied());
            if let Some(task) = known.filter(|task| reserve::holds(state, session, *task)) {
                reserved.insert(session.id, task);
            }
        }
        let mut book = Book::of(state, &taken.promised);
        for (session, (end, resources)) in &taken.ends {
            book.note_end(*session, *end, resources.clone());
        }
        for ((session, seq), _) in taken.switched.iter().filter(|(_, to)| **to == Pace::Runs) {
            let row = state.session(*session).and_then(|row| row.allocations.get(seq));
            if let Some((row, end)) = row.and_then(|row| Some((row, row.resumed_end(state.stamp().elapsed)?)))
            {
                book.note_end(*session, end, row.resources.clone());
            }
        }
        let (takers, orders, full, seats_of) = Default::default();
        let booked = bookings::of_sessions(state);
        Round {
            state,
            taken,
            rooms,
            reserved,
            drains: Drains::default(),
            takers,
            orders,
            full,
            seats_of,
            released: false,
            preempts_left: preempt::TASKS_MAX,
            ahead: None,
            book,
            booked,
            plan: Plan::default(),
            is_cut_short: false,
        }
    }

    pub fn run(&mut self, budget: Budget) -> Plan {
        // Before anything in line: whoever is ahead of it may not use its worker, and must not keep it from it.
        reserve::place_drained(self);
        if self.drain() {
            reserve::place_drained(self);
        }
        slices::resume_left(self);
        let mut lines = lines(self.state, &self.taken, budget.skips_max);
        self.stand_by_promises(&lines);
        reserve::place_drained_gangs(self, &mut lines);
        self.give_way(&mut lines);
        self.take_turns(&mut lines, budget);
        self.settle(&mut lines, budget);
        self.rotate(&mut lines, budget);
        if reserve::place_outranked(self, &mut lines) {
            self.settle_promises();
            lines.iter_mut().for_each(Line::retry);
            self.take_turns(&mut lines, budget);
            self.settle(&mut lines, budget);
        }
        for _ in 0..SETTLES_MAX {
            if !reserve::for_starving(self, &mut lines) {
                break;
            }
            self.settle_promises();
            lines.iter_mut().for_each(Line::retry);
            self.take_turns(&mut lines, budget);
            self.settle(&mut lines, budget);
        }
        if self.may_send_ahead(&lines) {
            self.ahead = Some(self.given_long_work());
            lines.iter_mut().for_each(Line::retry);
            self.take_turns(&mut lines, budget);
            // By now somebody else may be the first that waits.
            reserve::for_starving(self, &mut lines);
        }
        let in_flight = &self.taken.compressed;
        let loosened = self.state.queues().filter(|queue| queue.loosened && !in_flight.contains(&queue.id));
        self.plan.compressed = loosened.map(|queue| queue.id).collect();
        self.plan.promises = std::mem::take(&mut self.book).changes();
        self.tell_drains();
        // What goes on may need the room of any of those that stop.
        self.plan.switches.sort_by_key(|switch| switch.to == Pace::Runs);
        std::mem::take(&mut self.plan)
    }

    /// On slots of preemptive periodic sets: what stands still may leave room for more than it was stopped for.
    fn give_way(&mut self, lines: &mut [Line<'a>]) {
        while lines.iter_mut().fold(false, |any, line| slices::give_way(self, line) | any) {
            self.full.clear();
            lines.iter_mut().for_each(Line::retry);
        }
    }

    /// Ends slices that are over, until nobody waits who would have room by that.
    fn rotate(&mut self, lines: &mut Vec<Line<'a>>, budget: Budget) {
        for _ in 0..SETTLES_MAX {
            let sliced = lines.iter_mut().filter(|line| line.is_sliced);
            if !sliced.fold(false, |any, line| slices::rotate(self, line) | any) {
                break;
            }
            // What stands still now gave room to more than it was stopped for.
            self.full.clear();
            lines.iter_mut().for_each(Line::retry);
            self.take_turns(lines, budget);
            self.settle(lines, budget);
        }
    }

    /// Brings promises, and who has waited too long for them, into line with each other.
    fn settle(&mut self, lines: &mut Vec<Line<'a>>, budget: Budget) {
        for _ in 0..SETTLES_MAX {
            let has_moved = self.follow_shares(lines) | self.follow_ceilings(lines) | self.has_left();
            let has_settled = self.settle_promises();
            // Who was passed over is forgotten once all are looked at again.
            let has_placed = self.book.has_promised() && reserve::for_starving(self, lines);
            let has_placed = reserve::place_drained_gangs(self, lines) | has_placed;
            let has_lost = preempt::has_lost_room(self, lines);
            if !has_settled && !has_moved && !has_placed && !has_lost {
                break;
            }
            if has_placed {
                // What was promised where somebody was placed is promised before others are looked at.
                self.settle_promises();
            }
            lines.iter_mut().for_each(Line::retry);
            self.take_turns(lines, budget);
        }
    }

    fn take_turns(&mut self, lines: &mut Vec<Line<'a>>, budget: Budget) {
        self.see_promises();
        let (mut done, max) = (Vec::new(), budget.placements_max);
        while self.plan.placements.len() < max {
            let Some(turn) = next_turn(lines) else {
                if !std::mem::take(&mut self.released) {
                    break;
                }
                lines.append(&mut done);
                lines.iter_mut().for_each(Line::retry);
                continue;
            };
            let line = &mut lines[turn];
            if let Some(standing) = line.take_standing() {
                // On a slot one runs at a time.
                let has_slot = !line.is_slot || line.room > 0;
                if !has_slot || !slices::resume(self, standing) {
                    line.standing.push(standing);
                } else if line.is_slot {
                    line.room -= 1;
                }
                continue;
            }
            let head = if line.room > 0 { line.head() } else { None };
            match head {
                Some((class, _)) if gang::exceeds(self.state, class, self.plan.placements.len(), max) => {
                    self.is_cut_short = true;
                    break;
                }
                Some((class, key)) => self.place_head(line, class, key),
                None => {
                    let line = lines.swap_remove(turn);
                    match (line.room, line.kept) {
                        (0, 0) => self.release_reserved(line.queue),
                        (0, _) => self.released |= self.hold_nothing(line.queue),
                        _ => {}
                    }
                    done.push(line);
                }
            }
        }
        lines.append(&mut done);
    }

    /// What found no room is sent ahead, where that delays nobody: every head without room is of short work. Only after
    /// all that has room was placed, so that it does not matter whose turn it is.
    fn may_send_ahead(&self, lines: &[Line<'_>]) -> bool {
        if self.state.limits().credit_per_session_max == 0 {
            return false;
        }
        // Who drains for somebody gets nothing more, and who has waited for long is not overtaken.
        if !self.reserved.is_empty() || self.book.has_promised() {
            return false;
        }
        // What workers claim waits for them.
        let mut pushed = lines.iter().filter(|line| !line.is_claimed);
        // Where not everything may go before what waits, it does not.
        let in_order = |line: &Line<'_>| line.backfill != Backfill::FirstFit || line.is_sliced;
        let waits = |line: &Line<'_>| {
            line.without_room().next().is_some() || (line.room > 0 && line.skipped().next().is_some())
        };
        if pushed.clone().any(|line| in_order(line) && waits(line)) {
            return false;
        }
        if lines.iter().any(Line::has_unseen) {
            return false;
        }
        // What stands still would have to wait for it.
        if pushed.clone().any(|line| !line.standing.is_empty()) {
            return false;
        }
        let is_short = |key: ReadyKey| {
            let job = self.state.job(key.job);
            // A gang waits for room on many workers, which what is sent ahead would take.
            let group = job.map(|job| &job.groups[key.group as usize]);
            group.is_some_and(|group| !group.gang && held::is_short(group))
        };
        let mut waiting = pushed.by_ref().flat_map(Line::without_room).peekable();
        waiting.peek().is_some() && waiting.all(is_short)
    }

    /// Sessions that this round gave something that may take long.
    fn given_long_work(&self) -> BTreeSet<SessionId> {
        let is_short = |placement: &&Placement| {
            let job = self.state.job(placement.job);
            let group = job.and_then(|job| job.group_of(placement.tasks.first));
            group.is_some_and(|(_, group)| held::is_short(group))
        };
        self.plan.placements.iter().filter(|placement| !is_short(placement)).map(|p| p.session).collect()
    }

    /// The queue runs as many as it may: who drains for one of its tasks is open to others until that changes.
    fn release_reserved(&mut self, queue: QueueId) {
        let before = self.reserved.len();
        let state = self.state;
        self.reserved.retain(|_, (job, _)| state.job(*job).is_some_and(|job| job.queue != queue));
        self.released |= self.reserved.len() < before;
        self.released |= self.withdraw_all(queue);
    }

    /// Places the first tasks of the group, or drops its class from the line.
    pub fn place_head(&mut self, line: &mut Line<'_>, class: ClassId, key: ReadyKey) {
        self.look_before_first(line);
        self.place_next(line, class, key);
        self.look_at_all_firsts();
    }

    fn place_next(&mut self, line: &mut Line<'_>, class: ClassId, key: ReadyKey) {
        let state = self.state;
        let Some((job, row)) = state.job(key.job).zip(state.class(class)) else {
            return line.advance(key);
        };
        let group = &job.groups[key.group as usize];
        if group.gang {
            return self.place_gang_at_head(line, class, row, key, group);
        }
        let longest = longest_run(&row.key, line.room);
        let Some(tasks) = self.next_tasks(key.job, group, longest) else {
            return line.advance(key);
        };
        if line.backfill == Backfill::Easy
            && !self.leaves_room_for_first(line, (key.job, key.group), tasks.len)
        {
            return line.skip(key);
        }
        // Who claims may never come to it.
        if line.is_claimed && !reserve::is_starving(self, key) {
            return line.pass_over(key);
        }
        if !row.alternatives.is_empty()
            && self.ahead.is_none()
            && let Some(chosen) = self.place_as_any(class, row, key, tasks)
        {
            return self.charge(line, chosen, tasks);
        }
        if self.ahead.is_some() {
            let Some(session) = held::choose(self, class, row, group) else { return line.pass_over(key) };
            self.send_ahead(key.job, tasks, session);
        } else if line.backfill == Backfill::Conservative {
            let Some(session) = self.conserve(line, class, row, key, tasks) else { return };
            self.take(key.job, key.group, tasks, session, row);
        } else {
            match self.choose(class, row, key, tasks) {
                Choice::Session(session) => self.take(key.job, key.group, tasks, session, row),
                choice => {
                    let delays = matches!(choice, Choice::Delays);
                    // Before anything that comes after it takes the room of those who would give way.
                    if !delays || line.backfill == Backfill::FirstFit {
                        preempt::for_head(self, class, row, key);
                    }
                    return self.wait(line, class, row, key, delays);
                }
            }
        }
        self.charge(line, row, tasks);
    }

    fn charge(&self, line: &mut Line<'_>, row: &Class, tasks: Run) {
        let asked = &row.key.resources;
        line.charge(asked, asked.dominant_share(self.state.total()), 1, tasks.len);
    }

    /// Places the task where there is room for what it asks for, or for the first of its alternatives that has some. Returns
    /// what that is.
    fn place_as_any<'s>(
        &mut self,
        class: ClassId,
        row: &'s Class,
        key: ReadyKey,
        tasks: Run,
    ) -> Option<&'s Class>
    where
        'a: 's,
    {
        let state = self.state;
        let others = row.alternatives.iter().filter_map(|id| Some((*id, state.class(*id)?)));
        for (nth, (id, row)) in (0..).zip(std::iter::once((class, row)).chain(others)) {
            if let Choice::Session(session) = self.choose(id, row, key, tasks) {
                self.occupy(key.job, key.group, session, row);
                self.see_owner(session, (key.job, key.group));
                self.release_served(key.job, tasks);
                self.note(key.job, tasks, session, nth);
                return Some(row);
            }
        }
        None
    }

    fn send_ahead(&mut self, job: JobId, tasks: Run, session: SessionId) {
        *self.taken.held.entry(session).or_default() += 1;
        self.taken.tasks.entry(job).or_default().insert(tasks);
        self.plan.placements.push(Placement { job, tasks, session, held: true, alternative: 0 });
    }

    /// The next ready tasks of the group that no plan has taken yet.
    pub fn next_tasks(&self, job: JobId, group: &Group, longest: u32) -> Option<Run> {
        let taken = self.taken.tasks.get(&job);
        let mut from = 0;
        loop {
            let run = group.ready.first_from(from)?;
            let first = group.first + run.first;
            let mut tasks = Run::new(first, run.len.min(longest));
            if let Some(other) =
                taken.and_then(|taken| taken.first_from(first)).filter(|other| other.first < tasks.end())
            {
                if other.first == first {
                    from = other.end() - group.first;
                    continue;
                }
                tasks.len = other.first - first;
            }
            return Some(alike(group, tasks));
        }
    }

    fn choose(&mut self, class: ClassId, row: &Class, key: ReadyKey, tasks: Run) -> Choice {
        if self.full.contains(&class) {
            return Choice::NoRoom;
        }
        let (order, least) = self.order_of(class, row);
        let estimate = self.estimate_if_asked(key.job, key.group);
        let is_open = |session| self.is_open(session, row, (key.job, key.group), tasks, estimate);
        if let Some(session) = self.takers.first_open(order, least, is_open) {
            return Choice::Session(session);
        }
        let has_room = |session| self.has_room(session, row, key.job, tasks);
        if !self.is_open_to_all() && self.takers.first_open(order, least, has_room).is_some() {
            return Choice::Delays;
        }
        // A reserved session may be open to another job of the class, so only real fullness is noted.
        if self.reserved.is_empty() {
            self.full.insert(class);
        }
        Choice::NoRoom
    }

    /// There may be room for the class again.
    pub fn look_again(&mut self, class: ClassId) {
        self.full.remove(&class);
    }

    /// The order of its takers, and the least share that must be free.
    pub fn order_of(&mut self, class: ClassId, row: &Class) -> (OrderId, u64) {
        if let Some(known) = self.orders.get(&class) {
            return *known;
        }
        let order = self.takers.order_for(self.state, &self.rooms, &row.key);
        let least = row.key.resources.dominant_share(self.state.total());
        *self.orders.entry(class).or_insert((order, least))
    }

    /// Sessions that take the class at all, whatever is free on them; none before it was asked for in this round.
    pub fn takers_of<'r>(&'r self, class: ClassId, row: &'r Class) -> impl Iterator<Item = SessionId> + 'r {
        let order = self.orders.get(&class).map(|(order, _)| *order);
        // The order knows nothing of amounts: what is more than the worker has in all is not for it.
        let takes = |id: &SessionId| {
            self.state.session(*id).is_some_and(|session| accepts(self.state, session, &row.key).is_ok())
        };
        order.into_iter().flat_map(|order| self.takers.of(order)).filter(takes)
    }

    /// Whether whoever finds room may have it.
    pub fn is_open_to_all(&self) -> bool {
        self.book.is_empty() && self.booked.is_empty()
    }

    /// Nobody asks where nobody was promised anything.
    pub fn estimate_if_asked(&self, job: JobId, group: u32) -> Option<Duration> {
        if self.is_open_to_all() { None } else { self.estimate(job, group) }
    }

    /// Whether there is room, and nobody is delayed by it.
    pub fn is_open(
        &self,
        session: SessionId,
        row: &Class,
        whose: Whose,
        tasks: Run,
        estimate: Option<Duration>,
    ) -> bool {
        self.has_room(session, row, whose.0, tasks)
            && (self.is_open_to_all() || self.heeds(session, whose, &row.key.resources, estimate))
    }

    /// Whether nobody who was promised it, or has booked it, is delayed by what takes so long from now on.
    fn heeds(&self, session: SessionId, whose: Whose, asked: &Resources, left: Option<Duration>) -> bool {
        (self.book.is_empty() || self.keeps_promises(session, whose, asked, left))
            && self.is_unbooked(session, whose.0, asked, left)
    }

    pub fn has_room(&self, session: SessionId, row: &Class, job: JobId, tasks: Run) -> bool {
        self.reserved.get(&session).is_none_or(|kept| may_use(self.state, *kept, job, tasks))
            && self.rooms.get(&session).is_some_and(|room| room.fit(&row.key.resources).is_some())
    }

    /// Whether something that is there already may take this too.
    pub fn allows(&self, session: SessionId, whose: Whose, more: &Resources, left: Option<Duration>) -> bool {
        let fits = self.rooms.get(&session).is_some_and(|room| room.free.covers(more));
        fits && (self.is_open_to_all() || self.heeds(session, whose, more, left))
    }

    pub fn use_again(&mut self, session: SessionId, more: &Resources) {
        if let Some(room) = self.rooms.get_mut(&session) {
            room.take(more, &[]);
            self.takers.changed(self.state, session, room);
        }
    }

    pub fn use_less(&mut self, session: SessionId, less: &Resources) {
        if let Some(room) = self.rooms.get_mut(&session) {
            room.give_back(less, &[]);
            self.takers.changed(self.state, session, room);
        }
    }

    pub fn take(&mut self, job: JobId, group: u32, tasks: Run, session: SessionId, row: &Class) {
        self.occupy(job, group, session, row);
        self.see_owner(session, (job, group));
        self.release_served(job, tasks);
        self.note(job, tasks, session, 0);
    }

    /// Takes the room of one task. Returns the units.
    pub fn occupy(&mut self, job: JobId, group: u32, session: SessionId, row: &Class) -> Vec<UnitShare> {
        let asked = &row.key.resources;
        if self.taken.promises {
            self.take_promised(session, (job, group), asked);
        }
        let Some(room) = self.rooms.get_mut(&session) else { return Vec::new() };
        let Some(units) = room.fit(asked) else { return Vec::new() };
        room.take(asked, &units);
        self.takers.changed(self.state, session, room);
        self.use_booked(session, job, |used| used.add(asked));
        units
    }

    /// Gives it back.
    pub fn vacate(&mut self, job: JobId, session: SessionId, row: &Class, units: &[UnitShare]) {
        if let Some(room) = self.rooms.get_mut(&session) {
            room.give_back(&row.key.resources, units);
            self.takers.changed(self.state, session, room);
            self.use_booked(session, job, |used| used.subtract(&row.key.resources));
        }
    }

    /// What drained for these tasks is open again, or what they leave of it.
    pub fn release_served(&mut self, job: JobId, tasks: Run) {
        let before = self.reserved.len();
        self.reserved.retain(|_, (other, task)| *other != job || !tasks.contains(*task));
        self.released |= self.reserved.len() < before;
    }

    pub fn takers(&self) -> &Takers {
        &self.takers
    }

    pub fn book_if_any(&self) -> Option<Book> {
        self.taken.promises.then(|| self.book.clone())
    }

    pub fn note(&mut self, job: JobId, tasks: Run, session: SessionId, alternative: u8) {
        self.taken.tasks.entry(job).or_default().insert(tasks);
        self.plan.placements.push(Placement { job, tasks, session, held: false, alternative });
    }
}

/// Times that the promises of several queues are brought into line with each other in one round.
const SETTLES_MAX: usize = 8;

/// What came of looking for a session.
enum Choice {
    Session(SessionId),
    NoRoom,
    /// There is room, and whoever took it would delay somebody who was promised it.
    Delays,
}

/// Noops cost a worker nothing, so that one allocation carries a run of them; everything else goes one by one.
pub(crate) fn longest_run(class: &ClassKey, room: u64) -> u32 {
    match class.kind {
        Kind::Noop => class.tasks_per_placement_max().min(u32::try_from(room).unwrap_or(u32::MAX)),
        _ => 1,
    }
}

/// As many of the first as share one attempt number: tasks with a history go alone.
pub(crate) fn alike(group: &Group, tasks: Run) -> Run {
    let first = tasks.first - group.first;
    match group.rows.range(first..first + tasks.len).next() {
        None => tasks,
        Some((position, _)) if *position == first => Run::new(tasks.first, 1),
        Some((position, _)) => Run::new(tasks.first, position - first),
    }
}
