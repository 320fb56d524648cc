//! One line of JSON for everything that this replica applies, on the file before anybody can see that it is applied.
//!
//! Each line is one `write` to a file opened for appending, with nothing buffered: a process that is killed loses no line
//! whose entry somebody has seen. The last one of a life may be torn, where it is long; the next life begins a line of its
//! own. Lines of several lives of one replica follow each other.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use machine::{Command, Event, Reply, Stamp};
use openraft::EntryPayload;
use serde::Serialize;

use crate::env::Env;
use crate::types::{Entry, LogId};

pub fn open(path: &Path) -> io::Result<File> {
    let mut file = File::options().create(true).read(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(-1)).is_ok() {
        file.read_exact(&mut last)?;
    }
    if last != *b"\n" {
        file.write_all(b"\n")?;
    }
    Ok(file)
}

#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Applied {
        index: u64,
        term: u64,
        /// Of the state behind the entry, in sixteen hexadecimal digits.
        digest: String,
        /// As the entry has it, not as the state has taken it.
        stamp: Stamp,
        commands: &'a [Command],
        replies: &'a [Reply],
        events: &'a [Event],
    },
    Blank {
        index: u64,
        term: u64,
        blank: bool,
    },
    Membership {
        index: u64,
        term: u64,
        /// The voters' ids.
        membership: Vec<u64>,
    },
    Life(Life),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Life {
    /// A start; the state as its snapshot had it, or empty.
    Boot { index: u64, digest: String },
    /// A snapshot is complete.
    Built { index: u64 },
    /// A snapshot of the leader's has replaced the state.
    Installed { index: u64, digest: String },
    /// This replica leads: told once the first entry of its term is applied.
    Led { term: u64 },
}

pub(super) struct Trace {
    file: Arc<File>,
    env: Arc<dyn Env>,
    has_booted: AtomicBool,
}

impl Trace {
    pub fn new(file: Arc<File>, env: Arc<dyn Env>) -> Trace {
        Trace { file, env, has_booted: AtomicBool::new(false) }
    }

    pub fn applied(&self, id: LogId, digest: u64, entry: &machine::Entry, applied: &machine::Applied) {
        self.write(&Line::Applied {
            index: id.index,
            term: *id.leader_id,
            digest: hex(digest),
            stamp: entry.stamp,
            commands: &entry.commands,
            replies: &applied.replies,
            events: &applied.events,
        });
    }

    pub fn passed(&self, entry: &Entry) {
        let (index, term) = (entry.log_id.index, *entry.log_id.leader_id);
        match &entry.payload {
            EntryPayload::Normal(_) => {}
            EntryPayload::Blank => self.write(&Line::Blank { index, term, blank: true }),
            EntryPayload::Membership(membership) => {
                let membership = membership.voter_ids().collect();
                self.write(&Line::Membership { index, term, membership });
            }
        }
    }

    pub fn loaded(&self, index: u64, digest: u64) {
        let digest = hex(digest);
        let is_boot = !self.has_booted.swap(true, Ordering::Relaxed);
        let life = if is_boot { Life::Boot { index, digest } } else { Life::Installed { index, digest } };
        self.write(&Line::Life(life));
    }

    pub fn built(&self, index: u64) {
        self.write(&Line::Life(Life::Built { index }));
    }

    pub fn led(&self, term: u64) {
        self.write(&Line::Life(Life::Led { term }));
    }

    /// A trace with holes would accuse the replica of what it has not done: without one it stops.
    fn write(&self, line: &Line) {
        let mut text = serde_json::to_vec(line).expect("everything that is replicated has a JSON form");
        text.push(b'\n');
        match (&*self.file).write(&text) {
            Ok(written) if written == text.len() => {}
            Ok(written) => {
                self.env.stop(&format!("the trace took {written} of {} bytes", text.len()));
            }
            Err(error) => self.env.stop(&format!("the trace cannot be written: {error}")),
        }
    }
}

fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}
