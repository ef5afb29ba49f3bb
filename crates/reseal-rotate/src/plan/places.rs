//! `[compose]`, `[apps.NAME]`, `[files."PATH"]` and the places that values are written to.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::Finding;
use super::values::{Environment, Span};

/// The compose project.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// Its files.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Its name.
    pub project: Option<String>,
    /// What runs it, instead of `docker compose` or `docker-compose`.
    pub command: Option<Vec<String>>,
}

/// Something that reads values and must be brought over to new ones.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// A compose service.
    pub compose: Option<String>,
    /// A systemd unit.
    pub systemd: Option<String>,
    /// A command that restarts it.
    pub restart: Option<Vec<String>>,
    /// A command that stops it.
    pub stop: Option<Vec<String>>,
    /// A command that starts it.
    pub start: Option<Vec<String>>,
    /// How it takes new values.
    pub bring_over: Option<BringOver>,
    /// What must hold before anything changes.
    #[serde(default)]
    pub baseline: Vec<Check>,
    /// What must hold afterwards.
    #[serde(default)]
    pub check: Vec<Check>,
    /// How long to wait for it.
    pub wait: Option<Span>,
    /// How long it must go on holding.
    pub hold: Option<Span>,
}

/// How an application takes new values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BringOver {
    /// A new container.
    Recreate,
    /// A new process.
    Restart,
    /// A signal; new workers of the same process.
    Reload,
}

impl App {
    pub(super) fn check(&self, span: Range<usize>) -> Result<(), Finding> {
        let own = self.stop.is_some() || self.start.is_some();
        let ways = [self.compose.is_some(), self.systemd.is_some(), self.restart.is_some(), own];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            return Err(Finding::new(span, "an app has exactly one way to restart")
                .remedy("write one of compose, systemd, restart, or stop and start"));
        }
        if self.stop.is_some() != self.start.is_some() {
            return Err(Finding::new(span, "`stop` and `start` belong together"));
        }
        Ok(())
    }
}

/// A command, and the compose service in which it runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The compose service.
    #[serde(rename = "in")]
    pub inside: Option<String>,
    /// The snapshot that its output is saved as.
    pub save: Option<String>,
}

/// Something that must hold. Which fields are set says what it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A URL that answers.
    pub http: Option<String>,
    /// `host:port` that accepts.
    pub tcp: Option<String>,
    /// A command that succeeds.
    pub command: Option<Vec<String>>,
    /// The compose service in which it runs.
    #[serde(rename = "in")]
    pub inside: Option<String>,
    /// A pattern in a log.
    pub log: Option<String>,
    /// The log file; otherwise the log of the app.
    pub from: Option<String>,
    /// For how long.
    pub during: Option<Span>,
    /// A URL that takes a signed body.
    pub signed: Option<String>,
    /// The body.
    pub body: Option<String>,
    /// The header with the signature.
    pub header: Option<String>,
    /// How it is made.
    pub mac: Option<String>,
    /// An address that gets a test message.
    pub mail: Option<String>,
    /// The answer.
    pub expect: Option<Expect>,
}

/// The answer that a check expects.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a status such as 200, or one of absent, present, no-more-than-before")]
pub enum Expect {
    /// An HTTP status.
    Status(u16),
    /// What a log holds.
    Log(LogExpect),
}

/// What a log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogExpect {
    /// Nothing of it.
    Absent,
    /// Some of it.
    Present,
    /// Not more of it than before.
    NoMoreThanBefore,
}

/// A file in which values stand.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlainFile {
    /// Whose dialect it is written in.
    #[serde(default)]
    pub readers: Vec<String>,
    /// The apps that read it.
    #[serde(default)]
    pub used_by: Vec<String>,
    /// Its mode, such as 0600.
    pub mode: Option<String>,
    /// Its owner.
    pub user: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// A file with the same names and no secrets.
    pub example: Option<PathBuf>,
    /// Whether git must not see it.
    pub gitignored: Option<bool>,
    /// The environment it belongs to.
    pub environment: Option<Environment>,
}

/// A place that a value is written to.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// A file.
    pub file: Option<PathBuf>,
    /// The variable in it.
    pub var: Option<String>,
    /// A Docker secret.
    pub docker_secret: Option<String>,
    /// The service that uses it.
    pub service: Option<String>,
    /// A Kubernetes secret.
    pub kubernetes_secret: Option<String>,
    /// Its namespace.
    pub namespace: Option<String>,
    /// A secret at GitHub.
    pub github_secret: Option<String>,
    /// A variable at GitLab.
    pub gitlab_variable: Option<String>,
    /// A secret at AWS.
    pub aws_secret: Option<String>,
    /// The key in a document of several values.
    pub key: Option<String>,
    /// A systemd credential.
    pub systemd_credential: Option<String>,
    /// A command that reads the value on stdin.
    pub command: Option<Vec<String>>,
    /// Which part of what stands there.
    pub part: Option<String>,
    /// What separates the positions of a list.
    pub sep: Option<String>,
    /// The text around the value.
    pub template: Option<String>,
    /// Which field of a value with several.
    pub field: Option<String>,
    /// Which version stands there.
    pub holds: Option<Holds>,
    /// The server it is at.
    pub server: Option<String>,
}

/// Which version of a secret stands in a place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Holds {
    /// The one in use.
    #[default]
    Current,
    /// The one in use before.
    Previous,
    /// The one that comes.
    Pending,
}

impl Place {
    /// Whether it is for the name of the role, and not for the value that lets it in.
    pub(crate) fn holds_user(&self) -> bool {
        self.field.as_deref() == Some("user") || self.part.as_deref() == Some("url.user")
    }

    pub(super) fn check(&self, secret: &str, span: Range<usize>) -> Result<(), Finding> {
        let kinds = [
            self.file.is_some(),
            self.docker_secret.is_some(),
            self.kubernetes_secret.is_some(),
            self.github_secret.is_some(),
            self.gitlab_variable.is_some(),
            self.aws_secret.is_some(),
            self.systemd_credential.is_some(),
            self.command.is_some(),
        ];
        if kinds.into_iter().filter(|kind| *kind).count() == 1 {
            return Ok(());
        }
        Err(Finding::new(span, format!("an entry of `write` of secret `{secret}` does not name exactly one place"))
            .remedy("write one of file, docker_secret, kubernetes_secret, github_secret, gitlab_variable, aws_secret, systemd_credential, command"))
    }
}
