//! How each thing looks as a row of a table.

use model::resources::format_amount;
use model::time::format_duration;
use model::views::{
    Counts, JobState, JobView, MemberView, QueueView, ReasonView, TaskState, TaskView, UserView, WorkerState,
    WorkerView,
};
use model::{Outcome, Reason, Resources, Timestamp, Verdict};

use super::paint::Tone;
use super::table::Cell;
use super::times::{short, when};

#[derive(Clone, Copy, Debug)]
pub struct View {
    pub is_wide: bool,
    /// Relative times count from here.
    pub now: Option<Timestamp>,
}

pub trait Row {
    /// What `-o name` prints.
    fn name(&self) -> String;
    fn columns(is_wide: bool) -> Vec<&'static str>;
    fn cells(&self, view: View) -> Vec<Cell>;
}

fn columns(always: &[&'static str], wide: &[&'static str], is_wide: bool) -> Vec<&'static str> {
    always.iter().chain(if is_wide { wide } else { &[] }).copied().collect()
}

pub fn job_state(state: JobState) -> Cell {
    let (glyph, tone) = match state {
        JobState::Waiting => ('○', Tone::Dim),
        JobState::Running => ('●', Tone::Busy),
        JobState::Paused => ('‖', Tone::Warn),
        JobState::Succeeded => ('✓', Tone::Good),
        JobState::Failed => ('✗', Tone::Bad),
        JobState::Cancelled => ('⊘', Tone::Warn),
    };
    Cell::toned(format!("{glyph} {state}"), tone)
}

pub fn task_state(state: TaskState) -> Cell {
    let (glyph, tone) = match state {
        TaskState::Blocked => ('⋯', Tone::Dim),
        TaskState::Delayed => ('◷', Tone::Dim),
        TaskState::Ready => ('○', Tone::Plain),
        TaskState::Placed => ('◐', Tone::Busy),
        TaskState::Running => ('●', Tone::Busy),
        TaskState::Succeeded => ('✓', Tone::Good),
        TaskState::Failed => ('✗', Tone::Bad),
        TaskState::Cancelled => ('⊘', Tone::Warn),
        TaskState::Skipped => ('↷', Tone::Warn),
    };
    Cell::toned(format!("{glyph} {state}"), tone)
}

/// `3 running, 7 ready, 90 succeeded`: only what is not zero.
pub fn counts_text(counts: &Counts) -> String {
    let all = [
        (counts.failed, "failed"),
        (counts.running, "running"),
        (counts.ready, "ready"),
        (counts.delayed, "delayed"),
        (counts.blocked, "blocked"),
        (counts.succeeded, "succeeded"),
        (counts.cancelled, "cancelled"),
        (counts.skipped, "skipped"),
    ];
    let list: Vec<String> =
        all.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}

impl Row for JobView {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let wide = ["priority", "user", "finished", "tasks", "labels"];
        columns(&["job", "name", "state", "done", "queue", "submitted"], &wide, is_wide)
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let mut cells = vec![
            self.id.to_string().into(),
            self.name.clone().into(),
            job_state(self.state),
            format!("{}/{}", self.counts.finished(), self.counts.total()).into(),
            self.queue.clone().into(),
            when(self.submitted, view.now).into(),
        ];
        if view.is_wide {
            let labels: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let finished = self.finished.map_or_else(|| "-".to_owned(), |time| when(time, view.now));
            let more = [
                self.priority.to_string(),
                self.actor.user.clone(),
                finished,
                counts_text(&self.counts),
                labels.join(","),
            ];
            cells.extend(more.map(Cell::from));
        }
        cells
    }
}

impl Row for TaskView {
    fn name(&self) -> String {
        self.id.to_string()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let wide = ["round", "started", "took", "cpu", "memory", "token"];
        columns(&["task", "name", "state", "attempt", "worker", "outcome"], &wide, is_wide)
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let outcome = self.outcome.as_ref();
        // How an earlier attempt ended does not say what the next one waits for.
        let texts = [outcome.map(outcome_text).unwrap_or_default(), self.note.clone()];
        let told = texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        let mut cells = vec![
            self.id.to_string().into(),
            task_name(self).into(),
            task_state(self.state),
            self.attempt.to_string().into(),
            self.worker.clone().unwrap_or_else(|| "-".to_owned()).into(),
            told.into(),
        ];
        if view.is_wide {
            let of = |text: &dyn Fn(&Outcome) -> String| outcome.map_or_else(|| "-".to_owned(), text);
            let more = [
                self.round.to_string(),
                of(&|outcome| outcome.started.map_or_else(|| "-".to_owned(), |time| when(time, view.now))),
                of(&|outcome| {
                    outcome.started.map_or_else(|| "-".to_owned(), |time| short(outcome.ended.since(time)))
                }),
                of(&|outcome| short(outcome.cpu_time)),
                of(&|outcome| size(outcome.memory_peak)),
                of(&|outcome| outcome.token.to_string()),
            ];
            cells.extend(more.map(Cell::from));
        }
        cells
    }
}

/// `shard[17]`.
pub fn task_name(task: &TaskView) -> String {
    match task.array_index {
        Some(index) => format!("{}[{index}]", task.name),
        None => task.name.clone(),
    }
}

/// `exit 1`, `signal 9`, `timed out`, with the first line of why.
pub fn outcome_text(outcome: &Outcome) -> String {
    let mut text = match (outcome.reason, outcome.exit_code, outcome.signal) {
        (Reason::Exited, Some(code), _) => format!("exit {code}"),
        (Reason::Exited, None, Some(signal)) => format!("signal {signal}"),
        (Reason::Exited, None, None) => "done".to_owned(),
        (reason, _, _) => reason_text(reason).to_owned(),
    };
    let last = outcome.message.lines().rfind(|line| !line.trim().is_empty());
    if let (Some(line), true) = (last, outcome.verdict != Verdict::Succeeded) {
        let line: String = line.trim().chars().take(80).collect();
        text = format!("{text}: {line}");
    }
    text
}

pub fn reason_text(reason: Reason) -> &'static str {
    match reason {
        Reason::Exited => "exited",
        Reason::TimedOut => "timed out",
        Reason::Cancelled => "cancelled",
        Reason::NotStarted => "could not be started",
        Reason::OutOfMemory => "out of memory",
        Reason::LeaseEnded => "lease ended",
        Reason::WorkerLost => "worker lost",
        Reason::Unsupported => "unsupported",
        Reason::WaitedTooLong => "waited too long",
    }
}

/// A size for people: three digits.
pub fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

impl Row for UserView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        columns(&["user", "weight", "jobs", "share", "share before"], &[], is_wide)
    }

    fn cells(&self, _: View) -> Vec<Cell> {
        let percent = |share: f64| format!("{:.1}%", share * 100.0);
        vec![
            self.name.clone().into(),
            self.weight.to_string().into(),
            self.jobs.to_string().into(),
            percent(self.share).into(),
            percent(self.past_share).into(),
        ]
    }
}

impl Row for QueueView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let wide = ["order", "backfill", "mode", "running max", "usage", "late", "tasks"];
        columns(&["queue", "weight", "state", "jobs", "ready", "running", "oldest wait"], &wide, is_wide)
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let state = if self.paused {
            Cell::toned("‖ paused", Tone::Warn)
        } else {
            Cell::toned("● open", Tone::Good)
        };
        let mut cells = vec![
            self.name.clone().into(),
            self.weight.to_string().into(),
            state,
            self.unfinished_jobs.to_string().into(),
            self.counts.ready.to_string().into(),
            self.counts.running.to_string().into(),
            self.oldest_wait.map_or_else(|| "-".to_owned(), short).into(),
        ];
        if view.is_wide {
            let max = self.running_max.map_or_else(|| "-".to_owned(), |max| max.to_string());
            let order = match (self.policy.ageing, self.policy.quantum) {
                (ageing, _) if !ageing.is_zero() => {
                    format!("{}, +1 each {}", self.policy.order, format_duration(ageing))
                }
                (_, quantum) if !quantum.is_zero() => {
                    format!("{}, {} each", self.policy.order, format_duration(quantum))
                }
                _ => self.policy.order.to_string(),
            };
            let preempt = if self.policy.preempt { ", preempt" } else { "" };
            let auto = if self.auto { ", auto" } else { "" };
            let backfill = format!("{}{preempt}{auto}", self.policy.backfill);
            let usage = format!("{:.1}", self.usage);
            let late = match self.deadlines_met + self.deadlines_missed {
                0 => "-".to_owned(),
                ended => format!("{} of {ended}", self.deadlines_missed),
            };
            let mode = self.policy.mode.to_string();
            cells
                .extend([order, backfill, mode, max, usage, late, counts_text(&self.counts)].map(Cell::from));
        }
        cells
    }
}

fn worker_state(state: WorkerState) -> Cell {
    let (glyph, tone) = match state {
        WorkerState::Live => ('●', Tone::Good),
        WorkerState::Cordoned => ('‖', Tone::Warn),
        WorkerState::Draining => ('↓', Tone::Warn),
        WorkerState::Gone => ('✗', Tone::Bad),
    };
    Cell::toned(format!("{glyph} {state}"), tone)
}

impl Row for WorkerView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        let wide = ["session", "kinds", "functions", "isolation", "labels"];
        columns(&["worker", "state", "attempts", "used", "offers"], &wide, is_wide)
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let mut cells = vec![
            self.name.clone().into(),
            worker_state(self.state),
            self.attempts.to_string().into(),
            used(&self.used, &self.capacity.total).into(),
            self.capacity.total.to_string().into(),
        ];
        if view.is_wide {
            let kinds: Vec<String> = self.kinds.iter().map(|kind| kind.to_string()).collect();
            let labels: Vec<String> =
                self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let session = self.session.map_or_else(|| "-".to_owned(), |session| session.to_string());
            let more = [
                session,
                kinds.join(","),
                self.functions.join(","),
                self.isolation.clone(),
                labels.join(","),
            ];
            cells.extend(more.map(Cell::from));
        }
        cells
    }
}

/// `cpu 3/4`: what is taken of what is offered.
fn used(used: &Resources, total: &Resources) -> String {
    let part = |(name, amount): (&str, u64)| {
        format!("{name} {}/{}", format_amount(name, amount), format_amount(name, total.get(name)))
    };
    let list: Vec<String> = used.iter().map(part).collect();
    if list.is_empty() { "nothing".to_owned() } else { list.join(", ") }
}

impl Row for MemberView {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn columns(is_wide: bool) -> Vec<&'static str> {
        columns(&["replica", "role", "api", "raft", "matched"], &["id", "level max"], is_wide)
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let (glyph, tone) = match self.role.as_str() {
            "leader" => ('★', Tone::Good),
            "unreachable" => ('✗', Tone::Bad),
            _ => ('●', Tone::Plain),
        };
        let mut cells = vec![
            self.name.clone().into(),
            Cell::toned(format!("{glyph} {}", self.role), tone),
            self.api_address.clone().into(),
            self.raft_address.clone().into(),
            self.matched.map_or_else(|| "-".to_owned(), |index| index.to_string()).into(),
        ];
        if view.is_wide {
            cells.push(self.id.to_string().into());
            cells.push(self.level_max.map_or_else(|| "-".to_owned(), |level| level.to_string()).into());
        }
        cells
    }
}

impl Row for ReasonView {
    fn name(&self) -> String {
        self.code.clone()
    }

    fn columns(_: bool) -> Vec<&'static str> {
        vec!["count", "reason", "workers", "fix"]
    }

    fn cells(&self, view: View) -> Vec<Cell> {
        let shown = if view.is_wide { usize::MAX } else { 4 };
        let mut workers: Vec<&str> = self.workers.iter().map(String::as_str).take(shown).collect();
        // The names were cut short where they came from; the count is of all.
        let all = self.count.max(self.workers.len() as u64);
        let rest = all - workers.len() as u64;
        let more = format!("{rest} more");
        if rest > 0 && !workers.is_empty() {
            workers.push(&more);
        }
        vec![
            self.count.to_string().into(),
            self.message.clone().into(),
            workers.join(", ").into(),
            self.fix.clone().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_its_own_glyph() {
        let glyphs: std::collections::BTreeSet<char> =
            TaskState::ALL.iter().filter_map(|state| task_state(*state).text.chars().next()).collect();
        assert_eq!(glyphs.len(), TaskState::ALL.len());
    }

    #[test]
    fn workers_that_are_not_named_are_counted() {
        let workers = (0..20).map(|number| format!("w{number}")).collect();
        let reason = ReasonView { code: "no_room".into(), count: 30, workers, ..blank() };
        let view = View { is_wide: false, now: None };
        assert_eq!(reason.cells(view)[2].text, "w0, w1, w2, w3, 26 more");
        assert_eq!(ReasonView { count: 7, ..blank() }.cells(view)[2].text, "");
    }

    #[test]
    fn a_task_that_waits_again_says_how_it_ended_and_what_it_waits_for() {
        let outcome = serde_json::json!({"verdict": "failed", "reason": "exited", "exit_code": 7,
            "placed": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:00:01Z", "worker": "w1", "token": "1",
            "attempt": 1, "round": 1});
        let told = |note: &str, outcome: &serde_json::Value| {
            let task: TaskView = serde_json::from_value(serde_json::json!({"id": "j1.0", "name": "a",
                "state": "ready", "attempt": 1, "round": 1, "outcome": outcome, "note": note}))
            .unwrap();
            task.cells(View { is_wide: false, now: None })[5].text.clone()
        };
        assert_eq!(told("expected to start by noon", &outcome), "exit 7; expected to start by noon");
        assert_eq!(told("", &outcome), "exit 7");
        assert_eq!(told("waits for j1", &serde_json::Value::Null), "waits for j1");
        assert_eq!(told("", &serde_json::Value::Null), "");
    }

    fn blank() -> ReasonView {
        let (code, message, fix) = Default::default();
        ReasonView { code, message, count: 0, workers: Vec::new(), fix }
    }

    #[test]
    fn what_is_zero_is_not_told() {
        let counts = Counts { running: 3, succeeded: 90, ..Counts::default() };
        assert_eq!(counts_text(&counts), "3 running, 90 succeeded");
        assert_eq!(counts_text(&Counts::default()), "none");
    }
}
