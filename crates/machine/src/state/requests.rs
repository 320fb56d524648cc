//! Request ids and their replies: what makes a repeated write harmless.
//!
//! Rows are kept in the order of their arrival and leave by age and by count. The floor is the newest time part
//! that has left: an id at or below it that is not in the table may have been done, so it is refused.

#![allow(clippy::disallowed_types)]

use std::collections::HashMap;
use std::time::Duration;

use model::settings::Limits;
use model::{Elapsed, RequestId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::paged::Paged;
use crate::{Rejection, Reply, Stamp};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    pub id: RequestId,
    pub body_hash: u64,
    pub reply: Reply,
    pub at: Elapsed,
}

#[derive(Clone, Default)]
pub struct Requests {
    pub(crate) rows: Paged<RequestRow>,
    pub(crate) next: u64,
    pub(crate) floor_ms: u64,
    // Looked up by key only; its order is never seen.
    places: HashMap<RequestId, u64>,
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
        if let Some(row) = self.places.get(&id).and_then(|place| self.rows.get(*place)) {
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
        self.places.insert(row.id, place);
        self.rows.insert(place, row);
        self.next = self.next.max(place + 1);
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
            self.rows.remove(place);
            if row.id.unix_ms() > now.wall.0 / 1000 {
                self.restore(self.next, row);
            } else {
                self.floor_ms = self.floor_ms.max(row.id.unix_ms());
                self.places.remove(&row.id);
            }
        }
    }
}
