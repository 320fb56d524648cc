//! Who asked for a write.

use serde::{Deserialize, Serialize};

/// Carried by every write. Until there is authentication only tenant `default` is accepted, and `user` is what
/// the client says of itself, unverified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Actor {
    pub tenant: String,
    pub user: String,
    /// The program the write came through: `cli`, `api`, `worker`, `leader`.
    pub via: String,
    /// The trace that the write is part of, if the client said one: the attempts of a submitted job go on in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

/// Of a W3C trace: 32 hexadecimal digits in lower case, not all of them 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceId(String);

impl TraceId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Out of a `traceparent` such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`; `None` if it is none. A
    /// later version than 00 may have more behind.
    pub fn of_traceparent(text: &str) -> Option<TraceId> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |part: &str, len: usize| part.len() == len && part.bytes().all(is_lower_hex);
        let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
        let is_version = is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
        let is_whole = is_version && is_hex(parent, 16) && is_set(parent) && is_hex(flags, 2);
        TraceId::try_from(trace.to_owned()).ok().filter(|_| is_whole)
    }
}

fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

impl TryFrom<String> for TraceId {
    type Error = String;
    fn try_from(text: String) -> Result<TraceId, String> {
        let is_hex = text.len() == 32 && text.bytes().all(is_lower_hex);
        if is_hex && text.bytes().any(|byte| byte != b'0') {
            Ok(TraceId(text))
        } else {
            Err(format!("`{text}` is not the id of a trace"))
        }
    }
}

impl From<TraceId> for String {
    fn from(trace: TraceId) -> String {
        trace.0
    }
}

pub const TENANT_DEFAULT: &str = "default";

impl Actor {
    pub fn new(user: &str, via: &str) -> Actor {
        Actor { tenant: TENANT_DEFAULT.to_owned(), user: user.to_owned(), via: via.to_owned(), trace: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read_from_what_the_standard_calls_valid() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let read = |text: &str| TraceId::of_traceparent(text).map(String::from);
        assert_eq!(read(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(read(&format!("01-{trace}-00f067aa0ba902b7-01-more")).as_deref(), Some(trace));
        for bad in [
            String::new(),
            trace.to_owned(),
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-00f067aa0ba902b7"),
        ] {
            assert_eq!(read(&bad), None, "{bad}");
        }
    }
}
