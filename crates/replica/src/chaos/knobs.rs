//! Faults that the suite switches on and off while the process runs, by writing a file that is looked at every 10 ms.
//!
//! The file holds one JSON object of [`Settings`]. Without a file everything is off; one that cannot be read as that
//! changes nothing and is complained of on standard error. What a key does lasts until the file no longer says it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::env::WallOffset;

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The keys of the file, all optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Moves the wall clock of the process, beside what the environment has put it off.
    pub wall_offset_ms: i64,
    /// Every put to the log fails.
    pub write_error: Option<WriteError>,
    pub sync_error: Option<SyncError>,
    /// Every sync takes so much longer.
    pub sync_delay_ms: u64,
    /// Read at the start only: what is not synced dies with the process, as in a power cut.
    pub volatile: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteError {
    Eio,
    Enospc,
    /// Half of the value is written before it fails.
    Short,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncError {
    /// Every sync fails.
    Eio,
    /// The next sync fails; those after it would succeed.
    Once,
}

pub fn parse(text: &str) -> Result<Settings, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What the file says at this moment.
pub(super) struct Knobs {
    settings: Mutex<Settings>,
    offset: WallOffset,
    /// What the process's clocks are off by without the file.
    offset_before_us: i64,
}

impl Knobs {
    /// As the file is now, and from now on as it becomes.
    pub fn watched(path: Option<PathBuf>, offset: WallOffset) -> Arc<Knobs> {
        let offset_before_us = offset.us();
        let knobs = Arc::new(Knobs { settings: Mutex::default(), offset, offset_before_us });
        if let Some(path) = path {
            let mut file = Watched { path, content: None };
            file.look(&knobs);
            let watching = Arc::downgrade(&knobs);
            let thread = std::thread::Builder::new().name("chaos".into());
            thread.spawn(move || file.watch(&watching)).expect("a thread can be started");
        }
        knobs
    }

    pub fn is_volatile(&self) -> bool {
        self.settings.lock().volatile
    }

    pub fn write_error(&self) -> Option<WriteError> {
        self.settings.lock().write_error
    }

    /// Whether the sync that asks is to fail. One that is to fail once has failed with that.
    pub fn fails_sync(&self) -> bool {
        let mut settings = self.settings.lock();
        let fails = settings.sync_error.is_some();
        settings.sync_error = settings.sync_error.filter(|error| *error != SyncError::Once);
        fails
    }

    pub fn sync_delay(&self) -> Duration {
        Duration::from_millis(self.settings.lock().sync_delay_ms)
    }

    pub fn set(&self, settings: Settings) {
        let moved = settings.wall_offset_ms.saturating_mul(1_000);
        self.offset.set_us(self.offset_before_us.saturating_add(moved));
        *self.settings.lock() = settings;
    }
}

struct Watched {
    path: PathBuf,
    /// When it was looked at last; `None`: there was no file.
    content: Option<String>,
}

impl Watched {
    /// Until nobody turns to the knobs any more.
    fn watch(mut self, knobs: &Weak<Knobs>) {
        while let Some(knobs) = knobs.upgrade() {
            self.look(&knobs);
            drop(knobs);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn look(&mut self, knobs: &Knobs) {
        let content = match read(&self.path) {
            Ok(content) => content,
            Err(error) => return complain(&self.path, &error.to_string()),
        };
        // Between its being made and being written.
        if content == self.content || content.as_ref().is_some_and(|text| text.trim().is_empty()) {
            return;
        }
        match content.as_deref().map_or_else(|| Ok(Settings::default()), parse) {
            Ok(settings) => knobs.set(settings),
            Err(error) => complain(&self.path, &error),
        }
        self.content = content;
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn complain(path: &Path, why: &str) {
    eprintln!("baton-chaos: {} changes nothing: {why}", path.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_optional_and_none_is_unknown() {
        assert_eq!(parse("{}"), Ok(Settings::default()));
        let all = r#"{"wall_offset_ms": -5000, "write_error": "short", "sync_error": "once",
                      "sync_delay_ms": 20, "volatile": true}"#;
        let expected = Settings {
            wall_offset_ms: -5000,
            write_error: Some(WriteError::Short),
            sync_error: Some(SyncError::Once),
            sync_delay_ms: 20,
            volatile: true,
        };
        assert_eq!(parse(all), Ok(expected));
        for (text, error) in [("enospc", WriteError::Enospc), ("eio", WriteError::Eio)] {
            let settings = parse(&format!(r#"{{"write_error": "{text}"}}"#)).unwrap();
            assert_eq!(settings, Settings { write_error: Some(error), ..Settings::default() });
        }
        assert_eq!(parse(r#"{"sync_error": "eio"}"#).unwrap().sync_error, Some(SyncError::Eio));
        assert!(parse(r#"{"sync_delay": 20}"#).unwrap_err().contains("sync_delay"));
        for wrong in ["", "7", r#"{"write_error": "once"}"#, r#"{"sync_delay_ms": -1}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_sync_that_fails_once_fails_once() {
        let knobs = Knobs::watched(None, WallOffset::default());
        assert!(!knobs.fails_sync());
        knobs.set(parse(r#"{"sync_error": "once"}"#).unwrap());
        assert_eq!([knobs.fails_sync(), knobs.fails_sync()], [true, false]);
        knobs.set(parse(r#"{"sync_error": "eio"}"#).unwrap());
        assert_eq!([knobs.fails_sync(), knobs.fails_sync()], [true, true]);
    }

    #[test]
    fn the_file_moves_the_clock_while_it_is_there_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("knobs");
        std::fs::write(&path, r#"{"wall_offset_ms": 7}"#).unwrap();
        let offset = WallOffset::of_us(100);
        let knobs = Knobs::watched(Some(path.clone()), offset.clone());
        assert_eq!(offset.us(), 7_100, "before anything asks for the time");
        let wait = |us: i64| {
            let mut looks = 0;
            while offset.us() != us {
                looks += 1;
                assert!(looks < 10_000, "the file is not looked at");
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        std::fs::write(&path, r#"{"wall_offset_ms": -1}"#).unwrap();
        wait(-900);
        std::fs::write(&path, r#"{"wall_ofset_ms": 5}"#).unwrap();
        std::thread::sleep(3 * LOOK_EVERY);
        assert_eq!(offset.us(), -900, "what cannot be read changes nothing");
        std::fs::remove_file(&path).unwrap();
        wait(100);
        drop(knobs);
    }
}
