//! `[servers.NAME]`: what reseal logs in to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;

use super::error::Finding;
use super::password::holds_password;
use super::values::{Login, Looked};

/// What a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// A SQLite file of an application.
    Sqlite,
    /// Redis or Valkey.
    Redis,
    /// MongoDB.
    Mongodb,
    /// MySQL or MariaDB.
    Mysql,
    /// A mail server.
    Smtp,
    /// Twilio.
    Twilio,
    /// Meta, for WhatsApp.
    Meta,
    /// GitHub.
    Github,
    /// GitLab.
    Gitlab,
    /// AWS Secrets Manager.
    Aws,
}

/// A server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// What it is.
    pub kind: Kind,
    /// Where it is, without a password.
    pub url: Option<String>,
    /// Several of them, by name.
    pub nodes: Option<BTreeMap<String, String>>,
    /// The file of a SQLite database, relative to the plan file.
    pub path: Option<PathBuf>,
    /// How reseal logs in at `url`.
    pub login: Option<Login>,
    /// A role that may change others.
    pub admin: Option<Admin>,
    /// The way there, if the URL alone does not lead there.
    pub via: Option<Reach>,
    /// How the connection is protected.
    pub tls: Option<Tls>,
    /// Host of a mail server.
    pub host: Option<Looked>,
    /// Port of a mail server.
    pub port: Option<Looked>,
    /// User at a mail server.
    pub user: Option<Looked>,
    /// Account at a provider.
    pub account: Option<Looked>,
    /// Application at a provider.
    pub app: Option<ProviderApp>,
    /// `owner/name` at GitHub.
    pub repo: Option<String>,
    /// `group/name` at GitLab.
    pub project: Option<String>,
    /// Region at AWS.
    pub region: Option<String>,
}

/// A role that may change others.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Its name.
    pub user: String,
    /// How it logs in.
    pub login: Login,
}

/// A way to a server.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Through this compose service.
    pub compose: Option<String>,
    /// Through this SSH host.
    pub ssh: Option<String>,
}

/// How a connection is protected.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// libpq's `sslmode`.
    pub mode: Option<String>,
    /// Certificates to trust, relative to the plan file.
    pub ca: Option<PathBuf>,
}

/// An application at a provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderApp {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: Login,
    /// The user that owns tokens.
    pub system_user: Option<String>,
}

impl Server {
    /// What is logged in with here.
    pub(crate) fn logins(&self) -> impl Iterator<Item = &Login> {
        let admin = self.admin.iter().map(|admin| &admin.login);
        self.login.iter().chain(admin).chain(self.app.iter().map(|app| &app.secret))
    }

    /// The role that a URL of this server names, else the one that its kind has by itself.
    pub fn user_of(&self, url: &str) -> String {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = authority.split(['/', '?']).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user.split(':').next().unwrap_or_default());
        let usual = if self.kind == Kind::Redis { "default" } else { "postgres" };
        user.filter(|user| !user.is_empty()).unwrap_or(usual).to_owned()
    }

    pub(super) fn check(&self, name: &str, span: Range<usize>) -> Result<(), Finding> {
        let urls = self.url.iter().chain(self.nodes.iter().flat_map(BTreeMap::values));
        // Some servers are written without a scheme.
        let has_password = |url: &String| holds_password(url) || holds_password(&format!("any://{url}"));
        if urls.into_iter().any(has_password) {
            return Err(Finding::new(span, format!("the URL of server `{name}` holds a password"))
                .at(if self.url.is_some() { "url" } else { "nodes" })
                .remedy("put it into the vault and write login = \"secret:NAME\""));
        }
        let missing =
            |what: &str| Err(Finding::new(span.clone(), format!("server `{name}` has no `{what}`")));
        match self.kind {
            Kind::Sqlite if self.path.is_none() => missing("path"),
            Kind::Postgres | Kind::Redis | Kind::Mongodb | Kind::Mysql
                if self.url.is_none() && self.nodes.is_none() =>
            {
                missing("url")
            }
            Kind::Smtp if self.url.is_none() && self.host.is_none() => missing("host"),
            Kind::Github if self.repo.is_none() => missing("repo"),
            Kind::Gitlab if self.project.is_none() => missing("project"),
            Kind::Aws if self.region.is_none() => missing("region"),
            _ => Ok(()),
        }
    }
}
