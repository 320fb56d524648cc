//! What is to run.

use std::fmt;
use std::time::Duration;

/// Jobs in the order of their ids.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    pub jobs: Vec<Job>,
    /// Lines that were left out because nothing of them ran.
    pub left_out: u64,
    /// Nobody is told the estimates: what a task will take is learnt, in each run, from what has ended, and as long as nothing
    /// has it is its estimate.
    pub learns: bool,
}

/// What is submitted together.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Since the begin of the workload.
    pub submit: Duration,
    /// Whose.
    pub user: String,
    pub priority: i32,
    pub tasks: Vec<Task>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// As the workload calls it.
    pub name: String,
    /// At least 1.
    pub cores: u64,
    pub run: Duration,
    /// At least `run`, where it is to be kept to; absent: nobody knows.
    pub estimate: Option<Duration>,
    /// From the submit of its job.
    pub deadline: Option<Duration>,
    /// Of what is released again and again.
    pub period: Option<Duration>,
    /// Places, in the same job, of those that must have ended before.
    pub after: Vec<usize>,
    /// Places, in the workload, of earlier jobs all of whose tasks must have ended before.
    pub after_jobs: Vec<usize>,
}

impl Task {
    /// One that waits for nothing. Nobody knows how long it takes.
    pub fn new(name: impl Into<String>, cores: u64, run: Duration) -> Task {
        Task {
            name: name.into(),
            cores,
            run,
            estimate: None,
            deadline: None,
            period: None,
            after: Vec::new(),
            after_jobs: Vec::new(),
        }
    }
}

impl Workload {
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.jobs.iter().flat_map(|job| &job.tasks)
    }

    /// The most cores that one of its tasks asks for.
    pub fn widest(&self) -> u64 {
        self.tasks().map(|task| task.cores).max().unwrap_or(0)
    }

    pub fn has_estimates(&self) -> bool {
        self.learns || self.tasks().any(|task| task.estimate.is_some())
    }

    pub fn has_deadlines(&self) -> bool {
        self.tasks().any(|task| task.deadline.is_some())
    }

    pub fn has_periods(&self) -> bool {
        self.tasks().any(|task| task.period.is_some())
    }

    /// Tasks that wait for others of their job.
    pub fn has_chains(&self) -> bool {
        self.tasks().any(|task| !task.after.is_empty())
    }

    /// Jobs of different priorities.
    pub fn has_priorities(&self) -> bool {
        self.jobs.windows(2).any(|pair| pair[0].priority != pair[1].priority)
    }

    /// Jobs of several users.
    pub fn has_users(&self) -> bool {
        self.jobs.windows(2).any(|pair| pair[0].user != pair[1].user)
    }

    /// With estimates that are learnt: the mean of the last two run times of the same user and the same task of a job, as
    /// long as there is none the estimate that was given (Tsafrir, Etsion & Feitelson 2007).
    pub fn learnt(mut self) -> Workload {
        self.learns = true;
        self
    }

    /// Only the first so many jobs.
    pub fn first(mut self, jobs: usize) -> Workload {
        self.jobs.truncate(jobs);
        self
    }
}

/// What cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// From 1; 0: of no line in particular.
    pub line: usize,
    /// From 1; 0: the whole line.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, self.column) {
            (0, _) => f.write_str(&self.message),
            (line, 0) => write!(f, "line {line}: {}", self.message),
            (line, column) => write!(f, "line {line}, column {column}: {}", self.message),
        }
    }
}

impl std::error::Error for Malformed {}

/// The first cycle among tasks that wait for each other, if there is any.
pub(crate) fn cycle(tasks: &[Task]) -> Option<Vec<usize>> {
    let edges: Vec<Vec<usize>> = tasks.iter().map(|task| task.after.clone()).collect();
    model::validate::find_cycle(&edges)
}
