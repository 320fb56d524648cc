//! What is looked at throughout a run beside what clients ask: who leads, what each replica takes of the machine, how much
//! waits.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::workload::Shared;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// A replica that was seen to lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    pub node: String,
    pub term: u64,
    /// First and last seen, in nanoseconds of the driver's clock.
    pub from: u64,
    pub to: u64,
}

/// What a replica took at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub node: usize,
    pub at: u64,
    /// Resident bytes.
    pub memory: u64,
    pub files: u64,
    /// Bytes in its data directory.
    pub disk: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    pub reigns: Vec<Reign>,
    pub samples: Vec<Sample>,
    /// Snapshots that a replica was seen to have taken over or made, by its status.
    pub snapshots: u64,
}

impl Observed {
    /// How often another replica led than before, or the same in a newer term.
    pub fn leader_changes(&self) -> u64 {
        (self.reigns.len() as u64).saturating_sub(1)
    }

    fn leads(&mut self, node: &str, term: u64, at: u64) {
        match self.reigns.last_mut() {
            Some(last) if last.term == term && last.node == node => last.to = at,
            // Whoever still believes in an older one comes too late.
            Some(last) if last.term >= term => {}
            _ => self.reigns.push(Reign { node: node.to_owned(), term, from: at, to: at }),
        }
    }
}

pub type Sheet = Arc<Mutex<Observed>>;

/// Where a replica's process and its data are; absent while it is down.
pub type Places = Arc<Mutex<Vec<Option<(i32, std::path::PathBuf)>>>>;

/// Looks on until the set is dropped.
pub fn start(shared: &Arc<Shared>, clock: Clock, sheet: &Sheet, places: &Places) -> JoinSet<()> {
    let mut looking = JoinSet::new();
    for node in 0..shared.replicas() {
        looking.spawn(look(shared.clone(), node, clock, sheet.clone()));
    }
    looking.spawn(measure(clock, sheet.clone(), places.clone()));
    looking
}

async fn look(shared: Arc<Shared>, node: usize, clock: Clock, sheet: Sheet) {
    let client = shared.client_of(node).with_deadline(Duration::from_secs(1)).stale();
    let mut snapshot = 0;
    loop {
        if let Ok(view) = client.cluster_status().await {
            shared.set_backlog(view.unfinished_jobs);
            let mut sheet = sheet.lock().expect("nobody panics with it");
            if let Some(leader) = &view.leader {
                sheet.leads(leader, view.term, clock.now());
            }
            if view.snapshot > snapshot {
                snapshot = view.snapshot;
                sheet.snapshots += 1;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn measure(clock: Clock, sheet: Sheet, places: Places) {
    loop {
        let places: Vec<_> = places.lock().expect("nobody panics with it").clone();
        let now = clock.now();
        let taken = tokio::task::spawn_blocking(move || {
            let sample = |(node, place): (usize, &Option<(i32, std::path::PathBuf)>)| {
                let (pid, data) = place.as_ref()?;
                take(node, *pid, data, now)
            };
            places.iter().enumerate().filter_map(sample).collect::<Vec<_>>()
        });
        if let Ok(taken) = taken.await {
            sheet.lock().expect("nobody panics with it").samples.extend(taken);
        }
        tokio::time::sleep(MEASURE_EVERY).await;
    }
}

fn take(node: usize, pid: i32, data: &Path, at: u64) -> Option<Sample> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let memory = statm.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample { node, at, memory, files, disk: bytes_in(data) })
}

fn bytes_in(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_in(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_goes_on_while_the_same_one_leads_in_the_same_term() {
        let mut seen = Observed::default();
        for (node, term, at) in
            [("n1", 1, 10), ("n1", 1, 20), ("n2", 2, 30), ("n1", 1, 35), ("n2", 2, 40), ("n2", 3, 50)]
        {
            seen.leads(node, term, at);
        }
        let told: Vec<_> = seen.reigns.iter().map(|reign| (reign.term, reign.from, reign.to)).collect();
        assert_eq!(told, [(1, 10, 20), (2, 30, 40), (3, 50, 50)]);
        assert_eq!(seen.leader_changes(), 2);
    }

    #[test]
    fn this_process_can_be_measured() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x"), [0; 100]).unwrap();
        let sample = take(2, std::process::id() as i32, folder.path(), 7).unwrap();
        assert!(sample.memory > 0 && sample.files > 0);
        assert_eq!((sample.node, sample.at, sample.disk), (2, 7, 100));
    }
}
