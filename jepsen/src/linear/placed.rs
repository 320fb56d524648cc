//! Which calls have their place, and where the search has been.
//!
//! Calls with an end are numbered in the order in which they began, so that those with a place are a prefix and a few more:
//! what is remembered of them is short, however many there are.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A set of calls.
pub struct Placed {
    ended: Vec<u64>,
    /// All words of `ended` before this one are full.
    full: usize,
    /// All words of `ended` from this one on are empty.
    end: usize,
    unknown: Vec<u64>,
    /// Of those with an end.
    hash: u64,
}

/// By its number among those with an end, or among those without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Ended(usize),
    Unknown(usize),
}

impl Placed {
    pub fn new(ended: usize, unknown: usize) -> Placed {
        let words = |count: usize| vec![0; count.div_ceil(64)];
        Placed { ended: words(ended), full: 0, end: 0, unknown: words(unknown), hash: 0 }
    }

    pub fn has_unknown(&self, number: usize) -> bool {
        self.unknown[number / 64] & (1 << (number % 64)) != 0
    }

    /// Adds it, or takes it away.
    pub fn flip(&mut self, number: Number) {
        match number {
            Number::Ended(number) => self.flip_ended(number),
            Number::Unknown(number) => self.unknown[number / 64] ^= 1 << (number % 64),
        }
    }

    fn flip_ended(&mut self, number: usize) {
        let word = number / 64;
        self.hash ^= mix(number as u64);
        self.ended[word] ^= 1 << (number % 64);
        self.full = self.full.min(word);
        self.end = self.end.max(word + 1);
        while self.ended.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
        while self.end > 0 && self.ended[self.end - 1] == 0 {
            self.end -= 1;
        }
    }

    /// Of those with an end. Equal for equal sets of one history only.
    fn key(&self) -> Box<[u64]> {
        let middle = self.ended.get(self.full..self.end).unwrap_or_default();
        [&[self.full as u64], middle].concat().into_boxed_slice()
    }
}

/// A set's hash is the exclusive or of its members' (Zobrist), so that one more costs one step. The mixing is splitmix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Sets of calls, each with a state that it led to.
pub struct Seen<S> {
    by_hash: BTreeMap<u64, Vec<Place<S>>>,
    /// How many sets were compared.
    pub compared: u64,
}

/// Where the search has been: the calls with an end, the state, and with which sets of the others.
struct Place<S> {
    ended: Box<[u64]>,
    state: S,
    unknown: Vec<Box<[u64]>>,
}

impl<S: Clone + Eq + Hash> Seen<S> {
    pub fn new() -> Seen<S> {
        Seen { by_hash: BTreeMap::new(), compared: 0 }
    }

    /// Whether it is worth a try. A place that was reached with fewer of those of which nobody knows was the better one: the
    /// rest of them may come later there, or never.
    pub fn insert(&mut self, placed: &Placed, state: &S) -> bool {
        // One with fixed keys: the same history takes the same steps in every run.
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        let alike = self.by_hash.entry(placed.hash ^ hasher.finish()).or_default();
        let ended = placed.key();
        let unknown = placed.unknown.clone().into_boxed_slice();
        // Hashes may collide, so what is equal is compared.
        let Some(place) = alike.iter_mut().find(|place| place.ended == ended && place.state == *state) else {
            alike.push(Place { ended, state: state.clone(), unknown: vec![unknown] });
            return true;
        };
        self.compared += place.unknown.len() as u64;
        if place.unknown.iter().any(|fewer| is_within(fewer, &unknown)) {
            return false;
        }
        place.unknown.retain(|more| !is_within(&unknown, more));
        place.unknown.push(unknown);
        true
    }
}

fn is_within(some: &[u64], all: &[u64]) -> bool {
    some.iter().zip(all).all(|(some, all)| some & !all == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_short_and_tells_sets_apart() {
        let mut placed = Placed::new(10_000, 3);
        let mut seen = Seen::new();
        assert!(seen.insert(&placed, &0));
        for number in 0..5_000 {
            placed.flip(Number::Ended(number));
            assert!(seen.insert(&placed, &0), "{number}");
            assert!(!seen.insert(&placed, &0), "{number}");
            assert!(placed.key().len() <= 3, "{number}");
        }
        assert!(seen.insert(&placed, &1));
    }

    #[test]
    fn fewer_of_those_of_which_nobody_knows_are_better() {
        let mut placed = Placed::new(1, 70);
        let mut seen = Seen::new();
        let mut is_new = |flip: &[usize]| {
            flip.iter().for_each(|number| placed.flip(Number::Unknown(*number)));
            seen.insert(&placed, &0)
        };
        assert!(is_new(&[1, 69]));
        assert!(!is_new(&[2]), "{{1, 2, 69}} has more than {{1, 69}}");
        assert!(is_new(&[69]), "{{1, 2}} has others");
        assert!(is_new(&[2]), "{{1}} has fewer than both");
        assert!(!is_new(&[2, 69]), "{{1, 2, 69}} has more than {{1}}");
        assert!(is_new(&[1]), "{{2, 69}} has others");
    }

    #[test]
    fn a_set_is_the_same_by_whatever_way_it_came_to_be() {
        let mut one = Placed::new(300, 0);
        let mut other = Placed::new(300, 0);
        for number in 0..200 {
            one.flip(Number::Ended(number));
            other.flip(Number::Ended(199 - number));
        }
        for number in [3, 299, 70] {
            one.flip(Number::Ended(number));
            assert_ne!(one.key(), other.key(), "{number}");
            one.flip(Number::Ended(number));
        }
        assert_eq!((one.key(), one.hash), (other.key(), other.hash));
    }

    #[test]
    fn all_of_them_in_whole_words_is_a_set_too() {
        let mut placed = Placed::new(128, 0);
        for number in 0..128 {
            placed.flip(Number::Ended(number));
        }
        assert_eq!(*placed.key(), [2]);
    }
}
