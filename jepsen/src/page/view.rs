//! What all pictures of a page share: the time along their width, the lanes, the columns and where faults were.

use std::collections::BTreeSet;

use super::axis::Span;
use super::columns::Columns;
use super::{Page, Window};

pub struct View<'a> {
    pub page: &'a Page,
    pub span: Span,
    /// The nodes, and whoever else led or was asked.
    pub lanes: Vec<&'a str>,
    /// The lanes, and whoever else was measured: who has which colour.
    pub measured: Vec<&'a str>,
    pub columns: Columns,
    /// When there was any fault, in order and apart from each other.
    pub faulty: Vec<(f64, f64)>,
}

/// Of more, the rest are left out of the pictures.
pub const LANES_MAX: usize = 24;

impl<'a> View<'a> {
    pub fn new(page: &'a Page) -> View<'a> {
        let span = span(page);
        let faulty = apart(page.windows.iter().filter(|window| window.took_place() != Some(false)), span);
        let lanes = lanes(page);
        let mut measured = lanes.clone();
        for series in &page.series {
            if !measured.contains(&series.node.as_str()) {
                measured.push(&series.node);
            }
        }
        View { page, span, lanes, measured, columns: Columns::new(&page.operations, span), faulty }
    }
}

impl Window {
    /// None: it is not known.
    pub fn took_place(&self) -> Option<bool> {
        match self.outcome.split([':', ' ']).next() {
            Some("installed") => Some(true),
            Some("skipped") => Some(false),
            Some(_) | None => None,
        }
    }

    /// Whether it was at this node.
    pub fn is_at(&self, node: &str) -> bool {
        let mut names = self.node.split([',', ' ']).filter(|name| !name.is_empty()).peekable();
        names.peek().is_none() || names.any(|name| name == node)
    }
}

/// The run, and what was noted after its end; but a time far from the end is an error of whoever noted it, and must not
/// squeeze all others.
fn span(page: &Page) -> Span {
    let operations = page.operations.iter().map(|dot| dot.at_s);
    let reigns = page.reigns.iter().map(|reign| reign.from_s);
    let windows = page.windows.iter().map(|window| window.from_s);
    let series = page.series.iter().flat_map(|series| series.points.iter().map(|(at, _)| *at));
    let noted = operations.chain(reigns).chain(windows).chain(series).filter(|at| at.is_finite());
    let last = noted.fold(0.0, f64::max);
    let to = if page.seconds.is_finite() && page.seconds > 0.0 {
        last.clamp(page.seconds, page.seconds * 1.5)
    } else {
        last
    };
    Span { to: if to > 0.0 { to } else { 1.0 } }
}

fn lanes(page: &Page) -> Vec<&str> {
    let mut lanes: Vec<&str> = page.nodes.iter().map(String::as_str).collect();
    let reigns = page.reigns.iter().map(|reign| reign.node.as_str());
    let others: BTreeSet<&str> = reigns.chain(page.operations.iter().map(|dot| dot.node.as_str())).collect();
    lanes.extend(others.into_iter().filter(|node| !page.nodes.iter().any(|known| known == node)));
    lanes
}

/// What windows cover together, within the run.
pub fn apart<'w>(windows: impl Iterator<Item = &'w Window>, span: Span) -> Vec<(f64, f64)> {
    let bounds = windows.map(|window| within(window.from_s, window.to_s, span));
    let mut bounds: Vec<(f64, f64)> = bounds.collect();
    bounds.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut apart: Vec<(f64, f64)> = Vec::new();
    for (from, to) in bounds {
        match apart.last_mut().filter(|last| last.1 >= from) {
            Some(last) => last.1 = last.1.max(to),
            None => apart.push((from, to)),
        }
    }
    apart
}

/// Without what is before the begin or after the end; an end that is none is that of the run.
pub fn within(from: f64, to: f64, span: Span) -> (f64, f64) {
    let from = if from.is_nan() { 0.0 } else { from.clamp(0.0, span.to) };
    let to = if to.is_nan() { span.to } else { to.clamp(from, span.to) };
    (from, to)
}
