//! Users of a queue that they share fairly: what each takes now and has taken before.

use std::collections::BTreeMap;
use std::time::Duration;

use model::time::micros;
use model::{Elapsed, Resources};
use serde::{Deserialize, Serialize};

use crate::command::{WEIGHT_DEFAULT, WEIGHT_MAX};
use crate::state::queues::Usage;

/// Within one queue.
pub type UserId = u32;

/// Where nothing is shared by users, all are as one.
pub const EVERYBODY: UserId = 0;
/// Those who came when there were [`USERS_MAX`] with jobs already.
pub const OTHERS: UserId = UserId::MAX;
const OTHERS_NAME: &str = "(others)";
/// Users of one queue that are told apart.
pub const USERS_MAX: usize = 4_096;

/// The users of one queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Users {
    rows: BTreeMap<UserId, User>,
    ids: BTreeMap<String, UserId>,
    last: UserId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    pub name: String,
    /// Share of the queue relative to other users.
    pub weight: u32,
    /// What allocations take that were placed while the queue was shared by users.
    pub used: Resources,
    /// Decayed dominant-resource time of the same.
    pub usage: Usage,
    /// Jobs of the hot state that count for it.
    pub jobs: u64,
}

/// When a share is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// What the live sessions offer together.
    pub total: &'a Resources,
    pub now: Elapsed,
    pub half_life: Duration,
}

impl Users {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (UserId, &User)> {
        self.rows.iter().map(|(id, user)| (*id, user))
    }

    pub fn get(&self, id: UserId) -> Option<&User> {
        self.rows.get(&id)
    }

    /// One more job of this user's.
    pub(crate) fn join(&mut self, name: &str, now: Elapsed, half_life: Duration) -> UserId {
        let id = self.id_of(name, now, half_life);
        if let Some(user) = self.rows.get_mut(&id) {
            user.jobs += 1;
        }
        id
    }

    /// One job fewer.
    pub(crate) fn leave(&mut self, id: UserId, now: Elapsed, half_life: Duration) {
        let Some(user) = self.rows.get_mut(&id) else { return };
        user.jobs = user.jobs.saturating_sub(1);
        if user.is_idle() && user.usage.spent(now, half_life) == 0 {
            self.forget(id);
        }
    }

    /// Whether so many more could be given a weight.
    pub(crate) fn has_room(&self, names: &BTreeMap<String, u32>) -> bool {
        let stays = |(id, user): &(&UserId, &User)| {
            **id != OTHERS && !user.is_idle() && !names.contains_key(&user.name)
        };
        self.rows.iter().filter(stays).count() + names.len() <= USERS_MAX
    }

    pub(crate) fn set_weight(&mut self, name: &str, weight: u32, now: Elapsed, half_life: Duration) {
        let id = self.id_of(name, now, half_life);
        if let Some(user) = self.rows.get_mut(&id) {
            user.weight = weight;
        }
    }

    pub(crate) fn reset_weights(&mut self) {
        self.rows.values_mut().for_each(|user| user.weight = WEIGHT_DEFAULT);
    }

    /// Takes this from now on, or no longer.
    pub(crate) fn change_use(&mut self, id: UserId, amount: &Resources, takes: bool, at: Moment<'_>) {
        let Some(user) = self.rows.get_mut(&id) else { return };
        if takes {
            user.used.add(amount)
        } else {
            user.used.subtract(amount)
        };
        let rate = user.used.dominant_share(at.total);
        user.usage.change_rate(at.now, at.half_life, rate, user.usage.rate());
    }

    fn id_of(&mut self, name: &str, now: Elapsed, half_life: Duration) -> UserId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        if self.ids.len() >= USERS_MAX {
            let idle = self.rows.iter().filter(|(id, user)| user.is_idle() && **id != OTHERS);
            let least = idle.min_by_key(|(id, user)| (user.usage.spent(now, half_life), **id));
            match least.map(|(id, _)| *id) {
                Some(id) => self.forget(id),
                None => {
                    self.rows.entry(OTHERS).or_insert_with(|| User::new(OTHERS_NAME, now));
                    return OTHERS;
                }
            }
        }
        self.last += 1;
        self.rows.insert(self.last, User::new(name, now));
        self.ids.insert(name.to_owned(), self.last);
        self.last
    }

    fn forget(&mut self, id: UserId) {
        if let Some(user) = self.rows.remove(&id).filter(|_| id != OTHERS) {
            self.ids.remove(&user.name);
        }
    }

    /// For the digest.
    pub(crate) fn mark(&self, id: UserId) -> [u64; 5] {
        let Some(user) = self.rows.get(&id) else { return [0; 5] };
        let [spent, at, rate] = user.usage.mark();
        [spent, at, rate, user.weight.into(), user.jobs]
    }
}

impl User {
    fn new(name: &str, now: Elapsed) -> User {
        User {
            name: name.to_owned(),
            weight: WEIGHT_DEFAULT,
            used: Resources::default(),
            usage: Usage::new(now),
            jobs: 0,
        }
    }

    /// Nothing of it is here but what it has used before.
    fn is_idle(&self) -> bool {
        self.jobs == 0 && self.used.is_empty() && self.weight == WEIGHT_DEFAULT
    }

    /// Its dominant share (the largest, over resources, of its use relative to what there is; Ghodsi et al. 2011) with
    /// `more`, in millionths.
    pub fn share(&self, more: Option<&Resources>, at: Moment<'_>) -> u64 {
        match more {
            None => self.used.dominant_share(at.total),
            Some(more) => {
                let mut used = self.used.clone();
                used.add(more);
                used.dominant_share(at.total)
            }
        }
    }

    /// The mean of its dominant share over the time before, of which what lies one half-life back counts half; in millionths.
    pub fn past(&self, at: Moment<'_>) -> u64 {
        // A constant share s makes a decayed sum of s x half-life / ln 2.
        let spent = u128::from(self.usage.spent(at.now, at.half_life));
        let mean = spent * 693_147 / 1_000_000 / u128::from(micros(at.half_life).max(1));
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    /// Where it comes among the users of its queue, the lower first: what it takes and took, relative to its weight.
    pub fn turn(&self, more: Option<&Resources>, at: Moment<'_>) -> u64 {
        let taken = self.share(more, at).saturating_add(self.past(at));
        taken.saturating_mul(u64::from(WEIGHT_MAX)) / u64::from(self.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: Duration = Duration::from_secs(100);

    fn of(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_dominant_share_and_the_past_count_relative_to_weight() {
        let total = of(r#"{"cpu": 9, "memory": "18GiB"}"#);
        let at =
            |seconds: u64| Moment { total: &total, now: Elapsed(seconds * 1_000_000), half_life: HALF_LIFE };
        let mut users = Users::default();
        let ann = users.join("ann", Elapsed(0), HALF_LIFE);
        assert_eq!(users.join("ann", Elapsed(0), HALF_LIFE), ann);
        users.change_use(ann, &of(r#"{"cpu": 1, "memory": "4GiB"}"#), true, at(0));
        assert_eq!(users.get(ann).unwrap().share(None, at(0)), 222_222, "memory: 4 of 18");
        assert_eq!(users.get(ann).unwrap().turn(None, at(0)), 22_222_200);
        users.set_weight("ann", 200, Elapsed(0), HALF_LIFE);
        assert_eq!(users.get(ann).unwrap().turn(None, at(0)), 11_111_100);
        // After long use of one share the past says that share.
        let past = users.get(ann).unwrap().past(at(1_000));
        assert!((220_000..=222_300).contains(&past), "{past}");
    }

    #[test]
    fn who_has_nothing_left_is_forgotten_and_too_many_are_as_one() {
        let mut users = Users::default();
        let first = users.join("u0", Elapsed(0), HALF_LIFE);
        (1..USERS_MAX).for_each(|n| _ = users.join(&format!("u{n}"), Elapsed(0), HALF_LIFE));
        assert_eq!(users.join("late", Elapsed(0), HALF_LIFE), OTHERS);
        assert_eq!(users.join("later", Elapsed(0), HALF_LIFE), OTHERS);
        users.leave(first, Elapsed(0), HALF_LIFE);
        assert_eq!(users.get(first), None);
        assert_ne!(users.join("new", Elapsed(0), HALF_LIFE), OTHERS);
        assert!(!users.has_room(&BTreeMap::from([("x".to_owned(), 1)])));
        assert!(users.has_room(&BTreeMap::from([("u1".to_owned(), 1)])));
    }
}
