//! Commands on secrets.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::units::parse_reason;

/// A command about one secret.
#[derive(Debug, Args)]
pub(crate) struct NameArg {
    /// Name of the secret, such as crm/redis/password
    pub(crate) name: String,
}

/// Where a value comes from.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("value").multiple(false))]
pub(crate) struct ValueArgs {
    /// `-` reads the value from stdin
    #[arg(value_name = "-", group = "value")]
    pub(crate) stdin: Option<String>,
    /// Read the value from this file, byte for byte
    #[arg(long, value_name = "FILE", group = "value")]
    pub(crate) value_file: Option<PathBuf>,
    /// Read the value from this open descriptor, byte for byte
    #[arg(long, value_name = "N", group = "value")]
    pub(crate) value_fd: Option<u32>,
}

impl ValueArgs {
    /// Whether they say where the value comes from.
    pub(crate) fn is_given(&self) -> bool {
        self.stdin.is_some() || self.value_file.is_some() || self.value_fd.is_some()
    }
}

/// What a stored version is, besides its value.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// What the value is
    #[arg(long, value_enum)]
    pub(crate) kind: Option<KindArg>,
    /// Store it as the pending version: not current before it is in use everywhere
    #[arg(long)]
    pub(crate) pending: bool,
    /// Only if this version is the current one now; 0 for none
    #[arg(long, value_name = "N", conflicts_with = "create_only")]
    pub(crate) if_version: Option<u64>,
    /// Only if there is no such secret yet
    #[arg(long)]
    pub(crate) create_only: bool,
    /// Change the vault although the plan file manages the secret and what it describes keeps the other value
    #[arg(long)]
    pub(crate) vault_only: bool,
    /// When the value was made, if not now: 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "DATE")]
    pub(crate) changed_at: Option<String>,
    /// When the value ends to be valid
    #[arg(long, value_name = "DATE")]
    pub(crate) expires: Option<String>,
    /// Who answers for it
    #[arg(long)]
    pub(crate) owner: Option<String>,
    /// Its environment variable in exports, instead of the name in capitals
    #[arg(long, value_name = "VARIABLE")]
    pub(crate) env: Option<String>,
    /// A note kept with the secret, encrypted
    #[arg(long)]
    pub(crate) note: Option<String>,
    /// A tag; may be given more than once
    #[arg(long = "tag", value_name = "TAG")]
    pub(crate) tags: Vec<String>,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// A password or passphrase.
    Password,
    /// A column key: 32 bytes as 43 characters of base64url.
    Key,
    /// A token that a service issued.
    Token,
    /// The content of a file.
    File,
}

/// `put`
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// Name of the secret, such as crm/redis/password
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) value: ValueArgs,
    #[command(flatten)]
    pub(crate) version: VersionArgs,
}

/// `get`
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of the secret
    pub(crate) name: String,
    /// This version instead of the current one
    #[arg(long, value_name = "N", conflicts_with = "label")]
    pub(crate) version: Option<u64>,
    /// The version with this label
    #[arg(long, value_enum)]
    pub(crate) label: Option<LabelArg>,
    /// Write to this new file, mode 0600, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// With --json: put the value into the object
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// A label on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LabelArg {
    /// In use.
    Current,
    /// Not in use yet.
    Pending,
    /// In use before.
    Previous,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only names that match; `*` stands for any characters but `/`
    pub(crate) pattern: Option<String>,
    /// Also those that were deleted
    #[arg(long)]
    pub(crate) deleted: bool,
}

/// A secret, and why something is done with it.
#[derive(Debug, Args)]
pub(crate) struct ReasonArgs {
    /// Name of the secret
    pub(crate) name: String,
    /// Why, for the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
}

/// `delete`
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) secret: ReasonArgs,
    /// Delete it although the plan file manages it
    #[arg(long)]
    pub(crate) vault_only: bool,
}

/// `destroy`
#[derive(Debug, Args)]
pub(crate) struct DestroyArgs {
    #[command(flatten)]
    pub(crate) secret: ReasonArgs,
    /// The version whose value is destroyed
    #[arg(long, value_name = "N")]
    pub(crate) version: u64,
}

/// `revert`
#[derive(Debug, Args)]
pub(crate) struct RevertArgs {
    /// Name of the secret
    pub(crate) name: String,
    /// The version to copy forward
    #[arg(long, value_name = "N")]
    pub(crate) to: u64,
    /// Change the vault although the plan file manages the secret and what it describes keeps the other value
    #[arg(long)]
    pub(crate) vault_only: bool,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Only names that match; `*` stands for any characters but `/`
    pub(crate) pattern: Option<String>,
    /// What the reader understands
    #[arg(long, value_enum, default_value = "env")]
    pub(crate) format: ExportFormat,
    /// Write to this new file, mode 0600, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// With --format k8s: name of the Kubernetes secret
    #[arg(long, value_name = "NAME", default_value = "reseal")]
    pub(crate) secret_name: String,
    /// With the global --json: put the values into the object
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// What an export looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// NAME="value" lines as dotenv readers take them.
    Env,
    /// One JSON object of strings.
    Json,
    /// `export NAME='value'` lines for a POSIX shell.
    Shell,
    /// NAME=value lines for `docker run --env-file`.
    Docker,
    /// A Kubernetes Secret manifest.
    K8s,
}

/// `generate`
#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Store under this name; without one the value is printed
    pub(crate) name: Option<String>,
    /// The alphabet
    #[arg(long, value_enum)]
    pub(crate) format: Option<GenerateFormat>,
    /// Length in characters (in words for `words`)
    #[arg(long, value_name = "N", conflicts_with = "bytes")]
    pub(crate) length: Option<u16>,
    /// Random bytes before they are written as text
    #[arg(long, value_name = "N")]
    pub(crate) bytes: Option<u16>,
    #[command(flatten)]
    pub(crate) version: VersionArgs,
    /// With --json and no NAME: put the value into the object
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// What a generated value is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GenerateFormat {
    /// A-Z a-z 0-9 - _
    Base64url,
    /// 0-9 a-f
    Hex,
    /// A-Z a-z 0-9 + / =
    Base64,
    /// A-Z a-z 0-9
    Alnum,
    /// The 50 characters of Django's key generator.
    Django,
    /// Words of a list, joined by hyphens.
    Words,
}
