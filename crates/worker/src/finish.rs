//! From the end of a process to the record of its attempt: verdict, last output, result. Blocking.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use model::size::format_bytes;
use model::time::format_duration;
use model::{Blob, BlobSource, Reason, TaskSpec, Verdict};
use worker_core::Ended;

use crate::clock;
use crate::home::AttemptDir;
use crate::keeper::protocol::{Cause, Exit};
use crate::spares::Spares;

/// Of the cluster, as the welcome said.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub result_bytes_max: u64,
    pub tail_bytes_max: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { result_bytes_max: 65_536, tail_bytes_max: 2_048 }
    }
}

impl Bounds {
    /// Cuts what work inside the worker says of itself: nobody else would, and the leader takes no more.
    pub fn apply(&self, ended: &mut Ended) {
        let bytes = ended.result.as_deref().map_or(0, bytes_of);
        if bytes > self.result_bytes_max {
            ended.result = None;
            let note = too_large(bytes, self.result_bytes_max);
            ended.message = join(vec![note, std::mem::take(&mut ended.message)]);
        }
        truncate(&mut ended.message, self.tail_bytes_max as usize);
    }
}

/// What it takes in a message.
fn bytes_of(blob: &Blob) -> u64 {
    let bytes = match &blob.source {
        BlobSource::Inline(bytes) => bytes.len(),
        BlobSource::Url(text) | BlobSource::Ref(text) => text.len(),
    };
    bytes as u64
}

fn too_large(bytes: u64, max: u64) -> String {
    format!("the result was dropped: it has {bytes} bytes, more than result_bytes_max = {max}")
}

/// Sums an attempt up and clears away what nobody needs any more.
pub fn finish(exit: &Exit, spec: &TaskSpec, dir: &AttemptDir, spares: &Spares, bounds: Bounds) -> Ended {
    let (verdict, reason) = judge(exit);
    let (result, result_note) = read_result(&dir.result(), bounds.result_bytes_max);
    let mut notes = vec![explain(reason, exit, spec)];
    notes.push(result_note);
    let mut message = join(notes);
    if verdict != Verdict::Succeeded {
        let room = (bounds.tail_bytes_max as usize).saturating_sub(message.len() + 1);
        message = join(vec![message, tail(exit, dir, room)]);
    }
    truncate(&mut message, bounds.tail_bytes_max as usize);
    clear(dir, spares, verdict == Verdict::Succeeded);
    Ended {
        verdict,
        reason,
        exit_code: exit.code,
        signal: exit.signal,
        message,
        result,
        started: Some(exit.started),
        ended: exit.ended,
        cpu_time: exit.cpu_time,
        memory_peak: exit.memory_peak,
    }
}

fn judge(exit: &Exit) -> (Verdict, Reason) {
    let has_succeeded = exit.code == Some(0);
    match exit.cause {
        Some(Cause::Stopped) => (Verdict::Cancelled, Reason::Cancelled),
        Some(Cause::TimedOut) => (Verdict::Failed, Reason::TimedOut),
        Some(Cause::LeaseEnded) => (Verdict::Lost, Reason::LeaseEnded),
        None if has_succeeded => (Verdict::Succeeded, Reason::Exited),
        None if exit.out_of_memory => (Verdict::Failed, Reason::OutOfMemory),
        None => (Verdict::Failed, Reason::Exited),
    }
}

fn explain(reason: Reason, exit: &Exit, spec: &TaskSpec) -> String {
    match reason {
        Reason::TimedOut => {
            let timeout = spec.timeout.map_or_else(String::new, format_duration);
            format!("it ran longer than its timeout of {timeout}")
        }
        Reason::OutOfMemory => {
            format!("it needed more than its memory limit of {}", format_bytes(spec.resources.memory))
        }
        Reason::LeaseEnded => "the worker lost the cluster for longer than its lease".to_owned(),
        Reason::Exited => match (exit.code, exit.signal) {
            (None, Some(signal)) => format!("killed by signal {signal}"),
            _ => String::new(),
        },
        Reason::Cancelled
        | Reason::NotStarted
        | Reason::WorkerLost
        | Reason::Unsupported
        | Reason::WaitedTooLong => String::new(),
    }
}

fn join(notes: Vec<String>) -> String {
    notes.into_iter().filter(|note| !note.is_empty()).collect::<Vec<_>>().join("\n")
}

/// The result, or why there is none although one was written.
fn read_result(path: &Path, bytes_max: u64) -> (Option<Box<Blob>>, String) {
    let Ok(meta) = fs::symlink_metadata(path) else { return (None, String::new()) };
    if !meta.is_file() {
        return (None, "the result was dropped: it is not a plain file".to_owned());
    }
    if meta.len() > bytes_max {
        return (None, too_large(meta.len(), bytes_max));
    }
    match fs::read(path) {
        Ok(bytes) => (Some(Box::new(Blob::inline(bytes))), String::new()),
        Err(error) => (None, format!("the result was dropped: {error}")),
    }
}

/// The last of stderr, or of stdout where that is empty.
fn tail(exit: &Exit, dir: &AttemptDir, bytes_max: usize) -> String {
    let stderr = last_bytes(&dir.stderr(), &exit.stderr_tail, bytes_max);
    let bytes =
        if stderr.is_empty() { last_bytes(&dir.stdout(), &exit.stdout_tail, bytes_max) } else { stderr };
    let mut text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    // A byte that is no UTF-8 takes three to say so.
    while text.len() > bytes_max {
        text.remove(0);
    }
    text
}

/// What the keeper kept of cut output is later than what is in the file.
fn last_bytes(path: &Path, cut: &[u8], bytes_max: usize) -> Vec<u8> {
    if !cut.is_empty() {
        return cut[cut.len().saturating_sub(bytes_max)..].to_vec();
    }
    let read = || {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(bytes_max as u64)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max as u64).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    read().unwrap_or_default()
}

fn truncate(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

/// The output stays; of an attempt that failed, the working directory too, for a while.
fn clear(dir: &AttemptDir, spares: &Spares, has_succeeded: bool) {
    let remove = |path: &Path| {
        if !spares.keep(path, clock::moment()) {
            let _ = fs::remove_dir_all(path);
        }
    };
    if has_succeeded {
        remove(&dir.work());
        let _ = fs::remove_file(dir.script());
    }
    remove(&dir.temporary());
    let _ = fs::remove_file(dir.stdin());
    mark_ended(dir);
}

pub fn mark_ended(dir: &AttemptDir) {
    let _ = File::create(dir.ended());
}
