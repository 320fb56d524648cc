//! Draws the ratios as bars on a logarithmic scale, from the line of equal speed, with each goal as a mark. Pure.

use std::fmt::Write as _;

use crate::report::{Line, Report, number, times};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 220.0;
const TOP: f64 = 84.0;
const ROW: f64 = 48.0;
const BAR: f64 = 18.0;
const BOTTOM: f64 = 66.0;

/// Its own ground in both schemes, so that it can be read wherever it is shown.
const STYLE: &str = "<style>
.ground{fill:#ffffff}.text{fill:#1f2328}.faint{fill:#59636e}.grid{stroke:#d1d9e0}.equal{stroke:#59636e}
.won{fill:#2f7d4f}.lost{fill:#bc4c00}.even{fill:#5b7fa6}.goal{stroke:#1f2328}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.text{fill:#f0f6fc}.faint{fill:#9198a1}.grid{stroke:#3d444d}
.equal{stroke:#9198a1}.won{fill:#3fa66a}.lost{fill:#e0813a}.even{fill:#6f97c4}.goal{stroke:#f0f6fc}}
</style>
";

pub fn draw(report: &Report) -> String {
    let scale = Scale::of(&report.rows);
    let height = TOP + report.rows.len() as f64 * ROW + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n{STYLE}<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n"
    );
    text(&mut svg, 16.0, 28.0, "text\" font-size=\"17\" font-weight=\"bold", "Baton beside other systems");
    let explained = "Ratio of medians on a logarithmic scale; right of 1x Baton is faster. The tick is the goal: green reached it, orange missed it.";
    text(&mut svg, 16.0, 48.0, "faint", explained);
    grid(&mut svg, &scale, height - BOTTOM + 4.0);
    for (place, line) in report.rows.iter().enumerate() {
        bar(&mut svg, &scale, line, TOP + place as f64 * ROW);
    }
    // Versions can be long: one line of them, one of the rest.
    let footer = report.footer();
    let (versions, rest) = footer.split_at(footer.find(&format!("{} cores", report.cores)).unwrap_or(0));
    text(&mut svg, 16.0, height - 28.0, "faint\" font-size=\"11", versions.trim_end_matches(" · "));
    text(&mut svg, 16.0, height - 12.0, "faint\" font-size=\"11", rest);
    svg.push_str("</svg>\n");
    svg
}

/// Maps ratios to places: decades of equal width, whole ones, with 1 always inside.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scale {
    first: i32,
    last: i32,
}

impl Scale {
    fn of(lines: &[Line]) -> Scale {
        let ratios = || lines.iter().flat_map(|line| [Some(line.ratio), line.goal]).flatten();
        let logs = || ratios().filter(|ratio| *ratio > 0.0 && ratio.is_finite()).map(f64::log10);
        let first = logs().fold(0.0, f64::min).floor() as i32;
        let last = (logs().fold(0.0, f64::max).ceil() as i32).max(first + 1);
        Scale { first, last }
    }

    fn x(self, ratio: f64) -> f64 {
        let part = (ratio.max(f64::MIN_POSITIVE).log10() - f64::from(self.first))
            / f64::from(self.last - self.first);
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }
}

fn grid(svg: &mut String, scale: &Scale, bottom: f64) {
    for decade in scale.first..=scale.last {
        let ratio = 10f64.powi(decade);
        let x = scale.x(ratio);
        let class = if decade == 0 { "equal\" stroke-width=\"2" } else { "grid" };
        let _ = writeln!(
            svg,
            r#"<line class="{class}" x1="{x:.1}" x2="{x:.1}" y1="{:.1}" y2="{bottom:.1}"/>"#,
            TOP - 10.0
        );
        let label = if decade < 0 { format!("{ratio}x") } else { format!("{}x", number(ratio)) };
        text(svg, x, TOP - 15.0, "faint\" text-anchor=\"middle", &label);
    }
}

fn bar(svg: &mut String, scale: &Scale, line: &Line, top: f64) {
    let middle = top + ROW / 2.0;
    text(svg, LEFT - 12.0, middle - 3.0, "text\" text-anchor=\"end", &line.figure);
    let synced = if line.peer_synced { "" } else { ", no sync" };
    text(svg, LEFT - 12.0, middle + 13.0, "faint\" text-anchor=\"end", &format!("{}{synced}", line.peer));
    let (equal, end) = (scale.x(1.0), scale.x(line.ratio));
    let class = match line.reached {
        Some(true) => "won",
        Some(false) => "lost",
        None => "even",
    };
    let _ = writeln!(
        svg,
        r#"<rect class="{class}" x="{:.1}" y="{:.1}" width="{:.1}" height="{BAR}" rx="2"/>"#,
        equal.min(end),
        middle - BAR / 2.0,
        (end - equal).abs().max(1.0)
    );
    if let Some(goal) = line.goal {
        let x = scale.x(goal);
        let (from, to) = (middle - BAR / 2.0 - 5.0, middle + BAR / 2.0 + 5.0);
        let _ = writeln!(
            svg,
            r#"<line class="goal" stroke-width="3" x1="{x:.1}" x2="{x:.1}" y1="{from:.1}" y2="{to:.1}"/>"#
        );
    }
    let x = WIDTH - RIGHT + 14.0;
    let goal = line.goal.map_or_else(|| "no goal".to_owned(), |goal| format!("goal {goal}x"));
    text(svg, x, middle - 3.0, "text", &format!("{}  ({goal})", times(line.ratio)));
    text(
        svg,
        x,
        middle + 13.0,
        "faint",
        &format!("{} vs {} /s", number(line.baton), number(line.peer_value)),
    );
}

/// `class` may carry further attributes after its closing quote.
fn text(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(svg, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{}</text>"#, escape(words));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;
    use crate::turns::Rounds;

    fn report(pairs: &[(usize, f64, f64)]) -> Report {
        let mut report = Report { rounds: 1, scale: 1.0, cores: 2, ..Report::default() };
        for (row, baton, peer) in pairs {
            report.add(&ROWS[*row], Ok(Rounds { baton: vec![*baton], peer: vec![*peer] }));
        }
        report
    }

    #[test]
    fn every_row_has_a_bar_and_its_goal() {
        let svg = draw(&report(&[(0, 600.0, 1_000.0), (1, 40_000.0, 8_000.0), (3, 9.0e6, 600.0)]));
        assert_eq!(svg.matches(r#"rx="2""#).count(), 3);
        assert_eq!(svg.matches(r#"class="goal""#).count(), 2);
        assert!(svg.contains(r#"class="even""#) && svg.contains(r#"class="won""#));
        assert!(svg.contains("15,000x") && svg.contains("0.60x") && svg.ends_with("</svg>\n"));
    }

    #[test]
    fn bars_start_at_equal_speed_and_stay_inside() {
        let scale = Scale::of(&report(&[(0, 600.0, 1_000.0), (3, 9.0e6, 600.0)]).rows);
        assert_eq!(scale, Scale { first: -1, last: 5 });
        assert_eq!((scale.x(0.1), scale.x(1e5)), (LEFT, WIDTH - RIGHT));
        assert!(scale.x(0.6) < scale.x(1.0));
    }

    #[test]
    fn nothing_to_draw_is_a_picture_too() {
        let svg = draw(&Report::default());
        assert!(svg.starts_with("<svg ") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn words_are_escaped() {
        assert_eq!(escape("a<b & \"c\""), "a&lt;b &amp; &quot;c&quot;");
    }
}
