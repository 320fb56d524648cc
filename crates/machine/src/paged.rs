//! A table by number whose copies share pages: a clone costs a pointer per 4,096 rows, and only rows that change
//! afterwards are copied. This is what makes a snapshot of a large state cheap.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

const PAGE: u64 = 64;
/// Pages of a chapter.
const CHAPTER: u64 = 64;

/// How a place of a page holds its row.
pub trait Kept<T>: Clone {
    fn of(row: T) -> Self;
    fn row(&self) -> &T;
    /// To change it: a copy of its own, if another shares it.
    fn row_mut(&mut self) -> &mut T;
}

/// Shared with the copies of its page.
impl<T: Clone> Kept<T> for Arc<T> {
    fn of(row: T) -> Arc<T> {
        Arc::new(row)
    }

    fn row(&self) -> &T {
        self
    }

    fn row_mut(&mut self) -> &mut T {
        Arc::make_mut(self)
    }
}

/// In the page itself, and copied with it: for rows that are small and hardly ever change.
#[derive(Clone, Debug, PartialEq)]
pub struct Inline<T>(T);

impl<T: Clone> Kept<T> for Inline<T> {
    fn of(row: T) -> Inline<T> {
        Inline(row)
    }

    fn row(&self) -> &T {
        &self.0
    }

    fn row_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// So many places, each with something or nothing.
#[derive(Clone)]
struct Leaf<K> {
    places: Vec<Option<K>>,
    used: usize,
}

type Page<K> = Leaf<K>;
type Chapter<K> = Leaf<Arc<Page<K>>>;

impl<K> Leaf<K> {
    fn empty(places: u64) -> Leaf<K> {
        Leaf { places: (0..places).map(|_| None).collect(), used: 0 }
    }

    fn get(&self, place: u64) -> Option<&K> {
        self.places[place as usize].as_ref()
    }

    fn get_mut(&mut self, place: u64) -> Option<&mut K> {
        self.places[place as usize].as_mut()
    }

    fn put(&mut self, place: u64, kept: K) -> Option<K> {
        let before = self.places[place as usize].replace(kept);
        self.used += usize::from(before.is_none());
        before
    }

    fn take(&mut self, place: u64) -> Option<K> {
        let taken = self.places[place as usize].take();
        self.used -= usize::from(taken.is_some());
        taken
    }

    fn numbered(&self) -> impl DoubleEndedIterator<Item = (u64, &K)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, kept)| Some((place as u64, kept.as_ref()?)))
    }
}

/// Where a row is: its chapter, its page in there, its place on that.
fn locate(number: u64) -> (u64, u64, u64) {
    (number / PAGE / CHAPTER, number / PAGE % CHAPTER, number % PAGE)
}

/// Rows by number. Numbers are dense: a page of 64 exists as long as one of its rows does.
#[derive(Clone)]
pub struct Paged<T, K = Arc<T>> {
    chapters: BTreeMap<u64, Arc<Chapter<K>>>,
    len: u64,
    /// Rows that may have changed since somebody last asked.
    touched: Vec<u64>,
    rows: PhantomData<T>,
}

impl<T, K> Default for Paged<T, K> {
    fn default() -> Paged<T, K> {
        Paged { chapters: BTreeMap::new(), len: 0, touched: Vec::new(), rows: PhantomData }
    }
}

impl<T, K: Kept<T>> Paged<T, K> {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, number: u64) -> Option<&T> {
        let (chapter, page, place) = locate(number);
        self.chapters.get(&chapter)?.get(page)?.get(place).map(Kept::row)
    }

    pub fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (chapter, page, place) = locate(number);
        let chapter = self.chapters.get_mut(&chapter)?;
        // Looked at first, so that asking for what is not there copies nothing.
        chapter.get(page)?.get(place)?;
        note(&mut self.touched, number);
        let page = Arc::make_mut(chapter).get_mut(page)?;
        Arc::make_mut(page).get_mut(place).map(Kept::row_mut)
    }

    pub fn insert(&mut self, number: u64, row: T) -> Option<K> {
        note(&mut self.touched, number);
        let (chapter, page, place) = locate(number);
        let chapter = self.chapters.entry(chapter).or_insert_with(|| Arc::new(Leaf::empty(CHAPTER)));
        let chapter = Arc::make_mut(chapter);
        if chapter.get(page).is_none() {
            chapter.put(page, Arc::new(Leaf::empty(PAGE)));
        }
        let before = Arc::make_mut(chapter.get_mut(page)?).put(place, K::of(row));
        self.len += u64::from(before.is_none());
        before
    }

    pub fn remove(&mut self, number: u64) -> Option<K> {
        let (at, page, place) = locate(number);
        let chapter = self.chapters.get_mut(&at)?;
        chapter.get(page)?.get(place)?;
        note(&mut self.touched, number);
        let chapter = Arc::make_mut(chapter);
        let rows = Arc::make_mut(chapter.get_mut(page)?);
        let row = rows.take(place);
        self.len -= 1;
        if rows.used == 0 {
            chapter.take(page);
        }
        if chapter.used == 0 {
            self.chapters.remove(&at);
        }
        row
    }

    /// All rows in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.chapters.iter().flat_map(|(at, chapter)| numbered::<T, K>(*at, chapter))
    }

    /// Rows below `number`, the highest first.
    pub fn below(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let (at, ..) = locate(number);
        let chapters = self.chapters.range(..=at).rev();
        let pages = chapters.flat_map(|(at, chapter)| pages(*at, chapter).rev());
        let pages = pages.filter(move |(first, _)| *first < number);
        let rows = pages.flat_map(|(first, page)| {
            page.numbered().rev().map(move |(place, kept)| (first + place, kept.row()))
        });
        rows.filter(move |(found, _)| *found < number)
    }

    pub fn first(&self) -> Option<u64> {
        self.iter().next().map(|(number, _)| number)
    }

    /// The numbers of rows that were put, taken away or lent for a change since this was last asked, in order.
    pub fn take_touched(&mut self) -> Vec<u64> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched
    }
}

fn note(touched: &mut Vec<u64>, number: u64) {
    // The same row is mostly touched many times in turn.
    if touched.last() != Some(&number) {
        touched.push(number);
    }
}

/// The pages of a chapter, each with the number of its first row.
fn pages<K>(at: u64, chapter: &Chapter<K>) -> impl DoubleEndedIterator<Item = (u64, &Page<K>)> {
    chapter.numbered().map(move |(page, rows)| ((at * CHAPTER + page) * PAGE, &**rows))
}

fn numbered<'a, T: 'a, K: Kept<T>>(
    at: u64,
    chapter: &'a Chapter<K>,
) -> impl DoubleEndedIterator<Item = (u64, &'a T)> {
    pages(at, chapter)
        .flat_map(|(first, page)| page.numbered().map(move |(place, kept)| (first + place, kept.row())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_copy_keeps_what_it_saw() {
        let mut table: Paged<u64> = Paged::default();
        for number in 0..200 {
            table.insert(number, number * 10);
        }
        let copy = table.clone();
        *table.get_mut(100).unwrap() = 7;
        table.remove(101);
        assert_eq!((copy.get(100), copy.get(101), copy.len()), (Some(&1000), Some(&1010), 200));
        assert_eq!((table.get(100), table.get(101), table.len()), (Some(&7), None, 199));
        assert_eq!(table.get_mut(5000), None);
        table.take_touched();
        *table.get_mut(7).unwrap() = 1;
        table.insert(3, 1);
        *table.get_mut(7).unwrap() = 2;
        table.remove(9);
        assert_eq!((table.take_touched(), table.take_touched()), (vec![3, 7, 9], vec![]));
    }

    #[test]
    fn rows_come_in_order_from_both_ends() {
        let mut table: Paged<()> = Paged::default();
        for number in [300, 5, 64, 63] {
            table.insert(number, ());
        }
        assert_eq!(table.iter().map(|(n, _)| n).collect::<Vec<_>>(), [5, 63, 64, 300]);
        assert_eq!(table.below(300).map(|(n, _)| n).collect::<Vec<_>>(), [64, 63, 5]);
        assert_eq!(table.below(64).map(|(n, _)| n).collect::<Vec<_>>(), [63, 5]);
        assert_eq!(table.first(), Some(5));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Change(u64),
        Remove(u64),
        Keep,
    }

    fn step() -> impl Strategy<Value = Step> {
        // Around the ends of pages and of chapters.
        let number = || prop_oneof![0..130_u64, 4_090..4_110_u64, 8_190..8_260_u64];
        prop_oneof![
            4 => number().prop_map(Step::Insert),
            2 => number().prop_map(Step::Change),
            3 => number().prop_map(Step::Remove),
            1 => Just(Step::Keep),
        ]
    }

    fn is_a_map<K: Kept<usize>>(steps: &[Step]) -> Result<(), TestCaseError> {
        let (mut table, mut map) = (Paged::<usize, K>::default(), BTreeMap::new());
        let mut kept = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Insert(number) => {
                    let before = table.insert(*number, at).map(|kept| *kept.row());
                    prop_assert_eq!(before, map.insert(*number, at));
                }
                Step::Change(number) => {
                    table.get_mut(*number).into_iter().for_each(|row| *row = at);
                    map.entry(*number).and_modify(|row| *row = at);
                }
                Step::Remove(number) => {
                    prop_assert_eq!(table.remove(*number).map(|kept| *kept.row()), map.remove(number));
                }
                Step::Keep => kept.push((table.clone(), map.clone())),
            }
        }
        kept.push((table, map));
        for (table, map) in kept {
            prop_assert!(table.iter().eq(map.iter().map(|(number, row)| (*number, row))));
            prop_assert_eq!((table.len(), table.first()), (map.len() as u64, map.keys().next().copied()));
            for end in [0, 64, 4_096, 4_100, 8_192, 9_000] {
                let below = map.range(..end).rev().map(|(number, row)| (*number, row));
                prop_assert!(table.below(end).eq(below));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_table_is_a_map_and_so_is_each_copy(steps in prop::collection::vec(step(), 0..300)) {
            is_a_map::<Arc<usize>>(&steps)?;
            is_a_map::<Inline<usize>>(&steps)?;
        }
    }
}
