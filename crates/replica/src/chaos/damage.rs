//! Damage to the data directory of a replica that is down.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::StartError;
use crate::identity::DataDir;
use crate::log::damage::{self, Flipped, FlippedChunk, LostTail, TornTail};
use crate::log::{LogError, SledBackend};
use crate::snapshot::{SnapshotStore, newest};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// The end of the log is gone, what says that it was committed is not.
    LostTail,
    /// A large entry behind the last one is there in part.
    TornTail,
    FlipLog,
    FlipVote,
    FlipSnapshot,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "damage", rename_all = "kebab-case")]
pub enum Damaged {
    LostTail(LostTail),
    TornTail(TornTail),
    FlipLog(FlippedChunk),
    FlipVote(Flipped),
    FlipSnapshot {
        file: PathBuf,
        #[serde(flatten)]
        at: Flipped,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum DamageError {
    #[error("there is no data directory {dir}")]
    NoDirectory { dir: PathBuf },
    #[error(transparent)]
    DataDir(#[from] StartError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("its snapshot cannot be damaged")]
    Snapshot(#[from] io::Error),
}

/// `None`: the directory has nothing of the kind, and nothing was changed.
pub fn damage(dir: &Path, what: Damage) -> Result<Option<Damaged>, DamageError> {
    if !dir.is_dir() {
        return Err(DamageError::NoDirectory { dir: dir.to_owned() });
    }
    // Held until the end, so that no replica starts on it meanwhile.
    let data_dir = DataDir::open(dir)?;
    if what == Damage::FlipSnapshot {
        return Ok(flip_snapshot(&data_dir.snapshots())?);
    }
    if !data_dir.log().is_dir() {
        return Ok(None);
    }
    let covered = SnapshotStore::open(data_dir.snapshots())?.current();
    let covered = covered.and_then(|(meta, _)| meta.last_log_id).map(|id| id.index);
    let mut log = SledBackend::open(&data_dir.log()).map_err(LogError::from)?;
    Ok(match what {
        Damage::LostTail => damage::lose_tail(&mut log, covered)?.map(Damaged::LostTail),
        Damage::TornTail => damage::tear_tail(&mut log)?.map(Damaged::TornTail),
        Damage::FlipLog => damage::flip_log(&mut log)?.map(Damaged::FlipLog),
        Damage::FlipVote => damage::flip_vote(&mut log)?.map(Damaged::FlipVote),
        Damage::FlipSnapshot => None,
    })
}

/// A bit in the middle of the newest one.
fn flip_snapshot(dir: &Path) -> io::Result<Option<Damaged>> {
    let Some(file) = newest(dir)? else { return Ok(None) };
    let mut bytes = std::fs::read(&file)?;
    let Some(at) = damage::flip(&mut bytes) else { return Ok(None) };
    let written = File::options().write(true).open(&file)?;
    written.write_all_at(&[bytes[at.byte]], at.byte as u64)?;
    written.sync_all()?;
    Ok(Some(Damaged::FlipSnapshot { file, at }))
}
