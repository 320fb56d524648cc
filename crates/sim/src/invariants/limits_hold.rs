//! Nothing grows beyond its named limit.

use std::collections::BTreeMap;

use machine::{Command, Event, Job, Op, Reply};
use model::JobId;

use super::{Found, Invariant, Step};

#[derive(Default)]
pub struct LimitsHold {
    /// By queue: tasks that were placed after the entry before.
    running: BTreeMap<u32, u64>,
    /// Jobs that are unfinished, or finished and promised another round, after the entry before.
    promised: u64,
    last_job: JobId,
    looked: u64,
}

impl Invariant for LimitsHold {
    fn name(&self) -> &'static str {
        "limits hold"
    }

    fn applied(&mut self, step: &Step, found: &mut Found) {
        self.looked += 1;
        let (state, limits) = (step.state, step.state.limits());
        // Later jobs that a retry brings back with it may go beyond, whenever its chores come to them; nothing new is taken
        // then. So at a submit there must be room beside all that is unfinished or promised another round.
        let promised = state.unfinished_jobs() + state.jobs().filter(|job| is_promised(job)).count() as u64;
        let is_new = |reply: &&Reply| matches!(reply, Reply::Submitted { job } if *job > self.last_job);
        let submitted = step.applied.replies.iter().filter(is_new).count() as u64;
        let ended = |event: &&Event| matches!(event, Event::Job { state, .. } if state.is_final());
        let made_room = step.applied.events.iter().filter(ended).count() as u64;
        let max = limits.unfinished_jobs_max;
        if submitted > 0 && self.promised + submitted > max + made_room && promised > max {
            found.push(format!("{promised} jobs are unfinished or promised, and {submitted} were taken in"));
        }
        (self.promised, self.last_job) = (promised, state.last_job());
        let finished = state.jobs().count() as u64 - state.unfinished_jobs();
        let is_busy = state.next_due().is_some_and(|due| due.elapsed == Some(model::Elapsed(0)));
        if finished > limits.finished_jobs_max && !is_busy {
            found.push(format!("{finished} finished jobs are kept"));
        }
        if state.requests_len() > limits.requests_max {
            found.push(format!("{} requests are remembered", state.requests_len()));
        }
        for group in state.jobs().flat_map(|job| &job.groups) {
            if group.outcomes_kept() > limits.outcomes_per_group_max as usize {
                found.push(format!("{} outcomes of one group are kept", group.outcomes_kept()));
            }
        }
        // What is moved there while it runs is over the ceiling by the client's own wish.
        let moved =
            step.entry.commands.iter().any(
                |command| matches!(command, Command::Write(write) if matches!(write.op, Op::SetJob { .. })),
            );
        for queue in state.queues() {
            let before = self.running.insert(queue.id, queue.counts.running).unwrap_or(0);
            let max = queue.running_max.map_or(u64::MAX, u64::from);
            if queue.counts.running > max.max(before) && !moved {
                found.push(format!("queue {} runs {}, at most {max}", queue.name, queue.counts.running));
            }
        }
    }

    fn looked(&self) -> u64 {
        self.looked
    }
}

fn is_promised(job: &Job) -> bool {
    job.is_finished() && job.reopening > 0
}
