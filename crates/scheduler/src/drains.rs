//! Workers that drain for whoever starves, as a round finds once it has placed what has room. What was promised there moves
//! behind that, so that others might have been placed beside it: the round is made anew, in which they drain from its beginning on.

use machine::Reservation;

use crate::overlay::Overlay;
use crate::place::Round;

#[derive(Clone, Debug, Default)]
pub(crate) struct Drains {
    /// From the beginning of this round on, by what an earlier one found.
    early: Vec<Reservation>,
    /// As this round found.
    pub late: Vec<Reservation>,
    /// Any of those may matter to what is promised.
    pub puts_off: bool,
}

impl<'a> Round<'a> {
    /// One in which what is to drain does so before anybody has a turn: what is promised there goes by that before somebody is
    /// placed beside it. All drain that did: for some of them alone others might. `None`: nothing is put off.
    pub fn with_drains(&mut self, overlay: &Overlay) -> Option<Round<'a>> {
        let Drains { mut early, mut late, puts_off } = std::mem::take(&mut self.drains);
        late.retain(|of| !early.contains(of));
        if late.is_empty() || !puts_off {
            return None;
        }
        early.append(&mut late);
        let mut round = Round::new(self.state, overlay);
        round.drains.early = early;
        Some(round)
    }

    /// Where one drains that was not placed, that one stands. Whether others do.
    pub fn drain(&mut self) -> bool {
        let reserved = &mut self.reserved;
        self.drains
            .early
            .retain(|of| *reserved.entry(of.session).or_insert((of.job, of.task)) == (of.job, of.task));
        !self.drains.early.is_empty()
    }

    /// What drains from the beginning on is new to the state.
    pub fn tell_drains(&mut self) {
        let made = &self.plan.reservations;
        let stands = |of: &Reservation| self.reserved.get(&of.session) == Some(&(of.job, of.task));
        let is_new = |of: &&Reservation| stands(of) && !made.contains(of);
        let drains: Vec<Reservation> = self.drains.early.iter().filter(is_new).copied().collect();
        self.plan.reservations.splice(0..0, drains);
    }
}
