//! What a replica says of itself under `/metrics`.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fault::Fault;

/// Figures of one moment by name, those with labels under their whole name.
#[derive(Clone, Debug, Default)]
pub struct Scrape(BTreeMap<String, f64>);

/// Of the replica with this HTTP port.
pub async fn scrape(port: u16) -> Result<Scrape, Fault> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(parse(&text))
}

impl Scrape {
    /// What is not told is 0.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// What was added to a counter since an earlier scrape.
    pub fn since(&self, before: &Scrape, name: &str) -> f64 {
        self.get(name) - before.get(name)
    }

    /// What a histogram counted since then; `label` as in `lane="worker"`, empty: it has none.
    pub fn histogram_since(&self, before: &Scrape, name: &str, label: &str) -> Histogram {
        let comma = if label.is_empty() { "" } else { "," };
        let start = format!("{name}_bucket{{{label}{comma}le=\"");
        let bucket = |(key, count): (&String, &f64)| {
            let bound = key.strip_prefix(&start)?.strip_suffix("\"}")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, (count - before.get(key)) as u64))
        };
        let mut buckets: Vec<(f64, u64)> = self.0.iter().filter_map(bucket).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Histogram { buckets }
    }
}

/// Counts at or below each bound in seconds, the bounds in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// How many were longer than `bound`, in seconds, which is one of the histogram's own.
    pub fn above(&self, bound: f64) -> u64 {
        let below = self.buckets.iter().find(|(at, _)| *at >= bound).map_or(0, |(_, count)| *count);
        self.count() - below
    }

    /// The longest was at most so long, in seconds: infinite if it was above all bounds, 0 if there was none.
    pub fn longest(&self) -> f64 {
        let all = self.count();
        let holds_all = |(_, count): &&(f64, u64)| *count == all;
        if all == 0 { 0.0 } else { self.buckets.iter().find(holds_all).map_or(0.0, |(bound, _)| *bound) }
    }
}

fn parse(text: &str) -> Scrape {
    let lines = text.lines().filter(|line| line.starts_with("baton_"));
    let figure = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    Scrape(lines.filter_map(figure).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_with_their_labels() {
        let figures = parse("HTTP/1.1 200 OK\r\n\r\n# HELP baton_x X.\nbaton_x 3\nbaton_y{a=\"b c\"} 0.5\n");
        assert_eq!((figures.get("baton_x"), figures.get("baton_y{a=\"b c\"}")), (3.0, 0.5));
        assert_eq!((figures.0.len(), figures.get("baton_z")), (2, 0.0));
    }

    #[test]
    fn a_histogram_tells_what_was_long_since_the_scrape_before() {
        let page = |label: &str, counts: [u64; 4]| {
            let bounds = ["0.001", "0.005", "0.01", "+Inf"];
            let line = |(bound, count)| format!("baton_h_bucket{{{label}le=\"{bound}\"}} {count}\n");
            bounds.into_iter().zip(counts).map(line).collect::<String>()
        };
        let before = parse(&page("", [1, 1, 2, 3]));
        let both = page("", [4, 6, 8, 9]) + &page("lane=\"worker\",", [0, 0, 0, 1]);
        let found = parse(&both).histogram_since(&before, "baton_h", "");
        assert_eq!(found, Histogram { buckets: vec![(0.001, 3), (0.005, 5), (0.01, 6), (f64::INFINITY, 6)] });
        assert_eq!((found.count(), found.above(0.005), found.longest()), (6, 1, 0.01));
        let labelled = parse(&both).histogram_since(&before, "baton_h", "lane=\"worker\"");
        assert_eq!((labelled.above(0.005), labelled.longest()), (1, f64::INFINITY));
        assert_eq!(parse("").histogram_since(&before, "baton_h", "").longest(), 0.0);
    }
}
