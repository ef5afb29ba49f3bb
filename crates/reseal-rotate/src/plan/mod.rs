//! The plan file `reseal.toml`: what exists, which secrets protect it, where their values stand.
//!
//! No password ever stands in it. Every field is known: what is not, is an error with its line and the nearest name.

mod columns;
mod error;
mod password;
mod people;
mod places;
mod refusals;
mod secrets;
mod servers;
mod spot;
mod times;
mod trust;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::error::RotateError;

pub use columns::{Columns, Limits};
pub use error::{NamedVault, PlanError};
pub use password::holds_password;
pub use people::{
    Evidence, Format, Incident, Lock, MailServer, Notify, Occasion, Recipient, Records, Schedule,
};
pub use places::{App, BringOver, Check, Command, Compose, Expect, Holds, LogExpect, Place, PlainFile};
pub use secrets::{Generate, Keep, Per, Secret, Strategy};
pub use servers::{Admin, Kind, ProviderApp, Reach, Server, Tls};
pub use spot::Spot;
pub use times::{Recurrence, TimeOfDay, Window, Zone};
pub use values::{Environment, InFile, Interval, Login, Looked, Span, Unreadable};

/// The name that is looked for.
pub const FILE_NAME: &str = "reseal.toml";

/// The version of the schema that this reads.
const SCHEMA: u32 = 1;

/// A plan file that was read and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The file it was read from.
    pub path: PathBuf,
    /// What it says.
    pub file: PlanFile,
}

/// What a plan file says, field by field.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    schema: Spanned<u32>,
    /// The vault, relative to the plan file.
    pub vault: Option<PathBuf>,
    /// What every name of a secret in this file begins with in the vault.
    #[serde(default)]
    pub prefix: String,
    /// Presets of intervals.
    pub environment: Option<Environment>,
    /// The zone of windows and schedules.
    pub timezone: Option<Zone>,
    /// Patterns of files that hold secrets in clear and should not be there.
    #[serde(default)]
    pub leftovers: Vec<String>,
    /// The compose project.
    pub compose: Option<Compose>,
    /// What reseal logs in to.
    #[serde(default)]
    pub servers: BTreeMap<String, Spanned<Server>>,
    /// What reads values and must be brought over.
    #[serde(default)]
    pub apps: BTreeMap<String, Spanned<App>>,
    /// Files in which values stand.
    #[serde(default)]
    pub files: BTreeMap<String, Spanned<PlainFile>>,
    /// Fields of every secret.
    pub defaults: Option<Secret>,
    /// The secrets.
    #[serde(default)]
    pub secrets: BTreeMap<String, Spanned<Secret>>,
    /// Encrypted columns.
    #[serde(default)]
    pub columns: BTreeMap<String, Spanned<Columns>>,
    /// Who is told.
    pub notify: Option<Notify>,
    /// What an emergency asks for.
    pub incident: Option<Incident>,
    /// What is gathered first in an emergency.
    #[serde(default)]
    pub evidence: Vec<Spanned<Evidence>>,
    /// A table that gets a row per rotation.
    pub records: Option<Records>,
    /// When reseal runs by itself.
    pub schedule: Option<Schedule>,
}

impl Plan {
    /// Finds, reads and checks the plan file of a directory: there, or in the nearest directory above.
    ///
    /// A plan says where logins are sent. One that was found, not named, is obeyed only if it is this user's or root's
    /// and nobody else may write to it.
    ///
    /// # Errors
    ///
    /// [`PlanError`], also for a file that others could have put there.
    pub fn discover(directory: &Path) -> Result<Option<Self>, PlanError> {
        let found = directory.ancestors().map(|above| above.join(FILE_NAME)).find(|path| path.is_file());
        let Some(path) = found else { return Ok(None) };
        let text = trust::read_own(&path)?;
        Self::parse(&path, &text).map(Some)
    }

    /// Reads and checks a plan file.
    ///
    /// # Errors
    ///
    /// [`PlanError`], with line and remedy where there is one.
    pub fn load(path: &Path) -> Result<Self, PlanError> {
        let text = std::fs::read_to_string(path).map_err(|source| PlanError::read(path, source))?;
        Self::parse(path, &text)
    }

    /// Reads and checks the text of a plan file.
    ///
    /// # Errors
    ///
    /// [`PlanError`], with line and remedy where there is one.
    pub fn parse(path: &Path, text: &str) -> Result<Self, PlanError> {
        let file: PlanFile = toml::from_str(text).map_err(|error| PlanError::toml(path, text, &error))?;
        file.check().map_err(|finding| finding.locate(path, text))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// The vault that the plan names, resolved against the plan's directory.
    pub fn vault(&self) -> Option<PathBuf> {
        self.file.vault.as_ref().map(|vault| self.directory().join(vault))
    }

    /// The directory of the plan file: what its paths are relative to.
    pub fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// The vault's name of a secret that the plan names.
    pub fn secret_name(&self, name: &str) -> String {
        format!("{}{name}", self.file.prefix)
    }

    /// A secret by the name that the plan gives it, with what `[defaults]` says where it says nothing itself.
    ///
    /// # Errors
    ///
    /// [`RotateError::UnknownSecret`].
    pub fn secret(&self, name: &str) -> Result<Secret, RotateError> {
        let Some(secret) = self.file.secrets.get(name) else {
            let known = self.file.secrets.keys().cloned().collect();
            return Err(RotateError::UnknownSecret { name: name.to_owned(), known });
        };
        let secret = secret.get_ref();
        Ok(self.file.defaults.as_ref().map_or_else(|| secret.clone(), |defaults| secret.over(defaults)))
    }

    /// Every secret that the plan names, by its name in the vault: those that it manages, and those that reseal itself
    /// logs in with, at servers, at providers and to tell people.
    pub fn names_in_vault(&self) -> Vec<String> {
        let servers = self.file.servers.values().flat_map(|server| server.get_ref().logins());
        let logins = servers.chain(self.file.notify.iter().flat_map(Notify::logins));
        let logged_in = logins.filter_map(|login| match login {
            Login::Secret(name) => Some(name),
            Login::Peer | Login::Environment => None,
        });
        let names: BTreeSet<_> = self.file.secrets.keys().chain(logged_in).collect();
        names.into_iter().map(|name| self.secret_name(name)).collect()
    }

    /// A server by the name that the plan gives it.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.file.servers.get(name).map(Spanned::get_ref)
    }

    /// Columns by the name that the plan gives them.
    pub fn columns(&self, name: &str) -> Option<&Columns> {
        self.file.columns.get(name).map(Spanned::get_ref)
    }

    /// The names of all columns, in order.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.file.columns.keys().map(String::as_str)
    }
}

impl PlanFile {
    /// What the plan says about a file.
    pub fn file(&self, path: &Path) -> Option<&PlainFile> {
        // Written alike, as a rule: thousands of places then cost no comparison of paths.
        let alike = path.to_str().and_then(|path| self.files.get(path));
        let same = || self.files.iter().find(|(file, _)| Path::new(file) == path).map(|(_, file)| file);
        alike.or_else(same).map(Spanned::get_ref)
    }

    fn check(&self) -> Result<(), error::Finding> {
        if *self.schema.get_ref() != SCHEMA {
            return Err(error::Finding::new(self.schema.span(), "this schema is not known")
                .remedy(format!("write schema = {SCHEMA}")));
        }
        for (name, server) in &self.servers {
            server.get_ref().check(name, server.span())?;
        }
        for app in self.apps.values() {
            app.get_ref().check(app.span())?;
        }
        for (name, secret) in &self.secrets {
            secret.get_ref().check(name, secret.span(), self)?;
        }
        for (name, columns) in &self.columns {
            columns.get_ref().check(name, columns.span(), self)?;
        }
        self.check_together()?;
        self.check_people()?;
        self.evidence.iter().try_for_each(|evidence| evidence.get_ref().check(evidence.span()))
    }
}
