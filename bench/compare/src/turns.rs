//! Runs the turns: Baton, a peer, Baton, the peer, and so on, each from scratch in a folder of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::baton::Baton;
use crate::fault::Fault;
use crate::peers::{Peer, Turn};
use crate::rows::Row;
use crate::scenario;

/// For a peer's turn at scale 1, its start included. What takes longer hangs.
const TURN_MAX: Duration = Duration::from_secs(900);

/// How it is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    pub baton: Baton,
    pub rounds: u32,
    pub scale: f64,
    pub python: PathBuf,
    /// Where each turn makes its folder.
    pub data_dir: PathBuf,
}

/// What was measured for one row, per second, in the order of the rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds {
    pub baton: Vec<f64>,
    pub peer: Vec<f64>,
}

/// Why a row has no figures.
pub type Outcome = Result<Rounds, Fault>;

impl Plan {
    /// Measures the rows of one group, which ask Baton for the same; outcomes in the order of the rows. A peer that
    /// fails loses its rows and ends no other's; where Baton fails, all of the group do.
    pub async fn measure(&self, rows: &[Row]) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = rows.iter().map(|_| Ok(Rounds::default())).collect();
        for round in 1..=self.rounds {
            if outcomes.iter().all(Result::is_err) {
                break;
            }
            self.baton_turn(round, rows, &mut outcomes).await;
            for (peer, places) in by_peer(rows) {
                if places.iter().all(|place| outcomes[*place].is_ok()) {
                    self.peer_turn(round, peer, &places, rows, &mut outcomes).await;
                }
            }
        }
        outcomes
    }

    async fn baton_turn(&self, round: u32, rows: &[Row], outcomes: &mut [Outcome]) {
        let scenario = rows[0].scenario;
        let measured = async {
            let dir = self.folder()?;
            self.baton.measure(scenario, dir.path()).await
        };
        let measured = measured.await;
        let mut told = None;
        for (row, outcome) in rows.iter().zip(outcomes) {
            let figures = measured.as_ref().map_err(Fault::clone);
            let figure = figures.and_then(|figures| scenario::median(figures, scenario, row.in_flight));
            // Rows that share one of its figures hear it once.
            if told.replace((row.scenario, row.in_flight)) != Some((row.scenario, row.in_flight)) {
                self.tell(round, "baton", row, &figure);
            }
            keep(outcome, figure, |rounds| &mut rounds.baton);
        }
    }

    async fn peer_turn(
        &self,
        round: u32,
        peer: Peer,
        places: &[usize],
        rows: &[Row],
        outcomes: &mut [Outcome],
    ) {
        let loads: Vec<_> = places.iter().map(|place| rows[*place].load).collect();
        let measured = async {
            let dir = self.folder()?;
            let turn = Turn { dir: dir.path().to_owned(), python: self.python.clone(), scale: self.scale };
            let limit = TURN_MAX.mul_f64(self.scale.max(1.0));
            let hung = |_| Fault::new(format!("{} has not ended within {} s", peer.title(), limit.as_secs()));
            tokio::time::timeout(limit, peer.measure(&turn, &loads)).await.map_err(hung)?
        };
        let measured = measured.await;
        for (nth, place) in places.iter().enumerate() {
            let figures = measured.as_ref().map_err(Fault::clone);
            let missing = || Fault::new(format!("{} gave no figure", peer.title()));
            let figure = figures.and_then(|figures| figures.get(nth).copied().ok_or_else(missing));
            self.tell(round, peer.title(), &rows[*place], &figure);
            keep(&mut outcomes[*place], figure, |rounds| &mut rounds.peer);
        }
    }

    fn folder(&self) -> Result<TempDir, Fault> {
        let folder = tempfile::Builder::new().prefix("baton-compare-").tempdir_in(&self.data_dir);
        folder.map_err(Fault::of(format!("cannot make a folder in {}", self.data_dir.display())))
    }

    /// Progress, on standard error.
    fn tell(&self, round: u32, side: &str, row: &Row, figure: &Result<f64, Fault>) {
        let head = format!("round {round}/{}  {side}: {}", self.rounds, row.figure);
        match figure {
            Ok(rate) => eprintln!("{head}: {rate:.0}"),
            Err(fault) => eprintln!("{head}: {fault}"),
        }
    }
}

/// Each peer of these rows with the places of its rows.
fn by_peer(rows: &[Row]) -> BTreeMap<Peer, Vec<usize>> {
    let mut places: BTreeMap<Peer, Vec<usize>> = BTreeMap::new();
    for (place, row) in rows.iter().enumerate() {
        places.entry(row.peer).or_default().push(place);
    }
    places
}

/// Adds the figure to one side, or leaves the row with its first fault.
fn keep(outcome: &mut Outcome, figure: Result<f64, Fault>, side: fn(&mut Rounds) -> &mut Vec<f64>) {
    match (outcome.as_mut(), figure) {
        (Ok(rounds), Ok(figure)) => side(rounds).push(figure),
        (Ok(_), Err(fault)) => *outcome = Err(fault),
        (Err(_), _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    #[test]
    fn a_peers_rows_are_measured_in_one_turn() {
        let places = by_peer(&ROWS);
        assert_eq!(places[&Peer::Etcd], [0, 1, 2]);
        assert_eq!(places.len(), 5);
    }

    #[test]
    fn the_first_fault_of_a_row_stays() {
        let mut outcome: Outcome = Ok(Rounds::default());
        keep(&mut outcome, Ok(1.0), |rounds| &mut rounds.baton);
        keep(&mut outcome, Ok(2.0), |rounds| &mut rounds.peer);
        assert_eq!(outcome, Ok(Rounds { baton: vec![1.0], peer: vec![2.0] }));
        keep(&mut outcome, Err(Fault::new("first")), |rounds| &mut rounds.peer);
        keep(&mut outcome, Err(Fault::new("second")), |rounds| &mut rounds.peer);
        keep(&mut outcome, Ok(3.0), |rounds| &mut rounds.peer);
        assert_eq!(outcome, Err(Fault::new("first")));
    }

    #[tokio::test]
    async fn a_baton_that_cannot_start_leaves_the_group_without_figures() {
        let plan = Plan {
            baton: Baton { program: PathBuf::from("/nonexistent/baton"), scale: 1.0 },
            rounds: 5,
            scale: 0.01,
            python: PathBuf::new(),
            data_dir: std::env::temp_dir(),
        };
        let outcomes = plan.measure(&ROWS[5..]).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    }
}
