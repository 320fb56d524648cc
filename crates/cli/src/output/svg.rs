//! Draws attempts as bars in lanes over time, and what happened meanwhile as bands across all lanes. Pure.

use std::fmt::Write as _;

#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub title: String,
    pub lanes: Vec<Lane>,
    pub bands: Vec<Band>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    pub name: String,
    pub bars: Vec<Bar>,
}

/// Times are seconds on any one clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    pub from: f64,
    pub to: f64,
    pub label: String,
    pub is_marked: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Band {
    pub from: f64,
    pub to: f64,
    pub label: String,
}

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const ROW: f64 = 14.0;
const LANE_GAP: f64 = 16.0;

pub fn draw(picture: &Picture) -> String {
    let bars = || picture.lanes.iter().flat_map(|lane| &lane.bars);
    let begin = bars().map(|bar| bar.from).fold(f64::INFINITY, f64::min);
    let begin = if begin.is_finite() { begin } else { 0.0 };
    let end = bars().map(|bar| bar.to).chain(picture.bands.iter().map(|band| band.to)).fold(begin, f64::max);
    let scale = (WIDTH - LEFT - RIGHT) / (end - begin).max(0.001);
    let x = |time: f64| LEFT + (time - begin).max(0.0) * scale;
    let lanes: Vec<Vec<Vec<&Bar>>> = picture.lanes.iter().map(|lane| rows(&lane.bars)).collect();
    let height_of = |rows: &Vec<Vec<&Bar>>| rows.len() as f64 * ROW + LANE_GAP;
    let height = TOP + lanes.iter().map(height_of).sum::<f64>() + 30.0;
    let mut svg = head(picture, height);
    for band in &picture.bands {
        let (from, to) = (x(band.from), x(band.to).max(x(band.from) + 1.0));
        let tall = height - TOP - 10.0;
        let _ = writeln!(
            svg,
            r##"<rect x="{from:.1}" y="{:.1}" width="{:.1}" height="{tall:.1}" fill="#d33" fill-opacity="0.25"/>"##,
            TOP - 16.0,
            to - from
        );
        let _ = writeln!(
            svg,
            r##"<text x="{from:.1}" y="{:.1}" fill="#b00">{}</text>"##,
            TOP - 20.0,
            escape(&band.label)
        );
    }
    let mut top = TOP;
    for (lane, rows) in picture.lanes.iter().zip(&lanes) {
        let _ = writeln!(
            svg,
            r##"<text x="8" y="{:.1}" font-weight="bold">{}</text>"##,
            top + ROW,
            escape(&lane.name)
        );
        for (place, row) in rows.iter().enumerate() {
            let y = top + place as f64 * ROW;
            for bar in row {
                let fill = if bar.is_marked { "#e8a33d" } else { "#4a90c4" };
                let wide = (x(bar.to) - x(bar.from)).max(1.0);
                let _ = writeln!(
                    svg,
                    r##"<rect x="{:.1}" y="{y:.1}" width="{wide:.1}" height="{:.1}" rx="2" fill="{fill}"><title>{}</title></rect>"##,
                    x(bar.from),
                    ROW - 3.0,
                    escape(&bar.label)
                );
            }
        }
        top += height_of(rows);
    }
    axis(&mut svg, end - begin, scale, top);
    svg.push_str("</svg>\n");
    svg
}

fn head(picture: &Picture, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"8\" y=\"20\" \
         font-size=\"14\">{}</text>\n",
        escape(&picture.title)
    )
}

/// A tick per second, or per as many as keep them apart.
fn axis(svg: &mut String, seconds: f64, scale: f64, y: f64) {
    let step = [1u32, 2, 5, 10, 30, 60, 300]
        .into_iter()
        .find(|step| f64::from(*step) * scale >= 30.0)
        .unwrap_or(600);
    let mut second = 0;
    while f64::from(second) <= seconds {
        let x = LEFT + f64::from(second) * scale;
        let _ = writeln!(svg, r##"<text x="{x:.1}" y="{:.1}" fill="#666">{second} s</text>"##, y + 12.0);
        second += step;
    }
}

/// Bars that overlap go in rows of their own, each in the first that is free.
fn rows(bars: &[Bar]) -> Vec<Vec<&Bar>> {
    let mut order: Vec<&Bar> = bars.iter().collect();
    order.sort_by(|a, b| a.from.total_cmp(&b.from));
    let mut rows: Vec<Vec<&Bar>> = Vec::new();
    for bar in order {
        let free = rows.iter_mut().find(|row| row.last().is_none_or(|last| last.to <= bar.from));
        match free {
            Some(row) => row.push(bar),
            None => rows.push(vec![bar]),
        }
    }
    rows
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(from: f64, to: f64) -> Bar {
        Bar { from, to, label: format!("<{from}>"), is_marked: from > 1.0 }
    }

    #[test]
    fn overlapping_bars_get_rows_of_their_own() {
        let bars = [bar(0.0, 2.0), bar(1.0, 3.0), bar(2.0, 4.0)];
        let rows = rows(&bars);
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn everything_is_drawn_inside_and_escaped() {
        let lane = Lane { name: "w&1".to_owned(), bars: vec![bar(10.0, 12.0), bar(11.0, 15.0)] };
        let band = Band { from: 11.5, to: 12.5, label: "n1 killed".to_owned() };
        let svg = draw(&Picture { title: "t".to_owned(), lanes: vec![lane], bands: vec![band] });
        assert_eq!(svg.matches("<title>").count(), 2);
        assert_eq!(svg.matches("fill-opacity").count(), 1);
        assert!(svg.contains("w&amp;1") && svg.contains("&lt;10&gt;") && svg.ends_with("</svg>\n"));
        // The last bar ends at the right margin: nothing sticks out.
        let right = LEFT + (WIDTH - LEFT - RIGHT);
        let last = LEFT + (11.0 - 10.0) * (WIDTH - LEFT - RIGHT) / 5.0;
        assert!(
            svg.contains(&format!("x=\"{last:.1}\""))
                && svg.contains(&format!("width=\"{:.1}\"", right - last))
        );
    }

    #[test]
    fn nothing_to_draw_is_a_picture_too() {
        let svg = draw(&Picture { title: String::new(), lanes: Vec::new(), bands: Vec::new() });
        assert!(svg.starts_with("<svg ") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
