//! The rows of the table: which figure of Baton's stands beside which of a peer's, and what is wanted. Pure.

use crate::peers::{Load, Peer};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub figure: &'static str,
    pub peer: Peer,
    /// What `baton bench` is asked for.
    pub scenario: &'static str,
    /// Which of its figures, where it gives several.
    pub in_flight: Option<u64>,
    pub load: Load,
    /// The least ratio that is wanted, where one is.
    pub goal: Option<f64>,
}

pub const ROWS: [Row; 7] = [
    Row {
        figure: "submits/s, 1 in flight",
        peer: Peer::Etcd,
        scenario: "submit",
        in_flight: Some(1),
        load: Load::Puts(1),
        goal: None,
    },
    Row {
        figure: "submits/s, 64 in flight",
        peer: Peer::Etcd,
        scenario: "submit",
        in_flight: Some(64),
        load: Load::Puts(64),
        goal: Some(4.0),
    },
    Row {
        figure: "submits/s, 1024 in flight",
        peer: Peer::Etcd,
        scenario: "submit",
        in_flight: Some(1_024),
        load: Load::Puts(1_024),
        goal: Some(3.0),
    },
    Row {
        figure: "noop tasks/s",
        peer: Peer::Dask,
        scenario: "noop",
        in_flight: None,
        load: Load::Noops,
        goal: Some(200.0),
    },
    Row {
        figure: "single jobs/s, 1024 in flight",
        peer: Peer::Nats,
        scenario: "jobs",
        in_flight: Some(1_024),
        load: Load::Messages(1_024),
        goal: Some(1.0),
    },
    Row {
        figure: "/bin/true tasks/s, output captured",
        peer: Peer::HyperQueue,
        scenario: "process",
        in_flight: None,
        load: Load::Processes,
        goal: Some(2.0),
    },
    Row {
        figure: "/bin/true tasks/s, output captured",
        peer: Peer::Spawn,
        scenario: "process",
        in_flight: None,
        load: Load::Processes,
        goal: Some(0.7),
    },
];

/// The rows of these peers, grouped by what Baton is asked for: a group's turns alternate.
pub fn groups(peers: &[Peer]) -> Vec<Vec<Row>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in ROWS.into_iter().filter(|row| peers.contains(&row.peer)) {
        match groups.iter_mut().find(|group| group[0].scenario == row.scenario) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_share_a_scenario_share_batons_turn() {
        let groups = groups(&Peer::ALL);
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, [3, 1, 1, 2]);
        assert_eq!(super::groups(&[Peer::Spawn]).concat().len(), 1);
    }

    #[test]
    fn every_peer_has_a_row() {
        assert!(Peer::ALL.into_iter().all(|peer| ROWS.iter().any(|row| row.peer == peer)));
    }
}
