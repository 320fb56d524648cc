//! What this process counts and times. Counters of the cluster's work move only on the replica that leads, so that
//! their sum over all replicas counts each thing once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::time::micros;
use model::views::{JobState, TaskState};
use parking_lot::Mutex;
use replica::Pauses;

/// Seconds: from what one fdatasync takes to what a person waits for.
const LATENCY_BOUNDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds: from a task that starts at once to one that waits for days.
const WAIT_BOUNDS: [f64; 14] =
    [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];

#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One per bound, and one for all above.
    counts: Vec<AtomicU64>,
    sum_us: AtomicU64,
}

/// Of latencies.
impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new(&LATENCY_BOUNDS)
    }
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, counts, sum_us: AtomicU64::new(0) }
    }

    pub fn observe(&self, took: Duration) {
        self.observe_many(took, 1);
    }

    /// As if observed so many times.
    pub fn observe_many(&self, took: Duration, times: u64) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.counts[bucket].fetch_add(times, Ordering::Relaxed);
        self.sum_us.fetch_add(micros(took).saturating_mul(times), Ordering::Relaxed);
    }

    pub fn picture(&self) -> HistogramPicture {
        let mut below = 0;
        let mut buckets = Vec::with_capacity(self.counts.len());
        for (place, count) in self.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            buckets.push((self.bounds.get(place).copied().unwrap_or(f64::INFINITY), below));
        }
        HistogramPicture { buckets, sum: self.sum_us.load(Ordering::Relaxed) as f64 / 1e6, count: below }
    }
}

/// Counts at or below each bound, as Prometheus has it.
#[derive(Debug, PartialEq)]
pub struct HistogramPicture {
    pub buckets: Vec<(f64, u64)>,
    pub sum: f64,
    pub count: u64,
}

impl From<&Pauses> for HistogramPicture {
    fn from(pauses: &Pauses) -> HistogramPicture {
        let bounds = Pauses::BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let counts = pauses.counts().scan(0, |below, count| {
            *below += count;
            Some(*below)
        });
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.last().map_or(0, |(_, count)| *count);
        HistogramPicture { buckets, sum: pauses.sum().as_secs_f64(), count }
    }
}

#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counters told apart by one word.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<String, u64>>);

impl Counters {
    pub fn add(&self, word: &str, more: u64) {
        let mut counts = self.0.lock();
        match counts.get_mut(word) {
            Some(count) => *count += more,
            None => drop(counts.insert(word.to_owned(), more)),
        }
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().clone()
    }
}

pub struct Metrics {
    /// From proposing a client's write to its being applied.
    pub commit: Histogram,
    /// One round of the planner.
    pub placement: Histogram,
    /// From the acceptance of a job to the first placement of each run of its tasks.
    pub queue_wait: Histogram,
    /// From ready to placed, per task.
    pub ready_wait: Histogram,
    pub jobs_submitted: Counter,
    pub jobs_finished: Counters,
    pub tasks_placed: Counter,
    pub tasks_finished: Counters,
    /// By code: `overloaded`, `invalid-spec`.
    pub calls_refused: Counters,
    pub writes_forwarded: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            commit: Histogram::new(&LATENCY_BOUNDS),
            placement: Histogram::new(&LATENCY_BOUNDS),
            queue_wait: Histogram::new(&WAIT_BOUNDS),
            ready_wait: Histogram::new(&WAIT_BOUNDS),
            jobs_submitted: Counter::default(),
            jobs_finished: Counters::default(),
            tasks_placed: Counter::default(),
            tasks_finished: Counters::default(),
            calls_refused: Counters::default(),
            writes_forwarded: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn job_turned(&self, state: JobState) {
        if state.is_final() {
            self.jobs_finished.add(state.name(), 1);
        }
    }

    pub fn tasks_turned(&self, state: TaskState, tasks: u64) {
        if state.is_final() {
            self.tasks_finished.add(state.name(), tasks);
        }
        if state == TaskState::Placed {
            self.tasks_placed.add(tasks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_or_below_each_bound() {
        let histogram = Histogram::new(&LATENCY_BOUNDS);
        histogram.observe(Duration::from_millis(1));
        histogram.observe_many(Duration::from_millis(3), 2);
        histogram.observe(Duration::from_secs(60));
        let picture = histogram.picture();
        assert_eq!(picture.count, 4);
        assert_eq!(picture.buckets[0], (0.0005, 0));
        assert_eq!(picture.buckets[1], (0.001, 1));
        assert_eq!(picture.buckets[3], (0.005, 3));
        assert_eq!(picture.buckets.last(), Some(&(f64::INFINITY, 4)));
        assert!((picture.sum - 60.007).abs() < 1e-9, "{}", picture.sum);
    }
}
