//! What went wrong, said in four lines: what, why, what mends it, and whether it happened.

use std::fmt::Write as _;
use std::path::Path;

use client::{Happened, code};
use serde_json::json;

use crate::exit::Exit;
use crate::jobfile::BadFile;
use crate::output::paint::{Paint, Tone};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A stable word: `no-leader`, `usage`.
    pub code: String,
    pub what: String,
    pub why: Vec<String>,
    pub fix: String,
    /// Whether a write happened, as a sentence; empty where nothing was to be written.
    pub outcome: String,
    pub happened: Option<Happened>,
    pub request_id: Option<String>,
    pub exit: Exit,
    /// Nothing is printed: standard output was closed by its reader.
    pub is_silent: bool,
}

impl Fault {
    pub fn new(code: &str, exit: Exit, what: impl Into<String>) -> Fault {
        Fault {
            code: code.to_owned(),
            what: what.into(),
            why: Vec::new(),
            fix: String::new(),
            outcome: String::new(),
            happened: None,
            request_id: None,
            exit,
            is_silent: false,
        }
    }

    pub fn usage(what: impl Into<String>) -> Fault {
        Fault::new("usage", Exit::USAGE, what)
    }

    pub fn not_found(what: impl Into<String>) -> Fault {
        Fault::new(code::NOT_FOUND, Exit::NOT_FOUND, what)
    }

    pub fn failed(what: impl Into<String>) -> Fault {
        Fault::new("failed", Exit::FAILED, what)
    }

    pub fn why(mut self, why: impl Into<String>) -> Fault {
        self.why.push(why.into());
        self
    }

    /// With what caused the error, and what caused that.
    pub fn because(self, error: &(dyn std::error::Error + 'static)) -> Fault {
        std::iter::successors(error.source(), |error| error.source())
            .fold(self, |fault, cause| fault.why(cause.to_string()))
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Fault {
        self.fix = fix.into();
        self
    }

    /// A read that failed. `doing` as in `cannot list jobs`.
    pub fn reading(doing: &str, error: client::Error) -> Fault {
        Fault::of_call(doing, &error)
    }

    /// A write that failed. `done` says what was to happen, as in `the job was accepted`.
    pub fn writing(doing: &str, not_done: &str, error: client::Error) -> Fault {
        let mut fault = Fault::of_call(doing, &error);
        let request = error.request_id().map(|id| id.to_string());
        let id = request.clone().unwrap_or_default();
        fault.outcome = match error.happened() {
            Happened::No if error.is_unavailable() => {
                format!("{not_done}; a retry is safe (request id {id})")
            }
            Happened::No => format!("{not_done}."),
            Happened::Maybe => {
                format!(
                    "It is UNKNOWN whether it happened; a retry with --request-id {id} is safe: it is done once"
                )
            }
        };
        fault.happened = Some(error.happened());
        fault.request_id = request;
        fault
    }

    /// A change without a request id, because to make it twice is to make it once. `look` says where it can be seen.
    pub fn moving(doing: &str, not_done: &str, look: &str, error: client::Error) -> Fault {
        let mut fault = Fault::of_call(doing, &error);
        fault.outcome = match error.happened() {
            Happened::No if error.is_unavailable() => format!("{not_done}; a retry is safe"),
            Happened::No => format!("{not_done}."),
            Happened::Maybe => format!("It is UNKNOWN whether it happened; {look}, and a retry is safe"),
        };
        fault.happened = Some(error.happened());
        fault
    }

    fn of_call(doing: &str, error: &client::Error) -> Fault {
        let failure = &error.failure;
        let (summary, mut why) = match failure.code.as_str() {
            code::UNAVAILABLE => ("no replica can be reached".to_owned(), Vec::new()),
            code::NO_LEADER | code::NOT_LEADER => {
                ("the cluster has no leader".to_owned(), vec![failure.message.clone()])
            }
            _ => {
                let mut lines = failure.message.lines().map(str::to_owned);
                let first = lines.next().unwrap_or_default();
                (first, lines.collect())
            }
        };
        if error.is_unavailable() {
            let told = |(address, text): &(String, String)| {
                let is_new = !why.contains(text);
                is_new.then(|| format!("{address}: {text}"))
            };
            let tried: Vec<String> = error.tried.iter().filter_map(told).collect();
            why.extend(tried);
        }
        let fix = match (failure.fix.as_str(), failure.code.as_str()) {
            ("", code::UNAVAILABLE) => {
                "start the replicas, or name others with --servers or --context".to_owned()
            }
            (fix, _) => fix.to_owned(),
        };
        Fault {
            why,
            fix,
            ..Fault::new(&failure.code, Exit::of_code(&failure.code), format!("{doing}: {summary}"))
        }
    }

    /// Every problem of every file.
    pub fn bad_files(doing: &str, bad: &[BadFile]) -> Fault {
        let count: usize = bad.iter().map(|bad| bad.problems.len()).sum();
        let s = if count == 1 { "" } else { "s" };
        let files = match bad {
            [bad] => bad.file.clone(),
            _ => format!("{} files", bad.len()),
        };
        let lines = bad.iter().flat_map(|bad| bad.to_string().lines().map(str::to_owned).collect::<Vec<_>>());
        Fault {
            why: lines.collect(),
            fix: "correct the file; `baton example` shows a whole one".to_owned(),
            outcome: "Nothing was submitted.".to_owned(),
            happened: Some(Happened::No),
            ..Fault::new(code::INVALID_SPEC, Exit::USAGE, format!("{doing}: {count} error{s} in {files}"))
        }
    }

    pub fn of_file(doing: &str, path: &Path, error: &std::io::Error) -> Fault {
        Fault::failed(format!("{doing}: {}: {error}", path.display()))
    }

    pub fn text(&self, paint: Paint) -> String {
        let label = paint.tone(Tone::Bad, &format!("error[{}]", self.code));
        let mut text = format!("{label}: {}\n", self.what);
        for (place, why) in self.why.iter().enumerate() {
            let head = if place == 0 { "  why:  " } else { "        " };
            let _ = writeln!(text, "{head}{why}");
        }
        if !self.fix.is_empty() {
            let _ = writeln!(text, "  fix:  {}", self.fix);
        }
        if !self.outcome.is_empty() {
            let _ = writeln!(text, "        {}", self.outcome);
        }
        text
    }

    pub fn json(&self) -> String {
        let happened = self.happened.map(|happened| match happened {
            Happened::No => "no",
            Happened::Maybe => "maybe",
        });
        let error = json!({"error": {
            "code": self.code, "message": self.what, "why": self.why, "fix": self.fix,
            "happened": happened, "request_id": self.request_id, "exit": self.exit.0,
        }});
        format!("{error}\n")
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        let is_silent = error.kind() == std::io::ErrorKind::BrokenPipe;
        let exit = if is_silent { Exit::DONE } else { Exit::FAILED };
        Fault { is_silent, ..Fault::new("io", exit, error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use client::Failure;

    use super::*;

    fn error(failure: Failure) -> client::Error {
        client::Error { failure, tried: vec![("n2:7070".to_owned(), "connection refused".to_owned())] }
    }

    #[test]
    fn a_write_that_was_not_done_says_so() {
        let id = "01JD3XCV8Y5ZJ0T9GQ2M4W7N6K".parse().unwrap();
        let failure = Failure::no_leader("1 of 3 replicas answers (needs 2)").request(id);
        let fault = Fault::writing("cannot submit \"etl\"", "The job was NOT accepted", error(failure));
        let expected = "\
error[no-leader]: cannot submit \"etl\": the cluster has no leader
  why:  1 of 3 replicas answers (needs 2)
        n2:7070: connection refused
  fix:  see that a majority of the replicas runs and reaches each other: `baton cluster status`
        The job was NOT accepted; a retry is safe (request id 01JD3XCV8Y5ZJ0T9GQ2M4W7N6K)
";
        assert_eq!(fault.text(Paint::plain()), expected);
        assert_eq!(fault.exit, Exit(6));
    }

    #[test]
    fn a_write_that_may_have_been_done_says_that() {
        let failure = Failure::new(code::UNAVAILABLE, tonic::Code::Unavailable, "reset").maybe_happened();
        let fault = Fault::writing("cannot submit", "The job was NOT accepted", error(failure));
        assert!(fault.outcome.starts_with("It is UNKNOWN"), "{}", fault.outcome);
        assert!(fault.json().contains("\"happened\":\"maybe\""));
    }

    #[test]
    fn what_needs_no_request_id_says_whether_it_happened_too() {
        let failure = Failure::new(code::UNAVAILABLE, tonic::Code::Unavailable, "reset");
        let moving = |failure| Fault::moving("cannot move", "It was not moved", "look there", error(failure));
        let fault = moving(failure.clone());
        assert_eq!(
            (fault.outcome.as_str(), fault.happened),
            ("It was not moved; a retry is safe", Some(Happened::No))
        );
        let fault = moving(failure.maybe_happened());
        assert!(
            fault.outcome.contains("UNKNOWN") && fault.outcome.contains("look there"),
            "{}",
            fault.outcome
        );
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let fault = Fault::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(fault.is_silent && fault.exit == Exit::DONE);
    }
}
