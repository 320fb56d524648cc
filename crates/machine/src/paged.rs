//! A table by number whose copies share pages: a clone costs a pointer per 64 rows, and only rows that change
//! afterwards are copied. This is what makes a snapshot of a large state cheap.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: u64 = 64;

#[derive(Clone)]
struct Page<T> {
    rows: Vec<Option<Arc<T>>>,
    used: usize,
}

impl<T> Page<T> {
    fn empty() -> Page<T> {
        Page { rows: (0..PAGE).map(|_| None).collect(), used: 0 }
    }
}

/// Rows by number. Numbers are dense: a page of 64 exists as long as one of its rows does.
#[derive(Clone)]
pub struct Paged<T> {
    pages: BTreeMap<u64, Arc<Page<T>>>,
    len: u64,
    /// Rows that may have changed since somebody last asked.
    touched: Vec<u64>,
}

impl<T> Default for Paged<T> {
    fn default() -> Paged<T> {
        Paged { pages: BTreeMap::new(), len: 0, touched: Vec::new() }
    }
}

impl<T: Clone> Paged<T> {
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn get(&self, number: u64) -> Option<&T> {
        self.pages.get(&(number / PAGE))?.rows[(number % PAGE) as usize].as_deref()
    }

    pub fn contains(&self, number: u64) -> bool {
        self.get(number).is_some()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        let place = (number % PAGE) as usize;
        // Looked at first, so that asking for what is not there copies nothing.
        page.rows[place].as_ref()?;
        note(&mut self.touched, number);
        Arc::make_mut(page).rows[place].as_mut().map(Arc::make_mut)
    }

    pub fn insert(&mut self, number: u64, row: T) -> Option<Arc<T>> {
        note(&mut self.touched, number);
        let page = self.pages.entry(number / PAGE).or_insert_with(|| Arc::new(Page::empty()));
        let page = Arc::make_mut(page);
        let before = page.rows[(number % PAGE) as usize].replace(Arc::new(row));
        if before.is_none() {
            page.used += 1;
            self.len += 1;
        }
        before
    }

    pub fn remove(&mut self, number: u64) -> Option<Arc<T>> {
        let page = self.pages.get_mut(&(number / PAGE))?;
        page.rows[(number % PAGE) as usize].as_ref()?;
        note(&mut self.touched, number);
        let page = Arc::make_mut(page);
        let row = page.rows[(number % PAGE) as usize].take();
        page.used -= 1;
        self.len -= 1;
        if page.used == 0 {
            self.pages.remove(&(number / PAGE));
        }
        row
    }

    /// All rows in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        self.pages.iter().flat_map(|(page, rows)| numbered(*page, rows))
    }

    /// Rows below `number`, the highest first.
    pub fn below(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let pages = self.pages.range(..=number / PAGE).rev();
        pages.flat_map(|(page, rows)| numbered(*page, rows).rev()).filter(move |(n, _)| *n < number)
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

fn numbered<T>(page: u64, rows: &Arc<Page<T>>) -> impl DoubleEndedIterator<Item = (u64, &T)> {
    let place =
        move |(place, row): (usize, &'_ Option<Arc<T>>)| row.as_ref().map(|_| page * PAGE + place as u64);
    rows.rows.iter().enumerate().filter_map(move |(at, row)| {
        let number = place((at, row))?;
        Some((number, row.as_deref()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_what_it_saw() {
        let mut table = Paged::default();
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
        let mut table = Paged::default();
        for number in [300, 5, 64, 63] {
            table.insert(number, ());
        }
        assert_eq!(table.iter().map(|(n, _)| n).collect::<Vec<_>>(), [5, 63, 64, 300]);
        assert_eq!(table.below(300).map(|(n, _)| n).collect::<Vec<_>>(), [64, 63, 5]);
        assert_eq!(table.below(64).map(|(n, _)| n).collect::<Vec<_>>(), [63, 5]);
        assert_eq!(table.first(), Some(5));
    }
}
