//! The worker's stream: registrations and reports.

use std::time::Duration;

use machine::{Ended, News, OpenSession, Report};
use model::constraint::is_label;
use model::time::micros;
use model::validate::{NAME_BYTES_MAX, WORKER_LABELS_MAX, is_name};
use model::{Kind, Run, SessionId, Timestamp, Token};

use super::{Errors, Malformed, Path, at, blob, outcome, word};
use crate::v1;
use crate::v1::report::News as WireNews;

/// Kinds by name. What this version does not know is left out: nothing here could ask for it.
pub fn kinds(words: &[String]) -> Vec<Kind> {
    words.iter().filter_map(|text| word::read(text, "kind").ok()).collect()
}

/// Functions that one worker may offer.
pub const FUNCTIONS_MAX: usize = 1_024;

/// The command that registers the worker that says `hello`. The session's id and the hash of the secret are the
/// leader's to make.
pub fn open_session(
    hello: v1::Hello,
    session: SessionId,
    secret_hash: u64,
) -> Result<OpenSession, Malformed> {
    let mut errors = Errors::default();
    check_identity(&mut errors, &hello);
    check_functions(&mut errors, &hello.functions);
    errors.finish(OpenSession {
        session,
        worker: hello.worker,
        secret_hash,
        capacity: hello.capacity.unwrap_or_default().into(),
        labels: hello.labels,
        kinds: kinds(&hello.kinds),
        functions: hello.functions,
        isolation: hello.isolation,
    })
}

// Every replica keeps what a worker says of itself for as long as it knows the worker.
fn check_identity(errors: &mut Errors, hello: &v1::Hello) {
    if !is_name(&hello.worker) {
        errors.refuse("worker", format!("has 1 to {NAME_BYTES_MAX} letters, digits, -, _ and . only"));
    }
    if hello.labels.len() > WORKER_LABELS_MAX {
        errors.refuse("labels", format!("{} labels are above {WORKER_LABELS_MAX}", hello.labels.len()));
    }
    if !hello.labels.iter().all(|(label, value)| is_label(label) && is_label(value)) {
        errors.refuse("labels", "labels and values have letters, digits, -, _, . and / only");
    }
    if hello.isolation.len() > NAME_BYTES_MAX {
        errors.refuse("isolation", format!("has at most {NAME_BYTES_MAX} bytes"));
    }
}

fn check_functions(errors: &mut Errors, functions: &[String]) {
    if functions.len() > FUNCTIONS_MAX {
        errors.refuse("functions", format!("{} functions are above {FUNCTIONS_MAX}", functions.len()));
    }
    if !functions.iter().all(|name| (1..=NAME_BYTES_MAX).contains(&name.len())) {
        errors.refuse("functions", format!("a function's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
}

impl From<&Report> for v1::Report {
    fn from(report: &Report) -> v1::Report {
        let news = match &report.news {
            News::Started { at } => WireNews::Started(v1::Started { at_unix_us: at.0 }),
            News::Ended(ended) => WireNews::Ended(ended.as_ref().into()),
            News::Recalled => WireNews::Recalled(v1::Recalled {}),
        };
        v1::Report {
            seq: report.seq,
            token: report.token.0,
            tasks: Some(report.tasks.into()),
            news: Some(news),
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = Malformed;
    fn try_from(report: v1::Report) -> Result<Report, Malformed> {
        let mut errors = Errors::default();
        let tasks = Run::try_from(report.tasks.unwrap_or_default());
        let tasks = errors.take("tasks", tasks, Run::new(0, 1));
        let news = match report.news {
            Some(WireNews::Started(started)) => News::Started { at: Timestamp(started.at_unix_us) },
            Some(WireNews::Ended(ended)) => News::Ended(Box::new(read_ended(&mut errors, &"ended", ended))),
            Some(WireNews::Recalled(_)) => News::Recalled,
            None => {
                errors.refuse("news", "a report says what happened");
                News::Recalled
            }
        };
        errors.finish(Report { seq: report.seq, token: Token(report.token), tasks, news })
    }
}

impl From<&Ended> for v1::Ended {
    fn from(ended: &Ended) -> v1::Ended {
        v1::Ended {
            verdict: word::verdict(ended.verdict).to_owned(),
            reason: word::reason(ended.reason).to_owned(),
            exit_code: ended.exit_code,
            signal: ended.signal,
            message: ended.message.clone(),
            result: blob::write_optional(&ended.result),
            started_unix_us: ended.started.map(|at| at.0),
            ended_unix_us: ended.ended.0,
            cpu_time_us: micros(ended.cpu_time),
            memory_peak: ended.memory_peak,
        }
    }
}

impl TryFrom<v1::Ended> for Ended {
    type Error = Malformed;
    fn try_from(ended: v1::Ended) -> Result<Ended, Malformed> {
        let mut errors = Errors::default();
        let ended = read_ended(&mut errors, &"", ended);
        errors.finish(ended)
    }
}

fn read_ended(errors: &mut Errors, path: Path<'_>, ended: v1::Ended) -> Ended {
    let (verdict, reason) = outcome::read_end(errors, path, &ended.verdict, &ended.reason);
    Ended {
        verdict,
        reason,
        exit_code: ended.exit_code,
        signal: ended.signal,
        message: ended.message,
        result: blob::read_optional(errors, &at(path, "result"), ended.result),
        started: ended.started_unix_us.map(Timestamp),
        ended: Timestamp(ended.ended_unix_us),
        cpu_time: Duration::from_micros(ended.cpu_time_us),
        memory_peak: ended.memory_peak,
    }
}
