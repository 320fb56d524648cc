//! How much was acknowledged over time, and the longest time in which nothing was.

use std::fmt::Write as _;

use super::Dot;
use super::axis::Scale;
use super::chart::{Chart, Path};
use super::text::{escape, moment, percent, short};
use super::view::View;

const HEIGHT: f64 = 160.0;

/// Without an acknowledgement, while there were questions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gap {
    pub from: f64,
    pub to: f64,
}

/// Between two acknowledgements; also from the first question to the first of them, and from the last to the last question.
/// None: nothing was asked.
pub fn longest_gap(operations: &[Dot]) -> Option<Gap> {
    let asked = operations.iter().filter_map(Dot::asked);
    let (first, last) =
        asked.fold((f64::INFINITY, 0.0f64), |(first, last), at| (first.min(at), last.max(at)));
    let mut moments: Vec<f64> = operations.iter().filter_map(Dot::acknowledged).collect();
    moments.sort_unstable_by(f64::total_cmp);
    let end = moments.last().map_or(last, |answered| answered.max(last));
    let mut longest = first.is_finite().then_some(Gap { from: first, to: first })?;
    let mut from = first;
    for to in moments.into_iter().chain([end]) {
        if to - from > longest.to - longest.from {
            longest = Gap { from, to };
        }
        from = to;
    }
    Some(longest)
}

pub fn write(html: &mut String, view: &View<'_>) {
    html.push_str("<section>\n<h2>Acknowledged per second</h2>\n");
    let Some(gap) = longest_gap(&view.page.operations) else {
        html.push_str("<p class=\"none\">Nothing was asked.</p>\n</section>\n");
        return;
    };
    let width = view.columns.width;
    let rates: Vec<f64> = view.columns.all.iter().map(|column| column.acknowledged as f64 / width).collect();
    let scale = Scale::linear(rates.iter().copied(), "per second", 4);
    let mut chart = Chart::new("acknowledged operations per second over time", HEIGHT, view.span);
    chart.bands(&view.faulty, "band");
    chart.ticks(&scale, |rate| format!("{} /s", short(rate)));
    let mut path = Path::default();
    let heights = rates.iter().map(|rate| HEIGHT - chart.y(&scale, *rate));
    path.steps(heights, view.span.x(width), HEIGHT);
    path.draw(&mut chart.stretched, "rate");
    chart.bands(&[(gap.from, gap.to)], "gap");
    let told = format!("longest gap {:.2} s", gap.to - gap.from);
    // On the side where there is more room for it.
    let (at, anchor, away) = match chart.span.share(gap.from) {
        share if share < 0.5 => (chart.span.share(gap.to), "start", 6),
        share => (share, "end", -6),
    };
    let _ = writeln!(
        chart.fixed,
        r#"<text class="gap" x="{}" dx="{away}" y="15" text-anchor="{anchor}">{told}</text>"#,
        percent(at)
    );
    let faults = faults_in(view, gap);
    let _ = writeln!(
        html,
        "<p>By the time of the answer, per {}\u{a0}s. The longest time in which nothing was acknowledged: {:.2} s, from {} \
         to {}{}.</p>",
        short(width),
        gap.to - gap.from,
        moment(gap.from),
        moment(gap.to),
        escape(&faults)
    );
    html.push_str(&chart.html());
    html.push_str("</section>\n");
}

/// What may have caused it.
fn faults_in(view: &View<'_>, gap: Gap) -> String {
    const TOLD: usize = 3;
    let overlaps = view.page.windows.iter().filter(|window| {
        window.took_place() != Some(false)
            && window.from_s <= gap.to
            && (window.to_s >= gap.from || window.to_s.is_nan())
    });
    let mut names: Vec<&str> = Vec::new();
    for window in overlaps {
        if !names.contains(&window.what.as_str()) {
            names.push(&window.what);
        }
    }
    match names.len() {
        0 => ", with no fault".to_owned(),
        1..=TOLD => format!(", during {}", names.join(", ")),
        more => format!(", during {} and {} more", names[..TOLD].join(", "), more - TOLD),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    fn dot(at_s: f64, latency_ms: f64, kind: Kind) -> Dot {
        Dot { at_s, latency_ms, kind, f: "read".to_owned(), node: "n1".to_owned() }
    }

    #[test]
    fn a_gap_is_between_answers_while_there_are_questions() {
        let ok = |at: f64| dot(at, 500.0, Kind::Ok);
        let lost = |at: f64| dot(at, f64::INFINITY, Kind::Info);
        assert_eq!(longest_gap(&[]), None);
        assert_eq!(longest_gap(&[ok(1.0), ok(2.0), lost(3.0), ok(5.0)]), Some(Gap { from: 2.5, to: 5.5 }));
        assert_eq!(
            longest_gap(&[ok(1.0), ok(2.0), lost(9.0)]),
            Some(Gap { from: 2.5, to: 9.0 }),
            "never again"
        );
        assert_eq!(longest_gap(&[lost(1.0), ok(9.0)]), Some(Gap { from: 1.0, to: 9.5 }), "not at once");
        assert_eq!(longest_gap(&[lost(1.0), lost(4.0)]), Some(Gap { from: 1.0, to: 4.0 }), "never");
    }
}
