//! Durations and sizes as the file writes them: a whole number and a unit.

use std::time::Duration;

/// Units of durations with their length in milliseconds, large to small.
const TIME_UNITS: [(&str, u64); 5] = [("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of sizes with their length in bytes, large to small.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a duration such as `"250ms"`, `"2s"`, `"1m"` or `"1h"`. The error says what is wrong and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let spelled = |unit: &str| TIME_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
    if number.contains('.') {
        return Err(format!("{text:?} is not a whole number; write it in a smaller unit, such as \"1500ms\" for one and a half seconds"));
    }
    if number.is_empty() {
        return Err(format!("{text:?} is not a duration; write a whole number and a unit (ms, s, m, h, d), such as \"2s\""));
    }
    if unit.is_empty() {
        return Err(format!("{text:?} has no unit; write \"{number}s\" or \"{number}ms\""));
    }
    let Some(unit_ms) = spelled(unit) else {
        return Err(format!("{text:?} has an unknown unit; the units are ms, s, m, h and d, one of them, such as \"90s\""));
    };
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is too long"))
}

/// Writes a duration as [`parse_duration`] reads it, in the largest unit that keeps it whole; one day is 24h.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 {
        return "0s".into();
    }
    let fits = |unit: &str, unit_ms: u128| ms.is_multiple_of(unit_ms) && (unit != "d" || ms > unit_ms);
    let (unit, unit_ms) = TIME_UNITS.iter().find(|(unit, unit_ms)| fits(unit, u128::from(*unit_ms))).unwrap_or(&("ms", 1));
    format!("{}{unit}", ms / u128::from(*unit_ms))
}

/// Reads a size such as `"16KiB"`, `"1MiB"` or `"512B"`, in bytes. The error says what is wrong and how to write it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    if number.is_empty() || number.contains('.') {
        return Err(format!("{text:?} is not a size; write a whole number and a unit (B, KiB, MiB, GiB, TiB), such as \"16KiB\""));
    }
    let Some((_, unit_bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit) else {
        let hint = match unit.chars().next().map(|c| c.to_ascii_uppercase()) {
            Some(c @ ('K' | 'M' | 'G' | 'T')) => format!("write \"{number}{c}iB\" (powers of 1024)"),
            None => format!("write \"{number}KiB\", or the bytes as a number without quotes"),
            _ => "the units are B, KiB, MiB, GiB and TiB".into(),
        };
        let what = if unit.is_empty() { "has no unit" } else { "has an unknown unit" };
        return Err(format!("{text:?} {what}; {hint}"));
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(*unit_bytes)).ok_or_else(|| format!("{text:?} is too large"))
}

/// Writes a size as [`parse_size`] reads it, in the largest unit that keeps it whole.
pub fn format_size(bytes: u64) -> String {
    let (unit, unit_bytes) = SIZE_UNITS.iter().find(|(_, unit_bytes)| bytes > 0 && bytes.is_multiple_of(*unit_bytes)).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / unit_bytes)
}

/// The leading number, with a decimal point if somebody wrote one, and the rest.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in
            [("250ms", 250), ("2s", 2000), ("1m", 60_000), ("1h", 3_600_000), ("0s", 0), ("10 s", 10_000), ("2d", 172_800_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "10", "1.5s", "-1s", "1 week", "1m30s", "99999999999999999999s", "18446744073709551615h", "１s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["250ms", "90s", "2m", "1h", "24h", "36h", "90d", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(format_duration(Duration::from_secs(7200)), "2h");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("1B", 1), ("16KiB", 16384), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("1TiB", 1 << 40), ("0B", 0)] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(format_size(bytes), text);
        }
        for text in ["", "KiB", "16", "16K", "16kb", "1.5MiB", "-1B", "99999999TiB", "99999999999999999999B"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert!(parse_size("16KB").unwrap_err().contains("\"16KiB\""));
    }
}
