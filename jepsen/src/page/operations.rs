//! The operations by what was asked, in numbers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::columns::Latency;
use super::text::{cut, escape, millis, whole};
use super::{Dot, Kind, Page};

/// The most frequent ones; of the rest only how many there are.
const ROWS_MAX: usize = 40;

#[derive(Default)]
struct Sum {
    ok: u64,
    fail: u64,
    info: u64,
    millis: Vec<f64>,
}

pub fn write(html: &mut String, page: &Page) {
    if page.operations.is_empty() {
        return;
    }
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for dot in &page.operations {
        let sum = sums.entry(&dot.f).or_default();
        match dot.kind {
            Kind::Ok => {
                sum.ok += 1;
                sum.millis.extend(Dot::latency(dot));
            }
            Kind::Fail => sum.fail += 1,
            Kind::Info => sum.info += 1,
        }
    }
    let mut sums: Vec<(&str, Sum)> = sums.into_iter().collect();
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.ok + sum.fail + sum.info));
    html.push_str(
        "<section>\n<h2>Operations</h2>\n<div class=\"scroll\"><table class=\"numbers\">\n<thead><tr><th>asked</th>\
         <th>ok</th><th>fail</th><th>info</th><th>p50</th><th>p99</th><th>worst</th></tr></thead>\n<tbody>\n",
    );
    for (f, sum) in sums.iter_mut().take(ROWS_MAX) {
        let latency =
            Latency::of(&mut sum.millis).map(|Latency { p50, p99, worst }| [p50, p99, worst].map(millis));
        let [p50, p99, worst] = latency.unwrap_or_else(|| ["–", "–", "–"].map(str::to_owned));
        let [ok, fail, info] = [sum.ok, sum.fail, sum.info].map(whole);
        let _ = writeln!(
            html,
            "<tr><th>{}</th><td>{ok}</td><td>{fail}</td><td>{info}</td><td>{p50}</td><td>{p99}</td><td>{worst}</td></tr>",
            escape(&cut(f, 80)),
        );
    }
    html.push_str("</tbody>\n</table></div>\n");
    if sums.len() > ROWS_MAX {
        let _ = writeln!(html, "<p>and {} more</p>", whole((sums.len() - ROWS_MAX) as u64));
    }
    html.push_str("<p>Latencies are of what was acknowledged.</p>\n</section>\n");
}
