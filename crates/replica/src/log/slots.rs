//! Where chunks lie in sled's tree, so that it does not write each of them anew as its leaves split.
//!
//! A leaf of the tree is split when it has more than sixteen entries, into nine and the rest, and both halves are written
//! anew; and a leaf is written anew with its eleventh change. So leaves are made ready while they are empty: entries
//! without a chunk are put ahead of those that are needed, and are split off nine at a time. Five of the nine get a chunk.
//! That and the deletion of the first four are nine changes; with the next the leaf holds nothing any more.
//!
//! Slots are numbered through, nine to a leaf. While the store is open none is used twice; after the next start those of chunks
//! that were taken back from the end are.

use std::collections::BTreeMap;
use std::ops::Range;

use super::backend::ChunkKey;

/// Entries that sled leaves in the left half of a leaf that it splits.
const LEAF: u64 = 9;
/// Of them with a chunk.
const CHUNKS_PER_LEAF: u64 = 5;
/// Leaves made ready beside the one in use: the next two have more than sixteen entries, so that it is split off.
const LEAVES_AHEAD: u64 = 3;
/// Chunks in any seventeen entries in a row, which is what a leaf has at the most.
pub const CHUNKS_TOGETHER_MAX: usize = 10;

#[derive(Debug, Default)]
pub struct Slots {
    of: BTreeMap<ChunkKey, u64>,
    /// Chunks of each leaf that has any.
    chunks: BTreeMap<u64, u64>,
    next: u64,
    /// Slots from `next` up to this one have an entry.
    ready: u64,
}

/// What goes with a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freed {
    pub slot: u64,
    /// Its leaf, where nothing is to be kept any more.
    pub leaf: Option<Range<u64>>,
}

impl Slots {
    /// From all entries of the tree in order; those without a chunk have no key. Also returns entries that are left
    /// of leaves which are through.
    pub fn read(entries: impl Iterator<Item = (u64, Option<ChunkKey>)>) -> (Slots, Vec<u64>) {
        let (mut slots, mut empty) = (Slots::default(), Vec::new());
        for (slot, key) in entries {
            match key {
                Some(key) => slots.hold(key, slot),
                None => empty.push(slot),
            }
        }
        if slots.of.is_empty() {
            slots.next = empty.first().map_or(0, |slot| slot.next_multiple_of(LEAF));
        }
        empty.retain(|slot| slot / LEAF < slots.next / LEAF && !slots.chunks.contains_key(&(slot / LEAF)));
        // Behind the last chunk all is made ready anew: what was there may have gone with chunks that were taken back. To
        // put what is there already changes nothing.
        slots.ready = slots.next;
        (slots, empty)
    }

    pub fn of(&self, key: ChunkKey) -> Option<u64> {
        self.of.get(&key).copied()
    }

    /// A slot for a chunk that has none.
    pub fn take(&mut self, key: ChunkKey) -> u64 {
        let slot = self.next;
        self.hold(key, slot);
        slot
    }

    fn hold(&mut self, key: ChunkKey, slot: u64) {
        self.of.insert(key, slot);
        *self.chunks.entry(slot / LEAF).or_default() += 1;
        let is_last = slot % LEAF + 1 >= CHUNKS_PER_LEAF;
        self.next = if is_last { (slot / LEAF + 1) * LEAF } else { slot + 1 };
    }

    /// Those that are to have an entry, none of which has a chunk, before the next chunk is put.
    pub fn make_ready(&mut self) -> Range<u64> {
        let until = (self.next / LEAF + LEAVES_AHEAD) * LEAF;
        let from = self.ready;
        self.ready = from.max(until);
        from..until
    }

    /// `None`: there is no such chunk.
    pub fn free(&mut self, key: ChunkKey) -> Option<Freed> {
        let slot = self.of.remove(&key)?;
        let leaf = slot / LEAF;
        let left = self.chunks.get_mut(&leaf)?;
        *left -= 1;
        let is_empty = *left == 0;
        if is_empty {
            self.chunks.remove(&leaf);
        }
        let is_through = is_empty && leaf < self.next / LEAF;
        Some(Freed { slot, leaf: is_through.then_some(leaf * LEAF..(leaf + 1) * LEAF) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(first: u64) -> ChunkKey {
        ChunkKey { first, part: 0 }
    }

    #[test]
    fn five_of_nine_entries_hold_a_chunk() {
        let mut slots = Slots::default();
        let taken: Vec<u64> = (0..12).map(|first| slots.take(key(first))).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 9, 10, 11, 12, 13, 18, 19]);
        let together = |from: u64| taken.iter().filter(|slot| (from..from + 17).contains(*slot)).count();
        assert_eq!((0..3).map(together).max(), Some(CHUNKS_TOGETHER_MAX));
    }

    #[test]
    fn leaves_are_ready_before_they_are_used_and_only_once() {
        let mut slots = Slots::default();
        assert_eq!(slots.make_ready(), 0..27);
        for first in 0..4 {
            slots.take(key(first));
            assert!(slots.make_ready().is_empty());
        }
        slots.take(key(4));
        assert_eq!(slots.make_ready(), 27..36);
        assert!(slots.make_ready().is_empty());
    }

    #[test]
    fn a_leaf_goes_with_its_last_chunk_unless_it_is_in_use() {
        let mut slots = Slots::default();
        for first in 0..6 {
            slots.take(key(first));
        }
        for first in 0..4 {
            assert_eq!(slots.free(key(first)), Some(Freed { slot: first, leaf: None }));
        }
        assert_eq!(slots.free(key(4)), Some(Freed { slot: 4, leaf: Some(0..9) }));
        assert_eq!(slots.free(key(5)), Some(Freed { slot: 9, leaf: None }));
        assert_eq!(slots.free(key(5)), None);
        assert_eq!(slots.take(key(6)), 10, "no slot is used twice while it is open");
    }

    #[test]
    fn what_is_read_goes_on_where_it_was() {
        // Leaf 0 lost its last chunk just before a crash, leaf 1 has two chunks, leaf 3 is not quite ready.
        let empty = [0, 1, 2, 3].into_iter().chain(11..30).map(|slot| (slot, None));
        let entries = empty.chain([(9, Some(key(70))), (10, Some(key(71)))]);
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by_key(|(slot, _)| *slot);
        let (mut slots, stale) = Slots::read(entries.into_iter());
        assert_eq!(stale, [0, 1, 2, 3]);
        assert_eq!(slots.of(key(71)), Some(10));
        assert_eq!(slots.make_ready(), 11..36);
        assert_eq!(slots.take(key(72)), 11);
    }

    #[test]
    fn without_a_chunk_the_first_whole_leaf_is_next() {
        let (mut slots, stale) = Slots::read((20..54).map(|slot| (slot, None)));
        assert_eq!(stale, (20..27).collect::<Vec<_>>());
        assert_eq!(slots.take(key(1)), 27);
        assert_eq!(Slots::read(std::iter::empty()).0.take(key(1)), 0);
    }
}
