//! Request ids and their replies: what makes a repeated write harmless.
//!
//! Rows are kept in the order of their arrival and leave by age and by count. The floor is the newest time part
//! that has left: an id at or below it that is not in the table may have been done, so it is refused.

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use model::settings::Limits;
use model::{Elapsed, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::paged::{Inline, Paged};
use crate::{Rejection, Reply, Stamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    pub id: RequestId,
    pub body_hash: u64,
    pub reply: Reply,
    pub at: Elapsed,
}

/// Written once and never changed.
pub(crate) type RequestRows = Paged<RequestRow, Inline<RequestRow>>;

#[derive(Clone, Default)]
pub struct Requests {
    pub(crate) rows: RequestRows,
    pub(crate) next: u64,
    pub(crate) floor_ms: u64,
    places: Places,
}

/// Where the row of an id is. Looked up by id only; its order is never seen.
#[derive(Clone)]
struct Places {
    /// Many small tables: one that grows moves all that it holds, and whatever is being applied waits for it.
    /// A place is its lowest 32 bits; its id is in the row.
    tables: Vec<HashTable<u32>>,
    // Of the process alone: nobody can choose ids that collide within a table.
    hasher: DefaultHashBuilder,
}

const TABLES: usize = 256;

impl Default for Places {
    fn default() -> Places {
        Places { tables: vec![HashTable::new(); TABLES], hasher: DefaultHashBuilder::default() }
    }
}

impl Places {
    /// By the chance that is in the id. One who leaves chance out has one table that grows as a whole, and nothing worse.
    fn table_of(id: RequestId) -> usize {
        id.0 as usize % TABLES
    }

    fn get(&self, id: RequestId, rows: &Rows<'_>) -> Option<u64> {
        let hash = self.hasher.hash_one(id);
        let table = &self.tables[Places::table_of(id)];
        table.find(hash, |low| rows.id(*low) == Some(id)).map(|low| rows.place(*low))
    }

    fn put(&mut self, id: RequestId, place: u64, rows: &Rows<'_>) {
        let hash = self.hasher.hash_one(id);
        let hasher = |low: &u32| self.hasher.hash_one(rows.id(*low).unwrap_or_default());
        self.tables[Places::table_of(id)].insert_unique(hash, place as u32, hasher);
    }

    fn remove(&mut self, id: RequestId, rows: &Rows<'_>) {
        let hash = self.hasher.hash_one(id);
        let table = &mut self.tables[Places::table_of(id)];
        if let Ok(found) = table.find_entry(hash, |low| rows.id(*low) == Some(id)) {
            found.remove();
        }
    }
}

/// The rows that places are of: fewer than 2^32, the last of them just below `next`.
struct Rows<'a> {
    rows: &'a RequestRows,
    next: u64,
}

impl Rows<'_> {
    fn place(&self, low: u32) -> u64 {
        let last = self.next.wrapping_sub(1);
        last.wrapping_sub((last as u32).wrapping_sub(low).into())
    }

    fn id(&self, low: u32) -> Option<RequestId> {
        self.rows.get(self.place(low)).map(|row| row.id)
    }
}

impl Requests {
    /// An empty table that goes on where another stood.
    pub(crate) fn at(next: u64, floor_ms: u64) -> Requests {
        Requests { next, floor_ms, ..Requests::default() }
    }

    pub fn len(&self) -> u64 {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The reply that was given before, or why the request may not be done; `None`: it is new.
    pub(crate) fn known(
        &self,
        id: RequestId,
        body_hash: u64,
        wall: Timestamp,
        limits: &Limits,
    ) -> Option<Reply> {
        let rows = Rows { rows: &self.rows, next: self.next };
        if let Some(row) = self.places.get(id, &rows).and_then(|place| self.rows.get(place)) {
            let same = row.body_hash == body_hash;
            return Some(if same {
                row.reply.clone()
            } else {
                Rejection::RequestConflict { request: id }.into()
            });
        }
        if id.unix_ms() <= self.floor_ms {
            return Some(Rejection::RequestExpired { request: id }.into());
        }
        let ahead = Duration::from_millis(id.unix_ms().saturating_sub(wall.0 / 1000));
        let too_far = ahead > Duration::from_secs(limits.request_ahead_max_s);
        too_far.then(|| Rejection::RequestAhead { request: id, ahead }.into())
    }

    pub(crate) fn remember(&mut self, id: RequestId, body_hash: u64, reply: Reply, at: Elapsed) {
        self.restore(self.next, RequestRow { id, body_hash, reply, at });
    }

    pub(crate) fn restore(&mut self, place: u64, row: RequestRow) {
        let id = row.id;
        self.rows.insert(place, row);
        self.next = self.next.max(place + 1);
        self.places.put(id, place, &Rows { rows: &self.rows, next: self.next });
    }

    /// Lets go of at most `budget` rows that are too old or too many. An id stamped in the future goes to the back
    /// instead: as the floor it would have everybody else's refused.
    pub(crate) fn evict(&mut self, now: Stamp, limits: &Limits, budget: usize) {
        let window = Duration::from_secs(limits.request_window_s);
        for _ in 0..budget {
            let Some(place) = self.rows.first() else { return };
            let Some(row) = self.rows.get(place) else { return };
            if self.rows.len() <= limits.requests_max && now.elapsed.since(row.at) <= window {
                return;
            }
            let row = row.clone();
            self.places.remove(row.id, &Rows { rows: &self.rows, next: self.next });
            self.rows.remove(place);
            if row.id.unix_ms() > now.wall.0 / 1000 {
                self.restore(self.next, row);
            } else {
                self.floor_ms = self.floor_ms.max(row.id.unix_ms());
            }
        }
    }
}
