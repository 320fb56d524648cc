//! Where a value lies in a picture, and at which values there is a line with a number.

/// The time of the run along the width of every picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Seconds, more than none.
    pub to: f64,
}

/// Pictures are so wide before they are stretched.
pub const WIDTH: f64 = 1_000.0;

impl Span {
    pub fn share(self, at: f64) -> f64 {
        if at.is_nan() { 0.0 } else { (at / self.to).clamp(0.0, 1.0) }
    }

    pub fn x(self, at: f64) -> f64 {
        self.share(at) * WIDTH
    }

    /// At most nine, at times that are round to people.
    pub fn ticks(self) -> Vec<f64> {
        const ROUND: [f64; 14] = [
            10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0,
            43_200.0, 86_400.0,
        ];
        let small = if self.to < 80.0 { round_above(self.to / 8.0) } else { 10.0 };
        let fits = |step: &f64| *step >= small && self.to / step <= 8.0;
        let step = if small < 10.0 {
            small
        } else {
            ROUND.into_iter().find(fits).unwrap_or(round_above(self.to / 8.0))
        };
        multiples(0.0, self.to, step)
    }
}

/// A value along the height of a picture, from the bottom to the top.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    bottom: f64,
    top: f64,
    is_log: bool,
    pub ticks: Vec<f64>,
}

impl Scale {
    /// From nothing, or less, to the greatest value; bytes in steps of powers of two.
    pub fn linear(values: impl Iterator<Item = f64>, unit: &str, ticks_max: usize) -> Scale {
        let (least, most) = values
            .filter(|value| value.is_finite())
            .fold((0.0f64, 0.0f64), |(least, most), value| (least.min(value), most.max(value)));
        let most = if least == 0.0 && most == 0.0 { 1.0 } else { most };
        let per_step = (most - least) / ticks_max as f64;
        let step = match unit {
            "bytes" => round_bytes_above(per_step),
            "count" => round_above(per_step).max(1.0),
            _ => round_above(per_step),
        };
        let (bottom, top) = ((least / step).floor() * step, (most / step).ceil() * step);
        Scale { bottom, top, is_log: false, ticks: multiples(bottom, top, step) }
    }

    /// Whole powers of ten around the values, two of them at least.
    pub fn log(values: impl Iterator<Item = f64>) -> Scale {
        let exponents =
            values.filter(|value| value.is_finite()).map(|value| value.clamp(LOG_MIN, LOG_MAX).log10());
        let (least, most) = exponents.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), exponent| {
            (least.min(exponent), most.max(exponent))
        });
        let (least, most) = if least > most { (0.0, 2.0) } else { (least, most) };
        let bottom = (least + 1e-9).floor();
        let top = (most - 1e-9).ceil().max(bottom + 2.0);
        let decades = (bottom as i32..=top as i32).map(|exponent| 10f64.powi(exponent));
        Scale { bottom, top, is_log: true, ticks: decades.collect() }
    }

    /// 0 at the bottom, 1 at the top.
    pub fn share(&self, value: f64) -> f64 {
        let value = if self.is_log { value.clamp(LOG_MIN, LOG_MAX).log10() } else { value };
        let share = (value - self.bottom) / (self.top - self.bottom);
        if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
    }
}

/// What is less is drawn as this: there is no zero on a logarithmic axis. What is more is, too.
const LOG_MIN: f64 = 0.001;
const LOG_MAX: f64 = 1e8;

/// 1, 2 or 5 times a power of ten.
pub fn round_above(value: f64) -> f64 {
    if !value.is_finite() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let fits = |factor: &f64| factor * power >= value * (1.0 - 1e-9);
    [1.0, 2.0, 5.0, 10.0].into_iter().find(fits).unwrap_or(10.0) * power
}

/// Such a number of bytes, KiB, MiB and so on.
fn round_bytes_above(value: f64) -> f64 {
    let mut unit = 1.0;
    while value > 512.0 * unit {
        unit *= 1_024.0;
    }
    round_above(value / unit).max(1.0) * unit
}

fn multiples(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step).round() as i64;
    let last = (to / step + 1e-6).floor() as i64;
    (first..=last).map(|count| count as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_round_and_few() {
        assert_eq!(Span { to: 60.0 }.ticks(), [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0]);
        assert_eq!(Span { to: 1_800.0 }.ticks(), [0.0, 300.0, 600.0, 900.0, 1_200.0, 1_500.0, 1_800.0]);
        for to in [0.001, 0.3, 1.0, 7.7, 61.3, 79.9, 80.0, 555.0, 4_000.0, 90_000.0, 2e6] {
            let ticks = Span { to }.ticks();
            assert!((2..=9).contains(&ticks.len()), "{to}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (0.0..=to * 1.000_001).contains(tick)), "{to}: {ticks:?}");
        }
    }

    #[test]
    fn a_linear_scale_holds_all_values_between_round_numbers() {
        let scale = Scale::linear([3.0, 47.0, f64::NAN].into_iter(), "count", 4);
        assert_eq!(scale.ticks, [0.0, 20.0, 40.0, 60.0]);
        assert_eq!((scale.share(0.0), scale.share(30.0), scale.share(60.0)), (0.0, 0.5, 1.0));
        assert_eq!(Scale::linear(std::iter::empty(), "count", 4).ticks, [0.0, 1.0]);
        assert_eq!(Scale::linear([-3.0, 4.0].into_iter(), "cores", 4).ticks, [-4.0, -2.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn bytes_have_round_numbers_of_their_own() {
        let mib = 1_048_576.0;
        let scale = Scale::linear([170.0 * mib].into_iter(), "bytes", 4);
        assert_eq!(scale.ticks, [0.0, 50.0 * mib, 100.0 * mib, 150.0 * mib, 200.0 * mib]);
        let scale = Scale::linear([900.0 * mib].into_iter(), "bytes", 4);
        assert_eq!(scale.ticks[1], 500.0 * mib);
        let scale = Scale::linear([3_000.0 * mib].into_iter(), "bytes", 4);
        assert_eq!(scale.ticks[1], 1_024.0 * mib);
    }

    #[test]
    fn a_logarithmic_scale_has_whole_powers_of_ten() {
        let scale = Scale::log([0.8, 4_100.0].into_iter());
        assert_eq!(scale.ticks, [0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(Scale::log([5.0].into_iter()).ticks, [1.0, 10.0, 100.0]);
        assert_eq!(Scale::log(std::iter::empty()).ticks, [1.0, 10.0, 100.0]);
        assert_eq!(Scale::log([1e6, 1e300].into_iter()).ticks, [1e6, 1e7, 1e8]);
        assert_eq!(Scale::log([0.0].into_iter()).ticks, [0.001, 0.01, 0.1]);
        let scale = Scale::log([1.0, 100.0].into_iter());
        assert_eq!((scale.share(1.0), scale.share(10.0), scale.share(f64::INFINITY)), (0.0, 0.5, 1.0));
    }
}
