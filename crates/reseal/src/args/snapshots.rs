//! Commands on snapshots of files, and on files that are imported.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use reseal_env::Reader;

/// `snapshot`
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Keep files as they are: bytes, mode, owner, path
    #[command(
        after_help = "The same content is stored once, however often it is kept. --delete-source reads every file back from the vault\n\
        before it removes it.\n\n\
        Examples:\n  reseal snapshot add .env docker-compose.yml\n  \
        reseal snapshot add .env.backup.* --delete-source\n  \
        reseal snapshot add --leftovers --delete-source\n  \
        pg_dump crm | reseal snapshot add crm/before-rotation -"
    )]
    Add(SnapshotAddArgs),
    /// List snapshots, the oldest first
    #[command(alias = "ls", after_help = "Examples:\n  reseal snapshot list\n  reseal snapshot list --json")]
    List,
    /// Show what is known about a snapshot, never its content
    #[command(
        after_help = "Examples:\n  reseal snapshot show 3f9a1c07\n  reseal snapshot show crm/before-rotation"
    )]
    Show(SnapshotArg),
    /// Write the content of a snapshot to stdout
    #[command(after_help = "Examples:\n  reseal snapshot cat crm/before-rotation | psql crm\n  \
        reseal snapshot cat 3f9a1c07 --output old.env")]
    Cat(SnapshotCatArgs),
    /// Say what differs between a snapshot and the file it was, another file, or another snapshot
    #[command(
        after_help = "Names of variables are told, and how many lines differ; the lines themselves only with --reveal.\n\n\
        Examples:\n  reseal snapshot diff 3f9a1c07\n  reseal snapshot diff 3f9a1c07 --file .env --reveal\n  \
        reseal snapshot diff 3f9a1c07 --to 77d0e2b1"
    )]
    Diff(SnapshotDiffArgs),
    /// Put a file back as it was: bytes, mode, owner
    #[command(
        after_help = "The file that stands there now is kept as a snapshot first, and replaced only after a yes.\n\n\
        Examples:\n  reseal snapshot restore 3f9a1c07\n  reseal snapshot restore 3f9a1c07 --to /tmp/old.env -y"
    )]
    Restore(SnapshotRestoreArgs),
    /// Remove a snapshot, and of its content what no other one has
    #[command(alias = "rm", after_help = "Examples:\n  reseal snapshot remove 3f9a1c07")]
    Remove(SnapshotArg),
}

/// A snapshot.
#[derive(Debug, Args)]
pub(crate) struct SnapshotArg {
    /// Its id, or the name or path of which the newest is meant
    pub(crate) snapshot: String,
}

/// `snapshot add`
#[derive(Debug, Args)]
pub(crate) struct SnapshotAddArgs {
    /// Files; or a NAME and `-`, which keeps what comes on stdin
    #[arg(value_name = "FILE", required_unless_present = "leftovers")]
    pub(crate) sources: Vec<PathBuf>,
    /// What to call it, instead of the file's path
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Also the files that match `leftovers` of the plan
    #[arg(long)]
    pub(crate) leftovers: bool,
    /// Remove each file once the vault holds it and has given it back the same
    #[arg(long)]
    pub(crate) delete_source: bool,
}

/// `snapshot cat`
#[derive(Debug, Args)]
pub(crate) struct SnapshotCatArgs {
    #[command(flatten)]
    pub(crate) which: SnapshotArg,
    /// Write to this new file, mode 0600, instead of stdout
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// `snapshot diff`
#[derive(Debug, Args)]
pub(crate) struct SnapshotDiffArgs {
    #[command(flatten)]
    pub(crate) which: SnapshotArg,
    /// Compare with this file instead of the one it was
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    pub(crate) file: Option<PathBuf>,
    /// Compare with this snapshot
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) to: Option<String>,
    /// Show the lines that differ, with the values in them
    #[arg(long)]
    pub(crate) reveal: bool,
}

/// `snapshot restore`
#[derive(Debug, Args)]
pub(crate) struct SnapshotRestoreArgs {
    #[command(flatten)]
    pub(crate) which: SnapshotArg,
    /// Put it here, as a file of this user, instead of where it was
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file; `-` reads stdin
    pub(crate) file: PathBuf,
    /// Only these variables or keys
    #[arg(value_name = "VARIABLE")]
    pub(crate) only: Vec<String>,
    /// What the file is; otherwise told from its name
    #[arg(long, value_enum)]
    pub(crate) format: Option<ImportFormat>,
    /// Who reads a `.env` file; may be given more than once. Otherwise the plan's, else a guess
    #[arg(long = "reader", value_name = "READER", value_parser = super::env::reader_parser())]
    pub(crate) readers: Vec<Reader>,
    /// What the names in the vault begin with
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Give secrets that are there already a new version where the value differs; refused otherwise
    #[arg(long)]
    pub(crate) update: bool,
    /// Change the vault although the plan file manages a secret and what it describes keeps the other value
    #[arg(long)]
    pub(crate) vault_only: bool,
    /// When the values were made, if it is known: 2026-01-31 or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "DATE")]
    pub(crate) changed_at: Option<String>,
    /// Remove the file once the vault has given every value back the same
    #[arg(long)]
    pub(crate) delete_source: bool,
    /// Only say what would be stored
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// What an imported file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportFormat {
    /// A `.env` file.
    Dotenv,
    /// An object of strings, numbers and objects.
    Json,
    /// Keys with strings and numbers, in tables or not.
    Toml,
}
