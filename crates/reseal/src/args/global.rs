//! The flags that every command takes, before or after its name.

use std::path::PathBuf;

use clap::Args;

use crate::exit::Exit;
use crate::failure::{Failure, Outcome};

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Work as if started in this directory
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub(crate) directory: Option<PathBuf>,
    /// The vault file; otherwise the plan's, else the default vault of this user
    #[arg(long, value_name = "FILE", env = "RESEAL_VAULT", hide_env_values = true, global = true)]
    pub(crate) vault: Option<PathBuf>,
    /// The plan file; otherwise `reseal.toml` here or in a directory above
    #[arg(long, value_name = "FILE", env = "RESEAL_CONFIG", hide_env_values = true, global = true)]
    pub(crate) config: Option<PathBuf>,
    /// Read the passphrase from this file (one trailing newline is removed)
    #[arg(long, value_name = "FILE", global = true)]
    passphrase_file: Option<PathBuf>,
    /// Read the passphrase from the output of this command, run by `sh -c`
    #[arg(long, value_name = "COMMAND", global = true)]
    passphrase_command: Option<String>,
    /// Read the passphrase from this open descriptor
    #[arg(long, value_name = "N", global = true)]
    passphrase_fd: Option<u32>,
    /// Open with this key file instead of a passphrase
    #[arg(long, value_name = "FILE", global = true)]
    key_file: Option<PathBuf>,
    /// Print one JSON object; values only with --reveal
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing but results, warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Log what is done to stderr (-vv, -vvv for more)
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Never ask; fail where an answer is needed
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
    /// Answer yes where a confirmation is asked
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// The way to open the vault that the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opener {
    /// A passphrase in a file.
    PassphraseFile(PathBuf),
    /// A passphrase on the stdout of a shell command.
    PassphraseCommand(String),
    /// A passphrase behind an open descriptor.
    PassphraseFd(u32),
    /// A key file.
    KeyFile(PathBuf),
}

impl Global {
    /// The way to open the vault, if one is named.
    ///
    /// # Errors
    ///
    /// More than one is named.
    pub(crate) fn opener(&self) -> Outcome<Option<Opener>> {
        let mut named = [
            self.passphrase_file.clone().map(Opener::PassphraseFile),
            self.passphrase_command.clone().map(Opener::PassphraseCommand),
            self.passphrase_fd.map(Opener::PassphraseFd),
            self.key_file.clone().map(Opener::KeyFile),
        ]
        .into_iter()
        .flatten();
        let first = named.next();
        if named.next().is_some() {
            return Err(Failure::new(Exit::Usage, "more than one way to open the vault is named")
                .hint("give one of --passphrase-file, --passphrase-command, --passphrase-fd, --key-file"));
        }
        Ok(first)
    }
}
