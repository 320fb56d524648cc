//! Operations counted by columns of time, so that a picture has as many parts as it has columns, however long the run was.

use super::axis::{Span, round_above};
use super::{Dot, Kind};

/// As many as a screen shows apart.
const COLUMNS_MAX: f64 = 480.0;
const COLUMNS_MIN: f64 = 40.0;
/// With fewer in a column its 99th percentile would be no more than its worst.
const PER_COLUMN: f64 = 20.0;

pub struct Columns {
    /// Seconds, a round number.
    pub width: f64,
    pub all: Vec<Column>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// How many answers came in it that acknowledge.
    pub acknowledged: usize,
    /// Of those that were asked in it and acknowledged.
    pub latency: Option<Latency>,
    /// The longest time until one failed, and until somebody gave up.
    pub fail_ms: Option<f64>,
    pub info_ms: Option<f64>,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub worst: f64,
}

impl Columns {
    pub fn new(operations: &[Dot], span: Span) -> Columns {
        let wanted = (operations.len() as f64 / PER_COLUMN).clamp(COLUMNS_MIN, COLUMNS_MAX);
        let width = round_above(span.to / wanted);
        let count = ((span.to / width).ceil() as usize).max(1);
        let mut all = vec![Column::default(); count];
        let mut latencies = vec![Vec::new(); count];
        let place = |at: f64| ((at / width) as usize).min(count - 1);
        for dot in operations {
            let Some(asked) = dot.asked() else { continue };
            let column = &mut all[place(asked)];
            let longest = |known: Option<f64>| known.into_iter().chain(dot.latency()).reduce(f64::max);
            match dot.kind {
                Kind::Ok => latencies[place(asked)].extend(dot.latency()),
                Kind::Fail => column.fail_ms = longest(column.fail_ms),
                Kind::Info => column.info_ms = longest(column.info_ms),
            }
            if let Some(answered) = dot.acknowledged().filter(|answered| *answered <= span.to) {
                all[place(answered)].acknowledged += 1;
            }
        }
        for (column, mut latencies) in all.iter_mut().zip(latencies) {
            column.latency = Latency::of(&mut latencies);
        }
        Columns { width, all }
    }

    /// The time in the middle of a column.
    pub fn middle(&self, place: usize) -> f64 {
        (place as f64 + 0.5) * self.width
    }

    /// How many of them in each column.
    pub fn count<'d>(&self, operations: impl Iterator<Item = &'d Dot>) -> Vec<usize> {
        let mut counts = vec![0; self.all.len()];
        for asked in operations.filter_map(Dot::asked) {
            counts[((asked / self.width) as usize).min(self.all.len() - 1)] += 1;
        }
        counts
    }
}

impl Latency {
    /// By nearest rank.
    pub fn of(millis: &mut [f64]) -> Option<Latency> {
        millis.sort_unstable_by(f64::total_cmp);
        let worst = *millis.last()?;
        let rank = |share: f64| millis[((millis.len() as f64 * share).ceil() as usize).max(1) - 1];
        Some(Latency { p50: rank(0.5), p99: rank(0.99), worst })
    }
}

impl Dot {
    pub fn asked(&self) -> Option<f64> {
        self.at_s.is_finite().then(|| self.at_s.max(0.0))
    }

    /// In milliseconds, where there was an answer.
    pub fn latency(&self) -> Option<f64> {
        (self.latency_ms.is_finite() && self.latency_ms >= 0.0).then_some(self.latency_ms)
    }

    /// When the answer came.
    pub fn acknowledged(&self) -> Option<f64> {
        let is_ok = self.kind == Kind::Ok;
        is_ok.then(|| Some(self.asked()? + self.latency()? / 1_000.0)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut millis: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Latency::of(&mut millis), Some(Latency { p50: 100.0, p99: 198.0, worst: 200.0 }));
        assert_eq!(Latency::of(&mut [7.0]), Some(Latency { p50: 7.0, p99: 7.0, worst: 7.0 }));
        assert_eq!(Latency::of(&mut []), None);
    }

    #[test]
    fn an_answer_counts_where_it_came_and_its_latency_where_it_was_asked() {
        let dot =
            |at_s, latency_ms, kind| Dot { at_s, latency_ms, kind, f: String::new(), node: String::new() };
        let dots = [
            dot(0.1, 1_500.0, Kind::Ok),
            dot(0.2, 10.0, Kind::Fail),
            dot(0.3, 20.0, Kind::Fail),
            dot(0.4, f64::INFINITY, Kind::Info),
            dot(f64::NAN, 1.0, Kind::Ok),
        ];
        let columns = Columns::new(&dots, Span { to: 40.0 });
        assert_eq!((columns.width, columns.all.len()), (1.0, 40));
        let latency = Some(Latency { p50: 1_500.0, p99: 1_500.0, worst: 1_500.0 });
        let first = Column { acknowledged: 0, latency, fail_ms: Some(20.0), info_ms: None };
        assert_eq!(columns.all[0], first);
        assert_eq!(columns.all[1], Column { acknowledged: 1, ..Column::default() });
        assert_eq!(columns.count(dots.iter())[..2], [4, 0]);
    }
}
