//! The report of a run as one page: HTML with its style, its pictures as SVG and a little script in it, and nothing from
//! elsewhere. It is whole without the script, which only tells details of the moment under the pointer.
//!
//! However long the run was, the page stays small: above some thousand operations nothing is drawn for a single one.
//! All text is escaped, and numbers that are none are left out: the page must not be spoilt by what it reports.
//!
//! Pictures take the width that there is. What is drawn is stretched along the time; words and marks are placed by
//! percentages and keep their size.

mod axis;
mod chart;
mod columns;
mod faults;
mod findings;
mod head;
mod hover;
mod latency;
mod operations;
mod rate;
mod series;
mod text;
mod timeline;
mod view;

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use view::View;

/// What a run tells. Times are seconds since its begin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub title: String,
    /// Seed, commit, driver, nodes and the like, in this order.
    pub facts: Vec<(String, String)>,
    /// true, false or unknown.
    pub verdict: String,
    /// How long the run lasted.
    pub seconds: f64,
    pub nodes: Vec<String>,
    pub operations: Vec<Dot>,
    pub windows: Vec<Window>,
    pub reigns: Vec<Reign>,
    pub series: Vec<Series>,
    pub findings: Vec<Row>,
    /// What was not tried or not looked at, and why.
    pub skipped: Vec<(String, String)>,
}

/// One operation of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Dot {
    /// When it was asked.
    pub at_s: f64,
    /// From then until the answer; not finite or negative: there was none. JSON has no numbers that are not finite.
    pub latency_ms: f64,
    pub kind: Kind,
    /// What was asked: submit, read and the like.
    pub f: String,
    pub node: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Ok,
    Fail,
    Info,
}

/// A fault, from its begin to its heal.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub from_s: f64,
    pub to_s: f64,
    pub what: String,
    /// Several are parted by commas or blanks; empty: all of them.
    pub node: String,
    /// installed, skipped or indeterminate, and more behind it.
    pub outcome: String,
}

/// A time in which a node led.
#[derive(Clone, Debug, PartialEq)]
pub struct Reign {
    pub node: String,
    pub term: u64,
    pub from_s: f64,
    pub to_s: f64,
}

/// What was measured at a node. Those with one title are drawn in one picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub title: String,
    /// bytes, count, or a unit's own name.
    pub unit: String,
    pub node: String,
    /// Time and value.
    pub points: Vec<(f64, f64)>,
}

/// What a checker found.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: String,
    pub claim: String,
    /// true, false or unknown.
    pub verdict: String,
    pub looked_at: String,
    pub problems: Vec<String>,
}

/// Neither a server nor a file beside it is asked for anything, whatever comes to be in the text.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:";

pub fn render(page: &Page) -> String {
    let view = View::new(page);
    let mut html = String::new();
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{verdict}: {title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n",
        verdict = head::word(&page.verdict),
        title = head::title(page),
        style = include_str!("page/page.css"),
    );
    head::write(&mut html, &view);
    findings::write(&mut html, &page.findings);
    timeline::write(&mut html, &view);
    latency::write(&mut html, &view);
    rate::write(&mut html, &view);
    operations::write(&mut html, page);
    series::write(&mut html, &view);
    faults::write(&mut html, &page.windows);
    findings::write_skipped(&mut html, &page.skipped);
    html.push_str("</main>\n");
    hover::write(&mut html, &view);
    html.push_str("</body>\n</html>\n");
    html
}
