//! Times of a day in a plan file: the hours in which a secret may change, the moment at which reseal runs by itself, and
//! the zone that they are told in.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use reseal_vault::Timestamp;
use serde::Deserialize;

use super::values::{Unreadable, try_from_string};

/// A time of the day, such as `02:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct TimeOfDay(Time);

/// Hours of every day, such as `02:00-04:00`; over midnight where the end is before the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Window {
    from: TimeOfDay,
    to: TimeOfDay,
}

/// Every day at a time, such as `07:00`, or on one day of the week, such as `Mon 09:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Recurrence {
    /// The day of the week, 0 for Sunday; every day without it.
    day: Option<usize>,
    at: TimeOfDay,
}

/// The days as plans, systemd and people write them.
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// A zone of time by its name, such as `Europe/London`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

impl TimeOfDay {
    /// The hour, 0 to 23.
    pub fn hour(self) -> i8 {
        self.0.hour()
    }

    /// The minute.
    pub fn minute(self) -> i8 {
        self.0.minute()
    }
}

impl Window {
    /// Whether a moment is inside, by the clocks of that zone. The end is outside.
    pub fn contains(self, moment: Timestamp, zone: &TimeZone) -> bool {
        let Ok(moment) = jiff::Timestamp::from_second(moment.0) else { return false };
        let time = moment.to_zoned(zone.clone()).time();
        let (from, to) = (self.from.0, self.to.0);
        if from <= to { from <= time && time < to } else { from <= time || time < to }
    }
}

impl Recurrence {
    /// The time of the day.
    pub fn at(self) -> TimeOfDay {
        self.at
    }

    /// The number of the day of the week, 0 for Sunday; `None` for every day.
    pub fn day(self) -> Option<usize> {
        self.day
    }

    /// Its name.
    pub fn day_name(self) -> Option<&'static str> {
        self.day.map(|day| DAYS[day])
    }
}

impl Zone {
    /// The zone itself.
    pub fn get(&self) -> &TimeZone {
        &self.0
    }
}

impl FromStr for TimeOfDay {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let wrong = || Unreadable::new(text, "a time of the day such as 02:30");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str| {
            let is_number = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse().ok()).flatten()
        };
        let (hour, minute) = number(hour).zip(number(minute)).ok_or_else(wrong)?;
        Time::new(hour, minute, 0, 0).map(Self).map_err(|_| wrong())
    }
}

impl FromStr for Window {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let wrong = || Unreadable::new(text, "hours of the day such as 02:00-04:00");
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| text.trim().parse::<TimeOfDay>().map_err(|_| wrong());
        let (from, to) = (time(from)?, time(to)?);
        if from == to { Err(wrong()) } else { Ok(Self { from, to }) }
    }
}

impl FromStr for Recurrence {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let wrong = || Unreadable::new(text, "a time such as 07:00, or a day and a time such as Mon 09:00");
        let (day, at) = match text.split_once(' ') {
            Some((name, at)) => (Some(DAYS.iter().position(|day| *day == name).ok_or_else(wrong)?), at),
            None => (None, text),
        };
        Ok(Self { day, at: at.parse().map_err(|_| wrong())? })
    }
}

impl FromStr for Zone {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let unknown = |_| Unreadable::new(text, "a zone of time such as Europe/London");
        TimeZone::get(text).map(Self).map_err(unknown)
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.hour(), self.minute())
    }
}

impl fmt::Display for Recurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "every {} at {}", self.day_name().unwrap_or("day"), self.at)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.to)
    }
}

try_from_string!(TimeOfDay, Window, Recurrence, Zone);

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_second())
    }

    #[test]
    fn windows_are_by_the_clocks_of_their_zone() {
        let window: Window = "02:00-04:00".parse().unwrap();
        let london: Zone = "Europe/London".parse().unwrap();
        for (time, utc, there) in [
            ("2026-01-10T02:00:00Z", true, true),
            ("2026-01-10T04:00:00Z", false, false),
            ("2026-07-10T01:00:00Z", false, true),
            ("2026-07-10T03:30:00Z", true, false),
        ] {
            assert_eq!(window.contains(moment(time), &TimeZone::UTC), utc, "{time}");
            assert_eq!(window.contains(moment(time), london.get()), there, "{time}");
        }
        let night: Window = "22:00-04:00".parse().unwrap();
        for (time, inside) in [("21:59", false), ("22:00", true), ("03:59", true), ("04:00", false)] {
            let moment = moment(&format!("2026-01-10T{time}:00Z"));
            assert_eq!(night.contains(moment, &TimeZone::UTC), inside, "{time}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in ["", "2:00-4:00", "02:00", "02:00-24:00", "02:00-02:00", "0200-0400", "02:00–04:00"] {
            assert!(wrong.parse::<Window>().is_err(), "{wrong}");
        }
        assert_eq!("02:30".parse::<TimeOfDay>().unwrap().to_string(), "02:30");
        assert!("London/Europe".parse::<Zone>().is_err());
        for (text, shown) in [("07:00", "every day at 07:00"), ("Mon 09:00", "every Mon at 09:00")] {
            assert_eq!(text.parse::<Recurrence>().unwrap().to_string(), shown);
        }
        for wrong in ["Mon", "monday 09:00", "Mon 9:00", "09:00 Mon"] {
            assert!(wrong.parse::<Recurrence>().is_err(), "{wrong}");
        }
    }
}
