//! A comparison as one page: HTML with its style and its pictures as SVG in it, and nothing from elsewhere. It needs no script.
//!
//! However large the workload was, the page stays small: curves have some hundred points, and of single tasks the first are drawn.

mod gantt;

pub use gantt::gantt;

use std::fmt::Write as _;
use std::time::Duration;

use crate::figures::Figures;
use crate::run::Run;
use crate::workload::Workload;

/// Colours by policy, in order; there are more policies than anybody compares at once.
const COLOURS: [&str; 8] =
    ["#1f77b4", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#a6761d", "#666666"];
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 30.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = 10.0;
/// Points of one curve.
const POINTS_MAX: usize = 480;
/// Times in which a task ran that are drawn one by one: more could hardly be told apart.
pub(crate) const BARS_MAX: usize = 600;

/// `title` says what was run, `facts` on what.
pub fn render(
    title: &str,
    facts: &[(String, String)],
    workload: &Workload,
    runs: &[(Run, Figures)],
) -> String {
    let mut page = head(title);
    let _ = writeln!(page, "<h1>{}</h1>\n<dl>", escape(title));
    for (name, value) in facts {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(value));
    }
    page.push_str("</dl>\n");
    page.push_str(&table(runs));
    page.push_str(&legend(runs));
    page.push_str("<h2>Tasks that wait, over time</h2>\n");
    let queues: Vec<Curve> = runs.iter().map(|(run, _)| queue(run)).collect();
    page.push_str(&chart(&queues, Axis::Time, "tasks"));
    page.push_str("<h2>Busy cores, over time</h2>\n");
    let busy: Vec<Curve> = runs.iter().map(|(run, _)| busy(run)).collect();
    page.push_str(&chart(&busy, Axis::Time, "cores"));
    page.push_str("<h2>Share of tasks that waited at most so long</h2>\n");
    let waits: Vec<Curve> = runs.iter().map(|(run, _)| waits(run)).collect();
    page.push_str(&chart(&waits, Axis::Wait, "%"));
    for (place, (run, _)) in runs.iter().enumerate() {
        let _ = writeln!(page, "<h2>Where and when each task ran: {}</h2>", escape(&run.policy));
        let chart = gantt::Chart::of(workload, run);
        if let Some(caption) = chart.caption() {
            let _ = writeln!(page, "<p>{caption}</p>");
        }
        page.push_str(&chart.in_page(COLOURS[place % COLOURS.len()]));
    }
    page.push_str("</main></body></html>\n");
    page
}

fn head(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style></head>\n\
         <body><main>\n",
        escape(title)
    )
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #fff; --faint: #8884; --soft: #666; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #161616; --soft: #aaa; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dt { color: var(--soft); } dd { margin: 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font-size: 11px; } .grid { stroke: var(--faint); }
.legend span { display: inline-block; margin-right: 1.2rem; } .legend i { display: inline-block; width: 1.6rem; height: .25rem; \
vertical-align: middle; margin-right: .4rem; }
";

type Column = (&'static str, fn(&Figures) -> String);

const COLUMNS: [Column; 12] = [
    ("mean wait", |f| span(f.mean_wait_s)),
    ("median", |f| span(f.median_wait_s)),
    ("95 %", |f| span(f.p95_wait_s)),
    ("longest", |f| span(f.max_wait_s)),
    ("slowdown", |f| format!("{:.2}", f.mean_bounded_slowdown)),
    ("makespan", |f| span(f.makespan_s)),
    ("utilisation", |f| format!("{:.1} %", f.utilisation * 100.0)),
    ("fairness", |f| format!("{:.3}", f.fairness)),
    ("overtook", |f| f.overtook.to_string()),
    ("backfilled", |f| f.backfilled.to_string()),
    ("gave way", |f| f.preemptions.to_string()),
    ("deadlines missed", |f| format!("{} of {}", f.deadline_misses, f.deadlines)),
];

fn table(runs: &[(Run, Figures)]) -> String {
    let mut text = "<div class=\"scroll\"><table><thead><tr><th>policy</th>".to_owned();
    for (name, _) in COLUMNS {
        let _ = write!(text, "<th>{name}</th>");
    }
    text.push_str("</tr></thead><tbody>\n");
    for (run, figures) in runs {
        let _ = write!(text, "<tr><td>{}</td>", escape(&run.policy));
        for (_, value) in COLUMNS {
            let _ = write!(text, "<td>{}</td>", value(figures));
        }
        text.push_str("</tr>\n");
    }
    text + "</tbody></table></div>\n"
}

fn legend(runs: &[(Run, Figures)]) -> String {
    let entry = |(place, (run, _)): (usize, &(Run, Figures))| {
        let colour = COLOURS[place % COLOURS.len()];
        format!("<span><i style=\"background:{colour}\"></i>{}</span>", escape(&run.policy))
    };
    let all: String = runs.iter().enumerate().map(entry).collect();
    format!("<p class=\"legend\">{all}</p>\n")
}

/// Points by ascending x.
struct Curve {
    points: Vec<(f64, f64)>,
    /// From one point to the next along the axis, then up or down.
    is_stepped: bool,
}

fn queue(run: &Run) -> Curve {
    let points: Vec<(f64, f64)> =
        run.queue.iter().map(|(at, waits)| (at.as_secs_f64(), *waits as f64)).collect();
    Curve { points: thinned(&points), is_stepped: true }
}

fn busy(run: &Run) -> Curve {
    let mut changes: Vec<(Duration, i64)> = Vec::with_capacity(run.tasks.len() * 2);
    for (ran, (from, to)) in run.tasks.iter().flat_map(|ran| ran.times().map(move |time| (ran, time))) {
        changes.push((from, ran.cores as i64));
        changes.push((to, -(ran.cores as i64)));
    }
    changes.sort_unstable();
    let mut level = 0;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (at, change) in changes {
        level += change;
        let at = at.as_secs_f64();
        match points.last_mut().filter(|last| last.0 == at) {
            Some(last) => last.1 = level as f64,
            None => points.push((at, level as f64)),
        }
    }
    Curve { points: thinned(&points), is_stepped: true }
}

fn waits(run: &Run) -> Curve {
    let mut waits: Vec<f64> = run.tasks.iter().map(|ran| ran.wait().as_secs_f64()).collect();
    waits.sort_by(f64::total_cmp);
    let share = |place: usize| (place + 1) as f64 * 100.0 / waits.len() as f64;
    let step = waits.len().div_ceil(POINTS_MAX).max(1);
    let places = (0..waits.len()).step_by(step).chain(waits.len().checked_sub(1));
    let points = places.map(|place| (waits[place].max(1.0), share(place)));
    Curve { points: points.collect(), is_stepped: false }
}

/// At most so many points: of each stretch the highest and the last.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = (points.len() * 2).div_ceil(POINTS_MAX).max(1);
    let mut few = Vec::new();
    for part in points.chunks(stretch) {
        let highest = part.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a });
        let last = part.last().copied();
        few.extend(highest.filter(|highest| Some(*highest) != last));
        few.extend(last);
    }
    few
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Time,
    /// Logarithmic, from a second on.
    Wait,
}

struct Frame {
    axis: Axis,
    from: f64,
    to: f64,
    high: f64,
}

impl Frame {
    fn of(curves: &[Curve], axis: Axis) -> Frame {
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let low = points().map(|point| point.0).fold(f64::INFINITY, f64::min);
        let from = if low.is_finite() { low } else { 0.0 };
        let to = points().map(|point| point.0).fold(from + 1.0, f64::max);
        let high = points().map(|point| point.1).fold(1.0, f64::max);
        let from = if axis == Axis::Wait { 1.0 } else { from };
        Frame { axis, from, to: if axis == Axis::Wait { to.max(10.0) } else { to }, high }
    }

    fn x(&self, value: f64) -> f64 {
        let part = match self.axis {
            Axis::Time => (value - self.from) / (self.to - self.from),
            Axis::Wait => value.max(1.0).ln() / self.to.ln(),
        };
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.high * (HEIGHT - BOTTOM - TOP)
    }

    fn ticks(&self) -> Vec<f64> {
        match self.axis {
            Axis::Time => {
                let step = round_step((self.to - self.from) / 8.0);
                let count = ((self.to - self.from) / step) as usize;
                (0..=count).map(|nth| self.from + nth as f64 * step).collect()
            }
            Axis::Wait => {
                let known = [1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0, 2_592_000.0];
                known.into_iter().filter(|tick| *tick <= self.to).collect()
            }
        }
    }
}

/// A step of a length that people count in, in seconds.
fn round_step(at_least: f64) -> f64 {
    let known =
        [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0];
    known
        .into_iter()
        .find(|step| *step >= at_least)
        .unwrap_or_else(|| (at_least / 604_800.0).ceil() * 604_800.0)
}

fn chart(curves: &[Curve], axis: Axis, unit: &str) -> String {
    let frame = Frame::of(curves, axis);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for tick in frame.ticks() {
        let x = frame.x(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - 10.0,
            span(if axis == Axis::Time { tick - frame.from } else { tick })
        );
    }
    // Of few there are no halves.
    let lines = frame.high.min(4.0) as u32;
    for nth in 0..=lines {
        let value = frame.high * f64::from(nth) / f64::from(lines);
        let y = frame.y(value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0} {unit}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0
        );
    }
    for (place, curve) in curves.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<path fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" d=\"{}\"/>",
            path(&frame, curve)
        );
    }
    svg + "</svg>\n"
}

fn path(frame: &Frame, curve: &Curve) -> String {
    let mut path = String::new();
    for (nth, (x, y)) in curve.points.iter().enumerate() {
        let (x, y) = (frame.x(*x), frame.y(*y));
        let _ = match (nth, curve.is_stepped) {
            (0, _) => write!(path, "M{x:.1} {y:.1}"),
            (_, true) => write!(path, "H{x:.1}V{y:.1}"),
            (_, false) => write!(path, "L{x:.1} {y:.1}"),
        };
    }
    path
}

/// A time in the largest unit that leaves at least one.
pub(crate) fn span(seconds: f64) -> String {
    let units = [(86_400.0, "d"), (3_600.0, "h"), (60.0, "min")];
    let found = units.into_iter().find(|(unit, _)| seconds >= *unit);
    let (value, unit) = found.map_or((seconds, "s"), |(unit, name)| (seconds / unit, name));
    let decimals = usize::from(value < 100.0 && value.fract() > 0.049);
    format!("{value:.decimals$} {unit}")
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Generator, generate};
    use crate::{Policy, figures, run};

    fn page(jobs: usize) -> String {
        let workload = generate(&Generator { jobs, cores: 64, load: 0.9, seed: 1 });
        let runs = ["fcfs", "easy"].map(|name| {
            let policy: Policy = name.parse().unwrap();
            let ran = run(&workload, 64, &policy).unwrap();
            let found = figures(&workload, &ran);
            (ran, found)
        });
        render("a <b> & c", &[("cores".to_owned(), "64".to_owned())], &workload, &runs)
    }

    #[test]
    fn a_page_is_whole_escaped_and_asks_nobody() {
        let page = page(40);
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("a &lt;b&gt; &amp; c") && !page.contains("<b>"));
        assert_eq!(page.matches("<svg").count(), 5);
        for spoilt in ["NaN", "inf", "http://", "https://", "<script"] {
            assert!(!page.contains(spoilt), "{spoilt}");
        }
    }

    #[test]
    fn a_large_workload_makes_a_small_page() {
        let page = page(20_000);
        assert_eq!(page.matches("<svg").count(), 5);
        assert_eq!(page.matches("Drawn are the first 600 of 20000 bars").count(), 2);
        assert!(page.len() < 600_000, "{}", page.len());
    }

    #[test]
    fn who_stands_still_is_not_busy_and_waits() {
        let workload = generate(&Generator { jobs: 60, cores: 8, load: 1.5, seed: 1 });
        let ran = run(&workload, 8, &"round-robin:10s".parse().unwrap()).unwrap();
        assert!(ran.tasks.iter().any(|ran| ran.pauses.len() > 1));
        let high = |curve: &Curve| curve.points.iter().map(|point| point.1).fold(0.0, f64::max);
        let busy = busy(&ran);
        assert_eq!((high(&busy), busy.points.last().map(|point| point.1)), (8.0, Some(0.0)));
        let waits = waits(&ran);
        assert_eq!(waits.points.last(), Some(&(figures(&workload, &ran).max_wait_s, 100.0)));
    }

    #[test]
    fn nothing_at_all_is_a_page_too() {
        let page = render("", &[], &Workload::default(), &[]);
        assert!(page.ends_with("</html>\n") && !page.contains("NaN"));
    }

    #[test]
    fn times_are_told_in_fitting_units() {
        let told = [0.0, 0.5, 12.0, 90.0, 3_600.0, 200_000.0].map(span);
        assert_eq!(told, ["0 s", "0.5 s", "12 s", "1.5 min", "1 h", "2.3 d"]);
    }
}
