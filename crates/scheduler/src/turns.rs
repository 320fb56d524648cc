//! What decides in a queue whose turn it is beside the ranks of its tasks: what its users have had, or for how long its tasks
//! wait relative to how long they take. Both change while the tasks wait, so that no rank could say it.

use std::collections::btree_set::Range;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use machine::State;
use machine::state::index::ReadyKey;
use machine::state::queues::Queue;
use machine::state::users::{Moment, UserId, Users};
use model::Resources;
use model::policy::Order;
use model::time::micros;

use crate::overlay::Taken;

pub(crate) enum Turns<'a> {
    /// Ranks alone.
    Ranks,
    Shares(Shares<'a>),
    Ratios(&'a State),
}

impl<'a> Turns<'a> {
    pub fn of(state: &'a State, queue: &'a Queue, taken: &Taken) -> Turns<'a> {
        match queue.policy.order {
            Order::Fair => Turns::Shares(Shares::of(state, queue, taken)),
            Order::Hrrn => Turns::Ratios(state),
            _ => Turns::Ranks,
        }
    }

    /// The lower first, and of equals the lower key.
    pub fn turn(&self, user: UserId, key: ReadyKey) -> u64 {
        match self {
            Turns::Ranks => 0,
            Turns::Shares(shares) => shares.turn(user),
            Turns::Ratios(state) => ratio(state, key),
        }
    }
}

/// What the users of a queue take, with what this round and the plans in flight have given them.
pub(crate) struct Shares<'a> {
    users: &'a Users,
    at: Moment<'a>,
    given: BTreeMap<UserId, Given>,
}

#[derive(Default)]
struct Given {
    resources: Resources,
    tasks: u64,
}

impl<'a> Shares<'a> {
    fn of(state: &'a State, queue: &'a Queue, taken: &Taken) -> Shares<'a> {
        let of_queue = (queue.id, UserId::MIN)..=(queue.id, UserId::MAX);
        let given = taken.users.range(of_queue).map(|((_, user), resources)| {
            let given = Given { resources: resources.clone(), tasks: 0 };
            (*user, given)
        });
        Shares { users: &queue.users, at: state.moment(), given: given.collect() }
    }

    pub fn turn(&self, id: UserId) -> u64 {
        let Some(user) = self.users.get(id) else { return 0 };
        match self.given.get(&id) {
            // Those who ask for nothing that anybody could run out of take turns too.
            Some(given) => {
                let counted = user.turn(None, self.at).saturating_add(given.tasks);
                counted.max(user.turn(Some(&given.resources), self.at))
            }
            None => user.turn(None, self.at),
        }
    }

    /// The turn before and after.
    pub fn charge(&mut self, id: UserId, asked: &Resources, allocations: u32, tasks: u32) -> (u64, u64) {
        let before = self.turn(id);
        let given = self.given.entry(id).or_default();
        (0..allocations).for_each(|_| given.resources.add(asked));
        // One that takes more of what it has most of already in no way keeps its turn, as the next round has it.
        given.tasks += if asked.dominant_share(self.at.total) == 0 { u64::from(tasks) } else { 0 };
        (before, self.turn(id))
    }
}

/// Parts of a ratio that are told apart.
const RATIO_PARTS: u128 = 1 << 20;

/// The turn by the response ratio, (wait + estimate) / estimate: the highest is the lowest turn. What has no estimate, and so
/// no ratio, is last.
fn ratio(state: &State, key: ReadyKey) -> u64 {
    let Some(job) = state.job(key.job).filter(|_| key.rank != i64::MAX) else { return u64::MAX };
    // Nothing is added to what all have in common.
    let waited = micros(state.stamp().elapsed.since(job.submitted.elapsed));
    let estimate = u128::from(key.rank.max(1).unsigned_abs()) * 1_000;
    let ratio = u128::from(waited) * RATIO_PARTS / estimate;
    u64::MAX - 1 - u64::try_from(ratio).unwrap_or(u64::MAX).min(u64::MAX - 1)
}

/// The groups of one rank each, of a list in order.
pub(crate) fn by_rank(keys: &BTreeSet<ReadyKey>) -> impl Iterator<Item = Range<'_, ReadyKey>> {
    let mut next = keys.first().copied();
    std::iter::from_fn(move || {
        let first = next?;
        let last = ReadyKey { rank: first.rank, ..ReadyKey::MAX };
        next = keys.range((Bound::Excluded(last), Bound::Unbounded)).next().copied();
        Some(keys.range(first..=last))
    })
}
