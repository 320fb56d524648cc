//! What the worker must remember over a restart: a snapshot and the records after it, in one file.
//!
//! It is written before what depends on it is done, but not synced: it has to survive the death of the process. After
//! a power loss nothing of what it speaks of runs any more; another boot id, and the session is given up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use worker_core::{Record, Saved};

use crate::sys;

/// Records of more than so many bytes are folded into a new snapshot.
const FOLD_BYTES: usize = 4 << 20;

pub struct Journal {
    path: PathBuf,
    file: File,
    head: Head,
    /// Since the snapshot, and of it.
    appended: usize,
    folded: usize,
    buffer: Vec<u8>,
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Head {
    boot: String,
    worker: String,
}

impl Journal {
    /// What was remembered: nothing, if that was another worker's or before this boot.
    pub fn open(data_dir: &Path, worker: &str) -> io::Result<(Journal, Saved)> {
        let path = data_dir.join("journal");
        let head = Head { boot: sys::boot_id(), worker: worker.to_owned() };
        let saved = match fs::read(&path) {
            Ok(bytes) => replay(&bytes, &head).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(error),
        };
        let (file, folded) = write_snapshot(&path, &head, &saved)?;
        let journal = Journal { path, file, head, appended: 0, folded, buffer: Vec::new() };
        Ok((journal, saved))
    }

    pub fn add(&mut self, record: &Record) {
        put(&mut self.buffer, record);
    }

    /// Writes what was added; `saved` is the state that it leads to.
    pub fn write(&mut self, saved: &Saved) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer)?;
        self.appended += self.buffer.len();
        self.buffer.clear();
        if self.appended > FOLD_BYTES.max(2 * self.folded) {
            (self.file, self.folded) = write_snapshot(&self.path, &self.head, saved)?;
            self.appended = 0;
        }
        Ok(())
    }
}

fn put<T: Serialize>(buffer: &mut Vec<u8>, value: &T) -> usize {
    let bytes = rmp_serde::to_vec_named(value).expect("what is saved can be written");
    buffer.extend((bytes.len() as u32).to_le_bytes());
    buffer.extend(&bytes);
    bytes.len() + 4
}

fn write_snapshot(path: &Path, head: &Head, saved: &Saved) -> io::Result<(File, usize)> {
    let mut bytes = Vec::new();
    put(&mut bytes, head);
    put(&mut bytes, saved);
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&fresh)?;
    file.write_all(&bytes)?;
    fs::rename(fresh, path)?;
    Ok((file, bytes.len()))
}

/// A record that was being written when the process died is cut short, and counts as never written.
fn replay(bytes: &[u8], head: &Head) -> Option<Saved> {
    let mut frames = Frames(bytes);
    let found: Head = rmp_serde::from_slice(frames.next()?).ok()?;
    if found != *head {
        return None;
    }
    let mut saved: Saved = rmp_serde::from_slice(frames.next()?).ok()?;
    for frame in frames {
        let Ok(record) = rmp_serde::from_slice::<Record>(frame) else { break };
        saved.apply(&record);
    }
    Some(saved)
}

struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = &'a [u8];
    fn next(&mut self) -> Option<&'a [u8]> {
        let (prefix, rest) = self.0.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at_checked(u32::from_le_bytes(*prefix) as usize)?;
        self.0 = rest;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_remembered_but_for_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut saved) = Journal::open(dir.path(), "w").unwrap();
        for record in [Record::Term(3), Record::Void(2), Record::Batched] {
            saved.apply(&record);
            journal.add(&record);
        }
        journal.write(&saved).unwrap();
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(dir.path().join("journal")).unwrap();
        torn.write_all(&[200, 0, 0, 0, 1]).unwrap();
        let (_, again) = Journal::open(dir.path(), "w").unwrap();
        assert_eq!(again, saved);
    }

    #[test]
    fn another_name_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut saved) = Journal::open(dir.path(), "w").unwrap();
        saved.apply(&Record::Term(3));
        journal.add(&Record::Term(3));
        journal.write(&saved).unwrap();
        assert_eq!(Journal::open(dir.path(), "v").unwrap().1, Saved::default());
    }
}
