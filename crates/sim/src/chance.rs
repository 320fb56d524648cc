//! The only source of chance: everything that happens in a run follows from its seed.

use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Numbers of its own for each `purpose` of a run.
    pub fn of(seed: u64, purpose: u64) -> Chance {
        Chance(mixed(seed) ^ mixed(purpose.wrapping_add(0x5851_f42d_4c95_7f2d)))
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed(self.0)
    }

    /// 0 to `n` - 1; 0 if `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.bits() % n }
    }

    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// So many times in a thousand.
    pub fn in_thousand(&mut self, times: u64) -> bool {
        self.below(1_000) < times
    }

    pub fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// Microseconds.
    pub fn ms(&mut self, least: u64, most: u64) -> u64 {
        self.between(least * 1_000, most * 1_000)
    }

    pub fn pick<T: Clone>(&mut self, list: &[T]) -> Option<T> {
        list.get(self.below(list.len() as u64) as usize).cloned()
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            list.swap(at, self.below(at as u64 + 1) as usize);
        }
    }

    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(self.ms(least, most))
    }

    pub fn duration(&mut self, least: Duration, most: Duration) -> Duration {
        Duration::from_micros(self.between(model::time::micros(least), model::time::micros(most)))
    }
}

/// A number that depends on every bit of `value`.
pub fn mixed(value: u64) -> u64 {
    let mut z = value;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash that goes on: two runs are the same if theirs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub u64);

impl Trace {
    pub fn note(&mut self, value: u64) {
        self.0 = mixed(self.0.wrapping_mul(31).wrapping_add(value) ^ 0x51_7c_c1_b7_27_22_0a_95);
    }

    pub fn note_all(&mut self, values: &[u64]) {
        values.iter().for_each(|value| self.note(*value));
    }
}
