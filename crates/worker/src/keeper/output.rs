//! The output of an attempt on its way into a file: up to a limit, then only the last of it is remembered.
//! Whatever happens to the file, the pipe is read on, so that the attempt never blocks.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::sys;

pub const TAIL_BYTES: usize = 2048;
const READ_BYTES: usize = 64 << 10;
/// Reads in a row, so that one loud attempt does not hold up the others.
const READS_PER_TURN: usize = 4;

pub struct Output {
    pipe: Option<OwnedFd>,
    /// Made with the first byte: most short attempts write nothing, and a file is the dearest thing about them.
    file: Option<File>,
    path: PathBuf,
    room: u64,
    /// The last bytes, once some were dropped.
    tail: VecDeque<u8>,
    was_cut: bool,
}

/// Says beside a file of output that there was more.
pub fn cut_mark(output: &Path) -> PathBuf {
    output.with_extension("cut")
}

impl Output {
    /// And the end that the attempt writes to. An error: where the file would lie is no directory.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<(Output, OwnedFd)> {
        let folder = path.parent().unwrap_or(path);
        if !std::fs::metadata(folder)?.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotADirectory));
        }
        let (read, write) = sys::output_pipe()?;
        let output = Output {
            pipe: Some(read),
            file: None,
            path: path.to_owned(),
            room: bytes_max,
            tail: VecDeque::new(),
            was_cut: false,
        };
        Ok((output, write))
    }

    pub fn pipe(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref()
    }

    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads what is there. False: it is at its end.
    pub fn pump(&mut self, buffer: &mut Vec<u8>) -> bool {
        buffer.resize(READ_BYTES, 0);
        for _ in 0..READS_PER_TURN {
            let Some(pipe) = &self.pipe else { return false };
            match sys::read_some(pipe.as_fd(), buffer) {
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(count)) => self.keep(&buffer[..count]),
                Ok(None) => return true,
            }
        }
        true
    }

    /// Reads the rest without waiting, and closes.
    pub fn finish(&mut self, buffer: &mut Vec<u8>) {
        // What somebody still writes without end is not waited for.
        const TURNS_MAX: usize = 64;
        buffer.resize(READ_BYTES, 0);
        for _ in 0..TURNS_MAX {
            let Some(pipe) = &self.pipe else { return };
            match sys::read_some(pipe.as_fd(), buffer) {
                Ok(Some(count)) if count > 0 => self.keep(&buffer[..count]),
                _ => break,
            }
        }
        self.pipe = None;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(usize::try_from(self.room).unwrap_or(usize::MAX));
        if fits > 0 {
            self.room -= fits as u64;
            if self.write(&bytes[..fits]).is_err() {
                // A full disk: the rest is dropped, and said to be.
                self.room = 0;
                self.mark_cut();
            }
        }
        if fits < bytes.len() {
            self.mark_cut();
        }
        if self.was_cut {
            self.remember(bytes);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().create(true).append(true).open(&self.path)?),
        };
        file.write_all(bytes)
    }

    fn mark_cut(&mut self) {
        if !self.was_cut {
            self.was_cut = true;
            let _ = File::create(cut_mark(&self.path));
        }
    }

    fn remember(&mut self, bytes: &[u8]) {
        let last = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
        self.tail.extend(last);
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..surplus);
    }

    pub fn tail(&self) -> Vec<u8> {
        self.tail.iter().copied().collect()
    }
}
