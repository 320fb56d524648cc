//! How long answers took over time.

use std::fmt::Write as _;

use super::axis::Scale;
use super::chart::{Chart, Path};
use super::columns::Latency;
use super::text::{millis, short};
use super::timeline::DOTS_MAX;
use super::view::View;
use super::{Dot, Kind};

const HEIGHT: f64 = 240.0;

pub fn write(html: &mut String, view: &View<'_>) {
    html.push_str("<section>\n<h2>Latency</h2>\n");
    let operations = &view.page.operations;
    if !operations.iter().any(|dot| dot.asked().is_some() && dot.latency().is_some()) {
        html.push_str("<p class=\"none\">Nothing was answered.</p>\n</section>\n");
        return;
    }
    let columns = &view.columns.all;
    let scale = if operations.len() <= DOTS_MAX {
        Scale::log(operations.iter().filter_map(Dot::latency))
    } else {
        let of = |latency: Latency| [latency.p50, latency.p99, latency.worst];
        let ok = columns.iter().filter_map(|column| column.latency).flat_map(of);
        Scale::log(ok.chain(columns.iter().flat_map(|column| [column.fail_ms, column.info_ms]).flatten()))
    };
    let mut chart = Chart::new("latency over time", HEIGHT, view.span);
    chart.bands(&view.faulty, "band");
    chart.ticks(&scale, millis);
    if operations.len() <= DOTS_MAX {
        draw_dots(&mut chart, operations, &scale);
    } else {
        draw_worst(&mut chart, view, &scale);
    }
    for (of, class) in [(p99 as fn(Latency) -> f64, "p99"), (p50, "p50")] {
        let mut path = Path::default();
        path.through(columns.iter().enumerate().map(|(place, column)| {
            let x = view.span.x(view.columns.middle(place));
            column.latency.map(|latency| (x, chart.y(&scale, of(latency))))
        }));
        path.draw(&mut chart.stretched, class);
    }
    write_legend(html, view);
    html.push_str(&chart.html());
    html.push_str("</section>\n");
}

/// Those that failed are small and lie on those that nobody knows of, since many of both end with the same deadline.
const BACK_TO_FRONT: [Kind; 3] = [Kind::Ok, Kind::Info, Kind::Fail];

fn p50(latency: Latency) -> f64 {
    latency.p50
}

fn p99(latency: Latency) -> f64 {
    latency.p99
}

fn draw_dots(chart: &mut Chart<'_>, operations: &[Dot], scale: &Scale) {
    for kind in BACK_TO_FRONT {
        let mut path = Path::default();
        for dot in operations.iter().filter(|dot| dot.kind == kind) {
            if let (Some(asked), Some(latency)) = (dot.asked(), dot.latency()) {
                path.mark(chart.span.x(asked), chart.y(scale, latency));
            }
        }
        path.draw(&mut chart.stretched, &format!("mark {}", kind.name()));
    }
}

fn draw_worst(chart: &mut Chart<'_>, view: &View<'_>, scale: &Scale) {
    for kind in BACK_TO_FRONT {
        let mut path = Path::default();
        for (place, column) in view.columns.all.iter().enumerate() {
            let worst = match kind {
                Kind::Ok => column.latency.map(|latency| latency.worst),
                Kind::Fail => column.fail_ms,
                Kind::Info => column.info_ms,
            };
            if let Some(worst) = worst {
                path.mark(view.span.x(view.columns.middle(place)), chart.y(scale, worst));
            }
        }
        path.draw(&mut chart.stretched, &format!("mark {}", kind.name()));
    }
}

fn write_legend(html: &mut String, view: &View<'_>) {
    let width = short(view.columns.width);
    let what = if view.page.operations.len() <= DOTS_MAX { "" } else { "worst " };
    let _ = write!(
        html,
        "<p>From the question to the answer, by the time of the question, per {width}\u{a0}s; percentiles are of what was \
         acknowledged. Shaded: some fault was there. The axis is logarithmic.</p>\n<ul class=\"legend\">\n\
         <li><i class=\"key p50\"></i>p50</li>\n<li><i class=\"key p99\"></i>p99</li>\n\
         <li><i class=\"key dot ok\"></i>{what}ok</li>\n<li><i class=\"key dot fail\"></i>{what}fail</li>\n\
         <li><i class=\"key dot info\"></i>{what}info</li>\n</ul>\n"
    );
}
