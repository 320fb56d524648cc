//! The digest: a chain over every entry, what it was answered, and the figures of the jobs and sessions it changed. Replicas
//! with equal indexes have equal digests, or one of them has diverged. What is hashed is bytes that are the same on every machine; they may change
//! with the format of the data only.

use model::views::Counts;
use model::{JobId, Run, SessionId};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::level::LEVEL_TURNS;
use crate::state::State;
use crate::state::jobs::{Cause, Group, Hold, Job};
use crate::state::users::EVERYBODY;
use crate::{Applied, Entry};

impl State {
    /// The digest after the entry with this hash, from the one before.
    pub(crate) fn chained(&mut self, entry: u64, applied: &Applied) -> u64 {
        let (jobs, sessions) = (self.jobs.take_touched(), self.sessions.take_touched());
        self.forget_touched();
        let mut marks = Marks::default();
        let (meta, stamp) = (&self.meta, self.meta.stamp);
        marks.numbers(&[meta.digest, meta.index, stamp.elapsed.0, stamp.wall.0, entry]);
        marks.written(&(&applied.replies, &applied.effects, &applied.events));
        for job in jobs {
            marks.numbers(&[job]);
            self.job(JobId(job)).into_iter().for_each(|row| self.mark_job(row, &mut marks));
        }
        for id in sessions {
            marks.numbers(&[id]);
            marks.written(&self.session_mark(SessionId(id)));
        }
        marks.numbers(&[meta.last_job.0, meta.unfinished_jobs, meta.results_bytes, meta.forgotten.0]);
        marks.numbers(&[self.requests.len(), self.tombstones.len(), self.chores.len() as u64]);
        if !self.bookings.is_empty() {
            marks.written(&self.bookings);
        }
        for set in self.periodic.values() {
            marks.numbers(&set.mark());
        }
        xxh3_64(&marks.0)
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
    fn mark_job(&self, job: &Job, marks: &mut Marks) {
        let flags =
            [job.paused, job.cancelled, job.open].into_iter().fold(0, |all, flag| all << 1 | u64::from(flag));
        let hold = match job.hold {
            Hold::None => [0, 0],
            Hold::Elapsed(at) => [1, at.0],
            Hold::Wall(at) => [2, at.0],
        };
        marks.numbers(&[u64::from(job.queue), job.priority as u64, job.state as u64, flags]);
        marks.numbers(&hold);
        marks.numbers(&[job.waiting, job.reopening, job.settled].map(u64::from));
        marks.numbers(&[job.results_bytes, job.dependents.len() as u64, job.cancelling.len().into()]);
        marks.counts(&job.counts());
        if let Some(queue) = self.queues.get(&job.queue) {
            marks.numbers(&queue.usage.mark());
            if self.level() >= LEVEL_TURNS {
                marks.numbers(&queue.deficit.mark());
            }
            if job.user != EVERYBODY {
                marks.numbers(&[job.user.into()]);
                marks.numbers(&queue.users.mark(job.user));
            }
            marks.numbers(&[queue.counts.unfinished()]);
        }
        let groups = if job.groups.len() <= GROUPS_MARKED_MAX { &job.groups[..] } else { &[] };
        groups.iter().for_each(|group| mark_group(group, marks));
    }

    fn session_mark(&self, id: SessionId) -> impl Serialize {
        let row = self.session(id)?;
        let held = (row.last_seq, row.allocations.len(), row.allocations.last_key_value());
        Some((row.ended, &row.used, row.reserved, row.reserved_since, row.in_vain, held))
    }
}

/// The hash of an entry that is not encoded anywhere: in a simulation or a test.
pub(crate) fn hash(entry: &Entry) -> u64 {
    let mut marks = Marks::default();
    marks.written(entry);
    xxh3_64(&marks.0)
}

/// Groups of one job that are looked at one by one; of larger jobs only the sums are.
const GROUPS_MARKED_MAX: usize = 16;

fn mark_group(group: &Group, marks: &mut Marks) {
    let ready = group.ready.first().unwrap_or(Run::new(0, 0));
    let cause = match group.cause.as_deref().copied() {
        None => [0, 0],
        Some(Cause::Group(place)) => [1, place.into()],
        Some(Cause::Job(job)) => [2, job.0],
    };
    marks.counts(&group.counts());
    marks.numbers(
        &[ready.first, ready.len, group.stopping.len(), group.waiting, group.earlier_len].map(u64::from),
    );
    marks.numbers(&[group.ready_since.0, group.passed_since.0, group.rank.cast_unsigned()]);
    marks.numbers(&cause);
    let kept = [group.ready.runs_len(), group.blocked.runs_len(), group.rows.len(), group.outcomes.len()];
    marks.numbers(&kept.map(|len| len as u64));
    marks.numbers(&[group.later.len() as u64, group.began.len().into()]);
    if group.gang {
        marks.numbers(&[group.arrived.len().into()]);
    }
}

/// What is hashed. Numbers are eight bytes, the lowest first: writing them as serde does cost more than the hash itself.
#[derive(Default)]
struct Marks(Vec<u8>);

impl Marks {
    fn numbers(&mut self, numbers: &[u64]) {
        numbers.iter().for_each(|number| self.0.extend_from_slice(&number.to_le_bytes()));
    }

    fn counts(&mut self, counts: &Counts) {
        let Counts { blocked, delayed, ready, running, succeeded, failed, cancelled, skipped } = *counts;
        self.numbers(&[blocked, delayed, ready, running, succeeded, failed, cancelled, skipped]);
    }

    fn written(&mut self, value: &impl Serialize) {
        rmp_serde::encode::write(&mut self.0, value).expect("plain data is written to memory without fail");
    }
}
