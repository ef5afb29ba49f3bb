//! What must hold before a change and after it: HTTP, TCP, commands, patterns in logs, signed requests.
//!
//! ```text
//! before: every check once, and how much of each log pattern is usual       -> Baseline
//! after:  wait until it passes, then it must go on passing for a while      -> Report
//!         the application is watched too: down, or another process than before, is a failure
//! ```

mod attempt;
mod log;
mod signed;
mod window;

use std::path::PathBuf;
use std::time::Duration;

use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

pub use attempt::Checker;
pub use signed::{Keys, Reply, SignedRequest};
pub use window::{Baseline, Report, Window};

use crate::http::{HttpError, Url};
use crate::plan::{self, Expect, LogExpect};

/// For how long a log is watched where the plan does not say.
const DURING: Duration = Duration::from_secs(30);

/// A check of the plan that makes no sense, found before anything runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Not exactly one thing is checked.
    #[error("a check does not name exactly one of http, tcp, command, log, signed, mail")]
    NotOne,
    /// A test message, which this version does not send.
    #[error("a check by mail, which this version does not do")]
    Mail,
    /// A URL that cannot be used.
    #[error("the URL of a check: {0}")]
    Url(HttpError),
    /// An address that is no `host:port`.
    #[error("`{0}` is no host and port")]
    Address(String),
    /// A command without a program.
    #[error("a command without a program")]
    NoProgram,
    /// A pattern that is no regular expression.
    #[error("the pattern of a log check: {0}")]
    Pattern(String),
    /// Something that this kind of check does not expect.
    #[error("a check by {kind} expects {takes}")]
    Expect {
        /// The kind of check.
        kind: &'static str,
        /// What it takes.
        takes: &'static str,
    },
    /// A signed request without what a signature needs.
    #[error("a signed request needs `{0}`")]
    Signed(&'static str),
}

/// Something that must hold.
#[derive(Debug, Clone)]
pub struct Check(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Http { url: Url, shown: String, status: u16 },
    Tcp { address: String },
    Command { argv: Vec<String>, inside: Option<String> },
    Log(LogCheck),
    Signed(SignedRequest),
}

/// A pattern in a log, for some time.
#[derive(Debug, Clone)]
struct LogCheck {
    pattern: Regex,
    /// A file; otherwise the log of the application.
    from: Option<PathBuf>,
    expect: LogExpect,
    during: Duration,
}

/// What one check saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The check, as it is named to people.
    pub check: String,
    /// Whether it held.
    pub passed: bool,
    /// What it saw, scrubbed.
    pub saw: String,
}

impl Check {
    /// A check of the plan.
    ///
    /// # Errors
    ///
    /// [`CheckError`] if it makes no sense.
    pub fn new(plan: &plan::Check) -> Result<Self, CheckError> {
        let named = [&plan.http, &plan.tcp, &plan.log, &plan.signed, &plan.mail].map(|field| field.is_some());
        let named = named.into_iter().chain([plan.command.is_some()]).filter(|is_named| *is_named).count();
        if named != 1 {
            return Err(CheckError::NotOne);
        }
        let kind = match plan {
            plan::Check { http: Some(url), .. } => Kind::Http {
                url: Url::parse(url).map_err(CheckError::Url)?,
                shown: url.clone(),
                status: status(plan.expect.as_ref(), "http")?,
            },
            plan::Check { tcp: Some(address), .. } => tcp(address)?,
            plan::Check { command: Some(argv), inside, expect: None, .. } => {
                if argv.is_empty() {
                    return Err(CheckError::NoProgram);
                }
                Kind::Command { argv: argv.clone(), inside: inside.clone() }
            }
            plan::Check { command: Some(_), .. } => {
                return Err(CheckError::Expect { kind: "command", takes: "nothing: it succeeds or fails" });
            }
            plan::Check { log: Some(pattern), .. } => Kind::Log(log_check(pattern, plan)?),
            plan::Check { signed: Some(_), .. } => Kind::Signed(SignedRequest::new(plan)?),
            _ => return Err(CheckError::Mail),
        };
        Ok(Self(kind))
    }

    /// The signed request, where it is one: the rest of a rotation's keys go to it.
    pub fn signed(&self) -> Option<&SignedRequest> {
        match &self.0 {
            Kind::Signed(request) => Some(request),
            _ => None,
        }
    }

    /// How it is named to people.
    pub fn title(&self) -> String {
        match &self.0 {
            Kind::Http { shown, status, .. } => format!("{shown} answers {status}"),
            Kind::Tcp { address } => format!("{address} accepts"),
            Kind::Command { argv, inside: None } => format!("`{}` succeeds", argv.join(" ")),
            Kind::Command { argv, inside: Some(service) } => {
                format!("`{}` in {service} succeeds", argv.join(" "))
            }
            Kind::Log(check) => check.title(),
            Kind::Signed(request) => request.title(),
        }
    }
}

fn status(expect: Option<&Expect>, kind: &'static str) -> Result<u16, CheckError> {
    match expect {
        None => Ok(200),
        Some(Expect::Status(status @ 100..=599)) => Ok(*status),
        Some(_) => Err(CheckError::Expect { kind, takes: "a status such as 200" }),
    }
}

fn tcp(address: &str) -> Result<Kind, CheckError> {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(1..)) => Ok(Kind::Tcp { address: address.to_owned() }),
        _ => Err(CheckError::Address(address.to_owned())),
    }
}

fn log_check(pattern: &str, plan: &plan::Check) -> Result<LogCheck, CheckError> {
    let expect = match &plan.expect {
        None => LogExpect::Absent,
        Some(Expect::Log(expect)) => *expect,
        Some(Expect::Status(_)) => {
            return Err(CheckError::Expect { kind: "log", takes: "absent, present or no-more-than-before" });
        }
    };
    let pattern = Regex::new(pattern).map_err(|error| CheckError::Pattern(error.to_string()))?;
    let during = plan.during.map_or(DURING, |during| during.0);
    Ok(LogCheck { pattern, from: plan.from.as_ref().map(PathBuf::from), expect, during })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str) -> Result<Check, CheckError> {
        Check::new(&toml::from_str(toml).expect("a check of a plan"))
    }

    #[test]
    fn checks_that_make_no_sense_are_refused() {
        for wrong in [
            "",
            "http = 'http://a/'\ntcp = 'a:1'",
            "http = 'gopher://a/'",
            "http = 'http://a/'\nexpect = 'absent'",
            "http = 'http://a/'\nexpect = 20",
            "tcp = 'host'",
            "tcp = 'host:0'",
            "tcp = ':80'",
            "command = []",
            "command = ['true']\nexpect = 200",
            "log = '('",
            "log = 'a'\nexpect = 200",
            "signed = 'http://a/'",
            "signed = 'http://a/'\nheader = 'X-Signature'\nmac = 'crc32'",
        ] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert!(matches!(check("mail = 'a@b'"), Err(CheckError::Mail)));
    }

    #[test]
    fn checks_have_titles() {
        for (toml, title) in [
            ("http = 'http://a/health'", "http://a/health answers 200"),
            ("tcp = 'a:1'", "a:1 accepts"),
            ("command = ['a', 'b']\nin = 'web'", "`a b` in web succeeds"),
            ("log = '(?i)x'\nduring = '2m'", "`(?i)x` is absent from its log for 120 s"),
            (
                "signed = 'http://a/'\nheader = 'X-Signature'\nmac = 'hmac-sha256-hex'",
                "http://a/ answers 200 to a signature",
            ),
        ] {
            assert_eq!(check(toml).unwrap().title(), title);
        }
    }
}
