//! Commands on the vault itself.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::units::parse_duration;

/// `init`
#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// Make no recovery code: a forgotten passphrase is then the end of the vault
    #[arg(long)]
    pub(crate) no_recovery_code: bool,
    /// Write the recovery code to this new file, mode 0600, instead of showing it
    #[arg(long, value_name = "FILE", conflicts_with = "no_recovery_code")]
    pub(crate) recovery_code_file: Option<PathBuf>,
    /// Write the auditor's key to this new file, mode 0600: with it `audit verify` computes every MAC again
    #[arg(long, value_name = "FILE")]
    pub(crate) auditor_key_file: Option<PathBuf>,
    /// Memory of the passphrase derivation in MiB, 64 to 2048; calibrated to this machine if left out
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..=2048))]
    pub(crate) kdf_memory: Option<u32>,
}

/// `unlock`
#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// How long at most, such as 15m or 8h
    #[arg(long = "for", value_name = "DURATION", default_value = "8h", value_parser = parse_duration)]
    pub(crate) hard: Duration,
    /// How long without use
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = parse_duration)]
    pub(crate) idle: Duration,
}

/// `agent-serve`
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// The vault whose key is held
    #[arg(long)]
    pub(crate) vault_id: String,
    /// Idle limit in seconds
    #[arg(long)]
    pub(crate) idle_secs: u64,
    /// Hard limit in seconds
    #[arg(long)]
    pub(crate) hard_secs: u64,
}

/// `key`
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// List the key slots
    #[command(after_help = "Examples:\n  reseal key list")]
    List,
    /// Add a way to open the vault
    #[command(
        after_help = "Examples:\n  reseal key add --name ops\n  reseal key add --name ci --new-key-file ci.key\n  \
        reseal key add --recovery-code"
    )]
    Add(KeyAddArgs),
    /// Remove a key slot; the last one stays
    #[command(after_help = "Examples:\n  reseal key remove ops")]
    Remove {
        /// Name of the slot, as `key list` shows it
        slot: String,
    },
    /// Change the passphrase of a slot
    #[command(after_help = "Examples:\n  reseal key passwd\n  \
        reseal key passwd --passphrase-file old --new-passphrase-file new")]
    Passwd(KeyPasswdArgs),
}

/// `key add`
#[derive(Debug, Args)]
pub(crate) struct KeyAddArgs {
    /// Name of the new slot
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_key_file", "recovery_code"])]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// Draw a key into this new file, mode 0600, and open with it
    #[arg(long, value_name = "FILE", conflicts_with = "recovery_code")]
    pub(crate) new_key_file: Option<PathBuf>,
    /// Draw a recovery code and show it once
    #[arg(long)]
    pub(crate) recovery_code: bool,
}

/// `key passwd`
#[derive(Debug, Args)]
pub(crate) struct KeyPasswdArgs {
    /// Read the new passphrase from this file instead of asking
    #[arg(long, value_name = "FILE")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
}

/// `backup`
#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Copy the vault to a new file and open every record of the copy
    #[command(after_help = "Examples:\n  reseal backup create /mnt/usb/crm-2026-01-31.vault")]
    Create {
        /// The new file
        to: PathBuf,
    },
    /// Open every record of a backup
    #[command(after_help = "Examples:\n  reseal backup verify /mnt/usb/crm-2026-01-31.vault")]
    Verify {
        /// The backup
        file: PathBuf,
    },
    /// Write a backup into the vault's place; what it replaces is kept beside it
    #[command(after_help = "Examples:\n  reseal backup restore /mnt/usb/crm-2026-01-31.vault\n  \
        reseal backup restore /mnt/usb/old.vault --accept-older")]
    Restore {
        /// The backup
        from: PathBuf,
        /// Accept that it is older than what this machine has seen
        #[arg(long)]
        accept_older: bool,
    },
}

/// `audit`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Print the log
    #[command(after_help = "Examples:\n  reseal audit log\n  reseal audit log --since 2026-01-01 --json")]
    Log(AuditLogArgs),
    /// Prove that no entry was changed, removed or added
    #[command(
        after_help = "Examples:\n  reseal audit verify\n  reseal audit verify --auditor-key auditor.key"
    )]
    Verify {
        /// The auditor's key that `init` wrote: every MAC is computed again
        #[arg(long, value_name = "FILE")]
        auditor_key: Option<PathBuf>,
    },
}

/// `audit log`
#[derive(Debug, Args)]
pub(crate) struct AuditLogArgs {
    /// From this moment: 2026-01-31, 2026-01-31T12:00:00Z, or a duration back such as 7d
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Before this moment
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
}
