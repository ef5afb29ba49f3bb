//! Commands on rotations.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::units::parse_reason;

/// `rotate`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RotateCommand {
    #[command(flatten)]
    pub(crate) args: RotateArgs,
    #[command(subcommand)]
    pub(crate) action: Option<RotateAction>,
}

/// What else is done with rotations.
#[derive(Debug, Subcommand)]
pub(crate) enum RotateAction {
    /// Rehearse: prove every edit on a copy, log in, check rights; writes nothing
    #[command(after_help = "Examples:\n  reseal rotate plan\n  reseal rotate plan redis/password --json")]
    Plan(RotateNames),
    /// Go on with what was interrupted or parked
    #[command(after_help = "Examples:\n  reseal rotate resume\n  reseal rotate resume redis/password")]
    Resume(RotateNames),
    /// Take the last rotation back: service, files and labels
    #[command(after_help = "Possible until the old value has ended.\n\n\
        Examples:\n  reseal rotate rollback redis/password -y")]
    Rollback(RollbackArgs),
    /// Give up a rotation that needs attention, where neither resume nor rollback can work
    #[command(
        after_help = "Touches nothing outside. Both values stay in the history, and a rotation is owed.\n\n\
        Examples:\n  reseal rotate abandon redis/password --reason 'the server was set up anew'"
    )]
    Abandon(OweArgs),
    /// End the old value; without names, wherever its overlap is over
    #[command(after_help = "Examples:\n  reseal rotate retire\n  reseal rotate retire redis/password -y")]
    Retire(RotateNames),
    /// Mark a secret as due at once, because its value was seen where it should not be
    #[command(after_help = "Examples:\n  reseal rotate owe redis/password --reason 'in a screenshot'")]
    Owe(OweArgs),
    /// Show rotations that are not over, and what is owed
    #[command(after_help = "Examples:\n  reseal rotate status\n  reseal rotate status --json")]
    Status(RotateNames),
}

/// `rotate NAME…`
#[derive(Debug, Args)]
pub(crate) struct RotateArgs {
    /// Names of secrets in the plan; `-` takes the new value of one from stdin
    #[arg(value_name = "NAME", required_unless_present_any = ["all", "due"])]
    pub(crate) names: Vec<String>,
    /// Every secret of the plan whose value reseal can make
    #[arg(long, conflicts_with = "names")]
    pub(crate) all: bool,
    /// Every secret that is due or owed, within its hours, whose value reseal can make
    #[arg(long, conflicts_with_all = ["names", "all"])]
    pub(crate) due: bool,
    /// With --due: end with 13 if nothing was due, and with 11 if something due was left
    #[arg(long, requires = "due")]
    pub(crate) exit_code: bool,
    /// Only rehearse; the same as `rotate plan`
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
    /// End the old value at once, with all sessions that it opened, once the new one is everywhere
    #[arg(long, requires = "reason")]
    pub(crate) emergency: bool,
    /// Back the vault up to this file first, so that a new key of columns exists twice
    #[arg(long, value_name = "FILE")]
    pub(crate) backup: Option<PathBuf>,
    /// Let a new key of columns exist once only, for this reason
    #[arg(long, value_name = "REASON", value_parser = parse_reason, conflicts_with = "backup")]
    pub(crate) no_backup: Option<String>,
    /// Take the new value from this file, byte for byte
    #[arg(long, value_name = "FILE", conflicts_with_all = ["all", "due"])]
    pub(crate) value_file: Option<PathBuf>,
    /// Take the new value from this open descriptor, byte for byte
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "due", "value_file"])]
    pub(crate) value_fd: Option<u32>,
}

/// Which secrets.
#[derive(Debug, Args)]
pub(crate) struct RotateNames {
    /// Names of secrets in the plan; all that are concerned if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `check`
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Names of secrets in the plan; all of it if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
}

/// `sync`
#[derive(Debug, Args)]
pub(crate) struct SyncArgs {
    /// Names of secrets in the plan; all of it if none is given
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Only look and rehearse
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
}

/// `rotate rollback`
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Names of secrets in the plan
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Why, for the audit log
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) reason: Option<String>,
}

/// `rotate owe` and `rotate abandon`
#[derive(Debug, Args)]
pub(crate) struct OweArgs {
    /// Names of secrets in the plan
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    /// Why, for the audit log and every status
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    pub(crate) reason: String,
}
