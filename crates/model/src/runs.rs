//! Sets of numbers kept as runs, so that an array of a million tasks is a few rows.

use std::collections::{BTreeMap, btree_map};
use std::ops::RangeBounds;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The numbers `first .. first + len`. `len` is at least 1 in any set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Run {
    pub first: u32,
    pub len: u32,
}

impl Run {
    pub fn new(first: u32, len: u32) -> Run {
        Run { first, len }
    }

    /// One past the last.
    pub fn end(self) -> u32 {
        // Numbers may come from anybody; a run beyond the last one ends there.
        self.first.saturating_add(self.len)
    }

    pub fn contains(self, number: u32) -> bool {
        self.first <= number && number < self.end()
    }

    /// What both hold.
    pub fn overlap(self, other: Run) -> Option<Run> {
        let (first, end) = (self.first.max(other.first), self.end().min(other.end()));
        (first < end).then(|| Run::new(first, end - first))
    }
}

/// A set of numbers as disjoint runs that do not touch, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct RunSet(Runs);

/// Most sets are empty or one run, of a job of one task above all: they cost nothing beside themselves. Equal sets are
/// written alike: `Many` has at least two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
enum Runs {
    #[default]
    None,
    /// Its first number and one past its last.
    One(u32, u32),
    /// Boxed, so that the many sets that are not this stay small.
    Many(Box<Many>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Many {
    /// first -> one past the last.
    runs: BTreeMap<u32, u32>,
    /// How many numbers.
    len: u32,
}

/// Runs as first number and one past the last.
enum Iter<'a> {
    Few(std::option::IntoIter<(u32, u32)>),
    Many(btree_map::Range<'a, u32, u32>),
}

impl Iterator for Iter<'_> {
    type Item = (u32, u32);

    fn next(&mut self) -> Option<(u32, u32)> {
        match self {
            Iter::Few(run) => run.next(),
            Iter::Many(runs) => runs.next().map(|(first, end)| (*first, *end)),
        }
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<(u32, u32)> {
        match self {
            Iter::Few(run) => run.next_back(),
            Iter::Many(runs) => runs.next_back().map(|(first, end)| (*first, *end)),
        }
    }
}

impl Runs {
    fn runs_len(&self) -> usize {
        match self {
            Runs::None => 0,
            Runs::One(..) => 1,
            Runs::Many(many) => many.runs.len(),
        }
    }

    /// Those that begin in the range, which is not empty.
    fn range(&self, range: impl RangeBounds<u32>) -> Iter<'_> {
        match self {
            Runs::None => Iter::Few(None.into_iter()),
            Runs::One(first, end) => Iter::Few(range.contains(first).then_some((*first, *end)).into_iter()),
            Runs::Many(many) => Iter::Many(many.runs.range(range)),
        }
    }

    fn insert(&mut self, first: u32, end: u32) {
        match self {
            Runs::None => *self = Runs::One(first, end),
            Runs::One(other, other_end) => {
                let len = *other_end - *other + (end - first);
                let runs = BTreeMap::from([(*other, *other_end), (first, end)]);
                *self = Runs::Many(Box::new(Many { runs, len }));
            }
            Runs::Many(many) => {
                many.runs.insert(first, end);
                many.len += end - first;
            }
        }
    }

    fn remove(&mut self, first: u32) {
        match self {
            Runs::None => {}
            Runs::One(..) => *self = Runs::None,
            Runs::Many(many) => {
                many.len -= many.runs.remove(&first).map_or(0, |end| end - first);
                if let (1, Some((first, end))) = (many.runs.len(), many.runs.first_key_value()) {
                    *self = Runs::One(*first, *end);
                }
            }
        }
    }
}

impl RunSet {
    pub const fn new() -> RunSet {
        RunSet(Runs::None)
    }

    pub fn of(run: Run) -> RunSet {
        let mut set = RunSet::new();
        set.insert(run);
        set
    }

    /// How many numbers.
    pub fn len(&self) -> u32 {
        match &self.0 {
            Runs::None => 0,
            Runs::One(first, end) => end - first,
            Runs::Many(many) => many.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self.0, Runs::None)
    }

    /// How many runs: what the set costs.
    pub fn runs_len(&self) -> usize {
        self.0.runs_len()
    }

    pub fn runs(&self) -> impl DoubleEndedIterator<Item = Run> + '_ {
        self.0.range(..).map(|(first, end)| Run::new(first, end - first))
    }

    pub fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs().flat_map(|run| run.first..run.end())
    }

    pub fn first(&self) -> Option<Run> {
        self.runs().next()
    }

    /// The run that begins at or before `number`, and is the last to do so.
    fn at_or_before(&self, number: u32) -> Option<(u32, u32)> {
        self.0.range(..=number).next_back()
    }

    /// The first run, or what is left of one, at or after `number`.
    pub fn first_from(&self, number: u32) -> Option<Run> {
        if let Some((_, end)) = self.at_or_before(number)
            && number < end
        {
            return Some(Run::new(number, end - number));
        }
        self.0.range(number..).next().map(|(first, end)| Run::new(first, end - first))
    }

    pub fn contains(&self, number: u32) -> bool {
        self.at_or_before(number).is_some_and(|(_, end)| number < end)
    }

    pub fn insert(&mut self, run: Run) {
        if run.len == 0 {
            return;
        }
        let (mut first, mut end) = (run.first, run.end());
        if let Some((before, before_end)) = self.at_or_before(first)
            && before_end >= first
        {
            first = before;
            end = end.max(before_end);
            self.0.remove(before);
        }
        while let Some((next, next_end)) = self.0.range(first..=end).next() {
            end = end.max(next_end);
            self.0.remove(next);
        }
        self.keep(first, end);
    }

    pub fn remove(&mut self, run: Run) {
        loop {
            let Some(part) = self.parts_of(run).next() else { return };
            let (first, end) = self.at_or_before(part.first).expect("part lies in a run");
            self.0.remove(first);
            self.keep(first, part.first);
            self.keep(part.end(), end);
        }
    }

    fn keep(&mut self, first: u32, end: u32) {
        if first < end {
            self.0.insert(first, end);
        }
    }

    /// The parts of `run` that are in the set, in order.
    pub fn overlap(&self, run: Run) -> Vec<Run> {
        self.parts_of(run).collect()
    }

    /// The same, one by one.
    pub fn parts_of(&self, run: Run) -> impl Iterator<Item = Run> + '_ {
        let from = self.at_or_before(run.first).map_or(run.first, |(first, _)| first);
        let near = self.0.range(from..run.end().max(from));
        near.filter_map(move |(first, end)| Run::new(first, end - first).overlap(run))
    }

    /// Whether any of `run` is in the set.
    pub fn touches(&self, run: Run) -> bool {
        self.parts_of(run).next().is_some()
    }

    /// Takes the parts of `run` out of the set and returns them.
    pub fn take(&mut self, run: Run) -> Vec<Run> {
        let parts = self.overlap(run);
        self.remove(run);
        parts
    }

    pub fn extend(&mut self, runs: impl IntoIterator<Item = Run>) {
        for run in runs {
            self.insert(run);
        }
    }

    pub fn intersection(&self, other: &RunSet) -> RunSet {
        let mut both = RunSet::new();
        for run in self.runs() {
            both.extend(other.overlap(run));
        }
        both
    }
}

impl FromIterator<Run> for RunSet {
    fn from_iter<I: IntoIterator<Item = Run>>(runs: I) -> RunSet {
        let mut set = RunSet::new();
        set.extend(runs);
        set
    }
}

impl Serialize for RunSet {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.range(..))
    }
}

impl<'de> Deserialize<'de> for RunSet {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(u32, u32)>::deserialize(d)?;
        let mut set = RunSet::new();
        for (first, end) in pairs {
            let len = end
                .checked_sub(first)
                .ok_or_else(|| serde::de::Error::custom("a run ends before it begins"))?;
            set.insert(Run::new(first, len));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_of_numbers(steps in prop::collection::vec((any::<bool>(), 0u32..60, 0u32..20), 0..60)) {
            let (mut runs, mut plain) = (RunSet::new(), BTreeSet::new());
            for (insert, first, len) in steps {
                let run = Run::new(first, len);
                if insert {
                    runs.insert(run);
                    plain.extend(run.first..run.end());
                } else {
                    runs.remove(run);
                    plain.retain(|n| !run.contains(*n));
                }
                prop_assert_eq!(runs.numbers().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(runs.len() as usize, plain.len());
                // Runs that touch would make equal sets look different.
                let list: Vec<Run> = runs.runs().collect();
                prop_assert!(list.windows(2).all(|pair| pair[0].end() < pair[1].first));
            }
            for first in 0..80 {
                let run = Run::new(first, 7);
                let there: Vec<u32> = plain.range(first..first + 7).copied().collect();
                prop_assert_eq!(runs.touches(run), !there.is_empty());
                let parts = runs.parts_of(run).flat_map(|part| part.first..part.end());
                prop_assert_eq!(parts.collect::<Vec<_>>(), there);
            }
            for number in 0..80 {
                prop_assert_eq!(runs.contains(number), plain.contains(&number));
                let next = plain.range(number..).next().copied();
                prop_assert_eq!(runs.first_from(number).map(|run| run.first), next);
            }
        }
    }
}
