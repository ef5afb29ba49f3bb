//! `[secrets."NAME"]` and `[defaults]`: what protects what, and how it changes.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::PlanFile;
use super::error::Finding;
use super::places::{Check, Command, Place};
use super::times::Window;
use super::values::{Interval, Span};

/// How a secret is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One value, replaced.
    InPlace,
    /// Two values valid for a while.
    Overlap,
    /// Two login roles by turns.
    Alternate,
    /// A new login role, then the old one is dropped.
    NewUser,
    /// The service makes the value.
    Issue,
    /// A person brings the value.
    Paste,
    /// A data key: the columns it protects are re-encrypted.
    Columns,
}

/// A secret, or in `[defaults]` the fields of every secret.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// The server that knows it.
    pub server: Option<String>,
    /// The role that it lets in.
    pub user: Option<String>,
    /// How it changes.
    pub strategy: Option<Strategy>,
    /// One value per node.
    pub per: Option<Per>,
    /// The two login roles of `alternate`.
    pub users: Option<Vec<String>>,
    /// The role that owns what the two use.
    pub owner_role: Option<String>,
    /// How a new value is drawn.
    pub generate: Option<Generate>,
    /// The shortest value.
    pub min: Option<u32>,
    /// How often it changes.
    pub every: Option<Interval>,
    /// How long before that it is told.
    pub warn: Option<Span>,
    /// Moves the due date away from its neighbours'.
    pub offset: Option<Span>,
    /// The hours in which it may change.
    pub window: Option<Window>,
    /// How long the old value stays valid.
    pub overlap: Option<Span>,
    /// What `VALID UNTIL` is set to.
    pub valid_until: Option<String>,
    /// The apps in the order in which they get the value.
    pub order: Option<Vec<String>>,
    /// Where it is written.
    #[serde(default)]
    pub write: Vec<Place>,
    /// What must hold with the new value.
    #[serde(default)]
    pub check: Vec<Check>,
    /// What runs first.
    #[serde(default)]
    pub before: Vec<Command>,
    /// What runs last.
    #[serde(default)]
    pub after: Vec<Command>,
    /// How many old versions are kept.
    pub keep: Option<Keep>,
    /// Its variable for `run`, `import` and `export`.
    pub env: Option<String>,
    /// What it is for.
    pub purpose: Option<String>,
    /// What happens if it is wrong.
    pub impact: Option<String>,
    /// How risky a change is.
    pub risk: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// How a person gets a new one.
    pub how: Option<String>,
    /// Where.
    pub console: Option<String>,
    /// What it is called in the table of `[records]`.
    pub record_as: Option<String>,
}

/// What a secret has one value for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Each node of its server.
    Node,
}

/// How a new value is drawn.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generate {
    /// The alphabet: base64url, hex, base64, alnum, django or words.
    pub format: String,
    /// Random bytes before they are written as text.
    pub bytes: Option<u16>,
    /// Characters.
    pub length: Option<u16>,
    /// Classes that must occur.
    #[serde(default)]
    pub require: Vec<String>,
}

/// How many old versions are kept, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Versions.
    pub versions: Option<u32>,
    /// Time.
    #[serde(rename = "for")]
    pub time: Option<Interval>,
}

impl Secret {
    /// This secret, with the fields of `defaults` where it has none of its own.
    pub(super) fn over(&self, defaults: &Self) -> Self {
        let list = |own: &Vec<_>, usual: &Vec<_>| if own.is_empty() { usual.clone() } else { own.clone() };
        let checks = if self.check.is_empty() { &defaults.check } else { &self.check };
        let places = if self.write.is_empty() { &defaults.write } else { &self.write };
        macro_rules! with_defaults {
            ($($field:ident),*) => {
                Self {
                    $($field: self.$field.clone().or_else(|| defaults.$field.clone()),)*
                    write: places.clone(),
                    check: checks.clone(),
                    before: list(&self.before, &defaults.before),
                    after: list(&self.after, &defaults.after),
                }
            };
        }
        with_defaults!(
            server,
            user,
            strategy,
            per,
            users,
            owner_role,
            generate,
            min,
            every,
            warn,
            offset,
            window,
            overlap,
            valid_until,
            order,
            keep,
            env,
            purpose,
            impact,
            risk,
            owner,
            how,
            console,
            record_as
        )
    }

    pub(super) fn check(&self, name: &str, span: Range<usize>, plan: &PlanFile) -> Result<(), Finding> {
        if self.strategy.is_none()
            && plan.defaults.as_ref().is_none_or(|defaults| defaults.strategy.is_none())
        {
            return Err(Finding::new(span, format!("secret `{name}` has no `strategy`"))
                .remedy("write one of in-place, overlap, alternate, new-user, issue, paste, columns"));
        }
        if let Some(server) = self.server.as_ref().filter(|server| !plan.servers.contains_key(*server)) {
            return Err(Finding::new(
                span,
                format!("secret `{name}` names server `{server}`, which is not there"),
            )
            .among(server, plan.servers.keys().map(String::as_str)));
        }
        self.write.iter().try_for_each(|place| place.check(name, span.clone()))
    }
}
