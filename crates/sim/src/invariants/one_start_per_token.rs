//! An attempt is started at most once: its number on the session, its token, its task.

use std::collections::BTreeSet;

use model::{JobId, Token};

use super::{Found, Invariant};
use crate::worker::Execution;

#[derive(Default)]
pub struct OneStartPerToken {
    started: BTreeSet<(JobId, u32, u32, Token)>,
}

impl Invariant for OneStartPerToken {
    fn name(&self) -> &'static str {
        "one start per token"
    }

    fn started(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        let order = &execution.order;
        for number in execution.tasks.first..execution.tasks.end() {
            if !self.started.insert((order.job, number, order.attempt, execution.token)) {
                let attempt = order.attempt_of(number);
                found.push(format!("{attempt} ({}) starts again, on w{worker}", execution.token));
            }
        }
    }

    fn looked(&self) -> u64 {
        self.started.len() as u64
    }
}
