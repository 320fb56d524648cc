//! Workers' streams that came while nobody was known to lead: they wait for who does instead of being sent about.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use model::Moment;

use crate::lead::Arrival;

/// Between two looks at whether somebody leads by now.
const LOOK_EVERY: Duration = Duration::from_millis(25);

#[derive(Default)]
pub(super) struct Held {
    /// By stream: its first message, once it has come. Nothing follows it before the leader's answer.
    streams: BTreeMap<u64, Option<Arrival>>,
    look_at: Moment,
    /// This replica leads: they are taken in as messages are, so many at a time.
    released: VecDeque<Arrival>,
}

impl Held {
    pub fn hold(&mut self, stream: u64, now: Moment) {
        if self.streams.is_empty() {
            self.look_again(now);
        }
        self.streams.insert(stream, None);
    }

    /// When to see whether they still have to wait; none: nobody waits.
    pub fn look_at(&self) -> Option<Moment> {
        (!self.streams.is_empty()).then_some(self.look_at)
    }

    pub fn look_again(&mut self, now: Moment) {
        self.look_at = now.plus(LOOK_EVERY);
    }

    /// Keeps the message if its stream is held, else gives it back.
    pub fn keep(&mut self, arrival: Arrival) -> Option<Arrival> {
        match self.streams.get_mut(&arrival.stream) {
            Some(first) => {
                first.get_or_insert(arrival);
                None
            }
            None => Some(arrival),
        }
    }

    pub fn forget(&mut self, stream: u64) {
        self.streams.remove(&stream);
    }

    /// Nobody is held any more, and what they said is to be taken in.
    pub fn release(&mut self) {
        self.released.extend(std::mem::take(&mut self.streams).into_values().flatten());
    }

    pub fn is_released(&self) -> bool {
        !self.released.is_empty()
    }

    pub fn next_released(&mut self) -> Option<Arrival> {
        self.released.pop_front()
    }

    pub fn take_streams(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.streams).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use wire::v1;

    use super::*;

    fn arrival(stream: u64, at: u64) -> Arrival {
        Arrival { stream, message: v1::WorkerMessage::default(), at: Moment(at) }
    }

    #[test]
    fn the_first_word_of_a_stream_that_waits_is_kept_and_others_are_given_back() {
        let mut held = Held::default();
        assert_eq!(held.look_at(), None);
        held.hold(1, Moment(0));
        held.hold(2, Moment(9));
        held.hold(3, Moment(9));
        assert_eq!(held.look_at(), Some(Moment(0).plus(LOOK_EVERY)));
        assert!(held.keep(arrival(1, 1)).is_none() && held.keep(arrival(1, 2)).is_none());
        assert!(held.keep(arrival(2, 3)).is_none());
        assert_eq!(held.keep(arrival(4, 4)).map(|given| given.stream), Some(4));
        held.forget(2);
        held.release();
        let released = std::iter::from_fn(|| held.next_released());
        let kept: Vec<(u64, Moment)> = released.map(|kept| (kept.stream, kept.at)).collect();
        assert_eq!(kept, [(1, Moment(1))]);
        assert_eq!((held.look_at(), held.take_streams()), (None, Vec::new()));
    }
}
