//! Empty directories that attempts left as they found them, for attempts to come. A file system like ext4 looks again and
//! again at the inodes that were deleted in the last seconds whenever it makes a new one: to make and to remove two
//! directories for each attempt took half of the processor's time where the attempts are short.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use model::Moment;

/// What an attempt left behind, against all care, may still be there for a moment; by then the keeper has ended it.
const REST: Duration = Duration::from_secs(1);
/// At two for each attempt, and a rest of a second: enough for thousands of attempts per second.
const SPARES_MAX: usize = 8_192;

#[derive(Debug)]
pub struct Spares {
    folder: PathBuf,
    /// What a directory looks like that nobody has changed: owner, mode and size.
    fresh: (u32, u32, u64),
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when, by name; the oldest first.
    free: VecDeque<(Moment, u64)>,
    last: u64,
}

impl Spares {
    /// Begins with none: what is there is of an earlier process.
    pub fn open(folder: PathBuf) -> io::Result<Spares> {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(&folder)?;
        let fresh = looks(&fs::symlink_metadata(&folder)?);
        Ok(Spares { folder, fresh, state: Mutex::default() })
    }

    /// Makes the directory `to` of one that has rested. False: there is none, and nothing was done.
    pub fn take(&self, to: &Path, now: Moment) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let rested = state.free.front().filter(|(since, _)| now.since(*since) >= REST);
        let Some((_, name)) = rested.copied() else { return false };
        state.free.pop_front();
        drop(state);
        fs::rename(self.path(name), to).is_ok()
    }

    /// Keeps the directory `from`, if it is empty and as it was made. False: it is still where it was.
    pub fn keep(&self, from: &Path, now: Moment) -> bool {
        if !self.is_fresh(from) {
            return false;
        }
        let name = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.free.len() >= SPARES_MAX {
                return false;
            }
            state.last += 1;
            state.last
        };
        if fs::rename(from, self.path(name)).is_err() {
            return false;
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).free.push_back((now, name));
        true
    }

    fn path(&self, name: u64) -> PathBuf {
        self.folder.join(name.to_string())
    }

    fn is_fresh(&self, path: &Path) -> bool {
        let as_made =
            fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir() && looks(&meta) == self.fresh);
        as_made && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
    }
}

fn looks(meta: &fs::Metadata) -> (u32, u32, u64) {
    (meta.uid(), meta.mode(), meta.size())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_what_is_empty_and_unchanged_is_used_again_and_only_after_a_rest() {
        let dir = tempfile::tempdir().unwrap();
        let spares = Spares::open(dir.path().join("spares")).unwrap();
        let (at, work) = (Moment(1_000_000), dir.path().join("work"));
        let rested = at.plus(REST);
        fs::create_dir(&work).unwrap();
        fs::write(work.join("x"), "").unwrap();
        assert!(!spares.keep(&work, at) && work.is_dir(), "something is in it");
        fs::remove_file(work.join("x")).unwrap();
        fs::set_permissions(&work, fs::Permissions::from_mode(0o500)).unwrap();
        assert!(!spares.keep(&work, at), "its mode was changed");
        fs::remove_dir(&work).unwrap();
        fs::create_dir(&work).unwrap();
        assert!(spares.keep(&work, at) && !work.exists());
        let other = dir.path().join("other");
        assert!(!spares.take(&other, at) && !other.exists(), "it has not rested");
        assert!(spares.take(&other, rested) && other.is_dir());
        assert!(!spares.take(&dir.path().join("third"), rested), "there was only one");
        std::os::unix::fs::symlink(&other, &work).unwrap();
        assert!(!spares.keep(&work, at), "a link is no directory");
        assert!(spares.keep(&other, at));
        drop(spares);
        let again = Spares::open(dir.path().join("spares")).unwrap();
        assert!(!again.take(&other, rested), "an earlier process's are not used");
    }
}
