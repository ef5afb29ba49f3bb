//! What a secret is: names, versions, labels, kinds, states.

use std::fmt;
use std::str::FromStr;

use reseal_crypto::{ColumnKey, Commitment, KeyMaterial, SecretBytes};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::name::SecretName;

/// The most secrets of one vault.
pub const SECRETS_MAX: u64 = 100_000;
/// The longest value, in bytes.
pub const VALUE_MAX: usize = 16 << 20;

/// What a value is. Belongs to the version, so that a secret can move from a passphrase to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretKind {
    /// A password or passphrase.
    Password,
    /// A column key: 32 bytes, kept and shown as 43 characters of base64url.
    Key,
    /// A token that a service issued.
    Token,
    /// The contents of a file.
    File,
}

impl SecretKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Password, Self::Key, Self::Token, Self::File];

    /// The name in commands and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Key => "key",
            Self::Token => "token",
            Self::File => "file",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no kind, or no label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is none of {choices}")]
pub struct UnknownWord {
    given: String,
    choices: &'static str,
}

impl FromStr for SecretKind {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| UnknownWord { given: text.to_owned(), choices: "password, key, token, file" })
    }
}

/// A name that moves from version to version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// The value in use.
    Current,
    /// The value that a rotation is bringing out.
    Pending,
    /// The value that was in use before.
    Previous,
}

impl Label {
    /// Every label.
    pub const ALL: [Self; 3] = [Self::Current, Self::Pending, Self::Previous];

    /// The name in commands and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Pending => "pending",
            Self::Previous => "previous",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Label {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|label| label.name() == text);
        known.ok_or_else(|| UnknownWord { given: text.to_owned(), choices: "current, pending, previous" })
    }
}

/// Which versions the labels stand on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The version in use; none while a new secret has only a pending one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    /// The version that a rotation is bringing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<u64>,
    /// The version in use before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
}

impl Labels {
    /// The version under a label.
    pub fn get(&self, label: Label) -> Option<u64> {
        match label {
            Label::Current => self.current,
            Label::Pending => self.pending,
            Label::Previous => self.previous,
        }
    }

    /// The labels on a version.
    pub fn of(&self, version: u64) -> impl Iterator<Item = Label> + '_ {
        Label::ALL.into_iter().filter(move |label| self.get(*label) == Some(version))
    }

    /// Makes `version` the current one; what was current becomes previous.
    pub(crate) fn advance(&mut self, version: u64) {
        if self.current != Some(version) {
            self.previous = self.current.replace(version);
        }
        self.pending = self.pending.filter(|pending| *pending != version);
    }
}

/// What a version can still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// Everything.
    Live,
    /// It still opens what it sealed, and never seals again.
    Retired,
    /// Nothing: its data key is gone, and with it the value.
    Destroyed,
}

/// What people say about a secret. Sealed like everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attributes {
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notes: Option<String>,
    /// Words to find it by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The name of its environment variable, if it is not the name in capitals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
}

impl Attributes {
    /// Takes over what `newer` says, and keeps the rest.
    pub(crate) fn update(&mut self, newer: Self) {
        self.notes = newer.notes.or(self.notes.take());
        self.owner = newer.owner.or(self.owner.take());
        self.env = newer.env.or(self.env.take());
        if !newer.tags.is_empty() {
            self.tags = newer.tags;
        }
    }
}

/// What a new version must find: compare-and-set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    #[default]
    Any,
    /// No secret of this name.
    CreateOnly,
    /// This version being current; 0 for none.
    IfVersion(u64),
}

/// A version to be stored.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The value, at most 16 MiB; for kind `key` the text form of one.
    pub value: SecretBytes,
    /// What it is.
    pub kind: SecretKind,
    /// Whether it is pending; otherwise it becomes current at once.
    pub pending: bool,
    /// What must be there.
    pub expect: Expect,
    /// When the value came into being, if that is known; age counts from here.
    pub changed_at: Option<Timestamp>,
    /// When it ends to be valid.
    pub expires_at: Option<Timestamp>,
    /// What is said about the secret; what is empty here stays as it was.
    pub attributes: Attributes,
}

impl NewVersion {
    /// A value that becomes current, whatever there is, and whose age is not known yet.
    pub fn new(kind: SecretKind, value: SecretBytes) -> Self {
        Self {
            value,
            kind,
            pending: false,
            expect: Expect::Any,
            changed_at: None,
            expires_at: None,
            attributes: Attributes::default(),
        }
    }
}

/// Which version is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum VersionSelector {
    /// The one in use.
    #[default]
    Current,
    /// The one under a label.
    Label(Label),
    /// The one of this number.
    Number(u64),
}

/// A secret without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// When its first version was stored.
    pub created_at: Timestamp,
    /// When it was deleted, if it is; undeleting is possible.
    pub deleted_at: Option<Timestamp>,
    /// The number of its newest version.
    pub latest: u64,
    /// Where the labels stand.
    pub labels: Labels,
    /// What people say about it.
    pub attributes: Attributes,
}

/// A version without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its number, from 1.
    pub number: u64,
    /// What it is.
    pub kind: SecretKind,
    /// What it can still do.
    pub state: VersionState,
    /// The labels on it.
    pub labels: Vec<Label>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// When the value came into being; `None` is unknown.
    pub changed_at: Option<Timestamp>,
    /// When it ends to be valid.
    pub expires_at: Option<Timestamp>,
    /// Bytes of the value.
    pub len: u64,
    /// For kind `key`: the public name of the key.
    pub commitment: Option<Commitment>,
}

/// A value that was released, with what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name of the secret.
    pub name: SecretName,
    /// Number of the version.
    pub version: u64,
    /// What it is.
    pub kind: SecretKind,
    /// Whether it may still seal.
    pub state: VersionState,
    /// The name of its environment variable, if it is not the name in capitals.
    pub env: Option<String>,
    /// The value.
    pub value: SecretBytes,
}

impl Secret {
    /// The value as a keyring holds it: a column key if it is of kind `key`, else a foreign one.
    pub fn key_material(&self) -> KeyMaterial {
        match self.column_key() {
            Some(key) => KeyMaterial::Column(key),
            None => KeyMaterial::Foreign(self.value.clone()),
        }
    }

    /// The column key, if it is of kind `key`.
    pub fn column_key(&self) -> Option<ColumnKey> {
        // EXPOSE: copied into a key type that wipes itself.
        (self.kind == SecretKind::Key).then(|| ColumnKey::from_text(self.value.expose())).flatten()
    }
}
