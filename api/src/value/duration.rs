//! Durations as texts.

use std::time::Duration;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is not a sequence of numbers with units.
    #[error("is not a duration")]
    Syntax,
    /// The duration is below zero.
    #[error("is a negative duration")]
    Negative,
    /// The duration does not fit 64 bits of nanoseconds (about 292 years).
    #[error("is longer than 292 years")]
    TooLong,
}

/// Parses a duration as it is written in the fields of all our kinds: decimal numbers, each with an optional fraction and
/// one of the units `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`, for example `1h30m` or `0.5s`; `0` needs no unit.
///
/// # Errors
/// The text has another form, is negative, or does not fit 64 bits of nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let unsigned = text.strip_prefix('-').or(text.strip_prefix('+')).unwrap_or(text);
    let nanoseconds = if unsigned == "0" { 0 } else { total_nanoseconds(unsigned)? };
    if text.starts_with('-') && nanoseconds > 0 {
        return Err(DurationError::Negative);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn total_nanoseconds(mut rest: &str) -> Result<u64, DurationError> {
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| !c.is_ascii_digit() && c != '.');
        total = total.saturating_add(component(number, unit)?);
        if total > i64::MAX as u128 {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    u64::try_from(total).map_err(|_| DurationError::TooLong)
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// Nanoseconds of one number with its unit. Digits beyond a nanosecond are dropped.
fn component(number: &str, unit: &str) -> Result<u128, DurationError> {
    let scale: u128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(DurationError::Syntax),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(DurationError::Syntax);
    }
    let mut nanoseconds: u128 = 0;
    for digit in whole.bytes() {
        nanoseconds = nanoseconds.saturating_mul(10).saturating_add(u128::from(digit - b'0'));
    }
    nanoseconds = nanoseconds.saturating_mul(scale);
    let mut weight = scale;
    for digit in fraction.bytes() {
        weight /= 10;
        nanoseconds = nanoseconds.saturating_add(weight * u128::from(digit - b'0'));
    }
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_in_every_unit() {
        let cases = [
            ("0", Duration::ZERO),
            ("24h", Duration::from_secs(86_400)),
            ("1h30m", Duration::from_secs(5_400)),
            ("1.5s", Duration::from_millis(1_500)),
            (".5s", Duration::from_millis(500)),
            ("+3ms", Duration::from_millis(3)),
            ("7us", Duration::from_micros(7)),
            ("7µs", Duration::from_micros(7)),
            ("9ns", Duration::from_nanos(9)),
            ("-0s", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_durations() {
        for text in ["", "-", "+", "h", "1", "1d", "1h 30m", "1.2.3s", ".s", "soon", "1hh", "--1s", "１s"] {
            assert_eq!(parse_duration(text), Err(DurationError::Syntax), "{text}");
        }
        assert_eq!(parse_duration("-1s"), Err(DurationError::Negative));
        let digits = "9".repeat(400);
        for text in ["2562048h", "9223372036854775808ns", &format!("{digits}h")] {
            assert_eq!(parse_duration(text), Err(DurationError::TooLong), "{text}");
        }
    }
}
