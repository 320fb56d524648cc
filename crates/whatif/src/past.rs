//! Jobs as a cluster shows them, as the history has them.

use model::Dependency;
use model::views::{Asked, AskedJob, GroupView, TaskView};

use crate::history::{PastJob, PastRun, PastTask};

impl PastJob {
    /// The job before anything is told of its tasks.
    pub fn of(asked: AskedJob) -> PastJob {
        let AskedJob { job, not_before, asked } = asked;
        let tasks = job.groups.iter().zip(asked).map(|(group, asked)| entry(group, asked)).collect();
        PastJob {
            job: job.id,
            name: job.name,
            queue: job.queue,
            user: job.actor.user,
            priority: job.priority,
            submitted: job.submitted,
            not_before,
            state: job.state,
            after: job.after,
            tasks,
        }
    }

    /// What became of its next task, in the order of their numbers.
    pub fn add(&mut self, task: &TaskView) {
        let place = self.tasks.partition_point(|entry| entry.first <= task.id.number);
        if let Some(entry) = place.checked_sub(1).and_then(|place| self.tasks.get_mut(place)) {
            entry.push(fate(task));
        }
    }
}

fn entry(group: &GroupView, asked: Asked) -> PastTask {
    // Those that are waited for one by one come last.
    let whole = group.after.len().saturating_sub(asked.after_each.len());
    PastTask {
        name: group.name.clone(),
        first: group.first,
        count: group.len,
        parts: asked.resources.cpu,
        gang: asked.gang,
        estimate: asked.estimate.map(|(time, _)| time),
        estimate_from: asked.estimate.map(|(_, from)| from),
        deadline: asked.deadline,
        after: group.after[..whole].iter().map(|name| Dependency::from(name.as_str())).collect(),
        after_each: asked.after_each,
        runs: Vec::new(),
    }
}

fn fate(task: &TaskView) -> PastRun {
    // What runs or waits has only the outcome of an earlier attempt.
    let outcome = task.outcome.as_ref().filter(|_| task.state.is_final());
    PastRun {
        first: task.id.number,
        count: 1,
        state: task.state,
        attempts: task.attempt,
        started: outcome.and_then(|outcome| outcome.started),
        ended: outcome.map(|outcome| outcome.ended),
    }
}
