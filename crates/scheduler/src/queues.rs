//! Turns: which queue's head comes next, and which task is at its head.

use std::collections::BTreeMap;

use machine::State;
use machine::state::index::ReadyKey;
use machine::state::queues::QueueId;
use model::ClassId;
use model::policy::Backfill;

/// What of a class comes after its head.
type Rest<'a> = std::collections::btree_set::Iter<'a, ReadyKey>;

/// The ready work of one queue, in order.
pub(crate) struct Line<'a> {
    pub queue: QueueId,
    pub backfill: Backfill,
    weight: u64,
    /// Use so far, and what this round has added.
    spent: u64,
    /// Tasks that its ceiling still allows.
    pub room: u64,
    /// The first group of each class, in order.
    heads: BTreeMap<ReadyKey, (ClassId, Rest<'a>)>,
    /// Heads that found no room, in order.
    unplaced: Vec<(ReadyKey, ClassId, Rest<'a>)>,
    /// How many of them something was placed behind.
    passed: usize,
    /// Those that had room and would have delayed somebody.
    skipped: Vec<(ReadyKey, ClassId)>,
    /// One of it waits already, and what is looked at now comes after it.
    is_waiting: bool,
    /// How many more may be skipped in this round.
    skips_left: usize,
}

/// Millionths of the cluster for a second: what a placement counts before it is known how long it takes.
const CHARGE_US: u64 = 1_000_000;

impl<'a> Line<'a> {
    /// The first ready group of the queue, with its class.
    pub fn head(&self) -> Option<(ClassId, ReadyKey)> {
        self.heads.first_key_value().map(|(key, (class, _))| (*class, *key))
    }

    /// Done with the group that is at the head of its class: the next one of the class is.
    pub fn advance(&mut self, key: ReadyKey) {
        if let Some((class, mut rest)) = self.heads.remove(&key)
            && let Some(next) = rest.next()
        {
            self.heads.insert(*next, (class, rest));
        }
    }

    /// Nothing of the class, whose first group is at `key`, finds room any more.
    pub fn pass_over(&mut self, key: ReadyKey) {
        if let Some((class, rest)) = self.heads.remove(&key) {
            self.unplaced.push((key, class, rest));
        }
    }

    /// Not this one; the next one of its class may do.
    pub fn skip(&mut self, key: ReadyKey) {
        let Some((class, mut rest)) = self.heads.remove(&key) else { return };
        match self.backfill {
            // Whatever goes by then has passed it over.
            Backfill::FirstFit => self.unplaced.push((key, class, Rest::default())),
            _ => self.skipped.push((key, class)),
        }
        if let Some(next) = rest.next() {
            self.heads.insert(*next, (class, rest));
        }
        self.skips_left = self.skips_left.saturating_sub(1);
        if self.skips_left == 0 {
            self.close();
        }
    }

    /// Nothing more of it may start.
    pub fn close(&mut self) {
        while let Some((key, (class, rest))) = self.heads.pop_first() {
            self.unplaced.push((key, class, rest));
        }
    }

    /// Whether nothing of it waits yet; from now on something does.
    pub fn waits_first(&mut self) -> bool {
        !std::mem::replace(&mut self.is_waiting, true)
    }

    /// There may be room again for what found none.
    pub fn retry(&mut self) {
        self.heads.extend(self.unplaced.drain(..).map(|(key, class, rest)| (key, (class, rest))));
        let skipped = self.skipped.drain(..).map(|(key, class)| (key, (class, Rest::default())));
        self.heads.extend(skipped);
        self.passed = 0;
        self.is_waiting = false;
    }

    /// Heads that something of the queue went before, and the first that found no room in any case.
    pub fn passed_over(&self) -> impl Iterator<Item = (ReadyKey, ClassId)> + '_ {
        // Where the queue may run no more, a worker with room would not help.
        let passed = if self.room > 0 { self.passed.max(1) } else { 0 };
        self.unplaced.iter().take(passed).map(|(key, class, _)| (*key, *class))
    }

    /// Heads that would run if there were room for them.
    pub fn without_room(&self) -> impl Iterator<Item = ReadyKey> + '_ {
        self.unplaced.iter().filter(|_| self.room > 0).map(|(key, ..)| *key)
    }

    /// Something was placed.
    pub fn charge(&mut self, share: u64, tasks: u32) {
        self.passed = self.unplaced.len();
        self.spent = self.spent.saturating_add(share.saturating_mul(CHARGE_US));
        self.room = self.room.saturating_sub(u64::from(tasks));
    }

    fn turn(&self) -> (u64, QueueId) {
        (self.spent / self.weight, self.queue)
    }
}

/// Every queue that has ready work and may run it.
pub(crate) fn lines<'a>(
    state: &'a State,
    running: &BTreeMap<QueueId, u64>,
    skips_max: usize,
) -> Vec<Line<'a>> {
    let mut by_queue: BTreeMap<QueueId, BTreeMap<ReadyKey, (ClassId, Rest<'a>)>> = BTreeMap::new();
    for ((queue, class), keys) in state.ready() {
        let mut rest = keys.iter();
        if let Some(first) = rest.next() {
            by_queue.entry(*queue).or_default().insert(*first, (*class, rest));
        }
    }
    let (now, half_life) = (state.stamp().elapsed, state.half_life());
    let line = |(id, heads): (QueueId, BTreeMap<ReadyKey, (ClassId, Rest<'a>)>)| {
        let queue = state.queue(id).filter(|queue| !queue.paused)?;
        let room = queue.room().saturating_sub(running.get(&id).copied().unwrap_or(0));
        // What runs now counts as if it went on for a second, so that a queue that has just begun takes its turn.
        let spent = queue.usage.spent(now, half_life) + queue.usage.rate().saturating_mul(CHARGE_US);
        Some(Line {
            queue: id,
            backfill: queue.policy.backfill,
            weight: queue.weight.max(1).into(),
            spent,
            room,
            heads,
            unplaced: Vec::new(),
            passed: 0,
            skipped: Vec::new(),
            is_waiting: false,
            skips_left: skips_max,
        })
    };
    by_queue.into_iter().filter_map(line).collect()
}

/// The queue whose turn it is: the least use relative to its weight.
pub(crate) fn next_turn(lines: &[Line<'_>]) -> Option<usize> {
    (0..lines.len()).min_by_key(|place| lines[*place].turn())
}
