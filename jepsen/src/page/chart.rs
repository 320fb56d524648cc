//! A picture over the time of the run: labels at the side, the plot, the time below it.
//!
//! Lines and areas are in an SVG that is stretched along the time to the width that there is; words and marks are in one
//! around it, placed by percentages, so that they keep their size on any screen.

use std::fmt::Write as _;

use super::axis::{Scale, Span, WIDTH};
use super::text::{escape, percent, tenths};

pub struct Chart<'a> {
    /// What it shows, for those who cannot see it.
    pub name: &'a str,
    pub height: f64,
    pub span: Span,
    /// HTML at the side.
    side: String,
    grid: Path,
    /// SVG of the stretched part: `WIDTH` by the height.
    pub stretched: String,
    /// SVG of the other: per cent by the height.
    pub fixed: String,
}

impl<'a> Chart<'a> {
    pub fn new(name: &'a str, height: f64, span: Span) -> Chart<'a> {
        let mut grid = Path::default();
        for at in span.ticks() {
            grid.line([(span.x(at), 0.0), (span.x(at), height)]);
        }
        Chart {
            name,
            height,
            span,
            side: String::new(),
            grid,
            stretched: String::new(),
            fixed: String::new(),
        }
    }

    /// At the side, with its middle at this height.
    pub fn label(&mut self, y: f64, class: &str, text: &str) {
        let (y, text) = (tenths(y), escape(text));
        let _ =
            writeln!(self.side, r#"<span class="{class}" style="top:{y}px" title="{text}">{text}</span>"#);
    }

    /// The height of a value; above the greatest there is some room.
    pub fn y(&self, scale: &Scale, value: f64) -> f64 {
        self.height - scale.share(value) * (self.height - HEADROOM)
    }

    /// A line across with its value at the side for each tick of a scale.
    pub fn ticks(&mut self, scale: &Scale, told: impl Fn(f64) -> String) {
        for tick in &scale.ticks {
            let y = self.y(scale, *tick);
            self.grid.line([(0.0, y), (WIDTH, y)]);
            // The lowest and the time below it would meet.
            self.label(y.min(self.height - 5.0), "tick", &told(*tick));
        }
    }

    /// Bands over the whole height.
    pub fn bands(&mut self, bounds: &[(f64, f64)], class: &str) {
        self.bands_between(bounds, class, 0.0, self.height);
    }

    pub fn bands_between(&mut self, bounds: &[(f64, f64)], class: &str, top: f64, height: f64) {
        let mut path = Path::default();
        for (from, to) in bounds {
            let (from, to) = (self.span.x(*from), self.span.x(*to));
            path.block(from, top, (to - from).max(BAND_MIN), height);
        }
        path.draw(&mut self.stretched, class);
    }

    pub fn html(&self) -> String {
        let Chart { height, side, stretched, fixed, .. } = self;
        let (name, height) = (escape(self.name), tenths(*height));
        let mut grid = String::new();
        self.grid.draw(&mut grid, "grid");
        let mut html = format!(
            "<div class=\"chart\">\n<div class=\"side\" style=\"height:{height}px\">\n{side}</div>\n\
             <div class=\"plot\"><svg width=\"100%\" height=\"{height}\" role=\"img\" aria-label=\"{name}\">\n\
             <svg width=\"100%\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\">\n\
             {grid}{stretched}</svg>\n{fixed}</svg></div>\n<div></div><div class=\"times\">"
        );
        for at in self.span.ticks() {
            let share = self.span.share(at);
            let end = if share > 0.97 { " class=\"end\"" } else { "" };
            let _ = write!(html, r#"<span{end} style="left:{}">{}</span>"#, percent(share), time(at));
        }
        html.push_str("</div>\n</div>\n");
        html
    }
}

const HEADROOM: f64 = 8.0;
/// However short, it is seen.
pub const BAND_MIN: f64 = 1.5;

fn time(seconds: f64) -> String {
    format!("{} s", super::text::short(seconds))
}

/// What one path element draws.
#[derive(Default)]
pub struct Path {
    data: String,
}

impl Path {
    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>) {
        for (place, (x, y)) in points.into_iter().enumerate() {
            self.data.push(if place == 0 { 'M' } else { 'L' });
            let _ = write!(self.data, "{} {}", tenths(x), tenths(y));
        }
    }

    /// A mark that keeps its size, if the stroke has round or square ends.
    pub fn mark(&mut self, x: f64, y: f64) {
        let _ = write!(self.data, "M{} {}h0", tenths(x), tenths(y));
    }

    pub fn block(&mut self, x: f64, y: f64, width: f64, height: f64) {
        let [x, y, width, height] = [x, y, width, height].map(tenths);
        let _ = write!(self.data, "M{x} {y}h{width}v{height}h-{width}z");
    }

    /// An area of columns of one width with these heights over a base.
    pub fn steps(&mut self, heights: impl Iterator<Item = f64>, width: f64, base: f64) {
        let _ = write!(self.data, "M0 {}", tenths(base));
        let mut last = None;
        for (place, height) in heights.enumerate() {
            let y = tenths(base - height);
            if last.as_ref() != Some(&y) {
                let _ = write!(self.data, "H{}V{y}", tenths(place as f64 * width));
                last = Some(y);
            }
        }
        let _ = write!(self.data, "H{WIDTH}V{}z", tenths(base));
    }

    /// Lines through the values that are there, with a gap where there is none. One between two gaps is a mark.
    pub fn through(&mut self, points: impl Iterator<Item = Option<(f64, f64)>>) {
        let points: Vec<Option<(f64, f64)>> = points.collect();
        for run in points.split(Option::is_none) {
            match run {
                [Some((x, y))] => self.mark(*x, *y),
                run => self.line(run.iter().flatten().copied()),
            }
        }
    }

    pub fn draw(&self, svg: &mut String, class: &str) {
        if !self.data.is_empty() {
            let _ = writeln!(svg, r#"<path class="{class}" d="{}"/>"#, self.data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_parts_a_line() {
        let mut path = Path::default();
        let points = [Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 4.25)), None, None];
        path.through(points.into_iter());
        assert_eq!(path.data, "M0 1L1 2M3 4.2h0");
    }

    #[test]
    fn a_band_is_seen_however_short_it_was() {
        let mut chart = Chart::new("", 10.0, Span { to: 1_000.0 });
        chart.bands(&[(5.0, 5.0), (10.0, 20.0)], "band");
        assert_eq!(chart.stretched, "<path class=\"band\" d=\"M5 0h1.5v10h-1.5zM10 0h10v10h-10z\"/>\n");
    }
}
