//! The status page: rendered here, no assets from elsewhere. A few lines of script put in what has changed, but never
//! while something on the page is selected.

use std::fmt::{Display, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use machine::{JobFilter, State};
use model::Timestamp;
use model::blob::sha256;
use model::time::format_duration;
use model::views::{ClusterView, Counts, JobState, JobView, QueueView, WorkerState, WorkerView};

use crate::api::{Api, Running};

const JOBS_SHOWN: usize = 25;
/// Rows of a table; the rest is counted.
const ROWS_MAX: usize = 200;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// For the policy that lets this script run and no other.
pub fn script_hash() -> String {
    STANDARD.encode(sha256(SCRIPT.as_bytes()))
}

pub async fn render(api: &Api) -> String {
    let config = &api.shared().config;
    let body = match api.running() {
        Ok(running) => overview(api, running).await,
        Err(failure) => format!("<p class=\"alarm\">{}</p>", Escaped(&failure.message)),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\
         <title>{cluster} · {name} · Baton</title><style>{STYLE}</style></head>\n\
         <body><header><h1>{cluster}</h1><p>replica {name} <span id=\"silent\" hidden>does not answer</span></p></header>\n\
         <main>{body}</main>\n<script>{SCRIPT}</script></body></html>\n",
        cluster = Escaped(&config.cluster),
        name = Escaped(&config.name),
    )
}

async fn overview(api: &Api, running: &Running) -> String {
    let view = api.cluster_view(running, &api.ask_members(running).await);
    let (queues, workers) = running.replica.read(|state| (state.queue_views(), state.worker_views()));
    let newest = |state: &State| state.list_jobs(&JobFilter::default(), None, JOBS_SHOWN).0;
    let jobs = running.replica.read(newest);
    let now = api.shared().clock.wall();
    [cluster(&view), members(&view), queue_table(&queues), worker_table(&workers), job_table(&jobs, now)]
        .concat()
}

/// Text of a user, made harmless.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for char in self.0.chars() {
            match char {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// A table of cells that are HTML already.
fn table(
    title: &str,
    heads: &[&str],
    rows: impl ExactSizeIterator<Item = Vec<String>>,
    none: &str,
) -> String {
    let mut html = format!("<section><h2>{title}</h2>");
    let count = rows.len();
    if count == 0 {
        let _ = write!(html, "<p class=\"none\">{none}</p></section>");
        return html;
    }
    html.push_str("<div class=\"scroll\"><table><thead><tr>");
    for head in heads {
        let _ = write!(html, "<th>{head}</th>");
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows.take(ROWS_MAX) {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    if count > ROWS_MAX {
        let _ = write!(html, "<p class=\"none\">and {} more</p>", count - ROWS_MAX);
    }
    html.push_str("</section>");
    html
}

fn text(value: impl AsRef<str>) -> String {
    Escaped(value.as_ref()).to_string()
}

/// A glyph beside each colour.
fn badge(class: &str, glyph: &str, word: impl Display) -> String {
    format!("<span class=\"{class}\">{glyph} {word}</span>")
}

fn cluster(view: &ClusterView) -> String {
    let leader = match &view.leader {
        Some(leader) => badge("good", "●", Escaped(leader)),
        None => badge("bad", "○", "none"),
    };
    let counts = &view.counts;
    let mut html = String::new();
    for alarm in &view.alarms {
        let _ = write!(html, "<p class=\"alarm\">▲ {}</p>", Escaped(alarm));
    }
    let figures = [
        ("leader", leader),
        ("term", view.term.to_string()),
        ("as of index", view.applied.to_string()),
        ("unfinished jobs", view.unfinished_jobs.to_string()),
        ("ready", counts.ready.to_string()),
        ("running", counts.running.to_string()),
        ("failed", counts.failed.to_string()),
        ("workers", format!("{} of {}", view.workers_live, view.workers_known)),
        ("version", text(&view.version)),
        ("behaviour level", view.level.to_string()),
    ];
    html.push_str("<dl>");
    for (name, value) in figures {
        let _ = write!(html, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    html.push_str("</dl>");
    html
}

fn members(view: &ClusterView) -> String {
    let row = |member: &model::views::MemberView| {
        let role = match member.role.as_str() {
            "leader" => badge("good", "●", "leader"),
            "unreachable" => badge("bad", "○", "unreachable"),
            other => badge("quiet", "●", Escaped(other)),
        };
        let matched = member.matched.map(|index| index.to_string()).unwrap_or_default();
        vec![text(&member.name), role, text(&member.api_address), text(&member.raft_address), matched]
    };
    let heads = ["name", "role", "API", "peers", "has up to"];
    table("Members", &heads, view.members.iter().map(row), "No member is known yet.")
}

fn queue_table(queues: &[QueueView]) -> String {
    let row = |queue: &QueueView| {
        let name = if queue.paused {
            format!("{} {}", Escaped(&queue.name), badge("warn", "❚❚", "paused"))
        } else {
            text(&queue.name)
        };
        let ceiling = queue.running_max.map(|max| format!(" of {max}")).unwrap_or_default();
        vec![
            name,
            queue.weight.to_string(),
            queue.unfinished_jobs.to_string(),
            (queue.counts.blocked + queue.counts.delayed).to_string(),
            queue.counts.ready.to_string(),
            format!("{}{ceiling}", queue.counts.running),
            queue.counts.failed.to_string(),
            queue.oldest_wait.map(rounded).unwrap_or_default(),
        ]
    };
    let heads = ["queue", "weight", "jobs", "blocked", "ready", "running", "failed", "oldest wait"];
    table("Queues", &heads, queues.iter().map(row), "There are no queues yet.")
}

fn worker_table(workers: &[WorkerView]) -> String {
    let row = |worker: &WorkerView| {
        let state = match worker.state {
            WorkerState::Live => badge("good", "●", "live"),
            WorkerState::Cordoned => badge("warn", "◐", "cordoned"),
            WorkerState::Draining => badge("warn", "◐", "draining"),
            WorkerState::Gone => badge("bad", "○", "gone"),
        };
        let labels: Vec<String> =
            worker.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            text(&worker.name),
            state,
            worker.attempts.to_string(),
            text(worker.used.to_string()),
            text(worker.capacity.total.to_string()),
            text(labels.join(" ")),
        ]
    };
    let heads = ["worker", "state", "attempts", "taken", "offers", "labels"];
    table(
        "Workers",
        &heads,
        workers.iter().map(row),
        "No worker has come yet: start one with `baton worker --data-dir DIR --servers HOST:PORT`.",
    )
}

fn job_table(jobs: &[JobView], now: Timestamp) -> String {
    let row = |job: &JobView| {
        let state = match job.state {
            JobState::Succeeded => badge("good", "✓", job.state),
            JobState::Failed => badge("bad", "✗", job.state),
            JobState::Cancelled => badge("quiet", "⊘", job.state),
            JobState::Paused => badge("warn", "❚❚", job.state),
            JobState::Running => badge("busy", "▶", job.state),
            JobState::Waiting => badge("quiet", "…", job.state),
        };
        let took = job.finished.unwrap_or(now).since(job.submitted);
        vec![
            job.id.to_string(),
            text(&job.name),
            state,
            text(&job.queue),
            job.priority.to_string(),
            progress(&job.counts),
            format!("<time datetime=\"{}\">{} ago</time>", job.submitted, rounded(now.since(job.submitted))),
            rounded(took),
            text(&job.actor.user),
        ]
    };
    let heads = ["job", "name", "state", "queue", "priority", "done", "submitted", "for", "user"];
    table("Newest jobs", &heads, jobs.iter().map(row), "No job was submitted yet.")
}

fn progress(counts: &Counts) -> String {
    let (done, all) = (counts.finished(), counts.total());
    let failed = if counts.failed > 0 { badge("bad", " ✗", counts.failed) } else { String::new() };
    format!("<progress max=\"{}\" value=\"{done}\"></progress> {done}/{all}{failed}", all.max(1))
}

/// As precise as it is of use to a person.
fn rounded(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let rounded = match seconds {
        0 => Duration::from_millis(duration.as_millis() as u64),
        1..120 => Duration::from_secs(seconds),
        120..7_200 => Duration::from_secs(seconds / 60 * 60),
        7_200..172_800 => Duration::from_secs(seconds / 3_600 * 3_600),
        _ => Duration::from_secs(seconds / 86_400 * 86_400),
    };
    format_duration(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_users_cannot_become_markup() {
        assert_eq!(text("<b a='1' b=\"2\">&"), "&lt;b a=&#39;1&#39; b=&quot;2&quot;&gt;&amp;");
        let worker = WorkerView {
            name: "<script>".to_owned(),
            state: WorkerState::Live,
            session: None,
            capacity: Default::default(),
            used: Default::default(),
            labels: [("<i>".to_owned(), "x".to_owned())].into(),
            kinds: Vec::new(),
            functions: Vec::new(),
            attempts: 0,
            isolation: String::new(),
        };
        let html = worker_table(&[worker]);
        assert!(!html.contains("<script>") && !html.contains("<i>"), "{html}");
    }

    #[test]
    fn durations_are_as_precise_as_people_need() {
        let texts: Vec<String> =
            [90, 3_725, 90_000, 400_000].map(|seconds| rounded(Duration::from_secs(seconds))).into();
        assert_eq!(texts, ["1m30s", "1h2m", "1day1h", "4days"]);
        assert_eq!(rounded(Duration::from_micros(250_900)), "250ms");
    }
}
