//! A task has at most one owner: in the state always, among the processes unless the older one's host stood still, or it
//! was cancelled and is on its way out, or it runs on without a lease by its own wish.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Effect, Phase};
use model::{JobId, OnDisconnect, Seq, SessionId, Token};

use super::{Found, Invariant, Step};
use crate::worker::Execution;

#[derive(Default)]
pub struct OneOwner {
    /// By task: processes that run it.
    running: BTreeMap<(JobId, u32), Vec<Process>>,
    /// Attempts that were told to stop.
    stopped: BTreeSet<(JobId, u32, Token)>,
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
        self.note_stops(step);
    }

    fn started(&mut self, worker: usize, execution: &Execution, found: &mut Found) {
        self.looked += 1;
        let order = &execution.order;
        for number in execution.tasks.first..execution.tasks.end() {
            let processes = self.running.entry((order.job, number)).or_default();
            let stopped = &self.stopped;
            let excused =
                |other: &&Process| other.is_excused || stopped.contains(&(order.job, number, other.token));
            if let Some(other) = processes.iter().find(|other| !excused(other)) {
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

impl OneOwner {
    /// A cancel makes a task final while its process may still run; a retry may place it anew at once.
    fn note_stops(&mut self, step: &Step) {
        let stops = step.applied.effects.iter().filter_map(|effect| match effect {
            Effect::Stop { session, seq } => Some((*session, *seq)),
            Effect::Run { .. }
            | Effect::SessionOpened { .. }
            | Effect::SessionEnded { .. }
            | Effect::Wake => None,
        });
        for (session, seq) in stops {
            let allocation = step.state.session(session).and_then(|row| row.allocations.get(&seq));
            if let Some(row) = allocation {
                let numbers = row.tasks.first..row.tasks.end();
                self.stopped.extend(numbers.map(|number| (row.job, number, row.token)));
            }
        }
        // Of an allocation of several tasks some may be cancelled while it goes on.
        for session in step.state.sessions() {
            for row in session.allocations.values() {
                for number in row.tasks.first..row.tasks.end() {
                    if !row.reported.contains(number) && !is_owned(step, (row.job, number), row.token) {
                        self.stopped.insert((row.job, number, row.token));
                    }
                }
            }
        }
    }
}
