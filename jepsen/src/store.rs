//! Where a run is kept: `store/NAME/TIME/` with what it was, what happened, and what was found. All that a checker needs is
//! there, so that a run can be judged again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::{Asked, Evidence, Kept};
use crate::ground::{Node, name};
use crate::history::{self, Entry};
use crate::ledger::{self, FENCE, LEDGER};
use crate::nemesis::Fault;
use crate::trace::Trace;
use crate::watcher::Stream;
use crate::workload::Workload;

/// The form of a store. Another one is not read: what it means may have changed.
pub const FORM: u32 = 1;

const TEST: &str = "test.json";
const HISTORY: &str = "history.edn";
const KEPT: &str = "kept.json";
pub const RESULTS: &str = "results.json";
pub const PAGE: &str = "report.html";

/// What a run was to be, and with what it was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    pub form: u32,
    pub name: String,
    pub driver: String,
    pub workload: String,
    pub nemesis: Vec<Fault>,
    pub nodes: usize,
    pub workers: usize,
    pub failover: String,
    pub seed: u64,
    pub time_limit_s: u64,
    /// Operations a second that clients were to ask for.
    pub rate: u32,
    /// The binary under test, and what it says of itself.
    pub binary: String,
    pub version: String,
    /// Of the suite's own source.
    pub commit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mutant: Option<String>,
    pub worker_cpu: u64,
    /// Whether replicas write down what they apply.
    pub traced: bool,
    /// When it began, in UTC.
    pub started: String,
    /// What this machine was: kernel and processors.
    pub machine: String,
}

impl Test {
    /// Names in a history: of the replicas, and of what talks to any of them.
    pub fn node_names(&self) -> Vec<String> {
        let replicas = (0..self.nodes).map(|place| name(Node::Replica(place)));
        replicas.chain(["any".to_owned()]).collect()
    }

    pub fn asked(&self) -> Result<Asked, String> {
        let workload = Workload::named(&self.workload);
        Ok(Asked {
            workload: workload.ok_or_else(|| format!("no workload is called `{}`", self.workload))?,
            faults: self.nemesis.clone(),
            seconds: self.time_limit_s,
            worker_cpu: self.worker_cpu,
            traced: self.traced,
        })
    }
}

/// A folder for a run that begins now.
pub fn create(store: &Path, name: &str, time: &str) -> Result<PathBuf, String> {
    let mut folder = store.join(name).join(time);
    for number in 2.. {
        if !folder.exists() {
            break;
        }
        folder = store.join(name).join(format!("{time}-{number}"));
    }
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("{}: {error}; choose another place with --store", folder.display()))?;
    let latest = store.join(name).join("latest");
    let _ = std::fs::remove_file(&latest);
    let _ = std::os::unix::fs::symlink(folder.file_name().unwrap_or_default(), latest);
    Ok(folder)
}

fn put(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

fn get<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes down what a run left. Ledgers, traces and logs lie in the folder already.
pub fn write(
    folder: &Path,
    test: &Test,
    entries: &[Entry],
    streams: &[Stream],
    kept: &Kept,
) -> Result<(), String> {
    put(&folder.join(TEST), test)?;
    put(&folder.join(KEPT), kept)?;
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    history::write(&folder.join(HISTORY), entries, &test.node_names()).map_err(failed)?;
    let keys: Vec<u64> = kept.jobs.first().into_iter().flatten().filter_map(|job| job.key).collect();
    history::write_keys(&folder.join("keys"), entries, &keys).map_err(failed)?;
    for (number, stream) in streams.iter().enumerate() {
        let text = serde_json::to_string(stream).map_err(|error| error.to_string())?;
        std::fs::write(stream_file(folder, number), text).map_err(failed)?;
    }
    Ok(())
}

fn stream_file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("watch-{}.json", number + 1))
}

/// What [`write`] wrote.
pub struct Stored {
    pub test: Test,
    pub entries: Vec<Entry>,
    pub evidence: Evidence,
}

pub fn read(folder: &Path) -> Result<Stored, String> {
    if !folder.join(TEST).exists() {
        return Err(format!(
            "{} is no run: it has no {TEST}; name a folder such as store/NAME/TIME",
            folder.display()
        ));
    }
    let form: serde_json::Value = get(&folder.join(TEST))?;
    if form["form"] != FORM {
        return Err(format!(
            "{} was kept in form {}, this suite reads form {FORM}: check it with the suite that wrote it",
            folder.display(),
            form["form"]
        ));
    }
    let test: Test = get(&folder.join(TEST))?;
    let entries = history::read(&folder.join(HISTORY), &test.node_names())?;
    let mut streams = Vec::new();
    while stream_file(folder, streams.len()).exists() {
        streams.push(get(&stream_file(folder, streams.len()))?);
    }
    let trace = |place| {
        let own = name(Node::Replica(place));
        let path = folder.join(format!("{own}.trace"));
        (own, path)
    };
    let traces: Vec<(String, PathBuf)> = (0..test.nodes).map(trace).collect();
    let evidence = Evidence {
        asked: test.asked()?,
        operations: history::operations(&entries),
        ledger: ledger::read(&folder.join(LEDGER))?,
        fence: ledger::read_fence(&folder.join(FENCE))?,
        streams,
        trace: Trace::read(&traces)?,
        kept: get(&folder.join(KEPT))?,
    };
    Ok(Stored { test, entries, evidence })
}

/// Copies the files of a run's working folder, without the replicas' and workers' own data.
pub fn keep(from: &Path, to: &Path) -> Result<(), String> {
    let copy = || -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), to.join(entry.file_name()))?;
            }
        }
        Ok(())
    };
    copy().map_err(|error| format!("the evidence cannot be kept in {}: {error}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::history::{Call, History};

    pub fn test() -> Test {
        Test {
            form: FORM,
            name: "t".to_owned(),
            driver: "netns".to_owned(),
            workload: "mixed".to_owned(),
            nemesis: vec![Fault::KillLeader],
            nodes: 3,
            workers: 2,
            failover: "default".to_owned(),
            seed: 7,
            time_limit_s: 60,
            rate: 100,
            binary: "baton".to_owned(),
            version: "0.1.0".to_owned(),
            commit: "abc".to_owned(),
            mutant: None,
            worker_cpu: 4_000,
            traced: true,
            started: "2026".to_owned(),
            machine: "linux".to_owned(),
        }
    }

    #[test]
    fn a_run_is_read_back_and_another_form_is_refused() {
        let store = tempfile::tempdir().unwrap();
        let folder = create(store.path(), "t", "now").unwrap();
        let again = create(store.path(), "t", "now").unwrap();
        assert_ne!(folder, again, "two runs of one moment");
        let history = History::new(Clock::start());
        history.invoke(0, 2, Call::Get { register: 1 });
        let kept = Kept { stall: 5, ..Kept::default() };
        write(&folder, &test(), &history.entries(), &[Stream::default()], &kept).unwrap();
        let stored = read(&folder).unwrap();
        assert_eq!((stored.test, stored.entries, stored.evidence.kept), (test(), history.entries(), kept));
        assert_eq!(stored.evidence.streams.len(), 1);
        put(&folder.join(TEST), &Test { form: 9, ..test() }).unwrap();
        assert!(read(&folder).err().unwrap().contains("form 9"));
        assert!(read(store.path()).err().unwrap().contains("is no run"));
    }
}
