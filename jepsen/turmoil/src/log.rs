//! The log of a replica as it was last seen, so that each look needs only what is new.

use std::collections::VecDeque;
use std::ops::Range;

use replica::{Inside, Logged};

#[derive(Clone, Debug, Default)]
pub struct Log {
    /// What it begins behind: index and term of the last purged entry.
    pub purged: Option<(u64, u64)>,
    /// With no gap between.
    entries: VecDeque<Logged>,
}

impl Log {
    pub fn of(purged: Option<(u64, u64)>, entries: impl IntoIterator<Item = Logged>) -> Log {
        Log { purged, entries: entries.into_iter().collect() }
    }

    pub fn last(&self) -> Option<&Logged> {
        self.entries.back()
    }

    pub fn at(&self, index: u64) -> Option<&Logged> {
        let first = self.entries.front()?.index;
        self.entries.get(index.checked_sub(first)? as usize)
    }

    /// Also of the purged entry that it begins behind.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        let purged = self.purged.filter(|purged| purged.0 == index).map(|purged| purged.1);
        self.at(index).map(|entry| entry.term).or(purged)
    }

    /// Takes in what has changed; returns what was appended. `read` reads entries of the replica.
    pub fn follow(&mut self, now: &Inside, read: impl Fn(Range<u64>) -> Vec<Logged>) -> Vec<Logged> {
        // Entry 0 is the first membership, and it is never purged alone.
        self.purged = (now.purged > 0).then_some((now.purged, now.purged_term));
        while self
            .entries
            .front()
            .is_some_and(|entry| Some(entry.index) <= self.purged.map(|purged| purged.0))
        {
            self.entries.pop_front();
        }
        if self.last().is_some_and(|last| (last.index, last.term) == (now.last, now.last_term)) {
            return Vec::new();
        }
        // Terms never fall along a log, and a leader writes an index once: an entry that has its term still is itself.
        let kept = loop {
            let Some(last) = self.entries.back() else { break self.purged.map(|purged| purged.0) };
            if read(last.index..last.index + 1).first() == Some(last) {
                break Some(last.index);
            }
            self.entries.pop_back();
        };
        let fresh = read(kept.map_or(0, |kept| kept + 1)..now.last + 1);
        self.entries.extend(fresh.iter().copied());
        fresh
    }
}

#[cfg(test)]
pub mod tests {
    use replica::{Ballot, RaftState};

    use super::*;

    /// Entries of these terms from index `first` on; equal entries have equal hashes.
    pub fn entries(first: u64, terms: &[u64]) -> Vec<Logged> {
        let entry = |(index, term): (u64, &u64)| Logged { index, term: *term, hash: index * 1_000 + term };
        (first..).zip(terms).map(entry).collect()
    }

    pub fn inside(last: u64, last_term: u64) -> Inside {
        Inside {
            state: RaftState::Follower,
            term: last_term,
            ballot: Ballot { term: 0, node: 0, elected: false },
            last,
            last_term,
            purged: 0,
            purged_term: 0,
            committed: 0,
            applied: 0,
            digest: 0,
            snapshot: 0,
        }
    }

    #[test]
    fn only_what_changed_is_read() {
        let mut log = Log::default();
        let mut real = entries(0, &[1, 1, 1, 1]);
        let reader = |real: &[Logged]| {
            let real = real.to_vec();
            move |range: Range<u64>| {
                real.iter().filter(|entry| range.contains(&entry.index)).copied().collect::<Vec<_>>()
            }
        };
        assert_eq!(log.follow(&inside(3, 1), reader(&real)), real);
        assert_eq!(log.follow(&inside(3, 1), |_| panic!("nothing is new")), []);
        real.extend(entries(4, &[1, 2]));
        assert_eq!(log.follow(&inside(5, 2), reader(&real)), entries(4, &[1, 2]));
        // The end is replaced, and the beginning purged.
        real.truncate(3);
        real.extend(entries(3, &[3]));
        let now = Inside { purged: 1, purged_term: 1, ..inside(3, 3) };
        assert_eq!(log.follow(&now, reader(&real)), entries(3, &[3]));
        assert_eq!((log.term_at(0), log.term_at(1), log.term_at(2)), (None, Some(1), Some(1)));
        // A snapshot in its place.
        let now = Inside { purged: 9, purged_term: 4, ..inside(9, 4) };
        assert_eq!(log.follow(&now, reader(&[])), []);
        assert_eq!((log.last(), log.term_at(9)), (None, Some(4)));
    }
}
