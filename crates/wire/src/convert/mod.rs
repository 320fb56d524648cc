//! Conversions between the generated messages and the model: total from the model, checked towards it.
//!
//! A message that cannot be read gives every error at once, each with the path of its field.

mod asked;
mod blob;
mod booking;
mod event;
mod outcome;
mod periodic;
mod resources;
mod spec;
mod views;
mod word;
mod work;
mod writes;

use std::fmt::{self, Display};
use std::time::Duration;

use model::time::micros;
use model::{Run, RunSet, SpecError};

pub use booking::booking_spec;
pub use event::event;
pub use periodic::periodic_spec;
pub use spec::read_job;
pub use views::read_filter_states;
pub use work::{kinds, open_session};
pub use writes::{actor, claim, job_change, name, queue_spec, request_id, target, targets};

use crate::v1;

/// Everything that is wrong with a message.
pub type Malformed = Vec<SpecError>;

/// Collects what is wrong, each with the path of its field.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    list: Vec<SpecError>,
}

impl Errors {
    pub fn refuse(&mut self, path: impl Display, message: impl Into<String>) {
        self.list.push(SpecError { path: path.to_string(), message: message.into() });
    }

    /// The value, or a stand-in where it has been refused: the caller's result is thrown away then.
    pub fn take<T, E: Into<String>>(&mut self, path: impl Display, value: Result<T, E>, otherwise: T) -> T {
        value.unwrap_or_else(|error| {
            self.refuse(path, error);
            otherwise
        })
    }

    pub fn into_list(self) -> Vec<SpecError> {
        self.list
    }

    pub fn finish<T>(self, value: T) -> Result<T, Malformed> {
        if self.list.is_empty() { Ok(value) } else { Err(self.list) }
    }
}

/// Where something lies in a message. Put in words only where something is wrong, since nearly all that is read is right.
pub(crate) type Path<'a> = &'a dyn Display;

/// The path of a field of what lies at `path`.
pub(crate) fn at<F: Display>(path: Path<'_>, field: F) -> At<'_, F> {
    At { path, field }
}

pub(crate) struct At<'a, F> {
    path: Path<'a>,
    field: F,
}

impl<F: Display> Display for At<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, field) = (self.path.to_string(), &self.field);
        if path.is_empty() { field.fmt(f) } else { write!(f, "{path}.{field}") }
    }
}

pub(crate) fn duration_us(duration: Option<Duration>) -> Option<u64> {
    duration.map(micros)
}

pub(crate) fn none_if_empty(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

impl From<Run> for v1::Run {
    fn from(run: Run) -> v1::Run {
        v1::Run { first: run.first, len: run.len }
    }
}

impl TryFrom<v1::Run> for Run {
    type Error = String;
    fn try_from(run: v1::Run) -> Result<Run, String> {
        if run.len == 0 {
            return Err("a run has at least one number".to_owned());
        }
        match run.first.checked_add(run.len) {
            Some(_) => Ok(Run::new(run.first, run.len)),
            None => Err(format!("a run of {} from {} goes beyond the largest number", run.len, run.first)),
        }
    }
}

/// A set of numbers; `None` for no runs, which stands for all of them.
pub fn run_set(runs: Vec<v1::Run>, path: &str) -> Result<Option<RunSet>, Malformed> {
    let mut errors = Errors::default();
    let mut set = RunSet::new();
    for (place, run) in runs.iter().enumerate() {
        match Run::try_from(*run) {
            Ok(run) => set.insert(run),
            Err(error) => errors.refuse(format!("{path}[{place}]"), error),
        }
    }
    errors.finish((!set.is_empty()).then_some(set))
}
