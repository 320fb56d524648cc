//! Text that is safe in HTML, and numbers as people read them.

use std::fmt;

/// Fit for an element and for a quoted attribute.
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' | '\t' => write!(f, "{c}")?,
                // No page may contain them.
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// At most so many characters of a text.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A length in a picture, to a tenth.
pub fn tenths(value: f64) -> String {
    trimmed(format!("{value:.1}"))
}

pub fn percent(share: f64) -> String {
    format!("{}%", trimmed(format!("{:.2}", share * 100.0)))
}

/// With commas between thousands.
pub fn whole(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// "1 fault", "2 faults".
pub fn counted(count: usize, noun: &str) -> String {
    format!("{} {noun}{}", whole(count as u64), if count == 1 { "" } else { "s" })
}

/// To three digits that matter; in powers of ten only where it is nothing that anybody counts.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    if size >= 1e15 {
        return format!("{value:.1e}");
    }
    let decimals = match size {
        _ if size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = trimmed(format!("{size:.decimals$}"));
    let (before, after) = text.split_once('.').unwrap_or((&text, ""));
    let before = before.parse().map_or_else(|_| before.to_owned(), whole);
    let sign = if value < 0.0 && text != "0" { "−" } else { "" };
    let point = if after.is_empty() { "" } else { "." };
    format!("{sign}{before}{point}{after}")
}

/// A time in the run: to a tenth of a second.
pub fn moment(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "the end".to_owned();
    }
    let tenths = (seconds.max(0.0) * 10.0).round() as u64;
    format!("{}.{} s", whole(tenths / 10), tenths % 10)
}

/// A span of time given in milliseconds.
pub fn millis(millis: f64) -> String {
    match millis {
        _ if !millis.is_finite() => "–".to_owned(),
        _ if millis >= 999.5 => format!("{} s", short(millis / 1_000.0)),
        _ if millis >= 0.9995 || millis <= 0.0 => format!("{} ms", short(millis)),
        _ => format!("{} µs", short(millis * 1_000.0)),
    }
}

/// A measured value with its unit.
pub fn value(value: f64, unit: &str) -> String {
    match unit {
        "bytes" => {
            let size = value.abs();
            let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
            let fits = units.into_iter().find(|(bytes, _)| size >= *bytes as f64);
            let (bytes, name) = fits.unwrap_or((1, "B"));
            format!("{} {name}", short(value / bytes as f64))
        }
        "count" => short(value),
        other => format!("{} {other}", short(value)),
    }
}

fn trimmed(text: String) -> String {
    if !text.contains('.') {
        return text;
    }
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_element_or_attribute() {
        assert_eq!(
            escape("<a b=\"c\" d='e'>&\0").to_string(),
            "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;\u{fffd}"
        );
    }

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(short(1e300), "1.0e300");
        let values = [0.0, 0.0004, 0.5, 1.0, 9.996, 12.34, 99.96, 1_234.6, -2.5, f64::NAN];
        assert_eq!(values.map(short), ["0", "0", "0.5", "1", "10", "12.3", "100", "1,235", "−2.5", "–"]);
        assert_eq!([0.0, 0.04, 59.96, 1_800.0].map(moment), ["0.0 s", "0.0 s", "60.0 s", "1,800.0 s"]);
        assert_eq!(moment(f64::INFINITY), "the end");
        let spans = [0.01, 1.0, 12.34, 999.9, 61_000.0];
        assert_eq!(spans.map(millis), ["10 µs", "1 ms", "12.3 ms", "1 s", "61 s"]);
    }

    #[test]
    fn bytes_are_told_in_powers_of_two() {
        let bytes = [0.0, 1_023.0, 1_024.0, 1_536.0 * 1_024.0, 5.0 * 1_073_741_824.0];
        assert_eq!(bytes.map(|bytes| value(bytes, "bytes")), ["0 B", "1,023 B", "1 KiB", "1.5 MiB", "5 GiB"]);
        assert_eq!((value(12.0, "count"), value(0.25, "cores")), ("12".to_owned(), "0.25 cores".to_owned()));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!((cut("äöü", 2), cut("äö", 2)), ("äö…".to_owned(), "äö".to_owned()));
    }
}
