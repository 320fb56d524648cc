//! Changes of groups: whatever is kept or derived from them beside them (counts, the ready index, timers, the state of their
//! job, the turns of its queue) is kept true to them here.

use model::views::{Counts, JobState};
use model::{Elapsed, JobId};

use crate::Event;
use crate::chores::Chore;
use crate::state::State;
use crate::state::index::is_ready;
use crate::state::jobs::{Group, Job};
use crate::state::queues::QueueId;

impl State {
    /// Changes of a job what the ready index is keyed by, or what keeps these groups out of it; never what is ready. The
    /// index is not a row: it moves at once.
    pub(crate) fn rekeyed<R>(
        &mut self,
        id: JobId,
        places: impl IntoIterator<Item = u32>,
        change: impl FnOnce(&mut Job) -> R,
    ) -> R {
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        let places = places.into_iter().map(|place| place as usize);
        let before: Vec<(usize, bool)> = places
            .filter(|place| !job.groups[*place].ready.is_empty())
            .map(|place| (place, is_ready(job, &job.groups[place])))
            .collect();
        let listed = before.iter().filter(|(_, was_ready)| *was_ready);
        let mut were_listed = false;
        for (place, _) in listed {
            self.index.set_ready(job, *place, false);
            were_listed = true;
        }
        let queue = job.queue;
        let result = change(job);
        job.rare.tidy();
        were_listed &= job.queue == queue;
        let (mut turned, mut leaving, mut begun) = (false, Vec::new(), None);
        for (place, was_ready) in before {
            // Whatever it was promised was for what it was.
            if was_ready {
                leaving.push(place);
            }
            if is_ready(job, &job.groups[place]) {
                if self.index.set_ready(job, place, true) && !were_listed {
                    begun = Some(job.queue);
                }
                turned |= !was_ready;
            }
        }
        for place in leaving {
            self.set_promise(queue, (id, place as u32), None, true);
        }
        if let Some(queue) = begun {
            self.end_rest(queue);
        }
        // What has happened to it meanwhile was told to nobody.
        if turned {
            self.wake();
        }
        result
    }

    /// The one way to change a group: keeps counts, ready index and the job's own state true to it.
    pub(crate) fn change_group<R>(
        &mut self,
        id: JobId,
        place: usize,
        change: impl FnOnce(&mut Group) -> R,
    ) -> R {
        let now = self.meta.stamp.elapsed;
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        let was_ready = is_ready(job, &job.groups[place]);
        let before_due = job.start_by(place);
        let before = job.groups[place].counts();
        let result = change(&mut job.groups[place]);
        job.groups[place].rare.tidy();
        let after = job.groups[place].counts();
        if after.ready > before.ready {
            more_ready(job, place, before.ready == 0, now);
        }
        let due = job.start_by(place);
        if due != before_due {
            self.index.set_wait(id, place, before_due, false);
            self.index.set_wait(id, place, due, true);
        }
        let group = &mut job.groups[place];
        let ended = (after.succeeded + after.failed).saturating_sub(before.succeeded + before.failed);
        let settled = after.unfinished() == 0;
        let turned = std::mem::replace(&mut group.settled, settled) != settled;
        let mut counts = job.counts();
        move_counts(&mut counts, &before, &after);
        job.counts = counts.into();
        let ready = is_ready(job, &job.groups[place]);
        let begun = ready != was_ready && self.index.set_ready(job, place, ready);
        let of = job.queue;
        let mut late = None;
        let queue = self.queues.get_mut(&of).expect("a job's queue exists");
        let was_full = queue.room_beside(0) == 0;
        move_counts(&mut queue.counts, &before, &after);
        let begun = begun || (was_full && queue.room_beside(0) > 0);
        if ended > 0
            && let Some(deadline) = job.task_spec(place).timing.as_ref().and_then(|timing| timing.deadline)
        {
            let is_late = now > job.submitted.elapsed.plus(deadline);
            let count = if is_late { &mut queue.deadlines_missed } else { &mut queue.deadlines_met };
            *count += ended;
            late = queue.owner.clone().map(|set| (set, is_late));
        }
        let promised = was_ready && !ready && !queue.promises.is_empty();
        let has_room = queue.running_max.is_some() && after.running < before.running;
        if has_room || (ready && after.ready > before.ready) {
            self.wake();
        }
        if promised {
            self.set_promise(of, (id, place as u32), None, true);
        }
        if begun {
            self.end_rest(of);
        }
        if let Some((set, is_late)) = late {
            crate::apply::periodic::count(self, &set, id, is_late);
        }
        if turned {
            self.settle(id, place, settled);
        }
        self.refresh_job(id);
        result
    }

    /// From now on the queue takes turns again.
    pub(crate) fn end_rest(&mut self, id: QueueId) {
        let turn = self.turn();
        if let Some(queue) = self.queues.get_mut(&id) {
            queue.end_rest(turn);
        }
    }

    fn settle(&mut self, id: JobId, place: usize, settled: bool) {
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        if settled {
            job.settled += 1;
            if !job.groups[place].dependents.is_empty() || !job.groups[place].each_dependents.is_empty() {
                self.chores.push_back(Chore::Settled { job: id, group: place as u32, next: 0 });
            }
        } else {
            job.settled -= 1;
        }
    }

    /// Brings the job's own state up to its tasks', and says so.
    pub(crate) fn refresh_job(&mut self, id: JobId) {
        let stamp = self.meta.stamp;
        let job = self.jobs.get_mut(id.0).expect("the caller has looked the job up");
        job.rare.tidy();
        let state = job_state(job);
        if state == job.state {
            return;
        }
        let (was_final, is_final) = (job.state.is_final(), state.is_final());
        job.state = state;
        let queue = self.queues.get_mut(&job.queue).expect("a job's queue exists");
        match (was_final, is_final) {
            (false, true) => {
                job.finished = Some(stamp);
                queue.unfinished_jobs -= 1;
                self.meta.unfinished_jobs -= 1;
                self.index.finished.insert((stamp.elapsed, id));
                if !job.dependents.is_empty() {
                    self.chores.push_back(Chore::JobFinished { job: id, next: 0 });
                }
            }
            (true, false) => {
                if let Some(finished) = job.finished.take() {
                    self.index.finished.remove(&(finished.elapsed, id));
                }
                queue.unfinished_jobs += 1;
                self.meta.unfinished_jobs += 1;
            }
            (true, true) | (false, false) => {}
        }
        self.index.set_reopening(job);
        self.event(Event::Job { job: id, state });
    }
}

/// A limit on waiting ends nothing that has not waited for so long itself: it counts from the last to come.
fn more_ready(job: &mut Job, place: usize, is_first: bool, now: Elapsed) {
    let counts_anew = is_first || job.start_within(place).is_some();
    let group = &mut job.groups[place];
    if counts_anew {
        group.ready_since = now;
    }
    if is_first {
        group.passed_since = now;
    }
}

fn move_counts(counts: &mut Counts, before: &Counts, after: &Counts) {
    let change = |total: &mut u64, before: u64, after: u64| *total = *total + after - before;
    change(&mut counts.blocked, before.blocked, after.blocked);
    change(&mut counts.delayed, before.delayed, after.delayed);
    change(&mut counts.ready, before.ready, after.ready);
    change(&mut counts.running, before.running, after.running);
    change(&mut counts.succeeded, before.succeeded, after.succeeded);
    change(&mut counts.failed, before.failed, after.failed);
    change(&mut counts.cancelled, before.cancelled, after.cancelled);
    change(&mut counts.skipped, before.skipped, after.skipped);
}

/// The state of a job as its tasks have it.
fn job_state(job: &Job) -> JobState {
    let counts = job.counts();
    if counts.unfinished() == 0 {
        return match (counts.failed + counts.skipped > 0, counts.cancelled > 0) {
            // A job that was cancelled as a whole is that, whatever had failed before.
            (_, true) if job.cancelled || counts.failed == 0 => JobState::Cancelled,
            (true, _) => JobState::Failed,
            (false, _) => JobState::Succeeded,
        };
    }
    let begun = counts.running + counts.finished() > 0;
    match (job.paused, begun) {
        (true, _) => JobState::Paused,
        (false, true) => JobState::Running,
        (false, false) => JobState::Waiting,
    }
}
