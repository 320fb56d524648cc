//! The head of the page: the verdict, what was run, and its sum in a few numbers.

use std::fmt::Write as _;

use super::columns::Latency;
use super::text::{counted, escape, millis, moment, whole};
use super::view::View;
use super::{Dot, Kind, Page, rate};

pub fn write(html: &mut String, view: &View<'_>) {
    let page = view.page;
    let _ = write!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"verdict {}\"><strong>{}</strong> {}</p>\n</header>\n",
        title(page),
        class(&page.verdict),
        mark(&page.verdict),
        escape(&sentence(page)),
    );
    write_list(html, "facts", page.facts.iter().map(|(name, fact)| (name.as_str(), fact.clone())));
    write_list(html, "sums", sums(view).into_iter());
}

pub fn title(page: &Page) -> String {
    let title = if page.title.is_empty() { "A run without a name" } else { &page.title };
    escape(title).to_string()
}

/// Told by sign and word; the colour only repeats it.
pub fn mark(verdict: &str) -> String {
    let sign = match verdict {
        "true" => "✓",
        "false" => "✗",
        _ => "?",
    };
    format!("<span aria-hidden=\"true\">{sign}</span> {}", word(verdict))
}

pub fn word(verdict: &str) -> String {
    escape(if verdict.is_empty() { "unknown" } else { verdict }).to_string()
}

pub fn class(verdict: &str) -> &'static str {
    match verdict {
        "true" => "is-true",
        "false" => "is-false",
        _ => "is-unknown",
    }
}

fn sentence(page: &Page) -> String {
    let count = |verdict: &str| page.findings.iter().filter(|row| row.verdict == verdict).count();
    let (held, broken) = (count("true"), count("false"));
    let open = page.findings.len() - held - broken;
    if page.findings.is_empty() {
        return "No claim was judged.".to_owned();
    }
    let told = [(broken, "broken"), (open, "undecided"), (held, "held")];
    let told = told.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = told.map(|(count, what)| format!("{} {what}", whole(*count as u64))).collect();
    format!("Of {}: {}.", counted(page.findings.len(), "claim"), parts.join(", "))
}

fn write_list<'p>(html: &mut String, class: &str, pairs: impl Iterator<Item = (&'p str, String)>) {
    let mut pairs = pairs.peekable();
    if pairs.peek().is_none() {
        return;
    }
    let _ = writeln!(html, "<dl class=\"{class}\">");
    for (name, value) in pairs {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(&value));
    }
    html.push_str("</dl>\n");
}

fn sums(view: &View<'_>) -> Vec<(&'static str, String)> {
    let page = view.page;
    let duration = if page.seconds.is_finite() { moment(page.seconds) } else { "–".to_owned() };
    let mut sums = vec![("duration", duration)];
    let count = |kind: Kind| page.operations.iter().filter(|dot| dot.kind == kind).count() as u64;
    let [ok, fail, info] = [Kind::Ok, Kind::Fail, Kind::Info].map(|kind| whole(count(kind)));
    sums.push(("operations", whole(page.operations.len() as u64)));
    if !page.operations.is_empty() {
        sums.push(("ok · fail · info", format!("{ok} · {fail} · {info}")));
    }
    let mut latencies: Vec<f64> =
        page.operations.iter().filter(|dot| dot.kind == Kind::Ok).filter_map(Dot::latency).collect();
    if let Some(Latency { p50, p99, worst }) = Latency::of(&mut latencies) {
        let told = [p50, p99, worst].map(millis).join(" · ");
        sums.push(("latency p50 · p99 · worst", told));
    }
    if let Some(gap) = rate::longest_gap(&page.operations) {
        sums.push(("longest time without an answer", format!("{:.2} s", gap.to - gap.from)));
    }
    let outcome = |took_place| page.windows.iter().filter(|window| window.took_place() == took_place).count();
    let (skipped, doubtful) = (outcome(Some(false)), outcome(None));
    let mut faults = whole(outcome(Some(true)) as u64);
    for (count, what) in [(skipped, "skipped"), (doubtful, "in doubt")] {
        if count > 0 {
            let _ = write!(faults, ", {} {what}", whole(count as u64));
        }
    }
    sums.push(("faults installed", faults));
    if let Some(term) = page.reigns.iter().map(|reign| reign.term).max() {
        sums.push(("leaders · last term", format!("{} · {}", whole(page.reigns.len() as u64), whole(term))));
    }
    sums
}
