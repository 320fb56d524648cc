//! Indexes derived from the rows: rebuilt on start, never logged, never in a snapshot.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use model::{ClassId, Elapsed, JobId, SessionId, Timestamp};

use crate::state::jobs::{Group, Hold, Job};
use crate::state::queues::QueueId;
use crate::state::sessions::ClassKey;

/// The order within a queue: higher priority first, then by submit, then by place in the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyKey {
    pub priority: Reverse<i32>,
    pub job: JobId,
    pub group: u32,
}

/// A time at which something of a job happens: the end of its hold (`task` is `None`) or of a task's delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub at: Elapsed,
    pub job: JobId,
    pub task: Option<(u32, u32)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    pub ready: BTreeMap<(QueueId, ClassId), BTreeSet<ReadyKey>>,
    pub timers: BTreeSet<Timer>,
    pub wall_timers: BTreeSet<(Timestamp, JobId)>,
    /// Sessions that are kept free for a task, and not in vain yet.
    pub reserved: BTreeSet<SessionId>,
    /// In the order in which they finished.
    pub finished: BTreeSet<(Elapsed, JobId)>,
    /// Finished jobs that may get a new round: a retry was answered, and its chores are not through.
    pub reopening: BTreeSet<JobId>,
    pub queue_names: BTreeMap<String, QueueId>,
    pub class_keys: BTreeMap<ClassKey, ClassId>,
}

impl Index {
    pub(crate) fn set_ready(&mut self, job: &Job, place: usize, ready: bool) {
        let group = &job.groups[place];
        let key = ReadyKey { priority: Reverse(job.priority), job: job.id, group: place as u32 };
        let list = (job.queue, group.class);
        if ready {
            self.ready.entry(list).or_default().insert(key);
            return;
        }
        if let Some(keys) = self.ready.get_mut(&list) {
            keys.remove(&key);
            if keys.is_empty() {
                self.ready.remove(&list);
            }
        }
    }

    pub(crate) fn set_hold(&mut self, job: JobId, hold: Hold, on: bool) {
        match hold {
            Hold::None => {}
            Hold::Elapsed(at) => {
                let timer = Timer { at, job, task: None };
                if on {
                    self.timers.insert(timer)
                } else {
                    self.timers.remove(&timer)
                };
            }
            Hold::Wall(at) => {
                if on {
                    self.wall_timers.insert((at, job))
                } else {
                    self.wall_timers.remove(&(at, job))
                };
            }
        }
    }

    /// Everything that the rows of this job imply.
    pub(crate) fn add_job(&mut self, job: &Job) {
        self.set_hold(job.id, job.hold, true);
        for (place, group) in job.groups.iter().enumerate() {
            if is_ready(job, group) {
                self.set_ready(job, place, true);
            }
            for (position, at) in &group.delayed {
                self.timers.insert(Timer { at: *at, job: job.id, task: Some((place as u32, *position)) });
            }
        }
        if let Some(finished) = job.finished {
            self.finished.insert((finished.elapsed, job.id));
        }
        self.set_reopening(job);
    }

    pub(crate) fn set_reopening(&mut self, job: &Job) {
        if job.is_finished() && job.reopening > 0 {
            self.reopening.insert(job.id);
        } else {
            self.reopening.remove(&job.id);
        }
    }
}

/// Whether the planner should see the group.
pub(crate) fn is_ready(job: &Job, group: &Group) -> bool {
    !group.ready.is_empty() && job.may_place(group)
}
