//! Admission of periodic work: whether a set of tasks, each released every period, meets all its deadlines.
//!
//! Times are whole numbers of one unit, whichever. A text may print the bound of rate-monotonic priorities as the sum of
//! C / (2 T): that is wrong. Of tasks (C, T) = (3, 4) and (3, 5) it makes 0.675, where no policy can run work for 1.35 of the time.

mod edf;
mod fixed;
mod ratio;
mod slots;

use std::fmt;
use std::time::Duration;

use model::time::format_duration;
use ratio::Ratio;

/// One periodic task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Periodic {
    pub name: String,
    /// C: the longest run time. At least 1.
    pub cost: u64,
    /// T: from one release to the next. At least `deadline`.
    pub period: u64,
    /// D: from a release until it must be done. At least 1.
    pub deadline: u64,
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// The shorter period (rate monotonic).
    Rms,
    /// The shorter relative deadline (deadline monotonic).
    Dms,
    /// The earlier absolute deadline.
    Edf,
}

impl Priority {
    pub const ALL: [(&str, Priority); 3] =
        [("rms", Priority::Rms), ("dms", Priority::Dms), ("edf", Priority::Edf)];

    pub fn name(self) -> &'static str {
        Priority::ALL.iter().find(|(_, priority)| *priority == self).expect("all are listed").0
    }
}

/// How the set is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    pub priority: Priority,
    /// Whether a task that runs gives way at once to one that goes before it.
    pub preemptive: bool,
    /// Tasks that run at a time. At least 1.
    pub slots: u32,
    /// Tasks may run on any slot (only preemptive EDF has a test for that); else each has a slot of its own.
    pub global: bool,
}

/// What a test says if it holds, and if it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Accepted if it holds; if not, nothing is known.
    Sufficient,
    /// Accepted if and only if it holds.
    Exact,
    /// Refused if it does not hold.
    Necessary,
}

impl Strength {
    pub fn name(self) -> &'static str {
        match self {
            Strength::Sufficient => "sufficient",
            Strength::Exact => "exact",
            Strength::Necessary => "necessary",
        }
    }
}

/// One test of a set on one slot, or of all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Test {
    pub name: &'static str,
    pub source: &'static str,
    pub strength: Strength,
    /// Holds if at most `bound`.
    pub value: f64,
    pub bound: f64,
    pub holds: bool,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Test { name, source, strength, value, bound, holds } = self;
        let mark = if *holds { "holds" } else { "does not hold" };
        write!(f, "{name}: {value:.4} <= {bound:.4} {mark} ({}; {source})", strength.name())
    }
}

/// The first deadline that is missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Place in the set.
    pub task: usize,
    /// After the release of all tasks at once, or with the longest blocking before.
    pub deadline: u64,
    /// When it would be done, or the work that is due by then.
    pub needed: u64,
}

impl Miss {
    /// How far it is missed, where times are microseconds; `None`: no slot takes the task at all.
    pub fn by_how_much(&self) -> Option<String> {
        let told = |us: u64| format_duration(Duration::from_micros(us));
        let Miss { deadline, needed, .. } = *self;
        let late = || {
            format!("by {} it needs {}, {} too much", told(deadline), told(needed), told(needed - deadline))
        };
        (deadline > 0).then(late)
    }
}

/// What is told of a task that no slot takes.
pub const NO_SLOT: &str = "no slot takes it beside what it has";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    pub accepted: bool,
    /// Those that led to the answer, in the order in which they were asked.
    pub tests: Vec<Test>,
    /// Worst response times, where the test that decided gives them.
    pub responses: Vec<Option<u64>>,
    /// The slot of each task, where each has one.
    pub slots: Vec<Option<u32>>,
    pub miss: Option<Miss>,
    /// The task that the bound is of, where a test refuses that is only sufficient: nobody is sure to miss.
    pub bound_of: Option<usize>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// `C <= D <= T` does not hold, or one of them is 0.
    Figures { task: usize },
    /// No test is known for how the set is to run.
    NoTest(&'static str),
    /// The periods have so little in common that the test would take too long.
    TooLong,
}

/// Steps of one exact test, some seconds.
const STEPS_MAX: u64 = 100_000_000;

/// Whether the set meets all deadlines.
///
/// # Errors
/// Figures that are no periodic task, a way to run for which there is no test, or a test that would take too long.
pub fn admit(set: &[Periodic], how: How) -> Result<Admission, Unanswered> {
    let sound = |task: &Periodic| 0 < task.cost && task.cost <= task.deadline && task.deadline <= task.period;
    if let Some(task) = set.iter().position(|task| !sound(task)) {
        return Err(Unanswered::Figures { task });
    }
    if how.slots > 1 && how.global {
        return slots::global(set, how);
    }
    if how.slots > 1 { slots::partitioned(set, how) } else { one_slot(set, how) }
}

fn one_slot(set: &[Periodic], how: How) -> Result<Admission, Unanswered> {
    let load = utilisation(set);
    let mut admission = Admission::default();
    let necessary = Test {
        name: "utilisation",
        source: "no slot works more than all the time",
        strength: Strength::Necessary,
        value: load.value(),
        bound: 1.0,
        holds: load.at_most(1),
    };
    let overloaded = !necessary.holds;
    admission.tests.push(necessary);
    if overloaded {
        admission.miss = overload(set, how.priority)?;
        return Ok(admission);
    }
    match how.priority {
        Priority::Edf => edf::one_slot(set, how.preemptive, &mut admission)?,
        Priority::Rms | Priority::Dms => fixed::one_slot(set, how, &mut admission)?,
    }
    Ok(admission)
}

/// More work than time: who misses first, where that is soon enough to be found.
fn overload(set: &[Periodic], priority: Priority) -> Result<Option<Miss>, Unanswered> {
    match priority {
        Priority::Edf => edf::first_miss(set, false),
        Priority::Rms | Priority::Dms => Ok(fixed::first_miss(set, priority)),
    }
}

/// The sum of C / T.
fn utilisation(set: &[Periodic]) -> Ratio {
    sum(set, |task| task.period)
}

/// The sum of C / D.
fn density(set: &[Periodic]) -> Ratio {
    sum(set, |task| task.deadline)
}

fn sum(set: &[Periodic], by: impl Fn(&Periodic) -> u64) -> Ratio {
    set.iter().map(|task| Ratio::new(task.cost, by(task))).fold(Ratio::new(0, 1), Ratio::plus)
}

/// After how long all repeats; at most `u64::MAX`.
fn hyperperiod<'t>(set: impl Iterator<Item = &'t Periodic>) -> u64 {
    set.fold(1, |all, task| {
        (all / ratio::gcd(all.into(), task.period.into()) as u64).saturating_mul(task.period)
    })
}

/// Counts what a test costs.
struct Steps(u64);

impl Steps {
    fn new() -> Steps {
        Steps(STEPS_MAX)
    }

    fn take(&mut self, steps: usize) -> Result<(), Unanswered> {
        self.0 = self.0.checked_sub(steps.max(1) as u64).ok_or(Unanswered::TooLong)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
