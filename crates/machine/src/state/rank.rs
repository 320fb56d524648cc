//! Where a group comes in the order of its queue: the lower rank first. Counted when the job is submitted, and again when its
//! priority, its queue, or the order of its queue changes; never as time goes by.

use std::time::Duration;

use model::policy::{Order, QueuePolicy};
use model::time::micros;
use model::{Dependency, Elapsed, JobId, JobSpec, TaskSpec};
use serde::{Deserialize, Serialize};

use crate::level::LEVEL_CUT;
use crate::state::State;
use crate::state::jobs::Job;

/// What the rank of a job's groups follows from.
pub(crate) struct Ranked<'a> {
    pub spec: &'a JobSpec,
    pub priority: i32,
    pub submitted: Elapsed,
}

/// The rank of each group.
pub(crate) fn of_groups(state: &State, policy: &QueuePolicy, job: &Ranked<'_>) -> Vec<i64> {
    let ways = match policy.order {
        Order::CriticalPath => ways_to_the_end(state, job.spec),
        _ => Vec::new(),
    };
    let rank = |(place, task): (usize, &TaskSpec)| {
        let way = ways.get(place).copied().unwrap_or(0);
        of_group(state, policy, job, task, way)
    };
    job.spec.tasks.iter().enumerate().map(rank).collect()
}

/// The same of a job that is there, were it of this priority.
pub(crate) fn of_job(state: &State, policy: &QueuePolicy, job: &Job, priority: i32) -> Vec<i64> {
    of_groups(state, policy, &Ranked { spec: &job.spec, priority, submitted: job.submitted.elapsed })
}

fn of_group(state: &State, policy: &QueuePolicy, job: &Ranked<'_>, task: &TaskSpec, way: u64) -> i64 {
    let or_last = |time: Option<Duration>| time.map_or(i64::MAX, millis);
    match policy.order {
        Order::Priority if policy.ageing.is_zero() => -i64::from(job.priority),
        Order::Fair => -i64::from(job.priority),
        // p + (now - submitted) / ageing goes down as submitted - p x ageing goes up, whatever the time is.
        Order::Priority => {
            let ahead = i64::from(job.priority).saturating_mul(millis(policy.ageing));
            (job.submitted.0 / 1_000).cast_signed().saturating_sub(ahead)
        }
        Order::Fifo | Order::RoundRobin => 0,
        Order::Sjf => or_last(state.estimate(job.spec, task)),
        Order::Hrrn => state.estimate(job.spec, task).map_or(i64::MAX, |estimate| band(millis(estimate))),
        Order::Edf => or_last(
            task.timing().deadline.map(|deadline| Duration::from_micros(job.submitted.plus(deadline).0)),
        ),
        Order::Rms => or_last(task.timing().period),
        Order::Dms => or_last(task.timing().deadline),
        Order::CriticalPath => -way.min(i64::MAX as u64).cast_signed(),
    }
}

/// Leading bits of an estimate that are told apart where its tasks take turns by it: of those that have them in common the
/// one that has waited longer is always first, so that only that one has to be looked at.
const BAND_BITS: u32 = 5;

/// The estimate rounded down, by less than a sixteenth.
fn band(millis: i64) -> i64 {
    let millis = millis.max(1);
    let dropped = (i64::BITS - millis.leading_zeros()).saturating_sub(BAND_BITS);
    (millis >> dropped) << dropped
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// For each task the longest way from its start to the end of the job, in milliseconds by estimates: its own and the longest
/// of those that wait for it. What has no estimate counts as a millisecond, so that ways are as long as they have steps.
fn ways_to_the_end(state: &State, spec: &JobSpec) -> Vec<u64> {
    let places: std::collections::BTreeMap<&str, usize> =
        spec.tasks.iter().enumerate().map(|(place, task)| (task.name.as_str(), place)).collect();
    let mut waits_for = vec![Vec::new(); spec.tasks.len()];
    let mut dependents = vec![0u32; spec.tasks.len()];
    for (place, task) in spec.tasks.iter().enumerate() {
        let named = task.after.iter().filter_map(|dependency| match dependency {
            Dependency::Task(name) => Some(name.as_str()),
            Dependency::Job(_) => None,
        });
        for name in named.chain(task.after_each.iter().map(String::as_str)) {
            let Some(other) = places.get(name) else { continue };
            waits_for[place].push(*other);
            dependents[*other] += 1;
        }
    }
    let own = |place: usize| {
        let estimate = state.estimate(spec, &spec.tasks[place]).unwrap_or_default();
        u64::try_from(estimate.as_millis()).unwrap_or(u64::MAX).max(1)
    };
    // From the ends backwards; a validated spec has no cycle.
    let mut ways = vec![0u64; spec.tasks.len()];
    let mut ends: Vec<usize> = (0..dependents.len()).filter(|place| dependents[*place] == 0).collect();
    while let Some(place) = ends.pop() {
        ways[place] = ways[place].saturating_add(own(place));
        for other in &waits_for[place] {
            ways[*other] = ways[*other].max(ways[place]);
            dependents[*other] -= 1;
            if dependents[*other] == 0 {
                ends.push(*other);
            }
        }
    }
    ways
}

/// How long the last attempts of a task took, by its job's name and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learnt {
    /// The last run, and the one before it, in microseconds.
    pub last: u64,
    pub before: Option<u64>,
    /// When the last one ended.
    pub at: Elapsed,
}

impl Learnt {
    /// The mean of the last two (Tsafrir, Etsion & Feitelson 2007).
    pub fn estimate(&self) -> Duration {
        let before = self.before.unwrap_or(self.last);
        Duration::from_micros(self.last / 2 + before / 2 + (self.last % 2 + before % 2) / 2)
    }
}

/// The name that run times are remembered by; none for jobs without a name. A task's name has no slash.
fn name(spec: &JobSpec, task: &TaskSpec) -> Option<String> {
    (!spec.name.is_empty()).then(|| format!("{}/{}", spec.name, task.name))
}

impl State {
    /// How long an attempt will take: as given, else as its last runs took, but at most its timeout, else the timeout.
    pub fn estimate(&self, spec: &JobSpec, task: &TaskSpec) -> Option<Duration> {
        let given = task.timing.as_ref().and_then(|timing| timing.estimate);
        // The last runs may have had a longer timeout than this one (Tsafrir, Etsion & Feitelson 2007 cut there too).
        let most = task.timeout.filter(|_| self.level() >= LEVEL_CUT).unwrap_or(Duration::MAX);
        let learnt = || self.learnt.get(&name(spec, task)?).map(|learnt| learnt.estimate().min(most));
        given.or_else(learnt).or(task.timeout)
    }

    /// The same of a group of a job that is there.
    pub fn estimate_of(&self, job: &Job, place: usize) -> Option<Duration> {
        self.estimate(&job.spec, job.task_spec(place))
    }

    /// Remembers how long an attempt took that succeeded, where its queue goes by estimates.
    pub(crate) fn learn(&mut self, id: JobId, place: usize, took: Duration) {
        let Some(job) = self.job(id) else { return };
        if !self.queue(job.queue).is_some_and(|queue| queue.policy.asks_estimates()) {
            return;
        }
        let task = job.task_spec(place);
        let given = task.timing.as_ref().is_some_and(|timing| timing.estimate.is_some());
        let Some(name) = name(&job.spec, task).filter(|_| !given) else { return };
        let (took, at, max) = (micros(took), self.now(), self.limits().estimates_max as usize);
        let before = self.learnt.get(&name).map(|learnt| learnt.last);
        self.learnt.insert(name, Learnt { last: took, before, at });
        while self.learnt.len() > max {
            let oldest = self.learnt.iter().min_by_key(|(_, learnt)| learnt.at).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.learnt.remove(&name));
        }
    }

    /// Ranks all groups of the job anew.
    pub(crate) fn rank_anew(&mut self, id: JobId) {
        let Some(job) = self.job(id) else { return };
        let Some(queue) = self.queue(job.queue) else { return };
        let ranks = of_job(self, &queue.policy, job, job.priority);
        let (places, of, before, actor) = (job.places(), job.queue, job.user, job.actor.clone());
        let user = self.join(of, &actor.user);
        self.rekeyed(id, places, |job| {
            job.user = user;
            set_ranks(job, &ranks);
        });
        self.leave(of, before);
    }
}

pub(crate) fn set_ranks(job: &mut Job, ranks: &[i64]) {
    job.groups.iter_mut().zip(ranks).for_each(|(group, rank)| group.rank = *rank);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(json: &str) -> JobSpec {
        serde_json::from_str(json).unwrap()
    }

    fn ranks(policy: QueuePolicy, spec: &JobSpec, priority: i32, submitted_s: u64) -> Vec<i64> {
        let submitted = Elapsed(submitted_s * 1_000_000);
        of_groups(&State::default(), &policy, &Ranked { spec, priority, submitted })
    }

    fn by(order: Order) -> QueuePolicy {
        QueuePolicy { order, ..QueuePolicy::default() }
    }

    #[test]
    fn each_order_ranks_by_its_own() {
        let spec = job(r#"{"tasks":[{"name":"a","noop":true,"estimate":"9s","deadline":"1m","period":"2m"},
                         {"name":"b","noop":true,"timeout":"5s"},{"name":"c","noop":true}]}"#);
        assert_eq!(ranks(by(Order::Fifo), &spec, 3, 1), [0, 0, 0]);
        assert_eq!(ranks(by(Order::Priority), &spec, 3, 1), [-3, -3, -3]);
        assert_eq!(ranks(by(Order::Sjf), &spec, 3, 1), [9_000, 5_000, i64::MAX]);
        assert_eq!(ranks(by(Order::Hrrn), &spec, 3, 1), [8_704, 4_864, i64::MAX]);
        assert_eq!(ranks(by(Order::Edf), &spec, 3, 1), [61_000, i64::MAX, i64::MAX]);
        assert_eq!(ranks(by(Order::Rms), &spec, 3, 1), [120_000, i64::MAX, i64::MAX]);
        assert_eq!(ranks(by(Order::Dms), &spec, 3, 1), [60_000, i64::MAX, i64::MAX]);
    }

    #[test]
    fn waiting_makes_up_for_a_lower_priority_after_its_ageing() {
        let policy = QueuePolicy { ageing: Duration::from_secs(10), ..by(Order::Priority) };
        let spec = job(r#"{"tasks":[{"name":"a","noop":true}]}"#);
        let early = ranks(policy, &spec, 0, 100);
        // Three steps below: caught up after three times the ageing, and not before.
        assert!(early > ranks(policy, &spec, 3, 129));
        assert!(early < ranks(policy, &spec, 3, 131));
        let extremes = [i32::MIN, i32::MAX].map(|priority| ranks(policy, &spec, priority, 100));
        assert!(extremes[0] > early && extremes[1] < early);
    }

    #[test]
    fn the_longest_way_goes_first() {
        let spec = job(
            r#"{"tasks":[{"name":"a","noop":true,"estimate":"2s"},{"name":"b","noop":true,"estimate":"1s"},
                {"name":"c","noop":true,"estimate":"5s","after":["a"]},
                {"name":"d","noop":true,"estimate":"3s","after":["a","b"]},
                {"name":"e","noop":true,"after":["c"],"after_each":["d"]}]}"#,
        );
        let found = ranks(by(Order::CriticalPath), &spec, 0, 0);
        assert_eq!(found, [-7_001, -4_001, -5_001, -3_001, -1]);
    }

    #[test]
    fn the_mean_of_the_last_two_runs_is_expected() {
        let mut learnt = Learnt { last: 3, before: None, at: Elapsed(0) };
        assert_eq!(learnt.estimate(), Duration::from_micros(3));
        learnt.before = Some(5);
        assert_eq!(learnt.estimate(), Duration::from_micros(4));
    }
}
