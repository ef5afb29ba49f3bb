//! Quantities as people write and read them: durations, counts, sizes.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use reseal_env::{NotAPlace, Place};

/// What an argument has to be. Never what it was: a value may have been typed in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected(&'static str);

impl Expected {
    /// Says what.
    pub(crate) const fn new(what: &'static str) -> Self {
        Self(what)
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Expected {}

/// Parses `90s`, `15m`, `8h` or `7d`, up to a year.
///
/// # Errors
///
/// What is accepted.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, Expected> {
    let wrong = || Expected("a number and s, m, h or d, such as 15m, and at most a year");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let total = number.checked_mul(seconds).filter(|total| *total <= 366 * 86_400);
    total.map(Duration::from_secs).ok_or_else(wrong)
}

/// Parses a part of the value of a variable.
///
/// # Errors
///
/// What is accepted.
pub(crate) fn parse_place(text: &str) -> Result<Place, Expected> {
    text.parse().map_err(|NotAPlace| {
        Expected("one of url.password, url.user, url.userinfo, url.query.NAME, list[0], json:/pointer, template:TEXT{value}")
    })
}

/// Parses a reason for the audit log.
///
/// # Errors
///
/// What is accepted.
pub(crate) fn parse_reason(text: &str) -> Result<String, Expected> {
    match text.trim() {
        "" => Err(Expected("a reason in words: it is kept in the audit log")),
        reason => Ok(reason.to_owned()),
    }
}

/// A count with thin grouping: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// A size in binary units: `1.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A span of time for people: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_strictly() {
        assert_eq!(parse_duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(parse_duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "15", "m", "-1m", "1.5h", "15 m", "15µ", "99999999999999999999d", "400d", "+1s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(7), count(1_000), count(12_345_678)], ["7", "1 000", "12 345 678"]);
        assert_eq!([size(12), size(1_536), size(5 << 30)], ["12 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(span(Duration::from_millis(1_440)), "1.4 s");
        assert_eq!(span(Duration::from_secs(185)), "3 min 5 s");
    }
}
