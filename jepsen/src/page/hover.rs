//! What the script tells of the moment under the pointer.

use serde_json::{Value, json};

use super::view::View;

const ENTRIES_MAX: usize = 2_000;

pub fn write(html: &mut String, view: &View<'_>) {
    let columns: Vec<Value> = view
        .columns
        .all
        .iter()
        .map(|column| {
            let latency =
                column.latency.map(|latency| [latency.p50, latency.p99, latency.worst].map(rounded));
            json!([column.acknowledged, latency])
        })
        .collect();
    let page = view.page;
    let reigns: Vec<Value> = page
        .reigns
        .iter()
        .take(ENTRIES_MAX)
        .map(|reign| json!([reign.from_s, end(reign.to_s, view), reign.node, reign.term]))
        .collect();
    let faults: Vec<Value> = page
        .windows
        .iter()
        .filter(|window| window.took_place() != Some(false))
        .take(ENTRIES_MAX)
        .map(|window| json!([window.from_s, end(window.to_s, view), window.what, window.node]))
        .collect();
    let run = json!({
        "to": view.span.to, "width": view.columns.width, "columns": columns, "reigns": reigns, "faults": faults,
    });
    // So that no text can end the element.
    let run = run.to_string().replace('<', "\\u003c");
    html.push_str("<script type=\"application/json\" id=\"run\">");
    html.push_str(&run);
    html.push_str("</script>\n<script>\n");
    html.push_str(include_str!("page.js"));
    html.push_str("</script>\n");
}

fn end(at: f64, view: &View<'_>) -> f64 {
    if at.is_finite() { at } else { view.span.to }
}

fn rounded(millis: f64) -> f64 {
    (millis * 100.0).round() / 100.0
}
