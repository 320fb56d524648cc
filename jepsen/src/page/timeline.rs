//! What happened when: a row per kind of fault, and a lane per node with its reigns, its faults and what it was asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::axis::WIDTH;
use super::chart::{Chart, Path};
use super::text::{counted, cut, escape, millis, moment, percent, short, tenths};
use super::view::{LANES_MAX, View, apart, within};
use super::{Dot, Kind, Reign, Window};

/// With more of them operations are counted instead of drawn.
pub const DOTS_MAX: usize = 2_000;
/// Of windows, and of reigns; all windows are in the list of faults.
const BARS_MAX: usize = 2_000;
/// The least frequent kinds of faults share the last row.
const FAULT_ROWS_MAX: usize = 16;

const FAULT_ROW: f64 = 18.0;
const FAULTS_GAP: f64 = 8.0;
const LANE: f64 = 82.0;
const REIGN: Zone = Zone { top: 3.0, height: 15.0 };

/// Within a lane.
struct Zone {
    top: f64,
    height: f64,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Ok, Kind::Fail, Kind::Info];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Ok => "ok",
            Kind::Fail => "fail",
            Kind::Info => "info",
        }
    }

    fn zone(self) -> Zone {
        match self {
            Kind::Ok => Zone { top: 22.0, height: 26.0 },
            Kind::Fail => Zone { top: 51.0, height: 12.0 },
            Kind::Info => Zone { top: 66.0, height: 12.0 },
        }
    }
}

pub fn write(html: &mut String, view: &View<'_>) {
    html.push_str("<section>\n<h2>Timeline</h2>\n");
    let rows = fault_rows(&view.page.windows);
    if view.lanes.is_empty() && rows.is_empty() {
        html.push_str("<p class=\"none\">Nothing was noted.</p>\n</section>\n");
        return;
    }
    let lanes = &view.lanes[..view.lanes.len().min(LANES_MAX)];
    let faults = if rows.is_empty() { 0.0 } else { rows.len() as f64 * FAULT_ROW + FAULTS_GAP };
    let height = faults + lanes.len() as f64 * LANE;
    let mut chart = Chart::new("faults, leaders and operations over time", height, view.span);
    chart.fixed.push_str(HATCH);
    for (place, row) in rows.iter().enumerate() {
        draw_faults(&mut chart, row, place as f64 * FAULT_ROW);
    }
    let tops = (0..lanes.len()).map(|lane| faults + lane as f64 * LANE);
    for (node, top) in lanes.iter().zip(tops.clone()) {
        draw_lane(&mut chart, view, node, top);
    }
    let operations = &view.page.operations;
    if operations.len() <= DOTS_MAX {
        lanes.iter().zip(tops).for_each(|(node, top)| draw_dots(&mut chart, operations, node, top));
    } else {
        draw_counts(&mut chart, view, lanes, faults);
    }
    write_legend(html, view);
    html.push_str(&chart.html());
    let left_out = view.lanes.len() - lanes.len();
    if left_out > 0 {
        let _ = writeln!(html, "<p>{} not drawn.</p>", counted(left_out, "more node"));
    }
    html.push_str("</section>\n");
}

/// For what is in doubt.
const HATCH: &str = "<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
    patternTransform=\"rotate(45)\"><rect class=\"hatch\" width=\"2.5\" height=\"6\"/></pattern></defs>\n";

struct FaultRow<'a> {
    name: String,
    windows: Vec<&'a Window>,
}

/// By kind, in the order in which the kinds first came.
fn fault_rows(windows: &[Window]) -> Vec<FaultRow<'_>> {
    let mut by_kind: BTreeMap<&str, Vec<&Window>> = BTreeMap::new();
    for window in windows {
        by_kind.entry(&window.what).or_default().push(window);
    }
    let mut kinds: Vec<Vec<&Window>> = by_kind.into_values().collect();
    kinds.sort_by_key(|windows| std::cmp::Reverse(windows.len()));
    let rest = if kinds.len() > FAULT_ROWS_MAX { kinds.split_off(FAULT_ROWS_MAX - 1) } else { Vec::new() };
    kinds.sort_by(|one, other| first(one).total_cmp(&first(other)));
    let rows = kinds.into_iter().map(|windows| FaultRow { name: cut(&windows[0].what, 60), windows });
    let others = FaultRow { name: format!("{} other kinds", rest.len()), windows: rest.concat() };
    rows.chain((!others.windows.is_empty()).then_some(others)).collect()
}

fn first(windows: &[&Window]) -> f64 {
    windows.iter().map(|window| window.from_s).fold(f64::INFINITY, f64::min)
}

fn draw_faults(chart: &mut Chart<'_>, row: &FaultRow<'_>, top: f64) {
    chart.label(top + FAULT_ROW / 2.0, "fault", &row.name);
    for window in row.windows.iter().take(BARS_MAX) {
        let class = match window.took_place() {
            Some(true) => "fault",
            Some(false) => "fault skipped",
            None => "fault doubt",
        };
        let tip = format!(
            "{}{}{}, {} to {}: {}",
            window.what,
            if window.node.is_empty() { "" } else { " at " },
            window.node,
            moment(window.from_s),
            moment(window.to_s),
            window.outcome
        );
        let bar = Bar { from: window.from_s, to: window.to_s, top: top + 2.0, height: FAULT_ROW - 4.0 };
        bar.draw(chart, class, &window.node, &tip);
    }
}

fn draw_lane(chart: &mut Chart<'_>, view: &View<'_>, node: &str, top: f64) {
    let name = if node.is_empty() { "no node" } else { node };
    chart.label(top + REIGN.top + REIGN.height / 2.0, "node", &cut(name, 60));
    for kind in Kind::ALL {
        let Zone { top: zone, height } = kind.zone();
        chart.label(top + zone + height / 2.0, "kind", kind.name());
    }
    let mut edge = Path::default();
    edge.line([(0.0, top), (WIDTH, top)]);
    edge.draw(&mut chart.stretched, "edge");
    for (outcome, class) in [(Some(true), "band"), (None, "band doubt")] {
        let here =
            view.page.windows.iter().filter(|window| window.is_at(node) && window.took_place() == outcome);
        chart.bands_between(&apart(here, view.span), class, top + 1.0, LANE - 1.0);
    }
    let reigns = view.page.reigns.iter().filter(|reign| reign.node == node);
    for Reign { term, from_s, to_s, .. } in reigns.take(BARS_MAX) {
        let (from, to) = within(*from_s, *to_s, view.span);
        let tip = format!("{name} leads in term {term}, {} to {}", moment(from), moment(to));
        let is_roomy = view.span.share(to - from) > 0.06;
        let text = if is_roomy { format!("term {term}") } else { format!("{term}") };
        let bar = Bar { from, to, top: top + REIGN.top, height: REIGN.height };
        bar.draw(chart, "reign", &text, &tip);
    }
}

struct Bar {
    from: f64,
    to: f64,
    top: f64,
    height: f64,
}

impl Bar {
    /// As much of the text as there is room for, if it is more than a letter.
    fn draw(&self, chart: &mut Chart<'_>, class: &str, text: &str, tip: &str) {
        const SHARE_MIN: f64 = 0.0015;
        const PER_CHAR: f64 = 0.008;
        let (from, to) = within(self.from, self.to, chart.span);
        let from = chart.span.share(from).min(1.0 - SHARE_MIN);
        let share = (chart.span.share(to) - from).max(SHARE_MIN);
        let (x, width, y, height) = (percent(from), percent(share), tenths(self.top), tenths(self.height));
        let _ = write!(
            chart.fixed,
            r#"<svg x="{x}" y="{y}" width="{width}" height="{height}" class="{class}"><rect width="100%" height="100%"><title>{}</title></rect>"#,
            escape(tip)
        );
        if !text.is_empty() && share >= PER_CHAR * text.chars().count().min(3) as f64 {
            let _ = write!(
                chart.fixed,
                r#"<text x="3" y="{}">{}</text>"#,
                tenths(self.height - 3.5),
                escape(text)
            );
        }
        chart.fixed.push_str("</svg>\n");
    }
}

fn draw_dots(chart: &mut Chart<'_>, operations: &[Dot], node: &str, top: f64) {
    for kind in Kind::ALL {
        let here = operations.iter().filter(|dot| dot.kind == kind && dot.node == node);
        let zone = kind.zone();
        let _ = writeln!(chart.fixed, "<g class=\"{}\">", kind.name());
        // Those that come close after each other lie at different heights.
        let rows = (zone.height / 5.0).floor() as usize;
        for (place, dot) in here.enumerate() {
            let Some(asked) = dot.asked() else { continue };
            let x = percent(chart.span.share(asked));
            let y = tenths(top + zone.top + 2.5 + 5.0 * (place * 2 % rows) as f64);
            let latency = dot.latency().map_or_else(|| "no answer".to_owned(), millis);
            let tip = format!("{} at {}: {}, {latency}", cut(&dot.f, 80), moment(asked), kind.name());
            let _ = writeln!(
                chart.fixed,
                r#"<circle cx="{x}" cy="{y}" r="2.2"><title>{}</title></circle>"#,
                escape(&tip)
            );
        }
        chart.fixed.push_str("</g>\n");
    }
}

/// The height of a column is the square root of the count, so that few are seen beside many.
fn draw_counts(chart: &mut Chart<'_>, view: &View<'_>, lanes: &[&str], faults: f64) {
    for kind in Kind::ALL {
        let counts: Vec<Vec<usize>> = lanes
            .iter()
            .map(|node| {
                let here = view.page.operations.iter().filter(|dot| dot.kind == kind && dot.node == *node);
                view.columns.count(here)
            })
            .collect();
        let most = counts.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
        let zone = kind.zone();
        for (lane, counts) in counts.iter().enumerate() {
            let base = faults + lane as f64 * LANE + zone.top + zone.height;
            let height = |count: usize| match count {
                0 => 0.0,
                count => (zone.height * (count as f64 / most).sqrt()).max(1.5),
            };
            let mut path = Path::default();
            path.steps(counts.iter().map(|count| height(*count)), view.span.x(view.columns.width), base);
            path.draw(&mut chart.stretched, kind.name());
        }
    }
}

fn write_legend(html: &mut String, view: &View<'_>) {
    let operations = view.page.operations.len();
    let what = if operations > DOTS_MAX {
        format!(
            "what it was asked, per {}\u{a0}s; the height is the square root of the count",
            short(view.columns.width)
        )
    } else {
        "each operation that it was asked".to_owned()
    };
    let _ = write!(
        html,
        "<p>A row per kind of fault, then a lane per node: who led, in which term; where there was a fault, shaded; and \
         {what}.</p>\n<ul class=\"legend\">\n\
         <li><i class=\"key reign\"></i>leads</li>\n<li><i class=\"key fault\"></i>fault installed</li>\n\
         <li><i class=\"key doubt\"></i>in doubt</li>\n<li><i class=\"key skipped\"></i>skipped</li>\n\
         <li><i class=\"key ok\"></i>ok</li>\n<li><i class=\"key fail\"></i>fail: it did not happen</li>\n\
         <li><i class=\"key info\"></i>info: nobody knows</li>\n</ul>\n"
    );
}
