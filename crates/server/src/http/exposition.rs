//! Prometheus' text format, version 0.0.4.

use std::fmt::Write;

use crate::metrics::HistogramPicture;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics being written.
#[derive(Default)]
pub struct Exposition {
    text: String,
}

pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    pub fn into_text(self) -> String {
        self.text
    }

    /// Opens a metric: its samples follow.
    pub fn gauge(&mut self, name: &str, help: &str) -> Samples<'_> {
        self.open(name, help, "gauge")
    }

    /// Opens a counter, whose name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Samples<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.open(name, help, "counter")
    }

    pub fn histogram(&mut self, name: &str, help: &str, picture: &HistogramPicture) {
        self.histograms(name, help, &[(&[], picture)]);
    }

    /// One metric, told apart by labels.
    pub fn histograms(&mut self, name: &str, help: &str, pictures: &[(Labels<'_>, &HistogramPicture)]) {
        self.open(name, help, "histogram");
        for (labels, picture) in pictures {
            for (bound, count) in &picture.buckets {
                let bound = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                let labels = [*labels, &[("le", bound.as_str())]].concat();
                self.line(&format!("{name}_bucket"), &labels, *count as f64);
            }
            self.line(&format!("{name}_sum"), labels, picture.sum);
            self.line(&format!("{name}_count"), labels, picture.count as f64);
        }
    }

    fn open(&mut self, name: &str, help: &str, kind: &str) -> Samples<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Samples { name: name.to_owned(), page: self }
    }

    fn line(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        self.text.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            self.text.push(if place == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"{}\"", escape(text));
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// The samples of one metric.
pub struct Samples<'a> {
    name: String,
    page: &'a mut Exposition,
}

impl Samples<'_> {
    pub fn with(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        self.page.line(&self.name, labels, value);
        self
    }

    pub fn value(&mut self, value: f64) {
        self.with(&[], value);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_reads_as_prometheus_wants_it() {
        let mut page = Exposition::default();
        page.gauge("baton_workers", "Workers.").with(&[("state", "live")], 2.0);
        page.counter("baton_jobs_total", "Jobs.").with(&[("name", "a\"b\\c\nd"), ("q", "x")], 3.5);
        let picture = HistogramPicture { buckets: vec![(0.5, 1), (f64::INFINITY, 2)], sum: 1.25, count: 2 };
        page.histogram("baton_wait_seconds", "Wait.", &picture);
        let expected = "# HELP baton_workers Workers.\n# TYPE baton_workers gauge\nbaton_workers{state=\"live\"} 2\n\
            # HELP baton_jobs_total Jobs.\n# TYPE baton_jobs_total counter\n\
            baton_jobs_total{name=\"a\\\"b\\\\c\\nd\",q=\"x\"} 3.5\n\
            # HELP baton_wait_seconds Wait.\n# TYPE baton_wait_seconds histogram\n\
            baton_wait_seconds_bucket{le=\"0.5\"} 1\nbaton_wait_seconds_bucket{le=\"+Inf\"} 2\n\
            baton_wait_seconds_sum 1.25\nbaton_wait_seconds_count 2\n";
        assert_eq!(page.into_text(), expected);
    }
}
