//! `[notify]`, `[incident]`, `[[evidence]]`, `[records]`, `[schedule]`: people, proof and time.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::Finding;
use super::values::{Login, Span};

/// Who is told, and how.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// The sender.
    pub from: Option<String>,
    /// The subject.
    pub subject: Option<String>,
    /// The mail server.
    pub smtp: Option<MailServer>,
    /// Whom to call; printed in every alert.
    pub contact: Option<String>,
    /// The recipients.
    #[serde(default)]
    pub to: Vec<Recipient>,
}

/// The mail server that messages go through.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailServer {
    /// Where it is.
    pub url: String,
    /// The user.
    pub user: Option<String>,
    /// The password.
    pub password: Option<Login>,
}

/// A recipient.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// By mail.
    pub email: Option<String>,
    /// By a request; the URL itself is a secret.
    pub webhook: Option<Login>,
    /// By a command.
    pub command: Option<Vec<String>>,
    /// What the request looks like.
    pub format: Option<String>,
    /// On which occasions.
    #[serde(default)]
    pub on: Vec<Occasion>,
}

/// Something that people are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// A rotation begins.
    Before,
    /// A rotation is done.
    After,
    /// A rotation failed.
    Failed,
    /// A secret is due.
    Due,
    /// A secret is over its date.
    Expired,
    /// An emergency.
    Incident,
}

/// What an emergency asks for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Incident {
    /// Who is told.
    #[serde(default)]
    pub notify: Vec<String>,
    /// Until when it is contained.
    pub contain: Option<Span>,
    /// Until when it is reported.
    pub report: Option<Span>,
    /// How long roles stay locked.
    pub lock: Option<Lock>,
    /// What people tick off.
    #[serde(default)]
    pub checklist: Vec<String>,
}

/// How long a role stays locked in an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lock {
    /// Until the checks pass.
    UntilDone,
}

/// What is gathered first in an emergency: a read-only query, or lines of a log.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Its name.
    pub name: String,
    /// The server of the query.
    pub server: Option<String>,
    /// The query.
    pub sql: Option<String>,
    /// The log.
    pub log: Option<PathBuf>,
    /// The pattern in the log.
    #[serde(rename = "match")]
    pub pattern: Option<String>,
    /// How many lines.
    pub last: Option<u32>,
}

impl Evidence {
    pub(super) fn check(&self, span: Range<usize>) -> Result<(), Finding> {
        let query = self.sql.is_some() && self.server.is_some();
        if query != self.log.is_some() {
            return Ok(());
        }
        Err(Finding::new(span, format!("evidence `{}` is neither a query nor a log", self.name))
            .remedy("write server and sql, or log and match"))
    }
}

/// A table that gets a row per rotation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Records {
    /// Its server.
    pub server: String,
    /// Its name.
    pub table: String,
}

/// When reseal runs by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// When the status is sent.
    pub status: Option<String>,
    /// When due secrets are rotated.
    pub rotate: Option<String>,
}
