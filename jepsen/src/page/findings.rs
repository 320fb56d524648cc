//! What the checkers found, the worst first, and what was skipped.

use std::fmt::Write as _;

use super::Row;
use super::head::{class, mark};
use super::text::{cut, escape, whole};

/// Of one checker; the rest is told as a number.
const PROBLEMS_SHOWN: usize = 20;
/// A problem may carry a whole record.
const PROBLEM_CHARS_MAX: usize = 1_500;

pub fn write(html: &mut String, findings: &[Row]) {
    html.push_str("<section>\n<h2>Verdicts</h2>\n");
    if findings.is_empty() {
        html.push_str("<p class=\"none\">No checker reported.</p>\n</section>\n");
        return;
    }
    let mut order: Vec<&Row> = findings.iter().collect();
    order.sort_by_key(|row| match row.verdict.as_str() {
        "false" => 0,
        "true" => 2,
        _ => 1,
    });
    html.push_str(
        "<table class=\"findings\">\n<thead><tr><th>verdict</th><th>id</th><th>claim</th><th>looked at</th></tr></thead>\n<tbody>\n",
    );
    for row in order {
        let more = if row.problems.is_empty() { "" } else { " class=\"has-problems\"" };
        let _ = writeln!(
            html,
            "<tr{more}><td class=\"verdict {}\">{}</td><td class=\"id\">{}</td><td>{}</td><td class=\"seen\">{}</td></tr>",
            class(&row.verdict),
            mark(&row.verdict),
            escape(&row.id),
            escape(&row.claim),
            escape(&row.looked_at),
        );
        write_problems(html, &row.problems);
    }
    html.push_str("</tbody>\n</table>\n</section>\n");
}

fn write_problems(html: &mut String, problems: &[String]) {
    if problems.is_empty() {
        return;
    }
    html.push_str("<tr><td class=\"list\" colspan=\"4\"><ul class=\"problems\">\n");
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        let _ = writeln!(html, "<li>{}</li>", escape(&cut(problem, PROBLEM_CHARS_MAX)));
    }
    if problems.len() > PROBLEMS_SHOWN {
        let more = (problems.len() - PROBLEMS_SHOWN) as u64;
        let _ = writeln!(html, "<li class=\"more\">and {} more</li>", whole(more));
    }
    html.push_str("</ul></td></tr>\n");
}

pub fn write_skipped(html: &mut String, skipped: &[(String, String)]) {
    html.push_str("<section>\n<h2>Skipped</h2>\n");
    if skipped.is_empty() {
        html.push_str("<p class=\"none\">Nothing was skipped.</p>\n</section>\n");
        return;
    }
    html.push_str("<dl class=\"skipped\">\n");
    for (what, why) in skipped {
        let _ = writeln!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(what), escape(why));
    }
    html.push_str("</dl>\n</section>\n");
}
