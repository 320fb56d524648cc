//! The links between hosts, and what is wrong with each: faults come and go on top of one another, so a link is in the
//! worst state that any of them puts it in.

use std::collections::BTreeMap;

use turmoil::Sim;

/// Names a fault of the network until it is taken back.
pub type FaultId = u64;

/// Nothing gets from the first host to the second.
pub type Way = (usize, usize);

#[derive(Clone, Debug)]
enum Wrong {
    Cut(Vec<Way>),
    /// Messages wait on all links of these hosts, and are delivered later.
    Held(Vec<usize>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Open,
    Held,
    /// Up: from the lower to the higher host.
    Cut {
        up: bool,
        down: bool,
    },
}

#[derive(Debug)]
pub struct Links {
    names: Vec<&'static str>,
    wrong: BTreeMap<FaultId, Wrong>,
    last_id: FaultId,
    now: BTreeMap<Way, Link>,
}

impl Links {
    /// Between all of these, which are named by their place from then on.
    pub fn new(names: Vec<&'static str>) -> Links {
        Links { names, wrong: BTreeMap::new(), last_id: 0, now: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn cut(&mut self, ways: Vec<Way>, sim: &Sim) -> FaultId {
        self.add(Wrong::Cut(ways), sim)
    }

    pub fn hold(&mut self, hosts: Vec<usize>, sim: &Sim) -> FaultId {
        self.add(Wrong::Held(hosts), sim)
    }

    pub fn mend(&mut self, id: FaultId, sim: &Sim) {
        self.wrong.remove(&id);
        self.show(sim);
    }

    pub fn mend_all(&mut self, sim: &Sim) {
        self.wrong.clear();
        self.show(sim);
    }

    fn add(&mut self, wrong: Wrong, sim: &Sim) -> FaultId {
        self.last_id += 1;
        self.wrong.insert(self.last_id, wrong);
        self.show(sim);
        self.last_id
    }

    fn show(&mut self, sim: &Sim) {
        for low in 0..self.names.len() {
            for high in low + 1..self.names.len() {
                let wanted = self.wanted(low, high);
                let before = self.now.insert((low, high), wanted).unwrap_or_default();
                turn(sim, self.names[low], self.names[high], before, wanted);
            }
        }
    }

    fn wanted(&self, low: usize, high: usize) -> Link {
        let is_cut = |way: Way| {
            self.wrong.values().any(|wrong| matches!(wrong, Wrong::Cut(ways) if ways.contains(&way)))
        };
        let is_held = |wrong: &Wrong| match wrong {
            Wrong::Held(hosts) => hosts.contains(&low) || hosts.contains(&high),
            Wrong::Cut(_) => false,
        };
        match (is_cut((low, high)), is_cut((high, low))) {
            (false, false) if self.wrong.values().any(is_held) => Link::Held,
            (false, false) => Link::Open,
            (up, down) => Link::Cut { up, down },
        }
    }
}

/// Turmoil cannot hold what is cut one way, so a link is never both.
fn turn(sim: &Sim, low: &str, high: &str, before: Link, wanted: Link) {
    if before == wanted {
        return;
    }
    if before == Link::Held {
        sim.release(low, high);
    }
    if wanted == Link::Held {
        // Nothing of an earlier cut is left on it.
        sim.repair(low, high);
        sim.hold(low, high);
        return;
    }
    let ways = |link| match link {
        Link::Cut { up, down } => (up, down),
        Link::Open | Link::Held => (false, false),
    };
    let (was, is) = (ways(before), ways(wanted));
    for (from, to, was, is) in [(low, high, was.0, is.0), (high, low, was.1, is.1)] {
        match (was, is) {
            (false, true) => sim.partition_oneway(from, to),
            (true, false) => sim.repair_oneway(from, to),
            (false, false) | (true, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["n1", "n2", "n3"];

    fn sim() -> Sim<'static> {
        let mut sim = turmoil::Builder::new().build();
        NAMES.iter().for_each(|name| sim.host(*name, || async { Ok(()) }));
        sim
    }

    #[test]
    fn a_link_is_in_the_worst_state_that_a_fault_puts_it_in() {
        let (sim, mut links) = (sim(), Links::new(NAMES.to_vec()));
        let held = links.hold(vec![0], &sim);
        assert_eq!(
            [links.wanted(0, 1), links.wanted(0, 2), links.wanted(1, 2)].map(|l| l == Link::Held),
            [true, true, false]
        );
        let cut = links.cut(vec![(1, 0)], &sim);
        assert_eq!(links.wanted(0, 1), Link::Cut { up: false, down: true });
        let other = links.cut(vec![(0, 1), (1, 0)], &sim);
        assert_eq!(links.wanted(0, 1), Link::Cut { up: true, down: true });
        links.mend(other, &sim);
        links.mend(cut, &sim);
        assert_eq!(links.wanted(0, 1), Link::Held);
        links.mend(held, &sim);
        assert_eq!(links.wanted(0, 1), Link::Open);
    }
}
