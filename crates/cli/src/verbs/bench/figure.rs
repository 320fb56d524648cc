//! What a scenario found, for people and for machines.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::output::Face;
use crate::output::table::{Cell, render};

/// One figure. A rate has its rounds; times have percentiles, and their median is `p50_ms`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub scenario: &'static str,
    pub figure: String,
    pub unit: &'static str,
    pub median: f64,
    pub min: f64,
    pub max: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p999_ms: Option<f64>,
    /// What one round does, or how many samples there are.
    pub tasks: u64,
    /// Always 0: a scenario that lost a task reports nothing.
    pub lost: u64,
    pub settings: BTreeMap<&'static str, Value>,
}

/// Latencies up to an hour, in microseconds, to three digits.
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        // A histogram without bounds would cut at its first size.
        Times(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are in order"))
    }
}

impl Times {
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(took.as_micros() as u64);
    }

    pub fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// In milliseconds.
    fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(all: I) -> Times {
        let mut times = Times::default();
        all.into_iter().for_each(|took| times.record(took));
        times
    }
}

impl Figure {
    /// From a value for each round.
    pub fn of_rounds(
        scenario: &'static str,
        figure: impl Into<String>,
        unit: &'static str,
        tasks: u64,
        rounds: Vec<f64>,
    ) -> Figure {
        let mut sorted = rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(0.0);
        Figure {
            scenario,
            figure: figure.into(),
            unit,
            median: at(sorted.len() / 2),
            min: at(0),
            max: at(sorted.len().saturating_sub(1)),
            rounds,
            p50_ms: None,
            p99_ms: None,
            p999_ms: None,
            tasks,
            lost: 0,
            settings: BTreeMap::new(),
        }
    }

    pub fn of_times(scenario: &'static str, figure: impl Into<String>, times: &Times) -> Figure {
        let median = times.at(0.5);
        let (min, max) = (times.0.min() as f64 / 1_000.0, times.0.max() as f64 / 1_000.0);
        let whole = Figure::of_rounds(scenario, figure, "ms", times.len(), vec![median]);
        Figure { min, max, rounds: Vec::new(), ..whole }.with_times(times)
    }

    /// With the latencies of what was done at this rate.
    pub fn with_times(mut self, times: &Times) -> Figure {
        self.p50_ms = Some(times.at(0.5));
        self.p99_ms = Some(times.at(0.99));
        self.p999_ms = Some(times.at(0.999));
        self
    }

    pub fn set(mut self, name: &'static str, value: impl Into<Value>) -> Figure {
        self.settings.insert(name, value.into());
        self
    }

    /// Unless it has that setting already.
    pub fn set_absent(mut self, name: &'static str, value: impl Into<Value>) -> Figure {
        self.settings.entry(name).or_insert_with(|| value.into());
        self
    }

    /// For whoever waits at the terminal.
    pub fn line(&self) -> String {
        let p99 = self.p99_ms.map(|p99| format!("  p99 {} ms", number(p99))).unwrap_or_default();
        format!("{}: median {} {}{p99}", self.figure, number(self.median), self.unit)
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

pub fn table(face: &Face, figures: &[Figure]) -> String {
    let row = |figure: &Figure| -> Vec<Cell> {
        let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        let cells = [
            figure.scenario.to_owned(),
            figure.figure.clone(),
            figure.tasks.to_string(),
            number(figure.median),
            number(figure.min),
            number(figure.max),
            figure.unit.to_owned(),
            or_dash(figure.p50_ms),
            or_dash(figure.p99_ms),
            or_dash(figure.p999_ms),
        ];
        cells.into_iter().map(Cell::from).collect()
    };
    let header =
        ["scenario", "figure", "count", "median", "min", "max", "unit", "p50 ms", "p99 ms", "p999 ms"];
    let rows: Vec<Vec<Cell>> = figures.iter().map(row).collect();
    render(&header, &rows, face.paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_sum_up_their_rounds_and_samples() {
        let figure = Figure::of_rounds("x", "x", "jobs/s", 5, vec![3.0, 1.0, 2.0]);
        assert_eq!((figure.min, figure.median, figure.max), (1.0, 2.0, 3.0));
        let times: Times = (1..=1_000).map(Duration::from_millis).collect();
        let figure = Figure::of_times("y", "y", &times).set("in_flight", 64);
        assert_eq!((figure.tasks, figure.median), (1_000, figure.p50_ms.unwrap()));
        let near = |value: Option<f64>, wanted: f64| (value.unwrap() - wanted).abs() <= wanted / 500.0;
        assert!(near(figure.p50_ms, 500.0) && near(figure.p99_ms, 990.0), "{figure:?}");
        assert!(near(figure.p999_ms, 999.0) && near(Some(figure.max), 1_000.0), "{figure:?}");
        let json = serde_json::to_value(&figure).unwrap();
        assert_eq!((&json["settings"]["in_flight"], &json["lost"]), (&Value::from(64), &Value::from(0)));
        assert!(json.get("rounds").is_none());
    }
}
