//! How long a call may take: what the client said, less what the answer needs to get back in time.

use std::time::Duration;

use model::Moment;
use tonic::metadata::MetadataMap;

use crate::clock::Clock;

/// For clients that say nothing.
pub const DEFAULT: Duration = Duration::from_secs(30);
/// However patient a client is.
pub const LONGEST: Duration = Duration::from_secs(300);

const TIMEOUT: &str = "grpc-timeout";

/// The end of a call.
#[derive(Clone, Debug)]
pub struct Deadline {
    clock: Clock,
    at: Moment,
}

impl Deadline {
    pub fn after(clock: &Clock, wait: Duration) -> Deadline {
        Deadline { clock: clock.clone(), at: clock.moment().plus(wait) }
    }

    pub fn of_call(clock: &Clock, metadata: &MetadataMap) -> Deadline {
        let asked = metadata.get(TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        let wait = asked.unwrap_or(DEFAULT).min(LONGEST);
        // Answer a little before the client gives up: an error that says what happened beats silence.
        let margin = (wait / 20).min(Duration::from_millis(200));
        Deadline::after(clock, wait - margin)
    }

    pub fn left(&self) -> Duration {
        self.at.since(self.clock.moment())
    }

    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// The result, or `None` if it did not come in time.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(self.left(), work).await.ok()
    }
}

// At most eight digits and a unit, as the gRPC protocol has it.
fn parse_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().next_back()?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(count * 3600)),
        'M' => Some(Duration::from_secs(count * 60)),
        'S' => Some(Duration::from_secs(count)),
        'm' => Some(Duration::from_millis(count)),
        'u' => Some(Duration::from_micros(count)),
        'n' => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("30S"), Some(Duration::from_secs(30)));
        assert_eq!(parse_timeout("1500m"), Some(Duration::from_millis(1500)));
        for bad in ["", "S", "1", "-1S", "123456789S", "1x", "1ä"] {
            assert_eq!(parse_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_answer_is_due_before_the_client_gives_up() {
        let mut metadata = MetadataMap::new();
        metadata.insert(TIMEOUT, "10S".parse().unwrap());
        let deadline = Deadline::of_call(&Clock::new(), &metadata);
        assert!(deadline.left() <= Duration::from_millis(9_800) && !deadline.is_over());
        metadata.insert(TIMEOUT, "0S".parse().unwrap());
        assert!(Deadline::of_call(&Clock::new(), &metadata).is_over());
    }
}
