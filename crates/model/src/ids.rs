//! Ids: newtypes that print as people speak (`j42.7#2`) and parse back.
//!
//! In readable formats an id is its text, in binary ones its number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Index of an entry in the Raft log.
pub type LogIndex = u64;
/// Raft term.
pub type Term = u64;
/// Id of a replica: a counter, never reused.
pub type NodeId = u64;
/// Number of a placement within its session, from 1, rising, with no gaps.
pub type Seq = u64;
/// An interned resource request with its constraints.
pub type ClassId = u32;

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}, for example {example}")]
pub struct ParseIdError {
    pub text: String,
    pub what: &'static str,
    pub example: &'static str,
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $what:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { text: text.to_owned(), what: $what, example: $example };
                parse_number(text.strip_prefix($prefix).unwrap_or(text)).map($name).ok_or_else(error)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_u64(self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if !d.is_human_readable() {
                    return u64::deserialize(d).map($name);
                }
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

number_id!(
    /// A job: what a client submitted at once. Prints as `j42`.
    JobId, "j", "a job id", "j42"
);
number_id!(
    /// One registration of one worker process. Prints as `s7`.
    SessionId, "s", "a session id", "s7"
);
number_id!(
    /// Fencing token of an attempt: epoch x 2^48 + index of the log entry that placed it. Only the current one counts.
    Token, "", "a token", "1234"
);

fn parse_number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

impl Token {
    const EPOCH_SHIFT: u32 = 48;

    /// The token of an attempt placed by the entry at `index`. It grows with the index and, before that, the epoch.
    pub fn new(epoch: u64, index: LogIndex) -> Token {
        Token((epoch << Self::EPOCH_SHIFT) + index)
    }

    pub fn index(self) -> LogIndex {
        self.0 & ((1 << Self::EPOCH_SHIFT) - 1)
    }
}

/// One unit of work of a job. The tasks of a job are numbered through from 0, arrays included. Prints as `j42.7`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    pub job: JobId,
    pub number: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.number)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), what: "a task id", example: "j42.7" };
        let (job, number) = text.split_once('.').ok_or_else(error)?;
        let number = parse_number(number).and_then(|n| u32::try_from(n).ok()).ok_or_else(error)?;
        Ok(TaskId { job: job.parse().map_err(|_| error())?, number })
    }
}

/// One running of a task, numbered from 1 through all rounds. Prints as `j42.7#2`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId {
    pub task: TaskId,
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.attempt)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AttemptId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError { text: text.to_owned(), what: "an attempt id", example: "j42.7#2" };
        let (task, attempt) = text.split_once('#').ok_or_else(error)?;
        let attempt = parse_number(attempt).and_then(|n| u32::try_from(n).ok()).ok_or_else(error)?;
        Ok(AttemptId { task: task.parse().map_err(|_| error())?, attempt })
    }
}

macro_rules! text_in_readable_formats {
    ($name:ident { $first:ident, $second:ident }) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    return s.collect_str(self);
                }
                (self.$first, self.$second).serialize(s)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    return String::deserialize(d)?.parse().map_err(serde::de::Error::custom);
                }
                let ($first, $second) = Deserialize::deserialize(d)?;
                Ok($name { $first, $second })
            }
        }
    };
}
text_in_readable_formats!(TaskId { job, number });
text_in_readable_formats!(AttemptId { task, attempt });

/// The client's name for one write: a ULID. Prints as its 26 characters (Crockford's base 32).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RequestId(pub u128);

impl RequestId {
    const ALPHABET: &'static [u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    const LEN: usize = 26;

    /// The time part: milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> u64 {
        (self.0 >> 80) as u64
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LEN];
        for (place, slot) in text.iter_mut().rev().enumerate() {
            *slot = Self::ALPHABET[(self.0 >> (5 * place)) as usize & 31];
        }
        f.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RequestId {
    type Err = ParseIdError;
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let error = || ParseIdError {
            text: text.to_owned(),
            what: "a request id (a ULID)",
            example: "01JD3XCV8Y5ZJ0T9GQ2M4W7N6K",
        };
        // The first character carries only three bits.
        if text.len() != Self::LEN || text.as_bytes()[0] > b'7' {
            return Err(error());
        }
        let mut value = 0u128;
        for byte in text.bytes() {
            let upper = byte.to_ascii_uppercase();
            let digit = Self::ALPHABET.iter().position(|c| *c == upper).ok_or_else(error)?;
            value = value << 5 | digit as u128;
        }
        Ok(RequestId(value))
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            return s.collect_str(self);
        }
        ((self.0 >> 64) as u64, self.0 as u64).serialize(s)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() {
            return String::deserialize(d)?.parse().map_err(serde::de::Error::custom);
        }
        let (high, low) = <(u64, u64)>::deserialize(d)?;
        Ok(RequestId((high as u128) << 64 | low as u128))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_people_speak_and_parse_back() {
        let attempt = AttemptId { task: TaskId { job: JobId(42), number: 7 }, attempt: 2 };
        assert_eq!(attempt.to_string(), "j42.7#2");
        assert_eq!("j42.7#2".parse(), Ok(attempt));
        assert_eq!("42".parse(), Ok(JobId(42)));
        for bad in ["", "j", "j-1", "x7", "j1.2", "j99999999999999999999"] {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_texts_in_json_and_read_back_in_binary() {
        let attempt = AttemptId { task: TaskId { job: JobId(42), number: 7 }, attempt: 2 };
        assert_eq!(serde_json::to_string(&(attempt, attempt.task)).unwrap(), r#"["j42.7#2","j42.7"]"#);
        assert_eq!(serde_json::from_str::<AttemptId>("\"j42.7#2\"").unwrap(), attempt);
        let bytes = rmp_serde::to_vec_named(&attempt).unwrap();
        assert_eq!(rmp_serde::from_slice::<AttemptId>(&bytes).unwrap(), attempt);
    }

    #[test]
    fn request_ids_are_ulids() {
        let text = "01JD3XCV8Y5ZJ0T9GQ2M4W7N6K";
        let id: RequestId = text.parse().unwrap();
        assert_eq!(id.to_string(), text);
        assert_eq!(RequestId(u128::MAX).to_string(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<RequestId>().is_err());
        assert!("short".parse::<RequestId>().is_err());
    }

    #[test]
    fn tokens_rise_with_index_and_before_that_with_epoch() {
        assert!(Token::new(0, 9) < Token::new(0, 10));
        assert!(Token::new(0, 1 << 40) < Token::new(1, 1));
        assert_eq!(Token::new(3, 77).index(), 77);
    }
}
