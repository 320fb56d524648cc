//! The search itself: begins and ends in the order of time, in lists from which a call goes when it gets its place, and
//! to which it returns when the search goes back.
//!
//! What is never tried, since every order that has it can be changed into one that has not: anything else where a call fits
//! that only looks; and of the calls of which nobody knows, one that changes nothing, one that would be overwritten by
//! the next call, and one whose twin began before it and has no place yet.

use super::placed::{Number, Placed, Seen};
use super::{Call, Model, Outcome};

/// In the order of time.
#[derive(Clone, Copy)]
struct Event {
    /// Its call's place in the input.
    call: usize,
    number: Number,
    is_end: bool,
}

/// A call that has its place, and what was before it.
struct Step<S> {
    begin: usize,
    before: S,
    /// It may come this early in every order, so there is nothing to try in its stead.
    is_look: bool,
}

pub struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [Call<M::Op>],
    steps_max: u64,
    events: Vec<Event>,
    /// By call: where its end is in `events`.
    ends: Vec<Option<usize>>,
    /// By number of a call of which nobody knows: the one before it that does the same.
    twins: Vec<Option<usize>>,
    /// Begins and ends of calls that ended, without those that have their place.
    ended: List,
    /// Begins of calls of which nobody knows, likewise.
    unknown: List,
    /// How many calls that ended have no place yet.
    left: usize,
    placed: Placed,
    state: M::State,
    steps: Vec<Step<M::State>>,
    seen: Seen<M::State>,
    tried: u64,
    furthest: Furthest,
}

/// How far the search came: up to which end, and with how many placed.
#[derive(Default)]
struct Furthest {
    end: usize,
    order: Vec<usize>,
}

impl<'a, M: Model> Search<'a, M> {
    pub fn new(model: &'a M, calls: &'a [Call<M::Op>], steps_max: u64) -> Search<'a, M> {
        let events = events(calls);
        let mut ends = vec![None; calls.len()];
        let (mut ended, mut unknown) = (List::new(events.len()), List::new(events.len()));
        for (place, event) in events.iter().enumerate() {
            match event.number {
                Number::Ended(_) => ended.push(place),
                Number::Unknown(_) => unknown.push(place),
            }
            if event.is_end {
                ends[event.call] = Some(place);
            }
        }
        let left = ends.iter().flatten().count();
        Search {
            model,
            calls,
            steps_max,
            twins: twins(&events, calls),
            events,
            ends,
            ended,
            unknown,
            left,
            placed: Placed::new(left, calls.len() - left),
            state: model.init(),
            steps: Vec::new(),
            seen: Seen::new(),
            tried: 0,
            furthest: Furthest::default(),
        }
    }

    pub fn run(mut self) -> Outcome {
        // Those of which nobody knows and that have no place when all others have one never happened.
        while self.left > 0 {
            let is_placed = self.look().unwrap_or_else(|| self.place(None));
            let went_on = is_placed || self.go_back();
            if self.is_too_long() && self.left > 0 {
                return Outcome::Unknown { tried: self.tried + self.seen.compared };
            }
            if !went_on {
                let Furthest { end, order } = self.furthest;
                return Outcome::Not { call: self.events[end].call, order };
            }
        }
        Outcome::Linearizable
    }

    /// Places a call that may come this early in every order. None: there is no such call. False: there is, it leads to where
    /// the search has been, and so would everything else.
    fn look(&mut self) -> Option<bool> {
        let mut at = self.ended.first();
        while !self.events[at].is_end {
            let op = &self.calls[self.events[at].call].op;
            if self.model.is_look(op) && self.step(at).is_some_and(|after| after == self.state) {
                let state = self.state.clone();
                return Some(self.settle(at, state, true));
            }
            at = self.ended.next[at];
        }
        None
    }

    /// Places the first call that fits of those behind this one. Those that end first come first, since they are the first
    /// that need a place; those of which nobody knows come last, since most of them need none at all.
    fn place(&mut self, behind: Option<usize>) -> bool {
        // Behind a call of which nobody knows there are only others of that kind.
        let unknown = behind.filter(|begin| self.end(*begin).is_none());
        let ended = behind.and_then(|begin| self.end(begin));
        if unknown.is_none() && self.place_ended(ended.unwrap_or(0)) {
            return true;
        }
        let mut at = unknown.map_or(self.unknown.first(), |begin| self.unknown.next[begin]);
        let wall = self.wall();
        while at < wall {
            if self.try_at(at) {
                return true;
            }
            at = self.unknown.next[at];
        }
        self.remember(wall);
        false
    }

    /// Of those that end after this.
    fn place_ended(&mut self, mut end: usize) -> bool {
        while let Some((next, begin)) = self.next_end(end) {
            if self.try_at(begin) {
                return true;
            }
            end = next;
        }
        false
    }

    /// Of all that can come next.
    fn next_end(&self, after: usize) -> Option<(usize, usize)> {
        let (mut at, mut best) = (self.ended.first(), None);
        while !self.events[at].is_end {
            let end = self.end(at).filter(|end| *end > after);
            best = end.map(|end| (end, at)).into_iter().chain(best).min();
            at = self.ended.next[at];
        }
        best
    }

    /// Takes calls back until another can be placed in the stead of one.
    fn go_back(&mut self) -> bool {
        while !self.is_too_long()
            && let Some(Step { begin, before, is_look }) = self.steps.pop()
        {
            self.placed.flip(self.events[begin].number);
            self.state = before;
            // In the reverse order of `settle`: the lists are mended from their own neighbours.
            if let Some(end) = self.end(begin) {
                self.ended.put_back(end);
                self.ended.put_back(begin);
                self.left += 1;
            } else {
                self.unknown.put_back(begin);
            }
            if !is_look && self.place(Some(begin)) {
                return true;
            }
        }
        false
    }

    fn try_at(&mut self, begin: usize) -> bool {
        let Event { call, number, .. } = self.events[begin];
        let is_after_unknown = self.steps.last().is_some_and(|step| self.end(step.begin).is_none());
        if is_after_unknown && self.model.is_blind(&self.calls[call].op) {
            return false;
        }
        match number {
            Number::Ended(_) => self.step(begin).is_some_and(|after| self.settle(begin, after, false)),
            Number::Unknown(number) => {
                let is_turn = self.twins[number].is_none_or(|twin| self.placed.has_unknown(twin));
                let after = self.step(begin).filter(|after| is_turn && *after != self.state);
                after.is_some_and(|after| self.settle(begin, after, false))
            }
        }
    }

    fn step(&mut self, begin: usize) -> Option<M::State> {
        self.tried += 1;
        self.model.step(&self.state, &self.calls[self.events[begin].call].op)
    }

    /// Gives a call its place, unless the search has been there.
    fn settle(&mut self, begin: usize, after: M::State, is_look: bool) -> bool {
        let number = self.events[begin].number;
        self.placed.flip(number);
        if !self.seen.insert(&self.placed, &after) {
            self.placed.flip(number);
            return false;
        }
        if let Some(end) = self.end(begin) {
            self.ended.take(begin);
            self.ended.take(end);
            self.left -= 1;
        } else {
            self.unknown.take(begin);
        }
        let before = std::mem::replace(&mut self.state, after);
        self.steps.push(Step { begin, before, is_look });
        true
    }

    /// Of the call that begins there; None: nobody knows of one.
    fn end(&self, begin: usize) -> Option<usize> {
        self.ends[self.events[begin].call]
    }

    fn is_too_long(&self) -> bool {
        self.tried + self.seen.compared >= self.steps_max
    }

    /// The first end of a call that has no place: what begins after it cannot come next.
    fn wall(&self) -> usize {
        let mut at = self.ended.first();
        while !self.events[at].is_end {
            at = self.ended.next[at];
        }
        at
    }

    fn remember(&mut self, wall: usize) {
        let Furthest { end, order } = &self.furthest;
        if (wall, self.steps.len()) >= (*end, order.len()) {
            let order = self.steps.iter().map(|step| self.events[step.begin].call).collect();
            self.furthest = Furthest { end: wall, order };
        }
    }
}

fn events<O>(calls: &[Call<O>]) -> Vec<Event> {
    let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
    for (call, Call { invoked, completed, .. }) in calls.iter().enumerate() {
        order.push((*invoked, false, call));
        if let Some(completed) = *completed {
            assert!(completed >= *invoked, "call {call} ended at {completed}, before it began at {invoked}");
            order.push((completed, true, call));
        }
    }
    // Begins before ends at the same time.
    order.sort_unstable();
    let (mut ended, mut unknown) = (0.., 0..);
    let mut numbers = vec![Number::Ended(0); calls.len()];
    for (_, is_end, call) in &order {
        if !is_end {
            numbers[*call] = match calls[*call].completed {
                Some(_) => Number::Ended(ended.next().unwrap_or_default()),
                None => Number::Unknown(unknown.next().unwrap_or_default()),
            };
        }
    }
    order.into_iter().map(|(_, is_end, call)| Event { call, number: numbers[call], is_end }).collect()
}

fn twins<O: PartialEq>(events: &[Event], calls: &[Call<O>]) -> Vec<Option<usize>> {
    let unknown: Vec<usize> = events
        .iter()
        .filter(|event| matches!(event.number, Number::Unknown(_)))
        .map(|event| event.call)
        .collect();
    let is_twin = |one: usize, other: usize| calls[unknown[one]].op == calls[unknown[other]].op;
    (0..unknown.len()).map(|number| (0..number).rev().find(|before| is_twin(number, *before))).collect()
}

/// A list of events in a ring through one more place that is none (Knuth's dancing links).
struct List {
    next: Vec<usize>,
    before: Vec<usize>,
}

impl List {
    fn new(events: usize) -> List {
        List { next: (0..=events).collect(), before: (0..=events).collect() }
    }

    /// The ring's own place, greater than any other.
    fn none(&self) -> usize {
        self.next.len() - 1
    }

    fn first(&self) -> usize {
        self.next[self.none()]
    }

    fn push(&mut self, place: usize) {
        let none = self.none();
        let last = self.before[none];
        (self.next[last], self.before[place]) = (place, last);
        (self.next[place], self.before[none]) = (none, place);
    }

    fn take(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        (self.next[before], self.before[next]) = (next, before);
    }

    /// What was taken last goes back first.
    fn put_back(&mut self, place: usize) {
        let (before, next) = (self.before[place], self.next[place]);
        (self.next[before], self.before[next]) = (place, place);
    }
}
