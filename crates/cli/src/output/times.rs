//! Times and durations for people.

use std::time::Duration;

use model::Timestamp;

/// `3m ago` where `now` is given, else RFC 3339.
pub fn when(time: Timestamp, now: Option<Timestamp>) -> String {
    match now {
        Some(now) if now >= time => format!("{} ago", short(now.since(time))),
        Some(now) => format!("in {}", short(time.since(now))),
        None => time.to_string(),
    }
}

/// Two digits' worth: `850ms`, `4.2s`, `3m12s`, `5h03m`, `2d4h`.
pub fn short(duration: Duration) -> String {
    let (seconds, ms) = (duration.as_secs(), duration.as_millis());
    match seconds {
        _ if ms < 1_000 => format!("{ms}ms"),
        0..10 => format!("{:.1}s", (ms / 100) as f64 / 10.0),
        10..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_what_matters() {
        let cases = [(850, "850ms"), (4_250, "4.2s"), (9_999, "9.9s"), (59_999, "59s"), (192_000, "3m12s")];
        for (ms, text) in cases {
            assert_eq!(short(Duration::from_millis(ms)), text);
        }
        assert_eq!(short(Duration::from_secs(187_200)), "2d4h");
        assert_eq!(when(Timestamp(1_000_000), Some(Timestamp(3_500_000))), "2.5s ago");
        assert_eq!(when(Timestamp(0), None), "1970-01-01T00:00:00.000000Z");
    }
}
