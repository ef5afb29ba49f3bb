//! Small values of a plan file: spans of time, intervals, logins, values that stand elsewhere.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// What kind of installation this is; decides how often secrets change where they do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Every 90 days.
    Production,
    /// Every 180 days.
    Staging,
    /// Every 365 days.
    Development,
}

impl Environment {
    /// How often secrets change in it.
    pub const fn every(self) -> Interval {
        Interval::Days(match self {
            Self::Production => 90,
            Self::Staging => 180,
            Self::Development => 365,
        })
    }
}

/// A span of time: `30s`, `2m`, `24h`, `14d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

/// How often a secret changes: a number of `d`, `w`, `mo` or `y`, months and years by calendar; or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Interval {
    /// A number of days.
    Days(u32),
    /// A number of calendar months.
    Months(u32),
    /// As needed only.
    Never,
}

/// How reseal logs in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Login {
    /// With the value of this secret, by its name in the plan.
    Secret(String),
    /// As the system user, over a local socket.
    Peer,
    /// With what the provider's own tools find in the environment.
    Environment,
}

/// A value that is written here, or looked up in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a value, or { file = \"…\", var = \"…\" }")]
pub enum Looked {
    /// Written here.
    Here(String),
    /// A number, written here.
    Number(u32),
    /// A variable of a file.
    InFile(InFile),
}

/// A variable of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InFile {
    /// The file.
    pub file: PathBuf,
    /// The variable.
    pub var: String,
}

/// A text that is not what its field takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    text: String,
    takes: &'static str,
}

impl Unreadable {
    pub(super) fn new(text: &str, takes: &'static str) -> Self {
        Self { text: text.to_owned(), takes }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not {}", self.text, self.takes)
    }
}

fn split_number<'a>(text: &'a str, takes: &'static str) -> Result<(u32, &'a str), Unreadable> {
    let wrong = || Unreadable { text: text.to_owned(), takes };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok().filter(|number| *number <= 100_000).ok_or_else(wrong)?;
    Ok((number, &text[digits..]))
}

impl FromStr for Span {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        let takes = "a span of time such as 30s, 2m, 24h or 14d";
        let (number, unit) = split_number(text, takes)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return Err(Unreadable { text: text.to_owned(), takes }),
        };
        Ok(Self(Duration::from_secs(u64::from(number) * seconds)))
    }
}

impl FromStr for Interval {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        if text == "never" {
            return Ok(Self::Never);
        }
        let takes = "an interval such as 90d, 2w, 3mo, 1y or never";
        match split_number(text, takes)? {
            (number @ 1.., "d") => Ok(Self::Days(number)),
            (number @ 1.., "w") => Ok(Self::Days(number * 7)),
            (number @ 1.., "mo") => Ok(Self::Months(number)),
            (number @ 1.., "y") => Ok(Self::Months(number * 12)),
            _ => Err(Unreadable { text: text.to_owned(), takes }),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Days(days) => write!(f, "{days}d"),
            Self::Months(months) if months % 12 == 0 => write!(f, "{}y", months / 12),
            Self::Months(months) => write!(f, "{months}mo"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for Login {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Unreadable> {
        match (text, text.strip_prefix("secret:")) {
            ("peer", _) => Ok(Self::Peer),
            ("environment", _) => Ok(Self::Environment),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Secret(name.to_owned())),
            // The text stays unsaid: someone may have written the password itself.
            _ => Err(Unreadable { text: "login".to_owned(), takes: "\"secret:NAME\" or \"peer\"" }),
        }
    }
}

macro_rules! try_from_string {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = Unreadable;

            fn try_from(text: String) -> Result<Self, Unreadable> {
                text.parse()
            }
        }
    )*};
}
pub(super) use try_from_string;

try_from_string!(Span, Interval, Login);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_intervals() {
        assert_eq!("24h".parse(), Ok(Span(Duration::from_secs(86_400))));
        assert_eq!("2w".parse(), Ok(Interval::Days(14)));
        assert_eq!("1y".parse(), Ok(Interval::Months(12)));
        assert_eq!("never".parse(), Ok(Interval::Never));
        for wrong in ["", "d", "0d", "1", "-1d", "1.5d", "1 d", "99999999d", "3months"] {
            assert!(wrong.parse::<Interval>().is_err(), "{wrong}");
        }
        assert!("10".parse::<Span>().is_err());
    }

    #[test]
    fn a_password_as_login_is_not_repeated() {
        let error = "hunter2".parse::<Login>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!("secret:a/b".parse(), Ok(Login::Secret("a/b".into())));
    }
}
