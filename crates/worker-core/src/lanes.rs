//! What begins when: placed orders first, then held ones, each lane in order, while there is room.
//!
//! The leader counts capacity by reports that are on their way, so the worker keeps it too: what has no room waits.

use std::collections::BTreeSet;

use model::{Moment, Pace, Resources, Run, Seq, Timestamp};

use crate::core::Core;
use crate::{Action, Order, Record, Taken};

/// Orders that have not begun, and the room that the others take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lanes {
    placed: BTreeSet<Seq>,
    held: BTreeSet<Seq>,
    used: Resources,
    /// Orders that take room.
    active: BTreeSet<Seq>,
    /// Of those, the ones between two of their tasks.
    paused: BTreeSet<Seq>,
    /// Those that stand still: they leave their processor time to others, and do not begin.
    suspended: BTreeSet<Seq>,
    /// Reported as started before their process was.
    announced: BTreeSet<Seq>,
}

impl Lanes {
    pub fn wait(&mut self, order: &Order) {
        let lane = if order.held { &mut self.held } else { &mut self.placed };
        lane.insert(order.seq);
    }

    /// After a restart.
    pub fn restore(&mut self, taken: &Taken) {
        if taken.has_begun() {
            self.occupy(&taken.order);
            if taken.running.is_none() {
                self.paused.insert(taken.order.seq);
            }
        } else {
            self.wait(&taken.order);
        }
        if taken.suspended {
            self.switch(&taken.order, Pace::StandsStill);
        }
    }

    pub fn switch(&mut self, order: &Order, to: Pace) {
        let changed = match to {
            Pace::StandsStill => self.suspended.insert(order.seq),
            Pace::Runs => self.suspended.remove(&order.seq),
        };
        if !changed || !self.active.contains(&order.seq) {
            return;
        }
        let processor = Resources { cpu: order.spec.resources.cpu, ..Resources::default() };
        match to {
            Pace::StandsStill => self.used.subtract(&processor),
            Pace::Runs => self.used.add(&processor),
        }
    }

    pub fn pause(&mut self, seq: Seq) {
        self.paused.insert(seq);
    }

    /// True once for each announcement.
    pub fn was_announced(&mut self, seq: Seq) -> bool {
        self.announced.remove(&seq)
    }

    pub fn occupy(&mut self, order: &Order) {
        self.placed.remove(&order.seq);
        self.held.remove(&order.seq);
        if self.active.insert(order.seq) {
            self.used.add(&order.spec.resources);
        }
    }

    pub fn leave(&mut self, order: &Order) {
        self.switch(order, Pace::Runs);
        for set in [&mut self.placed, &mut self.held, &mut self.paused, &mut self.announced] {
            set.remove(&order.seq);
        }
        if self.active.remove(&order.seq) {
            self.used.subtract(&order.spec.resources);
        }
    }

    /// A held order may only begin when no placed one waits: that was promised the room.
    fn next(&self) -> Option<Seq> {
        let may_begin = |seq: &&Seq| !self.suspended.contains(*seq);
        self.placed.iter().find(may_begin).or(self.held.first()).copied()
    }

    fn next_paused(&mut self) -> Option<Seq> {
        let seq = self.paused.iter().find(|seq| !self.suspended.contains(*seq)).copied()?;
        self.paused.remove(&seq);
        Some(seq)
    }

    pub fn waiting(&self) -> Vec<Seq> {
        self.placed.iter().chain(&self.held).copied().collect()
    }

    // What is larger than the whole worker would wait for ever; alone it may run.
    fn has_room(&self, capacity: &Resources, asked: &Resources) -> bool {
        let mut needed = self.used.clone();
        needed.add(asked);
        self.active.is_empty() || capacity.covers(&needed)
    }
}

impl Core {
    /// Begins what has room. `freed`: the end that made room came at that time; held orders that follow are
    /// reported as started together with it, so that the leader does not give the room away again.
    pub(crate) fn begin_waiting(&mut self, freed: Option<Timestamp>, now: Moment) {
        while self.may_go_on(now)
            && let Some(seq) = self.lanes.next_paused()
        {
            self.begin(seq);
        }
        while self.may_begin(now) {
            let Some(seq) = self.lanes.next() else { return };
            let Some(taken) = self.saved().orders.get(&seq) else { return };
            let order = taken.order.clone();
            if !self.lanes.has_room(&self.capacity, &order.spec.resources) {
                return;
            }
            self.lanes.occupy(&order);
            self.begin(seq);
            let is_noop = order.spec.work.kind() == model::Kind::Noop;
            if let Some(at) = freed.filter(|_| order.held && !is_noop) {
                self.lanes.announced.insert(seq);
                self.report_started(seq, order.tasks.first, at, now);
            }
        }
    }

    /// Begins the next portion of an order that has room.
    fn begin(&mut self, seq: Seq) {
        let Some(taken) = self.saved().orders.get(&seq) else { return };
        let order = taken.order.clone();
        let tasks: Run = order.portion(taken.next);
        self.save(Record::Begun { seq, tasks });
        self.push(Action::Start { order, tasks });
    }
}
