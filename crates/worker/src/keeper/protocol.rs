//! What worker and keeper say to each other: length-prefixed MessagePack over a Unix socket.
//!
//! Fields only get added, with defaults: a keeper may be older than the worker that takes it over.

use std::path::PathBuf;
use std::time::Duration;

use model::{Pace, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::ProcessId;

pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// An attempt, among all that a data directory has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    pub session: u64,
    pub seq: u64,
    pub task: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered by `State`.
    Attach,
    /// Answered by `Spawned` or `NotSpawned`.
    Spawn(Box<Spawn>),
    /// TERM, and KILL after the grace.
    Stop { key: Key },
    /// KILL at once.
    Kill { key: Key },
    /// What does not keep running without a lease is killed then: microseconds of CLOCK_BOOTTIME, which both see.
    Lease { boottime_us: u64 },
    /// Let it stand still, or go on.
    Switch { key: Key, to: Pace },
    /// Its end has been taken note of.
    Forget { key: Key },
    /// The worker leaves for good: end when there is nothing to hold.
    Bye,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spawn {
    pub key: Key,
    /// Absolute.
    pub program: PathBuf,
    /// With its first element, the name.
    pub argv: Vec<String>,
    /// All of it.
    pub env: Vec<(String, String)>,
    pub workdir: PathBuf,
    pub stdin: Option<PathBuf>,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
    /// Bytes kept of each stream.
    pub output_bytes_max: u64,
    /// Runs on without a lease.
    pub keep: bool,
    #[serde(with = "model::time::optional_duration")]
    pub timeout: Option<Duration>,
    /// Between TERM and KILL.
    #[serde(with = "model::time::duration")]
    pub grace: Duration,
    /// `NAME=value`s that tell its processes from all others.
    pub marks: Vec<String>,
    /// Bytes.
    pub memory_max: Option<u64>,
    /// Where a control group can be made for it.
    pub cgroup: Option<crate::cgroup::Parent>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Notice {
    State {
        lease_us: Option<u64>,
        attempts: Vec<Held>,
    },
    Spawned {
        key: Key,
        pid: ProcessId,
        at: Timestamp,
    },
    NotSpawned {
        key: Key,
        why: String,
        lease_ended: bool,
        /// This host lacks something; the task is not to blame.
        #[serde(default)]
        hosts_fault: bool,
    },
    Exited {
        key: Key,
        exit: Box<Exit>,
    },
}

/// An attempt that the keeper has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Held {
    pub key: Key,
    pub pid: ProcessId,
    pub started: Timestamp,
    pub marks: Vec<String>,
    /// Absent while it runs.
    pub exit: Option<Box<Exit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    Stopped,
    TimedOut,
    LeaseEnded,
}

/// How the process ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    /// Why the keeper ended it, if it did.
    pub cause: Option<Cause>,
    pub out_of_memory: bool,
    pub started: Timestamp,
    pub ended: Timestamp,
    #[serde(with = "model::time::duration")]
    pub cpu_time: Duration,
    pub memory_peak: u64,
    /// The last of stdout and stderr where output was cut, else empty: then the files have it.
    pub stdout_tail: Vec<u8>,
    pub stderr_tail: Vec<u8>,
}

pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    let body = rmp_serde::to_vec_named(message).expect("messages hold nothing that cannot be written");
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend(body);
    frame
}

#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("a message of {bytes} bytes, more than {FRAME_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("a message that cannot be read")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// Takes every whole message off the buffer.
pub fn decode<T: DeserializeOwned>(buffer: &mut Vec<u8>) -> Result<Vec<T>, FrameError> {
    let (mut messages, mut from) = (Vec::new(), 0);
    while let Some(prefix) = buffer[from..].first_chunk::<4>() {
        let bytes = u32::from_le_bytes(*prefix) as usize;
        if bytes > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        let Some(body) = buffer.get(from + 4..from + 4 + bytes) else { break };
        messages.push(rmp_serde::from_slice(body)?);
        from += 4 + bytes;
    }
    buffer.drain(..from);
    Ok(messages)
}
