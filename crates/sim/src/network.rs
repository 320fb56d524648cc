//! Who reaches whom, how long it takes, and what gets lost on the way.

use std::collections::BTreeSet;

use crate::chance::Chance;
use crate::queue::{Micros, Process};

#[derive(Clone, Debug, Default)]
pub struct Network {
    /// One-way cuts.
    cut: BTreeSet<(Process, Process)>,
    /// Many messages are late, lost, doubled or overtaken.
    pub is_bad: bool,
}

impl Network {
    pub fn cut(&mut self, from: Process, to: Process) {
        self.cut.insert((from, to));
    }

    pub fn cut_both(&mut self, a: Process, b: Process) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub fn mend_all(&mut self) {
        self.cut.clear();
        self.is_bad = false;
    }

    pub fn mend(&mut self, from: Process, to: Process) {
        self.cut.remove(&(from, to));
    }

    pub fn reaches(&self, from: Process, to: Process) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How long the next message takes.
    pub fn delay(&self, chance: &mut Chance) -> Micros {
        match (self.is_bad, chance.below(100)) {
            (false, 0) => chance.ms(1, 20),
            (false, _) => chance.between(100, 1_500),
            (true, 0..10) => chance.ms(50, 400),
            (true, _) => chance.ms(1, 40),
        }
    }

    /// When copies of a datagram arrive: none, one or two of them, in any order with others.
    pub fn copies(&self, from: Process, to: Process, chance: &mut Chance) -> Vec<Micros> {
        let lost = if self.is_bad { 80 } else { 2 };
        if !self.reaches(from, to) || chance.in_thousand(lost) {
            return Vec::new();
        }
        let count = if chance.in_thousand(if self.is_bad { 50 } else { 2 }) { 2 } else { 1 };
        (0..count).map(|_| self.delay(chance)).collect()
    }
}
