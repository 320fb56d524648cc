//! Decentralised placement: which ready tasks a worker may claim, and which of them it does.
//!
//! Slotted ALOHA (Roberts 1975) over several channels. Ready tasks stand in the order of their queues; the first of them make
//! up a window of [`Offer::channels`] channels, one claim's worth of tasks each. In each slot a station, which is a worker
//! with room, transmits with a chance such that one of them does so for each channel, and claims the tasks of a channel that it
//! has drawn. On a radio channel whatever is sent at once is lost, and the share of slots that carry something is `S = G e^-G`, at most
//! `1/e` at an attempt rate of `G` = 1. Here the log makes the first claim the winner, so that `1 - e^-G` of the channels are
//! served; the others have sent an entry for nothing, and back off.

use std::collections::BTreeMap;

use machine::eligible::accepts;
use machine::state::index::ReadyKey;
use machine::state::queues::QueueId;
use machine::state::sessions::{ClassKey, Room};
use machine::{CLAIMS_MAX, Group, Placement, Session, State, claimable};
use model::{ClassId, Run, SessionId};

use crate::bookings::is_booked;
use crate::overlay::Taken;
use crate::overlay::room;
use crate::place::{alike, longest_run};
use crate::queues::{Line, claimed_lines, next_turn};

/// Stations that are told apart: with more of them in turn for the first tasks, some wait in vain for a slot.
const STATIONS_MAX: usize = 1_024;
/// Tasks looked at.
const WINDOW_MAX: usize = 4_096;

/// What a worker may claim now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// One claim each, in order.
    channels: Vec<Vec<Placement>>,
    /// Workers with room for the first task, this one included.
    pub stations: u32,
}

impl Offer {
    pub fn channels(&self) -> u32 {
        self.channels.len() as u32
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The tasks of one channel.
    pub fn draw(mut self, chance: u64) -> Vec<Placement> {
        match self.channels.len() as u64 {
            0 => Vec::new(),
            count => self.channels.swap_remove((chance % count) as usize),
        }
    }
}

/// Whether anybody may claim anything: cheap, and to be asked first.
pub fn is_open(state: &State) -> bool {
    let mut claimed = state.queues().filter(|queue| queue.policy.may_be_claimed() && !queue.paused);
    claimed.any(|queue| state.room_in(queue) > 0 && state.ready_in(queue.id).next().is_some())
}

/// What the worker of this session may claim as of this state; nothing if there is no such session.
pub fn offer(state: &State, id: SessionId) -> Offer {
    let Some(session) = state.session(id).filter(|session| !session.ended && is_open(state)) else {
        return Offer::default();
    };
    let mut search = Search {
        state,
        session,
        room: room(state, session, &Taken::default()),
        is_booked: is_booked(state, session),
        window: Window::default(),
        vain: 0,
    };
    search.run();
    search.window.into_offer()
}

struct Search<'a> {
    state: &'a State,
    session: &'a Session,
    room: Room,
    /// Something of the worker is booked: what one task leaves of that says nothing of two, so that each is claimed alone.
    is_booked: bool,
    window: Window,
    /// Groups that had room and may not go there.
    vain: usize,
}

/// Of these so many are looked at one by one.
const VAIN_MAX: usize = 256;

/// The channels that are being filled.
#[derive(Default)]
struct Window {
    channels: Vec<Vec<Placement>>,
    stations: usize,
    tasks: usize,
    /// What the last channel leaves free on the worker, and how many tasks of each queue are in it.
    left: Option<Room>,
    queued: BTreeMap<QueueId, u64>,
}

impl Window {
    fn is_full(&self) -> bool {
        self.tasks >= WINDOW_MAX
    }

    /// As many channels as there are stations are enough for all of them.
    fn is_wide(&self) -> bool {
        self.stations > 0 && self.channels.len() > self.stations
    }

    fn into_offer(mut self) -> Offer {
        self.channels.truncate(self.stations.max(1));
        Offer { channels: self.channels, stations: self.stations as u32 }
    }
}

impl Search<'_> {
    /// Fills channels in the order of the queues, whose turn it is by what each has had.
    fn run(&mut self) {
        let mut lines = claimed_lines(self.state);
        while !self.window.is_wide() && !self.window.is_full() {
            let Some(turn) = next_turn(&lines) else { return };
            let line = &mut lines[turn];
            match line.head().filter(|_| line.room > 0) {
                Some((class, key)) => self.look_at(line, class, key),
                None => drop(lines.swap_remove(turn)),
            }
        }
    }

    fn look_at(&mut self, line: &mut Line<'_>, class: ClassId, key: ReadyKey) {
        let state = self.state;
        let Some((job, row)) = state.job(key.job).zip(state.class(class)) else {
            return line.advance(key);
        };
        let group = &job.groups[key.group as usize];
        if group.gang {
            return line.advance(key);
        }
        // The first that has room for one: the task itself, then what it would do with instead.
        let classes = std::iter::once(class).chain(row.alternatives.iter().copied());
        let fitting = (0u8..).zip(classes).find_map(|(nth, class)| {
            let key = &state.class(class)?.key;
            self.takes(key).then_some((nth, key))
        });
        let Some((alternative, class)) = fitting else { return line.pass_over(key) };
        if self.window.stations == 0 {
            self.window.stations = stations(state, class);
        }
        self.fill(line, key, group, class, alternative);
    }

    fn takes(&self, class: &ClassKey) -> bool {
        accepts(self.state, self.session, class).is_ok() && self.room.fit(&class.resources).is_some()
    }

    fn fill(&mut self, line: &mut Line<'_>, key: ReadyKey, group: &Group, class: &ClassKey, alternative: u8) {
        let mut from = 0;
        while let Some(run) = group.ready.first_from(from).filter(|_| !self.window.is_full()) {
            let longest = run.len.min(longest_run(class, line.room));
            let tasks = alike(group, Run::new(group.first + run.first, longest));
            from = run.first + tasks.len;
            let placement =
                Placement { job: key.job, tasks, session: self.session.id, held: false, alternative };
            // Whatever else keeps it from this worker: one that drains for another, say.
            if claimable(self.state, &placement).is_err() {
                self.vain += 1;
                return if self.vain < VAIN_MAX { line.advance(key) } else { line.pass_over(key) };
            }
            self.add(placement, class, line);
            if self.window.is_wide() {
                return;
            }
        }
        line.advance(key);
    }

    /// Into the last channel as long as the worker, and each queue's ceiling, has room for all of it, else into a new one.
    fn add(&mut self, placement: Placement, class: &ClassKey, line: &Line<'_>) {
        let window = &mut self.window;
        let count = u64::from(placement.tasks.len);
        let queued = window.queued.get(&line.queue).copied().unwrap_or(0) + count;
        let fits =
            window.channels.last().is_some_and(|channel| channel.len() < CLAIMS_MAX) && queued <= line.room;
        let fits = fits && !self.is_booked;
        let mut left = window.left.take().filter(|_| fits);
        let mut units = left.as_ref().and_then(|left| left.fit(&class.resources));
        if units.is_none() {
            left = Some(self.room.clone());
            units = self.room.fit(&class.resources);
            window.channels.push(Vec::new());
            window.queued.clear();
        }
        *window.queued.entry(line.queue).or_default() += count;
        if let (Some(left), Some(units)) = (&mut left, units) {
            left.take(&class.resources, &units);
        }
        window.left = left;
        window.channels.last_mut().expect("there is one now").push(placement);
        window.tasks += 1;
    }
}

/// Workers that could take a task of the class now.
fn stations(state: &State, class: &ClassKey) -> usize {
    let takes = |session: &&Session| {
        !session.ended
            && accepts(state, session, class).is_ok()
            && room(state, session, &Taken::default()).fit(&class.resources).is_some()
    };
    state.sessions().filter(takes).take(STATIONS_MAX).count()
}
