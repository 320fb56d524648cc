//! Errors as they go over gRPC: a stable code, what is wrong, what mends it, and whether the write happened.
//!
//! One form, [`Failure`], for both ends. Over unary calls it travels in trailers, in streams as [`v1::Error`].

use std::time::Duration;

use model::{RequestId, SpecError};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::v1;

/// The stable codes.
pub mod code {
    pub const NO_LEADER: &str = "no-leader";
    pub const NOT_LEADER: &str = "not-leader";
    pub const OVERLOADED: &str = "overloaded";
    pub const INVALID_SPEC: &str = "invalid-spec";
    pub const UNKNOWN_JOB: &str = "unknown-job";
    pub const UNKNOWN_TASK: &str = "unknown-task";
    pub const UNKNOWN_QUEUE: &str = "unknown-queue";
    pub const UNKNOWN_WORKER: &str = "unknown-worker";
    pub const UNKNOWN_PERIODIC: &str = "unknown-periodic-set";
    pub const UNKNOWN_BOOKING: &str = "unknown-booking";
    pub const CONFLICT: &str = "conflict";
    /// Some replica stands in the way: it says nothing of an earlier try.
    pub const REPLICAS: &str = "replicas";
    pub const REQUEST_EXPIRED: &str = "request-expired";
    pub const LIMIT: &str = "limit";
    pub const JOB_FINISHED: &str = "job-finished";
    pub const NOT_ALLOWED: &str = "not-allowed";
    pub const UNAVAILABLE: &str = "unavailable";
    pub const INTERNAL: &str = "internal";
    pub const COMPACTED: &str = "compacted";
    pub const NOT_FOUND: &str = "not-found";
}

/// Names of the trailers.
pub mod trailer {
    pub const CODE: &str = "baton-code";
    pub const HAPPENED: &str = "baton-happened";
    pub const FIX: &str = "baton-fix";
    pub const REQUEST_ID: &str = "baton-request-id";
    pub const RETRY_AFTER_MS: &str = "retry-after-ms";
    pub const LEADER: &str = "baton-leader";
}

/// Metadata of a call that a replica sends on to the leader.
pub const FORWARDED: &str = "baton-forwarded";

/// Metadata of every reply and every error: the replica's wall clock, microseconds since the Unix epoch. Clients learn
/// their own offset from it.
pub const CLOCK: &str = "baton-clock";

/// Bytes of a message or a fix: HTTP/2 peers refuse headers above 16 KiB in all, and each byte may take three.
pub const TEXT_BYTES_MAX: usize = 3_000;

/// Whether the write that failed may have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Happened {
    No,
    Maybe,
}

impl Happened {
    fn word(self) -> &'static str {
        match self {
            Happened::No => "no",
            Happened::Maybe => "maybe",
        }
    }

    // What does not plainly say no may have happened.
    fn read(word: &str) -> Happened {
        if word == "no" { Happened::No } else { Happened::Maybe }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// One of [`code`]; a newer server may know more.
    pub code: String,
    pub message: String,
    /// What would mend it; may be empty.
    pub fix: String,
    pub happened: Happened,
    pub retry_after: Option<Duration>,
    /// API address of the leader, if it is known and another.
    pub leader: Option<String>,
    pub request_id: Option<RequestId>,
    pub status: Code,
}

impl Failure {
    /// A failure that changed nothing, without a fix.
    pub fn new(code: &str, status: Code, message: impl Into<String>) -> Failure {
        Failure {
            code: code.to_owned(),
            message: message.into(),
            fix: String::new(),
            happened: Happened::No,
            retry_after: None,
            leader: None,
            request_id: None,
            status,
        }
    }

    pub fn fix(mut self, fix: impl Into<String>) -> Failure {
        self.fix = fix.into();
        self
    }

    pub fn maybe_happened(mut self) -> Failure {
        self.happened = Happened::Maybe;
        self
    }

    pub fn request(mut self, id: RequestId) -> Failure {
        self.request_id = Some(id);
        self
    }

    /// Every error of a spec or another message, one per line.
    pub fn invalid(errors: &[SpecError]) -> Failure {
        let mut message = String::new();
        for (place, error) in errors.iter().enumerate() {
            let line = if error.path.is_empty() { error.message.clone() } else { error.to_string() };
            if message.len() + line.len() + 40 > TEXT_BYTES_MAX {
                message.push_str(&format!("\nand {} more errors", errors.len() - place));
                break;
            }
            if place > 0 {
                message.push('\n');
            }
            message.push_str(&line);
        }
        Failure::new(code::INVALID_SPEC, Code::InvalidArgument, message)
            .fix("correct these fields and send it again")
    }

    pub fn no_leader(why: impl Into<String>) -> Failure {
        Failure::new(code::NO_LEADER, Code::Unavailable, why)
            .fix("see that a majority of the replicas runs and reaches each other: `baton cluster status`")
    }

    pub fn not_leader(leader: Option<String>) -> Failure {
        let message = match &leader {
            Some(leader) => format!("this replica does not lead; {leader} does"),
            None => "this replica does not lead, and knows nobody who does".to_owned(),
        };
        let failure = Failure::new(code::NOT_LEADER, Code::Unavailable, message);
        Failure { leader, ..failure }
    }

    pub fn overloaded(retry_after: Duration, what: impl Into<String>) -> Failure {
        let failure = Failure::new(code::OVERLOADED, Code::ResourceExhausted, what)
            .fix(format!("try again after {} ms, or send less at once", retry_after.as_millis()));
        Failure { retry_after: Some(retry_after), ..failure }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Status {
        let mut metadata = MetadataMap::new();
        put(&mut metadata, trailer::CODE, &failure.code);
        put(&mut metadata, trailer::HAPPENED, failure.happened.word());
        if !failure.fix.is_empty() {
            put(&mut metadata, trailer::FIX, cut(&failure.fix));
        }
        if let Some(id) = failure.request_id {
            put(&mut metadata, trailer::REQUEST_ID, &id.to_string());
        }
        if let Some(wait) = failure.retry_after {
            put(&mut metadata, trailer::RETRY_AFTER_MS, &wait.as_millis().to_string());
        }
        if let Some(leader) = &failure.leader {
            put(&mut metadata, trailer::LEADER, leader);
        }
        Status::with_metadata(failure.status, cut(&failure.message), metadata)
    }
}

/// What a server says of a call that it has never heard of: nothing.
fn is_unknown_call(status: &Status) -> bool {
    status.code() == Code::Unimplemented && status.message().is_empty()
}

impl From<&Status> for Failure {
    fn from(status: &Status) -> Failure {
        let metadata = status.metadata();
        let known = get(metadata, trailer::CODE);
        let (message, fix) = if known.is_none() && is_unknown_call(status) {
            let unknown = "the replica is of a version that does not know this call";
            (unknown, "start all replicas with a version that is no older than this client's")
        } else {
            (status.message(), "")
        };
        let happened = match get(metadata, trailer::HAPPENED) {
            Some(word) => Happened::read(&word),
            None => guess_happened(status),
        };
        Failure {
            code: known.unwrap_or_else(|| guess_code(status.code()).to_owned()),
            message: message.to_owned(),
            fix: get(metadata, trailer::FIX).unwrap_or_else(|| fix.to_owned()),
            happened,
            retry_after: get(metadata, trailer::RETRY_AFTER_MS)
                .and_then(|ms| ms.parse().ok())
                .map(Duration::from_millis),
            leader: get(metadata, trailer::LEADER),
            request_id: get(metadata, trailer::REQUEST_ID).and_then(|id| id.parse().ok()),
            status: status.code(),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::from(&status)
    }
}

impl From<Failure> for v1::Error {
    fn from(failure: Failure) -> v1::Error {
        v1::Error {
            code: failure.code,
            message: failure.message,
            fix: failure.fix,
            happened: failure.happened.word().to_owned(),
            retry_after_ms: failure.retry_after.map_or(0, |wait| wait.as_millis() as u64),
            status: failure.status as u32,
        }
    }
}

/// Without the request id and the leader, which the stream's messages carry or do not need.
impl From<v1::Error> for Failure {
    fn from(error: v1::Error) -> Failure {
        Failure {
            code: error.code,
            message: error.message,
            fix: error.fix,
            happened: Happened::read(&error.happened),
            retry_after: (error.retry_after_ms > 0).then(|| Duration::from_millis(error.retry_after_ms)),
            leader: None,
            request_id: None,
            status: Code::from_i32(error.status as i32),
        }
    }
}

// An error without our trailers was made by the transport, or by the gRPC library of the other side.
fn guess_code(status: Code) -> &'static str {
    match status {
        Code::InvalidArgument | Code::OutOfRange => code::INVALID_SPEC,
        Code::NotFound => code::NOT_FOUND,
        Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => code::NOT_ALLOWED,
        Code::ResourceExhausted => code::LIMIT,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => code::CONFLICT,
        Code::Ok | Code::DataLoss => code::INTERNAL,
        // Baton's own internal errors say so in a trailer: this is a connection that broke under the call.
        Code::Unknown | Code::Internal => code::UNAVAILABLE,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => code::UNAVAILABLE,
    }
}

fn guess_happened(status: &Status) -> Happened {
    let refused_early = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    );
    if refused_early || was_never_sent(status) { Happened::No } else { Happened::Maybe }
}

/// Whether the call failed for want of a connection: nothing of it has left this process.
pub fn was_never_sent(status: &Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

fn cut(text: &str) -> &str {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    &text[..end]
}

// Trailers are visible ASCII; the rest is percent-encoded, as gRPC does with its own message.
fn put(metadata: &mut MetadataMap, name: &'static str, text: &str) {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => safe.push_str("%25"),
            0x20..=0x7e => safe.push(char::from(byte)),
            other => safe.push_str(&format!("%{other:02X}")),
        }
    }
    let value = MetadataValue::try_from(safe).expect("visible ASCII is a header value");
    metadata.insert(name, value);
}

fn get(metadata: &MetadataMap, name: &str) -> Option<String> {
    let text = metadata.get(name)?.to_str().ok()?;
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut place = 0;
    while place < bytes.len() {
        let escaped = (bytes[place] == b'%')
            .then(|| text.get(place + 1..place + 3))
            .flatten()
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        plain.push(escaped.unwrap_or(bytes[place]));
        place += if escaped.is_some() { 3 } else { 1 };
    }
    Some(String::from_utf8_lossy(&plain).into_owned())
}
