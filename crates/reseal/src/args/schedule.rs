//! `schedule`.

use clap::{Args, Subcommand};

/// What is done with the schedule.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Let the system run reseal every day, with a key slot of its own
    #[command(
        after_help = "Every day people are told how secrets stand; with --rotate, or `rotate` in [schedule] of the plan, due\n\
        secrets are rotated and old values whose overlap is over end. The times are those of [schedule], else 07:00 and\n\
        02:30. The key of the slot is an encrypted credential of systemd where that can be, else a file of mode 0600.\n\
        Installing again makes a new key.\n\n\
        Examples:\n  reseal schedule install --dry-run\n  reseal schedule install --rotate\n  reseal schedule install --cron"
    )]
    Install(ScheduleInstallArgs),
    /// Show what is installed
    #[command(after_help = "Examples:\n  reseal schedule show\n  reseal schedule show --json")]
    Show(ScheduleWhereArgs),
    /// Take timers or lines away, and the key slot
    #[command(after_help = "Examples:\n  reseal schedule remove\n  reseal schedule remove --user")]
    Remove(ScheduleWhereArgs),
}

/// `schedule install`
#[derive(Debug, Args)]
pub(crate) struct ScheduleInstallArgs {
    /// Lines in the crontab of this user instead of systemd timers
    #[arg(long, conflicts_with = "user")]
    pub(crate) cron: bool,
    #[command(flatten)]
    pub(crate) place: ScheduleWhereArgs,
    /// Also rotate what is due, and end old values
    #[arg(long)]
    pub(crate) rotate: bool,
    /// Only show what would be installed
    #[arg(long, short = 'n')]
    pub(crate) dry_run: bool,
}

/// Whose systemd is meant.
#[derive(Debug, Args)]
pub(crate) struct ScheduleWhereArgs {
    /// Units of this user instead of the system's; always so unless root asks
    #[arg(long)]
    pub(crate) user: bool,
}
