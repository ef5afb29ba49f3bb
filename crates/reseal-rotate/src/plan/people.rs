//! `[notify]`, `[incident]`, `[[evidence]]`, `[records]`, `[schedule]`: people, proof and time.

use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::PlanFile;
use super::error::Finding;
use super::password::holds_password;
use super::times::Recurrence;
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
    pub smtp: Option<Spanned<MailServer>>,
    /// Whom to call; printed in every alert.
    pub contact: Option<String>,
    /// The recipients.
    #[serde(default)]
    pub to: Vec<Spanned<Recipient>>,
}

impl Notify {
    /// What messages are sent with.
    pub(super) fn logins(&self) -> impl Iterator<Item = &Login> {
        let mail = self.smtp.iter().filter_map(|smtp| smtp.get_ref().password.as_ref());
        mail.chain(self.to.iter().filter_map(|one| one.get_ref().webhook.as_ref()))
    }
}

/// The mail server that messages go through.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailServer {
    /// Where it is: `smtp://HOST:PORT`, or `smtps://` where TLS comes first.
    pub url: String,
    /// The certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
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
    #[serde(default)]
    pub format: Format,
    /// On which occasions.
    #[serde(default)]
    pub on: Vec<Occasion>,
}

/// What a request or a command is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Words: as a mail has them, or as Slack, Mattermost and their like take them.
    #[default]
    Text,
    /// An event of PagerDuty, version 2.
    Pagerduty,
    /// An object with every field.
    Json,
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
    /// A secret has to change at once; whoever is told of due secrets is told of these too.
    Owed,
    /// An emergency.
    Incident,
}

impl Occasion {
    /// The word in plans and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
            Self::Failed => "failed",
            Self::Due => "due",
            Self::Expired => "expired",
            Self::Owed => "owed",
            Self::Incident => "incident",
        }
    }
}

impl Notify {
    pub(super) fn check(&self) -> Result<(), Finding> {
        if let Some(smtp) = &self.smtp {
            smtp.get_ref().check(smtp.span())?;
        }
        self.to.iter().try_for_each(|to| to.get_ref().check(to.span(), self.smtp.is_some()))
    }
}

impl MailServer {
    fn check(&self, span: Range<usize>) -> Result<(), Finding> {
        let finding = |what: &str, remedy: &str| Err(Finding::new(span.clone(), what).remedy(remedy));
        if holds_password(&self.url) {
            return finding(
                "the address of the mail server holds a password",
                "put it into the vault and write password = \"secret:NAME\"",
            );
        }
        if !["smtp://", "smtps://"].iter().any(|scheme| self.url.starts_with(scheme)) {
            return finding("the mail server has no address", "write url = \"smtp://HOST:PORT\" or smtps://");
        }
        match (&self.user, &self.password) {
            (None, None) | (Some(_), Some(Login::Secret(_))) => Ok(()),
            _ => finding(
                "the mail server has half a login",
                "write user and password = \"secret:NAME\", or neither",
            ),
        }
    }
}

impl Recipient {
    fn check(&self, span: Range<usize>, has_mail: bool) -> Result<(), Finding> {
        let finding = |what: &str, remedy: &str| Err(Finding::new(span.clone(), what).remedy(remedy));
        let ways = [self.email.is_some(), self.webhook.is_some(), self.command.is_some()];
        if ways.into_iter().filter(|is_there| *is_there).count() != 1 {
            return finding(
                "a recipient is told in one way",
                "write one of email, webhook = \"secret:NAME\" and command = [\"PROGRAM\"]",
            );
        }
        if self.email.is_some() && !has_mail {
            return finding(
                "a recipient is told by mail, and there is no mail server",
                "write smtp = { url = \"smtp://HOST:PORT\" } in [notify]",
            );
        }
        if self.webhook.as_ref().is_some_and(|login| !matches!(login, Login::Secret(_))) {
            return finding("the address of a web hook is a secret", "write webhook = \"secret:NAME\"");
        }
        if self.on.is_empty() {
            return finding("a recipient is never told", "write on = [\"failed\", \"due\", \"expired\"]");
        }
        Ok(())
    }
}

impl PlanFile {
    pub(super) fn check_people(&self) -> Result<(), Finding> {
        self.notify.as_ref().map_or(Ok(()), Notify::check)
    }
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
    /// When people are told how secrets stand.
    pub status: Option<Recurrence>,
    /// When due secrets are rotated and old values end.
    pub rotate: Option<Recurrence>,
}
