//! What was measured at the nodes: a small picture for each thing, a line for each node.

use std::fmt::Write as _;

use super::Series;
use super::axis::Scale;
use super::chart::{Chart, Path};
use super::text::{cut, escape, value};
use super::view::View;

const HEIGHT: f64 = 130.0;
/// A line has two points in each, the least and the greatest.
const COLUMNS: usize = 240;
/// More of them would be no more than noise in so small a picture.
const BANDS_MAX: usize = 80;
/// Colours that people with any kind of sight tell apart (Okabe & Ito, 2008); then they come again, dashed.
const COLOURS: usize = 7;

pub fn write(html: &mut String, view: &View<'_>) {
    html.push_str("<section>\n<h2>Resources</h2>\n");
    let mut titles: Vec<&str> = Vec::new();
    for series in &view.page.series {
        if !titles.contains(&series.title.as_str()) {
            titles.push(&series.title);
        }
    }
    if titles.is_empty() {
        html.push_str("<p class=\"none\">Nothing was measured.</p>\n</section>\n");
        return;
    }
    html.push_str("<div class=\"small\">\n");
    for title in titles {
        let group: Vec<&Series> = view.page.series.iter().filter(|series| series.title == title).collect();
        write_group(html, view, title, &group);
    }
    html.push_str("</div>\n</section>\n");
}

fn write_group(html: &mut String, view: &View<'_>, title: &str, group: &[&Series]) {
    let lines: Vec<Vec<(f64, f64)>> = group.iter().map(|series| sorted(&series.points)).collect();
    let unit = &group[0].unit;
    let scale = Scale::linear(lines.iter().flatten().map(|(_, value)| *value), unit, 3);
    let mut chart = Chart::new(title, HEIGHT, view.span);
    if view.faulty.len() <= BANDS_MAX {
        chart.bands(&view.faulty, "band");
    }
    chart.ticks(&scale, |tick| value(tick, unit));
    let mut legend = String::new();
    for (series, points) in group.iter().zip(&lines) {
        let class = class(view, &series.node);
        let mut path = Path::default();
        let drawn = thinned(points, view.span.to / COLUMNS as f64);
        path.through(drawn.into_iter().map(|(at, value)| Some((view.span.x(at), chart.y(&scale, value)))));
        path.draw(&mut chart.stretched, &class);
        let ends = points.first().zip(points.last());
        let told = ends.map(|((_, first), (_, last))| [value(*first, unit), value(*last, unit)]);
        let told = match told {
            Some([first, last]) if first == last => last,
            Some([first, last]) => format!("{first} → {last}"),
            None => "nothing".to_owned(),
        };
        let node = escape(&series.node);
        let _ = writeln!(legend, "<li><i class=\"key {class}\"></i><b>{node}</b> {}</li>", escape(&told));
    }
    let _ = write!(
        html,
        "<figure>\n<figcaption>{}</figcaption>\n{}<ul class=\"legend\">\n{legend}</ul>\n</figure>\n",
        escape(&cut(title, 120)),
        chart.html()
    );
}

/// A node has one colour in all pictures.
fn class(view: &View<'_>, node: &str) -> String {
    let place = view.measured.iter().position(|measured| *measured == node).unwrap_or(0);
    let dashed = if place >= COLOURS { " dashed" } else { "" };
    format!("line c{}{dashed}", place % COLOURS)
}

fn sorted(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(at, value)| at.is_finite() && value.is_finite()).collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

/// Of many points in a column of time only the least and the greatest, in their order.
fn thinned(points: &[(f64, f64)], width: f64) -> Vec<(f64, f64)> {
    if points.len() <= 2 * COLUMNS {
        return points.to_vec();
    }
    let mut thinned = Vec::new();
    for column in points.chunk_by(|one, other| (one.0 / width).floor() == (other.0 / width).floor()) {
        let by_value = |one: &&(f64, f64), other: &&(f64, f64)| one.1.total_cmp(&other.1);
        let (least, most) = (column.iter().min_by(by_value), column.iter().max_by(by_value));
        let mut both: Vec<(f64, f64)> = least.into_iter().chain(most).copied().collect();
        both.sort_by(|one, other| one.0.total_cmp(&other.0));
        both.dedup();
        thinned.extend(both);
    }
    thinned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_survives_the_thinning() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|at| (f64::from(at), 5.0)).collect();
        points[5_003].1 = 99.0;
        points[5_004].1 = 1.0;
        let thinned = thinned(&points, 10_000.0 / COLUMNS as f64);
        assert!(thinned.len() <= 2 * COLUMNS);
        assert!(thinned.contains(&(5_003.0, 99.0)) && thinned.contains(&(5_004.0, 1.0)));
    }
}
