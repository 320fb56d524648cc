//! Two objects: a register, and a set to which each key is added once.

use std::collections::BTreeMap;

use super::Model;

/// One number, or none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Register {
    pub initial: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterOp {
    Write(i64),
    /// With what it found.
    Read(Option<i64>),
}

impl Model for Register {
    type State = Option<i64>;
    type Op = RegisterOp;

    fn init(&self) -> Option<i64> {
        self.initial
    }

    fn step(&self, state: &Option<i64>, op: &RegisterOp) -> Option<Option<i64>> {
        match op {
            RegisterOp::Write(value) => Some(Some(*value)),
            RegisterOp::Read(found) => (found == state).then_some(*state),
        }
    }

    fn is_look(&self, op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Read(_))
    }

    fn is_blind(&self, op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Write(_))
    }
}

/// A set of keys. The first `Add` of a key gives it an id that no other key has, every later one tells the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Once;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnceOp {
    Add {
        key: u64,
        /// None: it was not heard, which is so of every call without an end.
        id: Option<u64>,
    },
    /// With the id that it told.
    Contains { key: u64, id: Option<u64> },
}

/// The keys that are there, each with its id once somebody has heard it.
type Ids = BTreeMap<u64, Option<u64>>;

impl Model for Once {
    type State = Ids;
    type Op = OnceOp;

    fn init(&self) -> Ids {
        Ids::new()
    }

    fn step(&self, state: &Ids, op: &OnceOp) -> Option<Ids> {
        match *op {
            OnceOp::Add { key, id } => known_as(state, key, id),
            OnceOp::Contains { key, id: Some(_) } if !state.contains_key(&key) => None,
            OnceOp::Contains { key, id: id @ Some(_) } => known_as(state, key, id),
            OnceOp::Contains { key, id: None } => (!state.contains_key(&key)).then(|| state.clone()),
        }
    }

    /// A key never goes and never changes its id, so what changes nothing now changes nothing later.
    fn is_look(&self, _op: &OnceOp) -> bool {
        true
    }
}

/// The key is there; an id that is heard is its own, and no other's.
fn known_as(ids: &Ids, key: u64, heard: Option<u64>) -> Option<Ids> {
    let known = ids.get(&key).copied().flatten();
    let fits = match (known, heard) {
        (_, None) => true,
        (Some(known), Some(heard)) => known == heard,
        (None, Some(heard)) => !ids.values().any(|other| *other == Some(heard)),
    };
    fits.then(|| {
        let mut ids = ids.clone();
        ids.insert(key, known.or(heard));
        ids
    })
}
