//! What is told: rows with both sides and their ratio, and rows that have none with the reason. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::fault::Fault;
use crate::rows::Row;
use crate::stats::{Spread, ratio};
use crate::turns::Outcome;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub rows: Vec<Line>,
    pub left_out: Vec<LeftOut>,
    /// Of Baton and of each peer that could be measured, by name.
    pub versions: BTreeMap<String, String>,
    pub rounds: u32,
    /// Of the usual amount of work.
    pub scale: f64,
    pub cores: usize,
}

/// Figures are per second; `baton` and `peer_value` are medians of the rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub figure: String,
    pub peer: String,
    pub baton: f64,
    pub peer_value: f64,
    /// Of the medians: above 1, Baton is the faster.
    pub ratio: f64,
    pub goal: Option<f64>,
    /// Whether the ratio is at least the goal; nothing where there is none.
    pub reached: Option<bool>,
    /// Whether the peer syncs a write to disk before it acknowledges. Baton does.
    pub peer_synced: bool,
    pub baton_spread: Spread,
    pub peer_spread: Spread,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOut {
    pub figure: String,
    pub peer: String,
    pub reason: String,
}

impl Report {
    pub fn add(&mut self, row: &Row, outcome: Outcome) {
        match outcome.and_then(|rounds| line(row, &rounds.baton, &rounds.peer)) {
            Ok(line) => self.rows.push(line),
            Err(fault) => self.leave_out(row, &fault),
        }
    }

    pub fn leave_out(&mut self, row: &Row, fault: &Fault) {
        let (figure, peer) = (row.figure.to_owned(), row.peer.title().to_owned());
        self.left_out.push(LeftOut { figure, peer, reason: fault.to_string() });
    }

    /// For people: the table, the rows that are missing, and what was measured.
    pub fn table(&self) -> String {
        let mut text = columns(&self.cells());
        for out in &self.left_out {
            text.push_str(&format!("left out: {}, {}: {}\n", out.figure, out.peer, out.reason));
        }
        text.push_str(&format!("{}\n", self.footer()));
        text
    }

    /// One line that says what was measured.
    pub fn footer(&self) -> String {
        let is_baton = |name: &str| name == "baton";
        let mut versions: Vec<(&String, &String)> = self.versions.iter().collect();
        versions.sort_by_key(|(name, _)| !is_baton(name));
        let versions: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let scale = if self.scale == 1.0 { String::new() } else { format!(", scale {}", self.scale) };
        format!("{} · {} cores · medians of {} rounds{scale}", versions.join(" · "), self.cores, self.rounds)
    }

    fn cells(&self) -> Vec<Vec<String>> {
        let head =
            ["figure", "peer", "baton", "min..max", "peer /s", "min..max", "ratio", "goal", "peer syncs"];
        let mut cells = vec![head.map(str::to_owned).to_vec()];
        cells.extend(self.rows.iter().map(Line::cells));
        cells
    }
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let range = |spread: &Spread| format!("{}..{}", number(spread.min), number(spread.max));
        let goal = match (self.goal, self.reached) {
            (Some(goal), Some(true)) => format!("{goal} reached"),
            (Some(goal), _) => format!("{goal} missed"),
            (None, _) => "-".to_owned(),
        };
        vec![
            self.figure.clone(),
            self.peer.clone(),
            number(self.baton),
            range(&self.baton_spread),
            number(self.peer_value),
            range(&self.peer_spread),
            times(self.ratio),
            goal,
            if self.peer_synced { "yes" } else { "no" }.to_owned(),
        ]
    }
}

fn line(row: &Row, baton: &[f64], peer: &[f64]) -> Result<Line, Fault> {
    let none = || Fault::new("no round was measured");
    let (baton, peer) = (Spread::of(baton).ok_or_else(none)?, Spread::of(peer).ok_or_else(none)?);
    let ratio = ratio(&baton, &peer);
    Ok(Line {
        figure: row.figure.to_owned(),
        peer: row.peer.title().to_owned(),
        baton: baton.median,
        peer_value: peer.median,
        ratio,
        goal: row.goal,
        reached: row.goal.map(|goal| ratio >= goal),
        peer_synced: row.peer.is_synced(),
        baton_spread: baton,
        peer_spread: peer,
    })
}

/// A rate as people read it: 645, 13,600, 9,700,000.
pub fn number(value: f64) -> String {
    let digits = format!("{:.0}", value.round());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio as people read it: 0.74x, 1.6x, 15,600x.
pub fn times(ratio: f64) -> String {
    match ratio {
        ratio if ratio < 1.0 => format!("{ratio:.2}x"),
        ratio if ratio < 100.0 => format!("{ratio:.1}x"),
        ratio => format!("{}x", number(ratio)),
    }
}

/// Cells in columns; the first two are words and stand left, numbers stand right.
fn columns(cells: &[Vec<String>]) -> String {
    let count = cells.first().map_or(0, Vec::len);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in cells {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;
    use crate::turns::Rounds;

    fn measured() -> Report {
        let mut report = Report { rounds: 3, scale: 1.0, cores: 2, ..Report::default() };
        for (name, version) in [("baton", "0.1.0"), ("NATS", "2.9.10")] {
            report.versions.insert(name.to_owned(), version.to_owned());
        }
        let rounds =
            Rounds { baton: vec![13_600.0, 13_100.0, 14_300.0], peer: vec![8_600.0, 8_500.0, 9_000.0] };
        report.add(&ROWS[1], Ok(rounds));
        report.add(&ROWS[4], Err(Fault::new("nats-server is not installed")));
        report
    }

    #[test]
    fn json_has_the_agreed_keys() {
        let json = serde_json::to_value(measured()).unwrap();
        let row = &json["rows"][0];
        assert_eq!(row["figure"], "submits/s, 64 in flight");
        assert_eq!(
            (&row["peer"], &row["baton"], &row["peer_value"]),
            (&"etcd".into(), &13_600.0.into(), &8_600.0.into())
        );
        assert!((row["ratio"].as_f64().unwrap() - 13_600.0 / 8_600.0).abs() < 1e-9);
        assert_eq!((&row["goal"], &row["reached"]), (&4.0.into(), &false.into()));
        assert_eq!(json["left_out"][0]["reason"], "nats-server is not installed");
        assert_eq!(json["versions"]["NATS"], "2.9.10");
    }

    #[test]
    fn the_table_says_what_is_missing() {
        let text = measured().table();
        assert!(text.contains("13,600  13,100..14,300"), "{text}");
        assert!(text.contains("1.6x  4 missed"), "{text}");
        assert!(
            text.contains("left out: single jobs/s, 1024 in flight, NATS JetStream R3: nats-server is not"),
            "{text}"
        );
        assert!(text.ends_with("\nbaton 0.1.0 · NATS 2.9.10 · 2 cores · medians of 3 rounds\n"), "{text}");
    }

    #[test]
    fn a_row_without_rounds_is_left_out() {
        let mut report = Report::default();
        report.add(&ROWS[0], Ok(Rounds { baton: vec![1.0], peer: Vec::new() }));
        assert!(report.rows.is_empty());
        assert_eq!(report.left_out.len(), 1);
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!([number(645.4), number(13_600.0), number(9_700_000.0)], ["645", "13,600", "9,700,000"]);
        assert_eq!([times(0.743), times(1.58), times(15_600.4)], ["0.74x", "1.6x", "15,600x"]);
    }
}
