//! A process that writes to a log is killed at random moments, over and over, and whatever it had acknowledged must
//! be there each time. `BATON_KILLS` sets how often.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, RaftLogReader};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::tests::{append, open, real};
use super::{LogStore, SledBackend};
use crate::types::{self, Entry, Proposal, Vote};

const DIR: &str = "BATON_KILL_DIR";
const TERM: &str = "BATON_KILL_TERM";
const KILLS: &str = "BATON_KILLS";
const LIFE_MAX_MS: u64 = 250;

/// What an entry must hold, from its id alone; a few are large.
fn payload(term: u64, index: u64) -> Vec<u8> {
    let seed = xxh3_64_with_seed(&index.to_be_bytes(), term);
    let len = if seed.is_multiple_of(16) { seed % 40_000 } else { seed % 400 };
    (0..len).map(|at| (seed.rotate_left(at as u32) ^ at) as u8).collect()
}

fn entry(term: u64, index: u64) -> Entry {
    let proposal = Proposal::from_bytes(payload(term, index).into());
    Entry { log_id: types::log_id(term, index), payload: EntryPayload::Normal(proposal) }
}

/// One line per fact, to whoever will have to check it.
fn tell(what: &str, number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nfact {what} {number}").and_then(|()| out.flush()).expect("the parent reads");
}

/// Not a test of its own: it is what is killed.
#[tokio::test(flavor = "multi_thread")]
async fn victim() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let term: u64 = std::env::var(TERM).unwrap().parse().unwrap();
    let mut log = open(SledBackend::open(Path::new(&dir)).unwrap()).unwrap();
    let mut next = log.get_log_state().await.unwrap().last_log_id.map_or(0, |id| id.index + 1);
    let env = real();
    for round in 1u64.. {
        let chance = env.random();
        if chance.is_multiple_of(37) && next > 10 {
            // From here on the entries behind may be missing.
            next -= chance % 10;
            tell("cut", next);
            let state = log.get_log_state().await.unwrap();
            let after = log_id_before(&mut log, next).await.or(state.last_purged_log_id);
            next = after.map_or(0, |id| id.index + 1);
            log.truncate_after(after).await.unwrap();
        }
        if chance.is_multiple_of(41) && next > 200 {
            let upto = log_id_before(&mut log, next - 100).await;
            if let Some(upto) = upto {
                tell("purge", upto.index);
                log.purge(upto).await.unwrap();
            }
        }
        if chance.is_multiple_of(11) {
            log.save_vote(&Vote::new(term * 1_000_000 + round, 1)).await.unwrap();
            tell("vote", term * 1_000_000 + round);
        }
        let mut waiting = Vec::new();
        for _ in 0..1 + chance % 4 {
            let count = 1 + (chance >> 8) % 5;
            waiting.push((
                next + count - 1,
                append(&mut log, (next..next + count).map(|index| entry(term, index)).collect()).await,
            ));
            next += count;
        }
        for (last, acknowledged) in waiting {
            acknowledged.await.unwrap().unwrap();
            tell("acknowledged", last);
        }
    }
}

async fn log_id_before(log: &mut LogStore, next: u64) -> Option<types::LogId> {
    let before = next.checked_sub(1)?;
    let found = log.get_log_reader().await.try_get_log_entries(before..next).await.unwrap();
    found.first().map(|entry| entry.log_id)
}

/// What must be true of the log.
#[derive(Debug, Default)]
struct Known {
    /// Entries below this one are there, unless they are purged.
    end: u64,
    purged: u64,
    vote: u64,
    acknowledgements: u64,
}

impl Known {
    fn learn(&mut self, line: &str) {
        let Some(fact) = line.strip_prefix("fact ") else { return };
        let Some((what, number)) = fact.split_once(' ') else { return };
        // The last line may be cut off.
        let Ok(number) = number.parse::<u64>() else { return };
        match what {
            "acknowledged" => {
                self.end = self.end.max(number + 1);
                self.acknowledgements += 1;
            }
            "cut" => self.end = self.end.min(number),
            "purge" => self.purged = self.purged.max(number),
            "vote" => self.vote = number,
            other => panic!("{other}"),
        }
    }
}

fn spawn(dir: &Path, term: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["log::kill_tests::victim", "--exact", "--nocapture"])
        .env(DIR, dir)
        .env(TERM, term.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn live_and_die(dir: &Path, term: u64, known: &mut Known) {
    let mut child = spawn(dir, term);
    let out = child.stdout.take().unwrap();
    let reading = tokio::task::spawn_blocking(move || {
        BufReader::new(out).split(b'\n').map_while(Result::ok).collect::<Vec<_>>()
    });
    tokio::time::sleep(Duration::from_millis(real().random() % LIFE_MAX_MS)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    for line in reading.await.unwrap() {
        known.learn(&String::from_utf8_lossy(&line));
    }
}

async fn check(dir: &Path, known: &Known) {
    let mut log = open(SledBackend::open(dir).unwrap()).unwrap();
    let state = log.get_log_state().await.unwrap();
    let end = state.last_log_id.map_or(0, |id| id.index + 1);
    assert!(end >= known.end, "acknowledged up to {known:?}, found up to {end}");
    let purged = state.last_purged_log_id.map_or(0, |id| id.index);
    assert!(purged <= known.purged, "{known:?} but purged up to {purged}");
    let mut reader = log.get_log_reader().await;
    let entries = reader.try_get_log_entries(..).await.unwrap();
    let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
    assert_eq!(entries.len() as u64, end - first);
    for entry in entries {
        let EntryPayload::Normal(proposal) = &entry.payload else { panic!("{entry}") };
        let expected = payload(*entry.log_id.leader_id, entry.log_id.index);
        assert_eq!(proposal.bytes(), &expected, "{}", entry.log_id);
    }
    let vote = reader.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
    assert!(vote >= known.vote, "{known:?} but the vote is {vote}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_has_kept_all_that_it_acknowledged() {
    let kills: u64 = std::env::var(KILLS).map_or(100, |kills| kills.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut known = Known::default();
    for term in 1..=kills {
        live_and_die(dir.path(), term, &mut known).await;
        check(dir.path(), &known).await;
    }
    eprintln!("{kills} kills, {known:?}");
    assert!(known.acknowledgements > kills, "too little was acknowledged for this to mean anything");
}
