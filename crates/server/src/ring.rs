//! The newest events, in the order of the log, for any number of watchers.
//!
//! Watchers read from the ring at their own pace; one that falls behind its end is told so. Nobody holds the
//! writer up: it takes a short lock and drops the oldest.

use std::collections::VecDeque;
use std::sync::Arc;

use machine::Event;
use model::{JobId, LogIndex};
use parking_lot::Mutex;
use tokio::sync::watch;

/// Where an event stands: the index of its entry and its place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub index: LogIndex,
    pub place: u32,
}

impl Position {
    /// After everything of the entry at `index`.
    pub fn end_of(index: LogIndex) -> Position {
        Position { index, place: u32::MAX }
    }
}

#[derive(Clone)]
pub struct Ring {
    shared: Arc<Mutex<Inner>>,
    /// The end of the newest entry: wakes watchers.
    newest: watch::Sender<Position>,
}

struct Inner {
    events: VecDeque<(Position, Event)>,
    /// Events up to here are gone.
    floor: Position,
    newest: Position,
    events_max: usize,
}

/// What a watcher gets next.
#[derive(Debug, PartialEq)]
pub enum Page {
    /// Events after the asked position, and up to where that is all there is.
    Events { events: Vec<(Position, Event)>, through: Position },
    /// Events after the asked position are gone.
    Compacted { oldest: Position },
}

impl Ring {
    /// Empty, and complete from the end of `index` on.
    pub fn new(index: LogIndex, events_max: usize) -> Ring {
        let start = Position::end_of(index);
        let inner = Inner { events: VecDeque::new(), floor: start, newest: start, events_max };
        Ring { shared: Arc::new(Mutex::new(inner)), newest: watch::channel(start).0 }
    }

    /// Adds an entry's events. An entry that the ring has seen already is left out.
    pub fn push(&self, index: LogIndex, events: &[Event]) {
        let mut inner = self.shared.lock();
        if index <= inner.newest.index {
            return;
        }
        for (place, event) in events.iter().enumerate() {
            inner.events.push_back((Position { index, place: place as u32 }, event.clone()));
        }
        inner.newest = Position::end_of(index);
        while inner.events.len() > inner.events_max {
            let (position, _) = inner.events.pop_front().expect("it is longer than its limit");
            inner.floor = position;
        }
        let newest = inner.newest;
        drop(inner);
        self.newest.send_replace(newest);
    }

    /// Forgets everything up to `index`: entries before it were missed or replaced by a snapshot.
    pub fn reset(&self, index: LogIndex) {
        let mut inner = self.shared.lock();
        inner.events.clear();
        let at = Position::end_of(index.max(inner.newest.index));
        (inner.floor, inner.newest) = (at, at);
        drop(inner);
        self.newest.send_replace(at);
    }

    pub fn newest(&self) -> Position {
        self.shared.lock().newest
    }

    /// Up to `events_max` events after `after`, of one job or of all.
    pub fn page(&self, after: Position, job: Option<JobId>, events_max: usize) -> Page {
        let inner = self.shared.lock();
        if after < inner.floor {
            return Page::Compacted { oldest: inner.floor };
        }
        let start = inner.events.partition_point(|(position, _)| *position <= after);
        // What is passed over counts as well: the lock is held for a bounded while.
        let looked_at = inner.events.range(start..).take(events_max);
        let last = start + looked_at.len();
        let through = match inner.events.get(last.wrapping_sub(1)) {
            Some((position, _)) if last < inner.events.len() => *position,
            _ => inner.newest.max(after),
        };
        let wanted = looked_at.filter(|(_, event)| job.is_none_or(|job| job_of(event) == Some(job)));
        Page::Events { events: wanted.cloned().collect(), through }
    }

    /// Returns when there is something after `after`, or the ring is gone.
    pub async fn wait_beyond(&self, after: Position) {
        let mut newest = self.newest.subscribe();
        // The sender lives in `self`: an error cannot be.
        let _ = newest.wait_for(|newest| *newest > after).await;
    }
}

fn job_of(event: &Event) -> Option<JobId> {
    match event {
        Event::Job { job, .. } | Event::Tasks { job, .. } => Some(*job),
        Event::Worker { .. } | Event::Queue { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use model::views::JobState;

    use super::*;

    fn event(job: u64) -> Event {
        Event::Job { job: JobId(job), state: JobState::Running }
    }

    fn jobs(page: Page) -> Vec<u64> {
        let Page::Events { events, .. } = page else { panic!("{page:?}") };
        events.iter().filter_map(|(_, event)| job_of(event)).map(|job| job.0).collect()
    }

    #[test]
    fn a_watcher_sees_each_event_once_and_in_order() {
        let ring = Ring::new(10, 100);
        assert_eq!(ring.newest(), Position::end_of(10));
        ring.push(11, &[event(1), event(2)]);
        ring.push(12, &[]);
        ring.push(13, &[event(1)]);
        ring.push(13, &[event(9)]);
        assert_eq!(jobs(ring.page(Position::end_of(10), None, 100)), [1, 2, 1]);
        assert_eq!(jobs(ring.page(Position { index: 11, place: 0 }, None, 100)), [2, 1]);
        assert_eq!(jobs(ring.page(Position::end_of(10), Some(JobId(1)), 100)), [1, 1]);
        let first = ring.page(Position::end_of(10), None, 2);
        let Page::Events { through, .. } = &first else { panic!("{first:?}") };
        assert_eq!(jobs(ring.page(*through, None, 100)), [1]);
    }

    #[test]
    fn what_was_dropped_is_said_to_be_compacted() {
        let ring = Ring::new(0, 2);
        for index in 1..=4 {
            ring.push(index, &[event(index)]);
        }
        let oldest = Position { index: 2, place: 0 };
        assert_eq!(ring.page(Position::end_of(1), None, 10), Page::Compacted { oldest });
        assert_eq!(jobs(ring.page(oldest, None, 10)), [3, 4]);
        ring.reset(9);
        assert_eq!(ring.page(Position::end_of(4), None, 10), Page::Compacted { oldest: Position::end_of(9) });
        assert_eq!(jobs(ring.page(Position::end_of(9), None, 10)), [0u64; 0]);
    }

    #[tokio::test]
    async fn a_waiting_watcher_is_woken() {
        let ring = Ring::new(0, 10);
        let (after, other) = (ring.newest(), ring.clone());
        let wake = async move { other.push(1, &[]) };
        tokio::join!(ring.wait_beyond(after), wake);
    }
}
