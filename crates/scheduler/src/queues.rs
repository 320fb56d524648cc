//! Turns: which queue's head comes next, and which task is at its head.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use machine::State;
use machine::level::LEVEL_TURNS;
use machine::state::deficit::CHARGED_US;
use machine::state::index::{ReadyKey, ReadyList};
use machine::state::queues::{Queue, QueueId};
use machine::state::users::{EVERYBODY, UserId};
use model::policy::{Backfill, Mode, Order};
use model::{ClassId, Resources};

use crate::overlay::Taken;
use crate::slices::{self, Standing};
use crate::turns::{Turns, by_rank};

/// What of a list comes after its head.
type Rest<'a> = std::collections::btree_set::Range<'a, ReadyKey>;

/// The first group of a class, or of what of it is one user's, or takes equally long.
pub(crate) struct Head<'a> {
    class: ClassId,
    user: UserId,
    rest: Rest<'a>,
}

/// Whose turn it is, the least first, and then in order.
type Place = (u64, ReadyKey);

/// The ready work of one queue, in order.
pub(crate) struct Line<'a> {
    pub queue: QueueId,
    pub backfill: Backfill,
    weight: i64,
    /// What is due to it, less what this round has given it, as of the cluster for so long.
    due: i64,
    /// Tasks that its ceiling still allows.
    pub room: u64,
    /// What it allows beside that, were it not for what gives way.
    pub kept: u64,
    /// The first group of each class, in order.
    heads: BTreeMap<Place, Head<'a>>,
    turns: Turns<'a>,
    /// Heads that found no room, in order.
    unplaced: Vec<(ReadyKey, Head<'a>)>,
    /// How many of them something was placed behind.
    passed: usize,
    /// Those that were not looked at, since as many were skipped as may be.
    unseen: Vec<(ReadyKey, Head<'a>)>,
    /// Those that had room and would have delayed somebody.
    skipped: Vec<(ReadyKey, Head<'a>)>,
    /// Nothing more of it may start since its first one would have delayed somebody.
    is_held_back: bool,
    /// One of it waits already, and what is looked at now comes after it.
    is_waiting: bool,
    /// How many more may be skipped in this round.
    skips_left: usize,
    skips_max: usize,
    /// Its tasks run for a quantum at a time.
    pub is_sliced: bool,
    /// It is a slot of a periodic set, on which one runs at a time; and of a preemptive one.
    pub is_slot: bool,
    pub yields: bool,
    /// Workers take its tasks themselves.
    pub is_claimed: bool,
    /// Of those that stand still, the ones that were not looked at yet in this turn, in order; and those that must go on
    /// standing.
    next_standing: VecDeque<Standing>,
    pub standing: Vec<Standing>,
}

impl<'a> Line<'a> {
    /// The first ready group of the queue, with its class.
    pub fn head(&self) -> Option<(ClassId, ReadyKey)> {
        self.heads.first_key_value().map(|((_, key), head)| (head.class, *key))
    }

    /// The first that is meant, of classes that are.
    pub fn first_head(
        &self,
        is_meant: impl Fn(ClassId) -> bool,
        is_open: impl Fn(ReadyKey) -> bool,
    ) -> Option<(ClassId, ReadyKey)> {
        let mut first: Option<(Place, ClassId)> = None;
        for (place, head) in self.heads.iter().filter(|(_, head)| is_meant(head.class)) {
            if first.is_some_and(|(first, _)| first < *place) {
                break;
            }
            let mut keys = std::iter::once(place.1).chain(head.rest.clone().copied());
            let key = keys.find(|key| is_open(*key));
            let found = key.map(|key| ((self.turns.turn(head.user, key), key), head.class));
            first = first.into_iter().chain(found).min_by_key(|(place, _)| *place);
        }
        first.map(|((_, key), class)| (class, key))
    }

    /// All that is done is done with the head, whose key this is.
    fn take_head(&mut self, key: ReadyKey) -> Option<(u64, Head<'a>)> {
        let first = self.heads.first_entry().filter(|first| first.key().1 == key)?;
        let ((turn, _), head) = first.remove_entry();
        Some((turn, head))
    }

    /// What stands still and comes before the first ready group; each is told once.
    pub fn take_standing(&mut self) -> Option<Standing> {
        let first = self.next_standing.front()?;
        // What may not start now does not go before it either.
        let head = if self.room > 0 { self.head() } else { None };
        let is_first = head.is_none_or(|(_, key)| first.goes_before(key));
        if is_first { self.next_standing.pop_front() } else { None }
    }

    /// Groups that found no room, by class: the first of each.
    pub fn waiting(&self) -> impl Iterator<Item = (ReadyKey, ClassId)> + '_ {
        self.unplaced.iter().map(|(key, head)| (*key, head.class))
    }

    /// Done with the group that is at the head of its class: the next one of the class is.
    pub fn advance(&mut self, key: ReadyKey) {
        if let Some((turn, mut head)) = self.take_head(key)
            && let Some(next) = head.rest.next()
        {
            self.insert(turn, *next, head);
        }
    }

    /// What comes in the place of a group that had this turn.
    fn insert(&mut self, turn: u64, key: ReadyKey, head: Head<'a>) {
        let turn = match &self.turns {
            Turns::Ranks | Turns::Shares(_) => turn,
            Turns::Ratios(_) => self.turns.turn(head.user, key),
        };
        self.heads.insert((turn, key), head);
    }

    /// The same of one that waits: the next one of its class waits in its place.
    pub fn advance_waiting(&mut self, key: ReadyKey) -> Option<(ReadyKey, ClassId)> {
        let place = self.unplaced.iter().position(|(waiting, _)| *waiting == key)?;
        let Some(next) = self.unplaced[place].1.rest.next() else {
            self.unplaced.remove(place);
            self.passed -= usize::from(place < self.passed);
            return None;
        };
        let (waiting, head) = &mut self.unplaced[place];
        *waiting = *next;
        Some((*next, head.class))
    }

    /// Nothing of the class, whose first group is at `key`, finds room any more.
    pub fn pass_over(&mut self, key: ReadyKey) {
        if let Some((_, head)) = self.take_head(key) {
            self.unplaced.push((key, head));
        }
    }

    /// Not this one; the next one of its class may do.
    pub fn skip(&mut self, key: ReadyKey) {
        let Some((turn, mut head)) = self.take_head(key) else { return };
        let alone = Head { rest: Rest::default(), ..head };
        match self.backfill {
            // Whatever goes by then has passed it over.
            Backfill::FirstFit => self.unplaced.push((key, alone)),
            _ => self.skipped.push((key, alone)),
        }
        if let Some(next) = head.rest.next() {
            self.insert(turn, *next, head);
        }
        self.skips_left = self.skips_left.saturating_sub(1);
        if self.skips_left == 0 {
            let rest = std::mem::take(&mut self.heads);
            self.unseen.extend(rest.into_iter().map(|((_, key), head)| (key, head)));
        }
    }

    /// Whether there is something of it at which nobody has looked.
    pub fn has_unseen(&self) -> bool {
        !self.unseen.is_empty()
    }

    /// Nothing more of it may start, since its first one finds no room, or would delay somebody.
    pub fn close(&mut self, delays: bool) {
        self.is_held_back = delays;
        while let Some(((_, key), head)) = self.heads.pop_first() {
            self.unplaced.push((key, head));
        }
    }

    /// Whether something of it waits by now.
    pub fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Whether nothing of it waits yet; from now on something does.
    pub fn waits_first(&mut self) -> bool {
        !std::mem::replace(&mut self.is_waiting, true)
    }

    /// There may be room again for what found none.
    pub fn retry(&mut self) {
        let again = self.unplaced.drain(..).chain(self.skipped.drain(..)).chain(self.unseen.drain(..));
        for (key, head) in again {
            let turn = self.turns.turn(head.user, key);
            self.heads.insert((turn, key), head);
        }
        self.next_standing.extend(self.standing.drain(..));
        self.passed = 0;
        self.skips_left = self.skips_max;
        self.is_waiting = false;
        self.is_held_back = false;
    }

    /// Heads that something of the queue went before, and the first that found no room in any case.
    pub fn passed_over(&self) -> impl Iterator<Item = (ReadyKey, ClassId)> + '_ {
        // Where the queue may run no more, a worker with room would not help.
        let passed = if self.room > 0 { self.passed } else { 0 };
        let first = self.first_without_room().filter(|place| self.room > 0 && *place >= passed);
        let places = (0..passed.min(self.unplaced.len())).chain(first);
        places.map(|place| (self.unplaced[place].0, self.unplaced[place].1.class))
    }

    fn first_without_room(&self) -> Option<usize> {
        match &self.turns {
            // What was given meanwhile may have made it another's turn.
            Turns::Shares(shares) => (0..self.unplaced.len()).min_by_key(|place| {
                let (key, head) = &self.unplaced[*place];
                (shares.turn(head.user), *key)
            }),
            Turns::Ranks | Turns::Ratios(_) => (!self.unplaced.is_empty()).then_some(0),
        }
    }

    /// Groups that had room and would have delayed somebody, by class.
    pub fn skipped(&self) -> impl Iterator<Item = (ReadyKey, ClassId)> + '_ {
        self.skipped.iter().map(|(key, head)| (*key, head.class))
    }

    /// The same with the one behind which nothing starts.
    pub fn held_back(&self) -> impl Iterator<Item = (ReadyKey, ClassId)> + '_ {
        self.skipped().chain(self.waiting().take(usize::from(self.is_held_back)))
    }

    /// In a queue that its users share, the first that waits by what each has been given by now.
    pub fn first_by_share(&self, is_meant: impl Fn(ClassId) -> bool) -> Option<(ReadyKey, ClassId)> {
        let Turns::Shares(shares) = &self.turns else { return None };
        let waiting = self.unplaced.iter().chain(&self.skipped).filter(|(_, head)| is_meant(head.class));
        let first = waiting.min_by_key(|(key, head)| (shares.turn(head.user), *key));
        first.map(|(key, head)| (*key, head.class))
    }

    /// Heads that would run if there were room for them.
    pub fn without_room(&self) -> impl Iterator<Item = ReadyKey> + '_ {
        self.unplaced.iter().filter(|_| self.room > 0).map(|(key, _)| *key)
    }

    /// Something of the head was placed: so many tasks in so many allocations, each of which takes this.
    pub fn charge(&mut self, asked: &Resources, share: u64, allocations: u32, tasks: u32) {
        self.passed = self.unplaced.len();
        let user = self.heads.first_key_value().map(|(_, head)| head.user);
        self.charge_user(user.unwrap_or(EVERYBODY), asked, share, allocations, tasks);
    }

    /// The same of any of its tasks, which are this user's, if users share it.
    pub fn charge_user(&mut self, user: UserId, asked: &Resources, share: u64, allocations: u32, tasks: u32) {
        let share = share.saturating_mul(u64::from(allocations));
        self.due = self.due.saturating_sub_unsigned(share.saturating_mul(CHARGED_US));
        self.room = self.room.saturating_sub(u64::from(tasks));
        let Turns::Shares(shares) = &mut self.turns else { return };
        let (before, after) = shares.charge(user, asked, allocations, tasks);
        let theirs = |_: &Place, head: &mut Head<'_>| head.user == user;
        let moved = self.heads.extract_if((before, ReadyKey::MIN)..=(before, ReadyKey::MAX), theirs);
        let moved: Vec<(Place, Head<'a>)> = moved.collect();
        self.heads.extend(moved.into_iter().map(|((_, key), head)| ((after, key), head)));
    }

    /// Rounds that must pass before something is due to it; the more was due to it for its weight, the lower.
    fn turn(&self) -> (i64, QueueId) {
        (self.due.div_euclid(self.weight).saturating_neg(), self.queue)
    }
}

/// Where each user comes among those of the queue who wait; empty, unless they share it.
pub(crate) fn turns(state: &State, queue: QueueId) -> BTreeMap<UserId, u64> {
    let turns = state.queue(queue).map(|queue| Turns::of(state, queue, &Taken::default()));
    let Some(Turns::Shares(shares)) = turns else { return BTreeMap::new() };
    state.ready_in(queue).map(|(list, _)| (list.user, shares.turn(list.user))).collect()
}

/// The first group of each list.
type Heads<'a> = Vec<(ReadyKey, Head<'a>)>;

fn add_head<'a>(heads: &mut Heads<'a>, (list, keys): (&ReadyList, &'a BTreeSet<ReadyKey>)) {
    add_rest(heads, list, keys.range(..));
}

fn add_rest<'a>(heads: &mut Heads<'a>, list: &ReadyList, mut rest: Rest<'a>) {
    if let Some(first) = rest.next() {
        heads.push((*first, Head { class: list.class, user: list.user, rest }));
    }
}

/// The first group of each list, and of what takes equally long.
fn heads_by_rank(state: &State, queue: QueueId) -> Heads<'_> {
    let mut heads = Heads::new();
    for (list, keys) in state.ready_in(queue) {
        by_rank(keys).for_each(|rest| add_rest(&mut heads, list, rest));
    }
    heads
}

/// Every queue that has ready work and may run it.
pub(crate) fn lines<'a>(state: &'a State, taken: &Taken, skips_max: usize) -> Vec<Line<'a>> {
    let mut by_queue: BTreeMap<QueueId, Heads<'a>> = BTreeMap::new();
    by_queue.extend(state.with_suspended().map(|queue| (queue, Vec::new())));
    for (list, keys) in state.ready() {
        add_head(by_queue.entry(list.queue).or_default(), (list, keys));
    }
    lines_of(state, taken, skips_max, by_queue)
}

/// Those that workers may claim from.
pub(crate) fn claimed_lines(state: &State) -> Vec<Line<'_>> {
    let claimed = state.queues().filter(|queue| queue.policy.may_be_claimed());
    let by_queue = claimed.map(|queue| {
        let mut heads = Heads::new();
        state.ready_in(queue.id).for_each(|list| add_head(&mut heads, list));
        (queue.id, heads)
    });
    lines_of(state, &Taken::default(), usize::MAX, by_queue.collect())
}

fn lines_of<'a>(
    state: &'a State,
    taken: &Taken,
    skips_max: usize,
    by_queue: BTreeMap<QueueId, Heads<'a>>,
) -> Vec<Line<'a>> {
    let line = |(id, mut unplaced): (QueueId, Heads<'a>)| {
        let queue = state.queue(id)?;
        if queue.policy.order == Order::Hrrn {
            unplaced = heads_by_rank(state, id);
        }
        let standing = Standing::all_of(state, taken, id);
        if queue.paused {
            // What has begun goes on.
            unplaced.clear();
        }
        if unplaced.is_empty() && standing.is_empty() {
            return None;
        }
        let begun = taken.running.get(&id).copied().unwrap_or(0) + slices::resumed(state, taken, queue);
        let room = state.room_in(queue).saturating_sub(begun);
        // Nobody begins in the place of what gives way before it has ended, but the one it makes room for.
        let kept = if queue.running_max.is_some() { state.leaving(id).min(room) } else { 0 };
        let room = room - kept;
        let mut line = Line {
            queue: id,
            backfill: queue.policy.backfill,
            weight: queue.weight.max(1).into(),
            due: due(state, queue),
            kept,
            room,
            heads: BTreeMap::new(),
            turns: Turns::of(state, queue, taken),
            unplaced,
            passed: 0,
            unseen: Vec::new(),
            skipped: Vec::new(),
            is_held_back: false,
            is_waiting: false,
            skips_left: skips_max,
            skips_max,
            is_sliced: queue.policy.slices(),
            is_slot: queue.is_slot(),
            yields: queue.policy.yields,
            is_claimed: queue.policy.mode == Mode::Claim,
            next_standing: VecDeque::new(),
            standing,
        };
        line.retry();
        Some(line)
    };
    by_queue.into_iter().filter_map(line).collect()
}

/// What is due to the queue; in a cluster that was made before there was such a thing, what it has had is not.
fn due(state: &State, queue: &Queue) -> i64 {
    if state.level() >= LEVEL_TURNS {
        return queue.due(state.turn());
    }
    let spent = queue.usage.spent(state.stamp().elapsed, state.half_life());
    0i64.saturating_sub_unsigned(spent + queue.usage.rate().saturating_mul(CHARGED_US))
}

/// The queue whose turn it is: the one to which something is due after the fewest rounds.
pub(crate) fn next_turn(lines: &[Line<'_>]) -> Option<usize> {
    (0..lines.len()).min_by_key(|place| lines[*place].turn())
}
