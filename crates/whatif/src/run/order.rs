//! Which of those that wait comes first by the order of their queue, to tell afterwards who went before whom. Nothing is decided by it.

use std::collections::BTreeMap;
use std::ops::Bound;

use machine::state::index::ReadyKey;
use machine::state::users::UserId;
use machine::{Plan, State};
use model::policy::Order;
use model::time::micros;

/// The lower comes first: its turn, where that is another as time goes by, then its rank.
type Place = (u128, ReadyKey);

/// Who comes where as a round begins, before what the round places changes the turns.
pub(super) struct Standings {
    order: Order,
    /// Of a queue that its users share.
    users: BTreeMap<UserId, u64>,
    /// What the round places: a job of the workload and a task of it, by their places.
    placed: BTreeMap<(usize, usize), Place>,
}

impl Standings {
    pub fn of(state: &State, order: Order, plan: &Plan) -> Standings {
        let mut standings = Standings { order, users: users(state, order), placed: BTreeMap::new() };
        for placement in &plan.placements {
            let Some(job) = state.job(placement.job) else { continue };
            let Some((group, row)) = job.group_of(placement.tasks.first) else { continue };
            let key = ReadyKey { rank: row.rank, job: placement.job, group: group as u32 };
            let place = standings.place(state, job.user, key);
            standings.placed.insert((placement.job.0 as usize - 1, group), place);
        }
        standings
    }

    /// Whether one that still waits, now that the round is over, came before this task, which the round has placed.
    pub fn is_behind(&self, first: Option<Place>, task: (usize, usize)) -> bool {
        let placed = self.placed.get(&task);
        first.zip(placed).is_some_and(|(first, placed)| first < *placed)
    }

    /// The first of those that still wait.
    pub fn first(&self, state: &State) -> Option<Place> {
        let lists = state.ready().iter();
        lists
            .filter_map(|(list, keys)| self.firsts(keys).map(|key| self.place(state, list.user, key)).min())
            .min()
    }

    /// Those of a list of which one is its first: of each rank the earliest where ranks alone do not tell.
    fn firsts<'k>(
        &self,
        keys: &'k std::collections::BTreeSet<ReadyKey>,
    ) -> impl Iterator<Item = ReadyKey> + 'k {
        let by_rank = self.order == Order::Hrrn;
        let mut next = keys.first().copied();
        std::iter::from_fn(move || {
            let first = next?;
            let last = ReadyKey { rank: first.rank, ..ReadyKey::MAX };
            let rest = (Bound::Excluded(last), Bound::Unbounded);
            next = if by_rank { keys.range(rest).next().copied() } else { None };
            Some(first)
        })
    }

    fn place(&self, state: &State, user: UserId, key: ReadyKey) -> Place {
        let turn = match self.order {
            Order::Fair => self.users.get(&user).copied().unwrap_or(0).into(),
            Order::Hrrn => u128::MAX - ratio(state, key),
            _ => 0,
        };
        (turn, key)
    }
}

fn users(state: &State, order: Order) -> BTreeMap<UserId, u64> {
    if order != Order::Fair {
        return BTreeMap::new();
    }
    let moment = state.moment();
    let turn = |queue: &machine::state::queues::Queue, id| {
        queue.users.get(id).map(|user| (id, user.turn(None, moment)))
    };
    state.ready().keys().filter_map(|list| turn(state.queue(list.queue)?, list.user)).collect()
}

/// The response ratio as the planner tells it: the wait relative to the estimate, which is the rank; 0 of what has no estimate.
fn ratio(state: &State, key: ReadyKey) -> u128 {
    let Some(job) = state.job(key.job).filter(|_| key.rank != i64::MAX) else { return 0 };
    let waited = micros(state.stamp().elapsed.since(job.submitted.elapsed));
    1 + (u128::from(waited) << 20) / u128::from(key.rank.max(1).unsigned_abs()) / 1_000
}
