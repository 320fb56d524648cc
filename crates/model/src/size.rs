//! Amounts as people write them: `512MiB`, `1.5`, `0.5`.

/// Cores and custom resources are counted in ten-thousandths.
pub const PARTS: u64 = 10_000;

const UNITS: [(&str, u64); 13] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("PB", 1_000_000_000_000_000),
    ("B", 1),
    ("", 1),
];

/// Reads `512MiB`, `1.5GB` or a plain number of bytes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let error = || format!("`{text}` is not a size such as 512MiB, 1.5GB or 4096");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(error)?;
    scaled(number, *factor).ok_or_else(error)
}

/// Reads a count with at most four decimals, in ten-thousandths: `0.5` is 5000.
pub fn parse_parts(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let too_fine = text.split_once('.').is_some_and(|(_, decimals)| decimals.len() > 4);
    let parts = if too_fine { None } else { scaled(text, PARTS) };
    parts.ok_or_else(|| format!("`{text}` is not an amount such as 2 or 0.5 (at most four decimals)"))
}

// Decimal arithmetic in integers: a float would make 0.1 of a byte count a matter of rounding.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || decimals.len() > 15 || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return None;
    }
    let whole = whole.parse::<u128>().ok()?.checked_mul(factor.into())?;
    let decimal = if decimals.is_empty() { 0 } else { decimals.parse::<u128>().ok()? };
    let fraction = decimal * u128::from(factor) / 10u128.pow(decimals.len() as u32);
    u64::try_from(whole + fraction).ok()
}

/// Writes ten-thousandths as a decimal number.
pub fn format_parts(parts: u64) -> String {
    let (whole, rest) = (parts / PARTS, parts % PARTS);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:04}").trim_end_matches('0').to_owned()
}

/// Writes a size that [`parse_bytes`] reads back exactly: a power of 1024 if it divides, else plain bytes.
pub fn format_bytes(bytes: u64) -> String {
    let exact = UNITS[..5].iter().rev().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match exact {
        Some((name, factor)) => format!("{}{name}", bytes / factor),
        None => bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_mean_what_they_say() {
        assert_eq!(parse_bytes("512MiB"), Ok(512 << 20));
        assert_eq!(parse_bytes("1.5GB"), Ok(1_500_000_000));
        assert_eq!(parse_bytes("10 kB"), Ok(10_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for bad in ["", "-1", "1.5XB", "MiB", "1e9", "99999999999PiB", "1..5"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        for bytes in [0, 1, 1023, 1024, 1536, 3 << 40] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn parts_are_exact() {
        assert_eq!(parse_parts("0.5"), Ok(5000));
        assert_eq!(parse_parts("2"), Ok(20_000));
        assert!(parse_parts("0.00001").is_err());
        for parts in [0, 1, 5000, 12_340, 20_000] {
            assert_eq!(parse_parts(&format_parts(parts)), Ok(parts));
        }
    }
}
