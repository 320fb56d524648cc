//! The digest: a chain over every entry, what it was answered, and the figures of the jobs and sessions it changed. Replicas
//! with equal indexes have equal digests, or one of them has diverged. What is hashed is bytes as written by serde, which are the same on every
//! machine; they may change with `LEVEL` only.

use model::{JobId, SessionId};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::state::State;
use crate::state::jobs::{Group, Job};
use crate::{Applied, Entry};

impl State {
    /// The digest after this entry, from the one before.
    pub(crate) fn chained(&mut self, entry: &Entry, applied: &Applied) -> u64 {
        let (jobs, sessions) = (self.jobs.take_touched(), self.sessions.take_touched());
        self.forget_touched();
        let mut bytes = Vec::new();
        put(&mut bytes, &(self.meta.digest, self.meta.index, self.meta.stamp, entry));
        put(&mut bytes, &(&applied.replies, &applied.effects, &applied.events));
        jobs.into_iter()
            .for_each(|job| put(&mut bytes, &(job, self.job(JobId(job)).map(|row| self.job_mark(row)))));
        sessions.into_iter().for_each(|id| put(&mut bytes, &(id, self.session_mark(SessionId(id)))));
        let meta = &self.meta;
        put(&mut bytes, &(meta.last_job, meta.unfinished_jobs, meta.results_bytes, meta.forgotten));
        put(&mut bytes, &(self.requests.len(), self.tombstones.len(), self.chores.len()));
        xxh3_64(&bytes)
    }

    /// What was touched without an entry says nothing about one.
    pub(crate) fn forget_touched(&mut self) {
        self.jobs.take_touched();
        self.sessions.take_touched();
        self.tombstones.take_touched();
        self.requests.rows.take_touched();
    }

    /// The figures of a job that differ wherever two replicas have made different jobs of it. Not all of the row: an entry
    /// may cost what it changes, not what a job has become in all its time.
    fn job_mark(&self, job: &Job) -> impl Serialize {
        let queue = self.queues.get(&job.queue).map(|queue| (&queue.usage, queue.counts.unfinished()));
        let standing = (job.state, job.paused, job.cancelled, job.open, job.hold, job.waiting, job.reopening);
        let size = (job.settled, job.results_bytes, job.dependents.len(), job.cancelling.len());
        let groups = if job.groups.len() <= GROUPS_MARKED_MAX { &job.groups[..] } else { &[] };
        let groups: Vec<_> = groups.iter().map(group_mark).collect();
        (job.queue, job.priority, standing, size, job.counts, queue, groups)
    }

    fn session_mark(&self, id: SessionId) -> impl Serialize {
        let row = self.session(id)?;
        let held = (row.last_seq, row.allocations.len(), row.allocations.last_key_value());
        Some((row.ended, &row.used, row.reserved, row.reserved_since, row.in_vain, held))
    }
}

/// Groups of one job that are looked at one by one; of larger jobs only the sums are.
const GROUPS_MARKED_MAX: usize = 16;

fn group_mark(group: &Group) -> impl Serialize {
    let runs = (group.ready.first(), group.ready.runs_len(), group.blocked.runs_len(), group.stopping.len());
    let times = (group.ready_since, group.passed_since, group.waiting, group.cause);
    let kept =
        (group.rows.len(), group.outcomes.len(), group.earlier_len, group.later.len(), group.began.len());
    (group.counts(), runs, times, kept)
}

fn put(bytes: &mut Vec<u8>, value: &impl Serialize) {
    rmp_serde::encode::write(bytes, value).expect("plain data is written to memory without fail");
}
