//! What most rows leave empty.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::RunSet;

/// A collection that costs a pointer while it is empty. It is read and changed as the collection itself; the first
/// mutable borrow allocates it. A waiting job of one task has a dozen of these and fills none.
pub struct Lean<T>(Option<Box<T>>);

/// Collections that are there for nothing while they are empty.
pub trait Collection: Default + 'static {
    const EMPTY: &'static Self;

    fn is_empty(&self) -> bool;
}

impl<T: 'static> Collection for Vec<T> {
    const EMPTY: &'static Vec<T> = &Vec::new();

    fn is_empty(&self) -> bool {
        Vec::is_empty(self)
    }
}

impl<K: 'static, V: 'static> Collection for BTreeMap<K, V> {
    const EMPTY: &'static BTreeMap<K, V> = &BTreeMap::new();

    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
}

impl Collection for String {
    const EMPTY: &'static String = &String::new();

    fn is_empty(&self) -> bool {
        String::is_empty(self)
    }
}

impl Collection for RunSet {
    const EMPTY: &'static RunSet = &RunSet::new();

    fn is_empty(&self) -> bool {
        RunSet::is_empty(self)
    }
}

impl<T: Collection> Deref for Lean<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}

impl<T: Collection> DerefMut for Lean<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}

impl<T> Lean<T> {
    pub const EMPTY: Lean<T> = Lean(None);
}

impl<T: Collection> Lean<T> {
    /// Whether there is room for a collection, and nothing in it.
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_some_and(|all| all.is_empty())
    }

    /// Lets go of a collection that was emptied.
    pub fn tidy(&mut self) {
        if self.is_idle() {
            self.0 = None;
        }
    }

    /// Nothing was ever put in: cheaper to ask than whether it is empty.
    pub fn is_untouched(&self) -> bool {
        self.0.is_none()
    }

    pub fn is_empty(&self) -> bool {
        (**self).is_empty()
    }
}

impl<T> Default for Lean<T> {
    fn default() -> Lean<T> {
        Lean(None)
    }
}

impl<T: Collection> From<T> for Lean<T> {
    fn from(collection: T) -> Lean<T> {
        Lean((!collection.is_empty()).then(|| Box::new(collection)))
    }
}

impl<T: Collection + Clone> Clone for Lean<T> {
    fn clone(&self) -> Lean<T> {
        // One that was emptied lets its box go.
        Lean(self.0.as_ref().filter(|full| !full.is_empty()).cloned())
    }
}

impl<T: Collection + PartialEq> PartialEq for Lean<T> {
    fn eq(&self, other: &Lean<T>) -> bool {
        **self == **other
    }
}

impl<T: Collection + Eq> Eq for Lean<T> {}

impl<T: Collection + PartialOrd> PartialOrd for Lean<T> {
    fn partial_cmp(&self, other: &Lean<T>) -> Option<std::cmp::Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: Collection + Ord> Ord for Lean<T> {
    fn cmp(&self, other: &Lean<T>) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: Collection + std::hash::Hash> std::hash::Hash for Lean<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: Collection + fmt::Debug> fmt::Debug for Lean<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T: Collection> IntoIterator for &'a Lean<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (**self).into_iter()
    }
}

impl<T: Collection + FromIterator<A>, A> FromIterator<A> for Lean<T> {
    fn from_iter<I: IntoIterator<Item = A>>(all: I) -> Lean<T> {
        Lean::from(all.into_iter().collect::<T>())
    }
}

impl<T: Collection + Serialize> Serialize for Lean<T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(s)
    }
}

impl<'de, T: Collection + Deserialize<'de>> Deserialize<'de> for Lean<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Lean<T>, D::Error> {
        T::deserialize(d).map(Lean::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_collection_and_costs_a_pointer() {
        assert_eq!(size_of::<Lean<BTreeMap<u32, String>>>(), size_of::<usize>());
        let mut list: Lean<Vec<u32>> = Lean::default();
        assert!(list.is_empty() && list.iter().next().is_none());
        list.push(3);
        assert_eq!((list.len(), &*list), (1, &vec![3]));
        assert_eq!(serde_json::to_string(&list).unwrap(), "[3]");
        assert_eq!(serde_json::from_str::<Lean<Vec<u32>>>("[3]").unwrap(), list);
        list.clear();
        assert_eq!(list, Lean::default());
        assert!(list.clone().0.is_none() && Lean::from(Vec::<u32>::new()).0.is_none());
    }
}
