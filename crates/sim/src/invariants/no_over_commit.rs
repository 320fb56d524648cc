//! Nobody is given more than there is: not in the state, and not on the worker's host.

use std::collections::BTreeMap;

use model::{Resources, Run, Seq, Token};

use super::{Found, Invariant, Step};
use crate::worker::{CORES, Execution};

#[derive(Default)]
pub struct NoOverCommit {
    /// By worker: what runs there.
    running: BTreeMap<usize, BTreeMap<(Seq, Token, Run), Resources>>,
    looked: u64,
}

fn key(execution: &Execution) -> (Seq, Token, Run) {
    (execution.seq, execution.token, execution.tasks)
}

impl Invariant for NoOverCommit {
    fn name(&self) -> &'static str {
        "no over-commit"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        for session in step.state.sessions() {
            let mut granted = Resources::default();
            let asked = session.allocations.values().filter(|allocation| !allocation.ahead);
            asked.for_each(|allocation| granted.add(&allocation.takes()));
            if !session.capacity.total.covers(&granted) {
                found.push(format!("{} has granted {granted} of {}", session.id, session.capacity.total));
            }
        }
    }

    fn started(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        self.take(worker, execution, found);
    }

    fn switched(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        self.take(worker, execution, found);
    }

    fn ended(&mut self, worker: usize, execution: &Execution) {
        self.running.entry(worker).or_default().remove(&key(execution));
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

impl NoOverCommit {
    fn take(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        self.looked += 1;
        let mut takes = execution.order.spec.resources.clone();
        if execution.is_suspended() {
            takes.cpu = 0;
        }
        let running = self.running.entry(worker).or_default();
        running.insert(key(execution), takes);
        let mut used = Resources::default();
        running.values().for_each(|resources| used.add(resources));
        if !Resources::cores(CORES).covers(&used) {
            found.push(format!("w{worker} runs {used}: {:?}", running.keys().collect::<Vec<_>>()));
        }
    }
}
