//! The newest jobs of a queue, taken from the state a page at a time, so that whoever holds it never holds it for long.

use std::collections::VecDeque;

use machine::{JobFilter, State};
use model::JobId;
use model::views::JobState;

use crate::history::{History, PastJob};

/// Jobs, and tasks, of one page.
const JOBS: usize = 32;
const TASKS: usize = 512;
/// Pages looked at, even if most jobs are those of other queues.
const PAGES_MAX: usize = 4_000;

/// What is being collected.
#[derive(Debug)]
pub struct Recent {
    filter: JobFilter,
    /// Tasks that may still be taken.
    left: usize,
    pages: usize,
    /// Below which job the next page begins; `None`: all are seen.
    next: Option<Option<JobId>>,
    /// Jobs whose tasks are to be read.
    wanted: VecDeque<PastJob>,
    /// The number of the next task of the first of them.
    from: u32,
    read: Vec<PastJob>,
}

impl Recent {
    /// Of the jobs of which something may have ended, newest first, as many as have so many tasks together. One that has more
    /// is passed by.
    pub fn new(queue: &str, tasks_max: usize) -> Recent {
        let states = vec![JobState::Running, JobState::Succeeded, JobState::Failed];
        Recent {
            filter: JobFilter { queue: Some(queue.to_owned()), states, ..JobFilter::default() },
            left: tasks_max,
            pages: 0,
            next: Some(None),
            wanted: VecDeque::new(),
            from: 0,
            read: Vec::new(),
        }
    }

    /// Reads one page; returns whether there is another.
    pub fn step(&mut self, state: &State) -> bool {
        self.pages += 1;
        if self.pages > PAGES_MAX {
            return false;
        }
        if let Some(job) = self.wanted.pop_front() {
            self.read_tasks(state, job);
        } else if let Some(before) = self.next.take() {
            self.read_jobs(state, before);
        }
        !self.wanted.is_empty() || self.next.is_some()
    }

    fn read_jobs(&mut self, state: &State, before: Option<JobId>) {
        let (jobs, rest) = state.list_jobs(&self.filter, before, JOBS);
        for job in jobs {
            let tasks: usize = job.groups.iter().map(|group| group.len as usize).sum();
            if tasks <= self.left {
                self.left -= tasks;
                self.wanted.push_back(PastJob::of(state.asked_of(job)));
            }
        }
        self.next = rest.map(Some).filter(|_| self.left > 0);
    }

    fn read_tasks(&mut self, state: &State, mut job: PastJob) {
        // One that is no longer kept is none of the history.
        let Some((tasks, rest)) = state.list_tasks(job.job, self.from, TASKS, &[], None) else {
            self.from = 0;
            return;
        };
        tasks.iter().for_each(|task| job.add(task));
        self.from = rest.unwrap_or(0);
        match rest {
            Some(_) => self.wanted.push_front(job),
            None => self.read.push(job),
        }
    }

    pub fn into_history(self) -> History {
        History { jobs: self.read }
    }
}
