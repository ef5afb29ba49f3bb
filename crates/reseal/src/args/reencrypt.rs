//! Commands on columns, and the demo.

use std::num::{NonZeroU32, NonZeroUsize};

use clap::{Args, Subcommand};
use reseal_engine::RunId;

use crate::units::parse_reason;

/// `reencrypt`
#[derive(Debug, Subcommand)]
pub(crate) enum ReencryptCommand {
    /// Log in, look at the table, decrypt samples, estimate; writes nothing
    #[command(
        after_help = "Examples:\n  reseal reencrypt plan client-preferences\n  reseal reencrypt plan --json"
    )]
    Plan(ColumnsArg),
    /// Re-encrypt under the pending key, with proof; goes on with an unfinished run
    #[command(
        after_help = "The new key must be in a backup made after it, or waived with --no-backup REASON.\n\n\
        Examples:\n  reseal generate crm/db-key --kind key --pending\n  \
        reseal backup create /mnt/usb/crm.vault\n  reseal reencrypt run client-preferences -y"
    )]
    Run(BeginArgs),
    /// Go on with an unfinished run
    #[command(after_help = "Examples:\n  reseal reencrypt resume client-preferences")]
    Resume(RunArgs),
    /// Show the runs and how far they are
    #[command(after_help = "Examples:\n  reseal reencrypt status\n  \
        reseal reencrypt status client-preferences --quarantine\n  reseal reencrypt status --json")]
    Status(RunsArgs),
    /// Open every value under the key it should have, and count
    #[command(after_help = "Examples:\n  reseal reencrypt verify client-preferences")]
    Verify(ColumnsArg),
    /// Take an unfinished or finished run back: the same engine, keys swapped
    #[command(after_help = "Examples:\n  reseal reencrypt rollback client-preferences -y")]
    Rollback(RunArgs),
}

/// Which columns.
#[derive(Debug, Args)]
pub(crate) struct ColumnsArg {
    /// Names of `[columns.NAME]` in the plan; all of them if none is given
    #[arg(value_name = "COLUMNS")]
    pub(crate) columns: Vec<String>,
}

/// `reencrypt status`
#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    #[command(flatten)]
    pub(crate) which: ColumnsArg,
    /// List the values that were left as they are: table, column, row key and reason, never the value
    #[arg(long)]
    pub(crate) quarantine: bool,
}

/// `reencrypt run`
#[derive(Debug, Args)]
pub(crate) struct BeginArgs {
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// End this run, which is active in the database and unknown to the vault, and go on where it stopped
    #[arg(long, value_name = "RUN", value_parser = parse_run)]
    pub(crate) supersede: Option<RunId>,
}

fn parse_run(text: &str) -> Result<RunId, String> {
    RunId::from_hex(text).ok_or_else(|| "a run has 32 hex digits".to_owned())
}

/// `reencrypt run`, `resume` and `rollback`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) which: ColumnsArg,
    /// Go without a backup that holds the new key; the reason goes into the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) no_backup: Option<String>,
    /// Connections that work at the same time; by default from the number of cores
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Passes over the table before it gives up on writers that still use the old key
    #[arg(long, value_name = "N", default_value = "10")]
    pub(crate) passes: NonZeroU32,
    /// Values that may be left as they are, because they open under neither key, before it stops; empty ones do not count
    #[arg(long, value_name = "N", default_value_t = reseal_engine::RunOptions::default().quarantine_max)]
    pub(crate) max_quarantine: u64,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Rows of the table
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub(crate) rows: u64,
    /// A database of your own to work in instead of a private server; a schema is made and dropped. It has to let you in
    /// without a password and without TLS, for example over its socket
    #[arg(long, value_name = "URL")]
    pub(crate) postgres: Option<String>,
    /// Use SQLite even where Postgres is installed
    #[arg(long, conflicts_with = "postgres")]
    pub(crate) sqlite: bool,
}
