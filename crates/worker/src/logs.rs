//! Output of attempts: sent on request, followed while they run, removed by age and bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{AttemptId, Moment, TaskId, Timestamp};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;
use wire::v1;
use wire::v1::logs_reply::Stream as Which;
use worker_core::Fetch;

use crate::clock;
use crate::config::LogLimits;
use crate::home::AttemptDir;
use crate::keeper::cut_mark;

const CHUNK_BYTES: usize = 32 << 10;
/// How often a running attempt's files are looked at.
const FOLLOW_EVERY: Duration = Duration::from_millis(50);
/// At once.
pub const FETCHES_MAX: usize = 256;

/// Sends the output of an attempt until its end, or what there is. `is_due`: its order is here, so it will write some.
pub async fn send(
    fetch: Fetch,
    is_due: bool,
    attempts: PathBuf,
    limits: LogLimits,
    out: mpsc::Sender<v1::WorkerMessage>,
) {
    let mut found = find_attempt(&attempts, fetch);
    while found.is_none() && is_due && fetch.follow && !out.is_closed() {
        tokio::time::sleep(FOLLOW_EVERY).await;
        found = find_attempt(&attempts, fetch);
    }
    let Some(attempt) = found else {
        let note = gone(fetch, &limits);
        let chunk = v1::LogsReply { note, end: true, attempt: fetch.attempt, ..Default::default() };
        return drop(out.send(chunk_message(fetch, chunk)).await);
    };
    let dir = AttemptDir(attempts.join(attempt.to_string()));
    let mut stdout = Reader::new(Which::Stdout, dir.stdout(), fetch.stdout_offset);
    let mut stderr = Reader::new(Which::Stderr, dir.stderr(), fetch.stderr_offset);
    loop {
        // Asked first: what was written before the end is then surely read.
        let is_last = !fetch.follow || dir.ended().exists();
        for reader in [&mut stdout, &mut stderr] {
            while let Some(mut chunk) = reader.next().await {
                chunk.attempt = attempt.attempt;
                if out.send(chunk_message(fetch, chunk)).await.is_err() {
                    return;
                }
            }
        }
        if is_last {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_EVERY) => {}
            () = out.closed() => return,
        }
    }
    let note = cut_note(&dir, &limits);
    let end = v1::LogsReply { note, end: true, attempt: attempt.attempt, ..Default::default() };
    let _ = out.send(chunk_message(fetch, end)).await;
}

/// The answer to one reader too many.
pub fn refusal(fetch: Fetch) -> v1::WorkerMessage {
    let note = format!("this worker's output has {FETCHES_MAX} readers already; try again later");
    chunk_message(fetch, v1::LogsReply { note, end: true, attempt: fetch.attempt, ..Default::default() })
}

fn chunk_message(fetch: Fetch, chunk: v1::LogsReply) -> v1::WorkerMessage {
    let log = v1::LogChunk { fetch: fetch.fetch, chunk: Some(chunk) };
    v1::WorkerMessage { message: Some(v1::worker_message::Message::Log(log)) }
}

/// The attempt asked for, or the last one of the task that is here.
fn find_attempt(attempts: &Path, fetch: Fetch) -> Option<AttemptId> {
    let task = TaskId { job: fetch.job, number: fetch.task };
    if fetch.attempt > 0 {
        let attempt = AttemptId { task, attempt: fetch.attempt };
        return attempts.join(attempt.to_string()).is_dir().then_some(attempt);
    }
    let names = fs::read_dir(attempts).ok()?.flatten();
    let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<AttemptId>().ok());
    ids.filter(|id| id.task == task).max()
}

fn gone(fetch: Fetch, limits: &LogLimits) -> String {
    let task = TaskId { job: fetch.job, number: fetch.task };
    let age = model::time::format_duration(limits.age_max);
    let bytes = model::size::format_bytes(limits.bytes_max);
    format!(
        "this worker has no output of {task}: it wrote none, or it was removed (kept {age}, at most {bytes} in all)"
    )
}

fn cut_note(dir: &AttemptDir, limits: &LogLimits) -> String {
    let cut = |path: PathBuf| cut_mark(&path).exists();
    let max = model::size::format_bytes(limits.stream_bytes_max);
    match (cut(dir.stdout()), cut(dir.stderr())) {
        (false, false) => String::new(),
        (true, false) => format!("stdout was cut at {max}"),
        (false, true) => format!("stderr was cut at {max}"),
        (true, true) => format!("stdout and stderr were cut at {max}"),
    }
}

struct Reader {
    which: Which,
    path: PathBuf,
    offset: u64,
}

impl Reader {
    fn new(which: Which, path: PathBuf, offset: u64) -> Reader {
        Reader { which, path, offset }
    }

    async fn next(&mut self) -> Option<v1::LogsReply> {
        let bytes = self.read().await.ok().filter(|bytes| !bytes.is_empty())?;
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        Some(v1::LogsReply { stream: self.which.into(), offset, data: bytes.into(), ..Default::default() })
    }

    // Opened anew each time: a follower of a quiet task holds no descriptor.
    async fn read(&self) -> io::Result<Vec<u8>> {
        let mut file = tokio::fs::File::open(&self.path).await?;
        file.seek(SeekFrom::Start(self.offset)).await?;
        let mut bytes = Vec::new();
        file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// When output is looked through for what is to be removed.
#[derive(Debug)]
pub struct Sweep {
    next: Moment,
}

const SWEEP_EVERY: Duration = Duration::from_secs(30);

impl Sweep {
    pub fn new() -> Sweep {
        Sweep { next: clock::moment() }
    }

    pub fn due(&self) -> Moment {
        self.next
    }

    /// True when it is time.
    pub fn take_turn(&mut self, now: Moment) -> bool {
        let is_due = now >= self.next;
        if is_due {
            self.next = now.plus(SWEEP_EVERY);
        }
        is_due
    }
}

/// Removes the output of attempts that have ended: the old, then the oldest while it is too much. Blocking.
pub fn remove_old(attempts: &Path, limits: &LogLimits, now: Timestamp) {
    let mut ended: Vec<Past> = fs::read_dir(attempts)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| past(entry.path()))
        .collect();
    ended.sort_by_key(|past| past.ended);
    for past in &ended {
        if now.since(past.ended) > limits.workdir_age_max {
            let _ = fs::remove_dir_all(past.dir.work());
        }
    }
    let mut bytes: u64 = ended.iter().map(|past| past.bytes).sum();
    let surplus = ended.len().saturating_sub(limits.attempts_max);
    for (place, past) in ended.into_iter().enumerate() {
        let is_old = now.since(past.ended) > limits.age_max;
        if !is_old && bytes <= limits.bytes_max && place >= surplus {
            break;
        }
        bytes -= past.bytes;
        let _ = fs::remove_dir_all(&past.dir.0);
    }
}

/// An attempt that has ended.
struct Past {
    dir: AttemptDir,
    ended: Timestamp,
    bytes: u64,
}

fn past(path: PathBuf) -> Option<Past> {
    let dir = AttemptDir(path);
    let modified = fs::metadata(dir.ended()).ok()?.modified().ok()?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).ok()?;
    let size = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
    let bytes = size(dir.stdout()) + size(dir.stderr()) + size(dir.result());
    Some(Past { dir, ended: Timestamp(model::time::micros(since)), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(root: &Path, name: &str, bytes: usize, age: Duration) -> PathBuf {
        let dir = AttemptDir(root.join(name));
        fs::create_dir_all(dir.work()).unwrap();
        fs::write(dir.stdout(), vec![b'x'; bytes]).unwrap();
        let file = fs::File::create(dir.ended()).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_micros(NOW.0) - age).unwrap();
        dir.0
    }

    const NOW: Timestamp = Timestamp(1_900_000_000_000_000);

    #[test]
    fn the_old_goes_and_then_the_oldest_while_it_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let old = attempt(root.path(), "j1.0#1", 1, hours(49));
        let oldest = attempt(root.path(), "j1.1#1", 60, hours(3));
        let later = attempt(root.path(), "j1.2#1", 60, hours(2));
        let running = root.path().join("j1.3#1");
        fs::create_dir(&running).unwrap();
        let limits = LogLimits {
            bytes_max: 100,
            age_max: hours(48),
            workdir_age_max: hours(1),
            ..LogLimits::default()
        };
        remove_old(root.path(), &limits, NOW);
        let exist = [&old, &oldest, &later, &running].map(|path| path.exists());
        assert_eq!(exist, [false, false, true, true]);
        assert!(!later.join("work").exists());
    }
}
