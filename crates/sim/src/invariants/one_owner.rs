//! A task has at most one owner: in the state always, among the processes unless the older one's host stood still, or it
//! runs on without a lease by its own wish. One that was cancelled and is on its way out is an owner still.

use std::collections::BTreeMap;

use machine::Phase;
use model::{JobId, OnDisconnect, Seq, SessionId, Token};

use super::{Found, Invariant, Step};
use crate::worker::Execution;

#[derive(Default)]
pub struct OneOwner {
    /// By task: processes that run it.
    running: BTreeMap<(JobId, u32), Vec<Process>>,
    looked: u64,
}

struct Process {
    worker: usize,
    seq: Seq,
    token: Token,
    is_excused: bool,
}

impl Invariant for OneOwner {
    fn name(&self) -> &'static str {
        "one owner"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        let mut owners: BTreeMap<(JobId, u32), SessionId> = BTreeMap::new();
        for session in step.state.sessions() {
            for allocation in session.allocations.values().filter(|a| a.phase != Phase::Stopping) {
                for number in allocation.tasks.first..allocation.tasks.end() {
                    let task = (allocation.job, number);
                    if !is_owned(step, task, allocation.token) {
                        continue;
                    }
                    if let Some(other) = owners.insert(task, session.id) {
                        found.push(format!("{}.{number} is owned by {other} and {}", task.0, session.id));
                    }
                }
            }
        }
    }

    fn started(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        self.looked += 1;
        let order = &execution.order;
        for number in execution.tasks.first..execution.tasks.end() {
            let processes = self.running.entry((order.job, number)).or_default();
            if let Some(other) = processes.iter().find(|other| !other.is_excused) {
                found.push(format!(
                    "{}.{number} starts on w{worker} ({}) and still runs on w{} ({})",
                    order.job, execution.token, other.worker, other.token
                ));
            }
            let is_excused = order.on_disconnect == OnDisconnect::Keep;
            processes.push(Process { worker, seq: execution.seq, token: execution.token, is_excused });
        }
    }

    fn ended(&mut self, worker: usize, execution: &Execution) {
        for number in execution.tasks.first..execution.tasks.end() {
            let processes = self.running.entry((execution.order.job, number)).or_default();
            processes.retain(|other| {
                (other.worker, other.seq, other.token) != (worker, execution.seq, execution.token)
            });
        }
    }

    fn frozen(&mut self, worker: usize) {
        let here = self.running.values_mut().flatten().filter(|process| process.worker == worker);
        here.for_each(|process| process.is_excused = true);
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

/// Whether the task is placed by this token.
fn is_owned(step: &Step, (job, number): (JobId, u32), token: Token) -> bool {
    let Some(job) = step.state.job(job) else { return false };
    let Some((_, group)) = job.group_of(number) else { return false };
    group.live_at(number - group.first).is_some_and(|(_, live)| live.token == token)
}
