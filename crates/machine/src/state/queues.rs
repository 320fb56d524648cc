//! Queues: named, ordered places that share the capacity by weight.

use std::collections::BTreeMap;
use std::time::Duration;

use model::policy::Adaptation;
use model::time::micros;
use model::views::Counts;
use model::{Elapsed, JobId, QueuePolicy, SessionId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::state::deficit::{Deficit, Turn};
use crate::state::users::Users;

pub type QueueId = u32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub id: QueueId,
    pub name: String,
    pub weight: u32,
    pub running_max: Option<u32>,
    pub paused: bool,
    /// When it last went on: what stood still before does not count as passed over.
    #[serde(default)]
    pub resumed: Elapsed,
    /// Deleted, but finished jobs in the hot state still name it.
    pub deleted: bool,
    /// Tasks of all its jobs in the hot state.
    pub counts: Counts,
    pub jobs: u64,
    pub unfinished_jobs: u64,
    pub usage: Usage,
    /// What is due to it in its turn.
    #[serde(default)]
    pub deficit: Deficit,
    /// Where they share it.
    #[serde(default)]
    pub users: Users,
    #[serde(default)]
    pub policy: QueuePolicy,
    /// The leader sets order and backfill by what would have served its history better.
    #[serde(default)]
    pub auto: bool,
    /// The last time that it did, unless the policy was set by hand since.
    #[serde(default)]
    pub adapted: Option<Box<Adaptation>>,
    /// How often it did.
    #[serde(default)]
    pub adaptations: u64,
    /// The periodic set of which it is a slot: nobody else submits to it or sets its policy.
    #[serde(default)]
    pub owner: Option<String>,
    /// What groups that are ready were promised, by place in their job. Only the next task of each: what comes after it is
    /// promised something once it is first.
    #[serde(default, with = "promises")]
    pub promises: BTreeMap<(JobId, u32), Promise>,
    /// Something is free that its promises did not count with: they can be moved up.
    #[serde(default)]
    pub loosened: bool,
    /// Tasks that were stopped for others of a higher priority.
    #[serde(default)]
    pub preempted: u64,
    /// Time slices that ended because others waited.
    #[serde(default)]
    pub suspensions: u64,
    /// Tasks with a deadline that succeeded or failed within it, and after it.
    #[serde(default)]
    pub deadlines_met: u64,
    #[serde(default)]
    pub deadlines_missed: u64,
}

/// When and where a task will start, if everything that runs ends when it is expected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    pub session: SessionId,
    pub at: Elapsed,
    /// Where the other members of a gang are to start, one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<SessionId>,
    /// What was promised first, if it was sooner: after that time whoever waits may starve. From level 3 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Elapsed>,
}

impl Promise {
    /// Of a single task, or of the first member of a gang.
    pub fn new(session: SessionId, at: Elapsed) -> Promise {
        Promise { session, at, others: Vec::new(), first: None }
    }

    /// Whether it is the same start on the same sessions.
    pub fn is_at(&self, other: &Promise) -> bool {
        (self.session, self.at, &self.others) == (other.session, other.at, &other.others)
    }

    /// The soonest time that it was ever promised.
    pub fn first(&self) -> Elapsed {
        self.first.unwrap_or(self.at)
    }

    /// Of all who have a place in time.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        std::iter::once(self.session).chain(self.others.iter().copied())
    }
}

/// Written as a list: a key of two parts is none in JSON.
mod promises {
    use super::*;

    type Promises = BTreeMap<(JobId, u32), Promise>;

    pub fn serialize<S: Serializer>(promises: &Promises, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(promises)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Promises, D::Error> {
        Ok(Vec::<((JobId, u32), Promise)>::deserialize(d)?.into_iter().collect())
    }
}

/// Decayed dominant-resource time: the integral over time of the dominant shares of the queue's allocations, where what
/// lies one half-life back counts half. Integers only, so that every replica computes the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Millionths of the cluster x microseconds, as of `at`.
    spent: u64,
    at: Elapsed,
    /// Millionths of the cluster taken now.
    rate: u64,
}

impl Usage {
    pub(crate) fn new(at: Elapsed) -> Usage {
        Usage { spent: 0, at, rate: 0 }
    }

    /// For the digest.
    pub(crate) fn mark(&self) -> [u64; 3] {
        [self.spent, self.at.0, self.rate]
    }

    pub fn spent(&self, now: Elapsed, half_life: Duration) -> u64 {
        let passed = micros(now.since(self.at));
        let half_life = micros(half_life).max(1);
        // A constant rate tends to rate x half-life / ln 2; nothing beyond that is added at once.
        let counted = passed.min(half_life / 100 * 144);
        decayed(self.spent, passed, half_life).saturating_add(self.rate.saturating_mul(counted))
    }

    pub fn rate(&self) -> u64 {
        self.rate
    }

    pub(crate) fn change_rate(&mut self, now: Elapsed, half_life: Duration, plus: u64, minus: u64) {
        self.spent = self.spent(now, half_life);
        self.at = now;
        self.rate = (self.rate + plus).saturating_sub(minus);
    }
}

/// `value` after `passed`, halved every `half_life`; between halvings it falls in a straight line.
fn decayed(value: u64, passed: u64, half_life: u64) -> u64 {
    let halvings = (passed / half_life).min(63);
    let whole = value >> halvings;
    let part = u128::from(whole) * u128::from(passed % half_life) / (2 * u128::from(half_life));
    whole - part as u64
}

impl Queue {
    pub(crate) fn new(id: QueueId, name: &str, weight: u32, turn: Turn) -> Queue {
        Queue {
            id,
            name: name.to_owned(),
            weight,
            running_max: None,
            paused: false,
            resumed: turn.now,
            deleted: false,
            counts: Counts::default(),
            jobs: 0,
            unfinished_jobs: 0,
            usage: Usage::new(turn.now),
            deficit: Deficit::new(turn),
            users: Users::default(),
            policy: QueuePolicy::default(),
            auto: false,
            adapted: None,
            adaptations: 0,
            owner: None,
            promises: BTreeMap::new(),
            loosened: false,
            preempted: 0,
            suspensions: 0,
            deadlines_met: 0,
            deadlines_missed: 0,
        }
    }

    /// For how many more tasks its ceiling leaves room, if so many of those that run stand still in nobody's place.
    pub fn room_beside(&self, standing: u64) -> u64 {
        let running = self.counts.running.saturating_sub(standing);
        self.running_max.map_or(u64::MAX, |max| u64::from(max).saturating_sub(running))
    }

    /// Whether it is a slot of a periodic set.
    pub fn is_slot(&self) -> bool {
        self.owner.is_some()
    }
}

/// Dominant-resource-seconds, for people.
pub fn usage_seconds(spent: u64) -> f64 {
    spent as f64 / 1e12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_counts_half_after_a_half_life() {
        let half_life = Duration::from_secs(100);
        let at = |seconds: u64| Elapsed(seconds * 1_000_000);
        let mut usage = Usage::default();
        usage.change_rate(at(0), half_life, 500_000, 0);
        usage.change_rate(at(10), half_life, 0, 500_000);
        assert_eq!(usage_seconds(usage.spent(at(10), half_life)), 5.0);
        assert_eq!(usage_seconds(usage.spent(at(110), half_life)), 2.5);
        assert_eq!(usage_seconds(usage.spent(at(60), half_life)), 3.75);
        assert_eq!(usage.spent(Elapsed::MAX, half_life), 0);
    }
}
