//! Indexes derived from the rows: rebuilt on start, never logged, never in a snapshot.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use model::{ClassId, Elapsed, JobId, Seq, SessionId, Timestamp};

use crate::state::jobs::{Group, Hold, Job};
use crate::state::queues::QueueId;
use crate::state::sessions::{Allocation, ClassKey, Phase, Session, Slice};
use crate::state::users::UserId;

/// The order within a queue: by rank, then by submit, then by place in the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyKey {
    pub rank: i64,
    pub job: JobId,
    pub group: u32,
}

impl ReadyKey {
    pub const MIN: ReadyKey = ReadyKey { rank: i64::MIN, job: JobId(0), group: 0 };
    pub const MAX: ReadyKey = ReadyKey { rank: i64::MAX, job: JobId(u64::MAX), group: u32::MAX };
}

/// Ready work that is alike to a planner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadyList {
    pub queue: QueueId,
    /// Whose it is, in a queue that its users share.
    pub user: UserId,
    pub class: ClassId,
}

impl ReadyList {
    /// All of a queue.
    pub(crate) fn of(queue: QueueId) -> RangeInclusive<ReadyList> {
        ReadyList { queue, user: UserId::MIN, class: ClassId::MIN }..=ReadyList {
            queue,
            user: UserId::MAX,
            class: ClassId::MAX,
        }
    }
}

/// A time at which something of a job happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timer {
    pub at: Elapsed,
    pub job: JobId,
    pub what: Occasion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// The job's hold is over.
    Hold,
    /// A task's delay is over.
    Delay { group: u32, position: u32 },
    /// What is ready of the group has waited for as long as it may. One for all of them.
    Wait { group: u32 },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Index {
    pub ready: BTreeMap<ReadyList, BTreeSet<ReadyKey>>,
    pub timers: BTreeSet<Timer>,
    pub wall_timers: BTreeSet<(Timestamp, JobId)>,
    /// Sessions that are kept free for a task, and not in vain yet.
    pub reserved: BTreeSet<SessionId>,
    /// What takes capacity of a session and is expected to end some time.
    pub ends: BTreeSet<(SessionId, Elapsed, Seq)>,
    /// What was sent ahead and has not begun.
    pub held: BTreeSet<(SessionId, Seq)>,
    /// Running tasks of each queue that slices time, and not those that are being stopped.
    pub slices: BTreeMap<QueueId, Slices>,
    /// What gives way, and has not ended.
    pub leaving: BTreeSet<(QueueId, SessionId, Seq)>,
    /// When somebody was promised a start.
    pub starts: BTreeSet<(Elapsed, JobId, u32)>,
    /// In the order in which they finished.
    pub finished: BTreeSet<(Elapsed, JobId)>,
    /// Finished jobs that may get a new round: a retry was answered, and its chores are not through.
    pub reopening: BTreeSet<JobId>,
    pub queue_names: BTreeMap<String, QueueId>,
    pub class_keys: BTreeMap<ClassKey, ClassId>,
}

/// The running tasks of a queue that slices time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Slices {
    /// By when their slices began.
    pub running: BTreeSet<(Elapsed, SessionId, Seq)>,
    /// In their order: after which job each comes, and since when it stands still.
    pub suspended: BTreeSet<(JobId, Elapsed, SessionId, Seq)>,
    /// The same by since when.
    pub standing: BTreeSet<(Elapsed, SessionId, Seq)>,
}

impl Index {
    /// Notes a running task of a queue that slices time, or forgets it.
    pub(crate) fn set_slice(&mut self, session: SessionId, allocation: &Allocation, is_there: bool) {
        let Some(Slice { since, behind }) = allocation.slice else { return };
        let seq = allocation.seq;
        let slices = self.slices.entry(allocation.queue).or_default();
        match (behind, is_there) {
            (None, true) => drop(slices.running.insert((since, session, seq))),
            (None, false) => drop(slices.running.remove(&(since, session, seq))),
            (Some(behind), true) => {
                slices.suspended.insert((behind, since, session, seq));
                slices.standing.insert((since, session, seq));
            }
            (Some(behind), false) => {
                slices.suspended.remove(&(behind, since, session, seq));
                slices.standing.remove(&(since, session, seq));
            }
        }
        if slices.running.is_empty() && slices.suspended.is_empty() {
            self.slices.remove(&allocation.queue);
        }
    }

    /// Whether it is the first list of its queue.
    pub(crate) fn set_ready(&mut self, job: &Job, place: usize, ready: bool) -> bool {
        let group = &job.groups[place];
        let key = ReadyKey { rank: group.rank, job: job.id, group: place as u32 };
        let list = ReadyList { queue: job.queue, user: job.user, class: group.class };
        if ready {
            let keys = self.ready.entry(list).or_default();
            let is_new = keys.is_empty();
            keys.insert(key);
            return is_new && self.ready.range(ReadyList::of(job.queue)).nth(1).is_none();
        }
        if let Some(keys) = self.ready.get_mut(&list) {
            keys.remove(&key);
            if keys.is_empty() {
                self.ready.remove(&list);
            }
        }
        false
    }

    pub(crate) fn set_hold(&mut self, job: JobId, hold: Hold, on: bool) {
        match hold {
            Hold::None => {}
            Hold::Elapsed(at) => {
                let timer = Timer { at, job, what: Occasion::Hold };
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

    /// Notes until when what is ready of the group may wait, or forgets it.
    pub(crate) fn set_wait(&mut self, job: JobId, place: usize, until: Option<Elapsed>, on: bool) {
        let Some(at) = until else { return };
        let timer = Timer { at, job, what: Occasion::Wait { group: place as u32 } };
        if on {
            self.timers.insert(timer)
        } else {
            self.timers.remove(&timer)
        };
    }

    /// Everything that the rows of this job imply.
    pub(crate) fn add_job(&mut self, job: &Job) {
        self.set_hold(job.id, job.hold, true);
        for (place, group) in job.groups.iter().enumerate() {
            if is_ready(job, group) {
                self.set_ready(job, place, true);
            }
            for (position, at) in &group.delayed {
                let what = Occasion::Delay { group: place as u32, position: *position };
                self.timers.insert(Timer { at: *at, job: job.id, what });
            }
            self.set_wait(job.id, place, job.start_by(place), true);
        }
        if let Some(finished) = job.finished {
            self.finished.insert((finished.elapsed, job.id));
        }
        self.set_reopening(job);
    }

    /// Notes when the allocation is expected to end, while it takes capacity.
    pub(crate) fn set_end(&mut self, session: SessionId, allocation: &Allocation, takes: bool) {
        if allocation.expected == Elapsed::MAX {
            return;
        }
        let end = (session, allocation.expected, allocation.seq);
        if takes {
            self.ends.insert(end);
        } else {
            self.ends.remove(&end);
        }
    }

    pub(crate) fn set_leaving(&mut self, session: SessionId, allocation: &Allocation, leaves: bool) {
        let row = (allocation.queue, session, allocation.seq);
        if leaves {
            self.leaving.insert(row);
        } else {
            self.leaving.remove(&row);
        }
    }

    pub(crate) fn set_held(&mut self, session: SessionId, seq: Seq, held: bool) {
        if held {
            self.held.insert((session, seq));
        } else {
            self.held.remove(&(session, seq));
        }
    }

    /// Everything that the row of this session implies.
    pub(crate) fn add_session(&mut self, session: &Session) {
        if session.reserved.is_some() && !session.in_vain {
            self.reserved.insert(session.id);
        }
        for allocation in session.allocations.values() {
            if allocation.takes_capacity() && !allocation.is_suspended() {
                self.set_end(session.id, allocation, true);
            }
            if allocation.phase == Phase::Running {
                self.set_slice(session.id, allocation, true);
            }
            self.set_leaving(session.id, allocation, allocation.preempted && allocation.takes_capacity());
            self.set_held(session.id, allocation.seq, allocation.phase == Phase::Held);
        }
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
    group.is_there() && job.may_place(group)
}
