//! Sums and products of fractions, compared exactly while they fit.

/// A fraction in lowest terms; what does not fit any more is a float.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ratio {
    Exact { num: u128, den: u128 },
    Near(f64),
}

/// What a float may be off by: below it nothing is accepted.
const MARGIN: f64 = 1e-9;

impl Ratio {
    pub fn new(num: u64, den: u64) -> Ratio {
        lowest(num.into(), den.into())
    }

    pub fn plus(self, other: Ratio) -> Ratio {
        let exact = match (self, other) {
            (Ratio::Exact { num: a, den: b }, Ratio::Exact { num: c, den: d }) => {
                let shared = gcd(b, d);
                let sum = |left: u128, right: u128| left.checked_add(right);
                let parts = a.checked_mul(d / shared).zip(c.checked_mul(b / shared));
                let num = parts.and_then(|(left, right)| sum(left, right));
                num.zip((b / shared).checked_mul(d)).map(|(num, den)| lowest(num, den))
            }
            _ => None,
        };
        exact.unwrap_or(Ratio::Near(self.value() + other.value()))
    }

    pub fn times(self, other: Ratio) -> Ratio {
        let exact = match (self, other) {
            (Ratio::Exact { num: a, den: b }, Ratio::Exact { num: c, den: d }) => {
                // Across first, so that it fits for longer.
                let (left, right) = (gcd(a, d), gcd(c, b));
                let num = (a / left).checked_mul(c / right);
                num.zip((b / right).checked_mul(d / left)).map(|(num, den)| lowest(num, den))
            }
            _ => None,
        };
        exact.unwrap_or(Ratio::Near(self.value() * other.value()))
    }

    /// Never true because of rounding.
    pub fn at_most(self, whole: u64) -> bool {
        match self {
            Ratio::Exact { num, den } => den.checked_mul(whole.into()).is_none_or(|limit| num <= limit),
            Ratio::Near(value) => value + MARGIN <= whole as f64,
        }
    }

    pub fn value(self) -> f64 {
        match self {
            Ratio::Exact { num, den } => num as f64 / den as f64,
            Ratio::Near(value) => value,
        }
    }
}

fn lowest(num: u128, den: u128) -> Ratio {
    let shared = gcd(num, den).max(1);
    Ratio::Exact { num: num / shared, den: den / shared }
}

/// Euclid; the other one if one is 0.
pub(super) fn gcd(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_make_a_whole_and_not_a_bit_more() {
        let third = Ratio::new(1, 3);
        assert!(third.plus(third).plus(third).at_most(1));
        assert!(!third.plus(third).plus(Ratio::new(100_000_001, 300_000_000)).at_most(1));
        assert!(Ratio::new(16, 10).times(Ratio::new(25, 20)).at_most(2));
    }

    #[test]
    fn what_does_not_fit_is_refused_at_the_edge_rather_than_accepted() {
        let primes = [4_294_967_291u64, 4_294_967_279, 4_294_967_231, 4_294_967_197, 4_294_967_189];
        let sum = primes.iter().map(|prime| Ratio::new(1, *prime)).reduce(Ratio::plus).unwrap();
        assert!(matches!(sum, Ratio::Near(_)));
        assert!(sum.at_most(1));
        assert!(!sum.plus(Ratio::new(1, 1)).at_most(1));
    }
}
