//! A history as a workload: what ended takes as long as it really took, under whatever policy.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use model::size::PARTS;
use model::views::{EstimateFrom, TaskState};
use model::{Dependency, JobId, Timestamp};
use serde::Serialize;

use crate::history::{History, PastJob, PastTask};
use crate::workload::{Job, Task, Workload};

/// A job with more tasks is replayed as several, submitted together, where nothing in it waits for anything else in it.
const TASKS_PER_JOB: usize = 10_000;
/// Jobs whose tasks wait for each other are replayed whole, up to so many tasks and so many that one waits for.
const ENTWINED_MAX: usize = 100_000;
const WAITS_MAX: usize = 1_000_000;
/// Shorter ones count as so long.
const RUN_MIN: Duration = Duration::from_millis(1);

/// A history that can be run again.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Its tasks ask for parts of a core; so many of them are one.
    pub workload: Workload,
    pub parts_per_core: u64,
    pub facts: Facts,
}

/// What is replayed of a history, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// Jobs of which something is replayed.
    pub jobs: u64,
    /// Tasks that are replayed; a gang is one.
    pub tasks: u64,
    /// Tasks that were left out, for they had not ended, or never began.
    pub not_ended: u64,
    /// Tasks that were left out, for they ask for more cores than there are to be.
    pub too_wide: u64,
    /// Tasks that were left out, for their job has too many of them that wait for each other.
    pub too_entwined: u64,
    /// Replayed tasks that took more than one attempt: only the last one is replayed.
    pub retried: u64,
    /// Replayed tasks of which nobody could know how long they would take.
    pub without_estimate: u64,
    /// From the first submit to the last end.
    pub span_s: f64,
    /// What the replayed tasks that waited for no others did wait, from submit to start, in seconds: their mean.
    pub measured_mean_wait_s: Option<f64>,
}

impl Facts {
    pub fn left_out(&self) -> u64 {
        self.not_ended + self.too_wide + self.too_entwined
    }
}

impl Replay {
    /// Cores, in ten-thousandths, in the parts that the workload counts in.
    pub fn cores(&self, parts: u64) -> u64 {
        let cores = u128::from(parts) * u128::from(self.parts_per_core) / u128::from(PARTS);
        u64::try_from(cores).unwrap_or(u64::MAX)
    }
}

/// The jobs of the history on at most so many ten-thousandths of a core, `None` for any. A task's estimate is the one that it
/// gave; else the mean of the last two runs of its names that had ended when its job was submitted (what a queue that goes by
/// estimates would have learnt); else what the cluster had learnt when the history was written; else its timeout.
pub fn replay(history: &History, parts_max: Option<u64>) -> Replay {
    let mut jobs: Vec<&PastJob> = history.jobs.iter().collect();
    jobs.sort_by_key(|job| job.job);
    let mut maker = Maker {
        runs: past_runs(&jobs),
        parts_max: parts_max.unwrap_or(u64::MAX),
        places: BTreeMap::new(),
        made: Vec::new(),
        submits: BTreeMap::new(),
        facts: Facts::default(),
        waits: (Duration::ZERO, 0),
    };
    // A job that was to start later counts as submitted then, and so does what waits for it.
    for job in &jobs {
        let waits_for =
            job.after.iter().chain(job.tasks.iter().flat_map(|task| &task.after).filter_map(of_job));
        let others = waits_for.filter_map(|other| maker.submits.get(other)).copied().max();
        let own = job.not_before.map_or(job.submitted, |at| at.max(job.submitted));
        maker.submits.insert(job.job, others.map_or(own, |others| others.max(own)));
    }
    jobs.sort_by_key(|job| (maker.submits[&job.job], job.job));
    jobs.iter().for_each(|job| maker.job(job));
    maker.finish(&jobs)
}

fn of_job(dependency: &Dependency) -> Option<&JobId> {
    match dependency {
        Dependency::Task(_) => None,
        Dependency::Job(id) => Some(id),
    }
}

/// By names: when each run that succeeded had ended, and how long it took; the earlier first.
type PastRuns<'a> = BTreeMap<(&'a str, &'a str), Vec<(Timestamp, Duration)>>;

fn past_runs<'a>(jobs: &[&'a PastJob]) -> PastRuns<'a> {
    let mut runs = PastRuns::new();
    for job in jobs.iter().filter(|job| !job.name.is_empty()) {
        for task in &job.tasks {
            let succeeded = task.runs.iter().filter(|run| run.state == TaskState::Succeeded);
            let ends = succeeded.filter_map(|run| Some((run.ended?, run.took()?)));
            runs.entry((&job.name, &task.name)).or_default().extend(ends);
        }
    }
    runs.values_mut().for_each(|runs| runs.sort_unstable());
    runs
}

struct Maker<'a> {
    runs: PastRuns<'a>,
    parts_max: u64,
    /// Where the tasks of a job are in the workload.
    places: BTreeMap<JobId, Range<usize>>,
    made: Vec<Job>,
    submits: BTreeMap<JobId, Timestamp>,
    facts: Facts,
    /// Sum and number of the waits that were measured.
    waits: (Duration, u32),
}

impl Maker<'_> {
    fn job(&mut self, job: &PastJob) {
        let first = self.made.len();
        let mut tasks = Vec::new();
        // Of each group the places of its members in `tasks`, those left out left out.
        let mut members: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
        let (facts, waits) = (self.facts.clone(), self.waits);
        for task in &job.tasks {
            let placed = self.group(job, task, &mut tasks);
            members.insert(&task.name, placed);
        }
        let whole = self.whole_jobs(&job.after);
        if !self.connect(job, &members, &whole, &mut tasks) {
            let Facts { not_ended, too_wide, .. } = self.facts;
            let too_entwined = facts.too_entwined + tasks.len() as u64;
            self.facts = Facts { not_ended, too_wide, too_entwined, ..facts };
            self.waits = waits;
            tasks.clear();
        }
        if tasks.is_empty() {
            return;
        }
        self.facts.jobs += 1;
        self.facts.tasks += tasks.len() as u64;
        let entwined = tasks.iter().any(|task| !task.after.is_empty());
        let parts = if entwined { tasks.len() } else { TASKS_PER_JOB };
        while !tasks.is_empty() {
            let rest = tasks.split_off(parts.min(tasks.len()));
            // Times count from the first submit, which is known in the end.
            let submit = Duration::from_micros(self.submits[&job.job].0);
            self.made.push(Job { submit, user: job.user.clone(), priority: job.priority, tasks });
            tasks = rest;
        }
        self.places.insert(job.job, first..self.made.len());
    }

    /// Adds the members of a group that ended; tells where each is.
    fn group(&mut self, job: &PastJob, task: &PastTask, tasks: &mut Vec<Task>) -> Vec<Option<usize>> {
        if task.gang {
            let place = self.gang(job, task, tasks);
            return vec![place; task.count as usize];
        }
        let estimate = self.estimate(job, task);
        let mut places = Vec::with_capacity(task.count as usize);
        for run in &task.runs {
            let count = u64::from(run.count);
            let took = run.took().filter(|_| self.is_taken(task.parts, count));
            let Some(took) = took else {
                places.extend(std::iter::repeat_n(None, run.count as usize));
                self.facts.not_ended += if run.took().is_none() { count } else { 0 };
                continue;
            };
            self.facts.retried += if run.attempts > 1 { count } else { 0 };
            self.facts.without_estimate += if estimate.is_none() { count } else { 0 };
            if job.after.is_empty()
                && task.after.is_empty()
                && task.after_each.is_empty()
                && run.attempts == 1
            {
                let since = job.not_before.map_or(job.submitted, |at| at.max(job.submitted));
                let wait = run.started.map_or(Duration::ZERO, |start| start.since(since));
                self.waits = (self.waits.0 + wait * run.count, self.waits.1 + run.count);
            }
            for number in run.first..run.first + run.count {
                places.push(Some(tasks.len()));
                tasks.push(made(job, task, number, task.parts, took, estimate));
            }
        }
        places
    }

    /// All members as one task that is as wide as they are together: it takes until the last has ended.
    fn gang(&mut self, job: &PastJob, task: &PastTask, tasks: &mut Vec<Task>) -> Option<usize> {
        let ended = task.runs.iter().all(|run| run.took().is_some());
        let start = task.runs.iter().filter_map(|run| run.started).min();
        let end = task.runs.iter().filter_map(|run| run.ended).max();
        let (Some(start), Some(end), true) = (start, end, ended) else {
            self.facts.not_ended += 1;
            return None;
        };
        let parts = task.parts.saturating_mul(task.count.into());
        if !self.is_taken(parts, 1) {
            return None;
        }
        let estimate = self.estimate(job, task);
        self.facts.retried += u64::from(task.runs.iter().any(|run| run.attempts > 1));
        self.facts.without_estimate += u64::from(estimate.is_none());
        tasks.push(made(job, task, task.first, parts, end.since(start), estimate));
        Some(tasks.len() - 1)
    }

    /// Whether there are to be as many cores; counts those that are left out for it.
    fn is_taken(&mut self, parts: u64, count: u64) -> bool {
        let fits = parts <= self.parts_max;
        self.facts.too_wide += if fits { 0 } else { count };
        fits
    }

    fn estimate(&self, job: &PastJob, task: &PastTask) -> Option<Duration> {
        if task.estimate_from == Some(EstimateFrom::Given) {
            return task.estimate;
        }
        let learnt = || {
            let runs = self.runs.get(&(job.name.as_str(), task.name.as_str()))?;
            let known = &runs[..runs.partition_point(|(ended, _)| *ended <= job.submitted)];
            let last = known.last()?.1;
            let before = known.len().checked_sub(2).map_or(last, |place| known[place].1);
            Some((last + before) / 2)
        };
        learnt().or(task.estimate)
    }

    /// The places in the workload of these jobs, as far as they are in it.
    fn whole_jobs<'b>(&self, jobs: impl IntoIterator<Item = &'b JobId>) -> Vec<usize> {
        jobs.into_iter().filter_map(|id| self.places.get(id)).flat_map(Clone::clone).collect()
    }

    /// Lets the tasks wait for what they waited for; what was left out is over. `false` if that is too much.
    fn connect(
        &self,
        job: &PastJob,
        members: &BTreeMap<&str, Vec<Option<usize>>>,
        whole: &[usize],
        tasks: &mut [Task],
    ) -> bool {
        let mut waits = 0;
        for task in &job.tasks {
            let after_tasks = task.after.iter().filter_map(|after| match after {
                Dependency::Task(name) => Some(&members[name.as_str()]),
                Dependency::Job(_) => None,
            });
            let mut after: Vec<usize> = after_tasks.flatten().flatten().copied().collect();
            after.dedup();
            let mut after_jobs = self.whole_jobs(task.after.iter().filter_map(of_job));
            after_jobs.extend(whole);
            after_jobs.sort_unstable();
            after_jobs.dedup();
            let own = &members[task.name.as_str()];
            waits += own.len() * after.len();
            if waits > WAITS_MAX {
                return false;
            }
            for place in own.iter().flatten() {
                tasks[*place].after.clone_from(&after);
                tasks[*place].after_jobs.clone_from(&after_jobs);
            }
            for other in task.after_each.iter().map(|name| &members[name.as_str()]) {
                for (place, other) in
                    own.iter().zip(other).filter_map(|(own, other)| Some(((*own)?, (*other)?)))
                {
                    tasks[place].after.push(other);
                    waits += 1;
                }
            }
        }
        waits == 0 || tasks.len() <= ENTWINED_MAX
    }

    fn finish(mut self, jobs: &[&PastJob]) -> Replay {
        let first = self.made.iter().map(|job| job.submit).min().unwrap_or_default();
        let unit =
            self.made.iter().flat_map(|job| &job.tasks).fold(PARTS, |unit, task| gcd(unit, task.cores));
        for job in &mut self.made {
            job.submit -= first;
            job.tasks.iter_mut().for_each(|task| task.cores /= unit);
        }
        let ends = jobs.iter().flat_map(|job| &job.tasks).flat_map(|task| &task.runs);
        let ends = ends.filter(|run| run.took().is_some()).filter_map(|run| run.ended);
        let last = Duration::from_micros(ends.max().unwrap_or_default().0);
        self.facts.span_s = last.saturating_sub(first).as_secs_f64();
        let (waits, count) = self.waits;
        self.facts.measured_mean_wait_s = (count > 0).then(|| waits.as_secs_f64() / f64::from(count));
        let workload = Workload { jobs: self.made, left_out: self.facts.left_out(), ..Workload::default() };
        Replay { workload, parts_per_core: PARTS / unit, facts: self.facts }
    }
}

fn made(
    job: &PastJob,
    task: &PastTask,
    number: u32,
    parts: u64,
    took: Duration,
    estimate: Option<Duration>,
) -> Task {
    // A task that asks for none of any core takes the least there is.
    let of = Task::new(format!("{}.{number}", job.job), parts.max(1), took.max(RUN_MIN));
    Task { estimate, deadline: task.deadline, ..of }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests;
