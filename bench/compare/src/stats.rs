//! What is told of the rounds of one side. Pure.

use serde::Serialize;

/// Median, least and most of some rounds, in the unit of the rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    /// As they came.
    pub rounds: Vec<f64>,
}

impl Spread {
    /// Nothing where there is no round.
    pub fn of(rounds: &[f64]) -> Option<Spread> {
        let mut sorted = rounds.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        Some(Spread { median: median(&sorted), min, max, rounds: rounds.to_vec() })
    }
}

/// Of a sorted, non-empty list; of an even number, the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) }
}

/// The ratio of the medians: above 1, Baton is the faster.
pub fn ratio(baton: &Spread, peer: &Spread) -> f64 {
    baton.median / peer.median.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_keeps_the_order_of_its_rounds() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(spread.rounds, [3.0, 1.0, 2.0]);
        assert_eq!(Spread::of(&[1.0, 2.0, 4.0, 9.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let (baton, peer) = (Spread::of(&[100.0, 1.0, 30.0]).unwrap(), Spread::of(&[10.0]).unwrap());
        assert_eq!(ratio(&baton, &peer), 3.0);
    }
}
