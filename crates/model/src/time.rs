//! The three times. All count microseconds.
//!
//! `Timestamp` is wall time and goes in the log. `Elapsed` is the cluster's own monotonic time: it goes in the
//! log, never jumps, stands still while nobody leads, and serves every duration. `Moment` is the monotonic clock
//! of one process and never leaves it.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! time {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            pub const MAX: $name = $name(u64::MAX);

            /// The time since `earlier`; zero if that is later.
            pub fn since(self, earlier: $name) -> Duration {
                Duration::from_micros(self.0.saturating_sub(earlier.0))
            }

            pub fn plus(self, duration: Duration) -> $name {
                $name(self.0.saturating_add(micros(duration)))
            }

            pub fn minus(self, duration: Duration) -> $name {
                $name(self.0.saturating_sub(micros(duration)))
            }
        }
    };
}

time!(
    /// Wall time: microseconds since the Unix epoch. Readable form: RFC 3339, UTC.
    Timestamp
);
time!(
    /// The cluster's monotonic time, kept in the log.
    Elapsed
);
time!(
    /// The monotonic clock of one process.
    Moment
);

/// Whole microseconds, capped at `u64::MAX`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

// Beyond the year 9999 RFC 3339 has no text.
const READABLE_MAX: Duration = Duration::from_secs(253_402_300_799);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time: SystemTime = UNIX_EPOCH + Duration::from_micros(self.0).min(READABLE_MAX);
        humantime::format_rfc3339_micros(time).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_rfc3339_weak(text)
            .map_err(|error| format!("`{text}` is not a time such as 2026-11-22T18:30:00Z: {error}"))?;
        let since = time.duration_since(UNIX_EPOCH).map_err(|_| format!("`{text}` is before 1970"))?;
        Ok(Timestamp(micros(since)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.collect_str(self) } else { s.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if !d.is_human_readable() {
            return u64::deserialize(d).map(Timestamp);
        }
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Debug for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e+{:?}", Duration::from_micros(self.0))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m+{:?}", Duration::from_micros(self.0))
    }
}

impl Serialize for Elapsed {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Elapsed {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        u64::deserialize(d).map(Elapsed)
    }
}

/// Reads `90s`, `1h30m`, `250ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("`{text}` is not a duration such as 90s or 1h30m: {error}"))
}

/// Writes what [`parse_duration`] reads, without blanks: `1h30m`.
pub fn format_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// `#[serde(with = "time::duration")]`: text in readable formats, microseconds in binary ones.
pub mod duration {
    use super::*;

    pub fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() {
            s.collect_str(&format_duration(*duration))
        } else {
            s.serialize_u64(micros(*duration))
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        if !d.is_human_readable() {
            return u64::deserialize(d).map(Duration::from_micros);
        }
        parse_duration(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// The same for `Option<Duration>`; use with `default` and `skip_serializing_if`.
pub mod optional_duration {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "duration")] Duration);

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        duration.map(Wrapped).serialize(s)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(d)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_alike() {
        for text in ["90s", "1h30m", "250ms", "1m30s"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration), "{text}");
        }
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn any_timestamp_has_a_text() {
        assert_eq!(
            "2026-11-22T18:30:00Z".parse::<Timestamp>().unwrap().to_string(),
            "2026-11-22T18:30:00.000000Z"
        );
        let _ = Timestamp::MAX.to_string();
    }
}
