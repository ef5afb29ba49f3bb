//! `status`.

use clap::{Args, ValueEnum};

/// `status`
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Names of secrets in the plan or in the vault; all of both if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// How it is told
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) format: StatusFormat,
    /// The same as --format markdown
    #[arg(long, conflicts_with = "format")]
    pub(crate) markdown: bool,
    /// End with 11 if something is due, and with 10 if a rotation waits for a person
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Tell the recipients of the plan what is due, expired, owed or stuck; writes nothing where nothing is
    #[arg(long)]
    pub(crate) notify: bool,
}

/// How the status is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// Columns for a terminal
    Table,
    /// A table for a page or a message
    Markdown,
    /// The same as --json
    Json,
}
