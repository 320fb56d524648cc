//! The list of all faults.

use std::fmt::Write as _;

use super::Window;
use super::text::{counted, cut, escape, moment, whole};

/// More are shown only when asked for.
const OPEN_MAX: usize = 40;
const ROWS_MAX: usize = 3_000;

pub fn write(html: &mut String, windows: &[Window]) {
    html.push_str("<section>\n<h2>Faults</h2>\n");
    if windows.is_empty() {
        html.push_str("<p class=\"none\">No fault was tried.</p>\n</section>\n");
        return;
    }
    let open = if windows.len() <= OPEN_MAX { " open" } else { "" };
    let _ = write!(
        html,
        "<details{open}><summary>{}</summary>\n<div class=\"scroll\"><table class=\"faults\">\n<thead><tr><th>from</th>\
         <th>to</th><th>fault</th><th>node</th><th>outcome</th></tr></thead>\n<tbody>\n",
        counted(windows.len(), "fault")
    );
    for window in windows.iter().take(ROWS_MAX) {
        let _ = writeln!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            moment(window.from_s),
            moment(window.to_s),
            escape(&cut(&window.what, 200)),
            if window.node.is_empty() {
                "all".to_owned()
            } else {
                escape(&cut(&window.node, 200)).to_string()
            },
            escape(&cut(&window.outcome, 300)),
        );
    }
    html.push_str("</tbody>\n</table></div>\n");
    if windows.len() > ROWS_MAX {
        let _ = writeln!(html, "<p>and {} more</p>", whole((windows.len() - ROWS_MAX) as u64));
    }
    html.push_str("</details>\n</section>\n");
}
