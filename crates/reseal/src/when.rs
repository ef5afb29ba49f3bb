//! Moments as people write and read them. All of them are UTC: a log that two people read has one clock.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use reseal_vault::Timestamp;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};
use crate::units::parse_duration;

/// Parses `2026-01-31` (midnight UTC) or `2026-01-31T12:00:00Z`.
///
/// # Errors
///
/// The text is neither.
pub(crate) fn parse(text: &str) -> Outcome<Timestamp> {
    let midnight = |date: Date| {
        date.to_datetime(Time::midnight()).to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp())
    };
    let moment = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => midnight(date),
        _ => text.parse::<jiff::Timestamp>(),
    };
    moment.map(|moment| Timestamp(moment.as_second())).map_err(|_| {
        // Not repeated: a value may have been typed in its place.
        Failure::new(Exit::Usage, "this is no date").hint("write 2026-01-31 or 2026-01-31T12:00:00Z")
    })
}

/// Parses what [`parse`] takes, or a duration back from now such as `7d`.
///
/// # Errors
///
/// The text is neither.
pub(crate) fn parse_or_ago(text: &str) -> Outcome<Timestamp> {
    match parse_duration(text) {
        Ok(back) => Ok(Timestamp(jiff::Timestamp::now().as_second() - back.as_secs().cast_signed())),
        Err(_) => parse(text),
    }
}

/// Writes a moment as RFC 3339 in UTC.
pub(crate) fn show(moment: Timestamp) -> String {
    jiff::Timestamp::from_second(moment.0).map_or_else(|_| "?".to_owned(), |moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments() {
        assert_eq!(parse("1970-01-02").unwrap(), Timestamp(86_400));
        assert_eq!(parse("1970-01-01T00:01:00Z").unwrap(), Timestamp(60));
        assert_eq!(parse("1970-01-01T01:01:00+01:00").unwrap(), Timestamp(60));
        assert_eq!(show(Timestamp(60)), "1970-01-01T00:01:00Z");
        for wrong in ["yesterday", "2026-02-30", "2026-01-31 12:00", ""] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
