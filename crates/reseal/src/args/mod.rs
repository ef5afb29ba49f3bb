//! The command line: every command, flag and example, and nothing that acts.

mod adopt;
mod env;
mod global;
mod reencrypt;
mod rotate;
mod schedule;
mod secrets;
mod snapshots;
mod status;
mod vault;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use adopt::AdoptArgs;
pub(crate) use env::{EnvCheckArgs, EnvCommand, EnvFileArgs, EnvGetArgs, EnvSetArgs, PartArgs};
pub(crate) use global::{Global, Opener};
pub(crate) use reencrypt::{ColumnsArg, DemoArgs, ReencryptCommand, RunArgs, RunsArgs};
pub(crate) use rotate::{
    CheckArgs, OweArgs, RollbackArgs, RotateAction, RotateArgs, RotateCommand, RotateNames, SyncArgs,
};
pub(crate) use schedule::{ScheduleCommand, ScheduleInstallArgs, ScheduleWhereArgs};
pub(crate) use secrets::{
    DeleteArgs, DestroyArgs, ExportArgs, ExportFormat, GenerateArgs, GenerateFormat, GetArgs, KindArg,
    LabelArg, ListArgs, NameArg, PutArgs, ReasonArgs, RevertArgs, ValueArgs, VersionArgs,
};
pub(crate) use snapshots::{
    ImportArgs, ImportFormat, SnapshotAddArgs, SnapshotArg, SnapshotCatArgs, SnapshotCommand,
    SnapshotDiffArgs, SnapshotRestoreArgs,
};
pub(crate) use status::{StatusArgs, StatusFormat};
pub(crate) use vault::{
    AgentArgs, AuditCommand, AuditLogArgs, BackupCommand, InitArgs, KeyAddArgs, KeyCommand, KeyPasswdArgs,
    UnlockArgs,
};

/// An encrypted local vault, and the fastest safe way to re-encrypt database columns under a new key.
#[derive(Debug, Parser)]
#[command(
    name = "reseal",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Exit codes tell scripts what happened: see `reseal exit-codes`.\n\n\
                  Examples:\n  \
                  reseal demo                               everything at once, on a database of its own\n  \
                  reseal init                               make a vault\n  \
                  reseal generate crm/db-key --kind key     a new column key\n  \
                  reseal reencrypt plan client-preferences  look, decrypt samples, write nothing"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a vault; shows its recovery code once
    #[command(
        after_help = "Examples:\n  reseal init\n  reseal --vault crm.vault --passphrase-file /run/keys/crm init"
    )]
    Init(InitArgs),
    /// Hold the vault open in an agent, so that commands do not ask
    #[command(after_help = "Examples:\n  reseal unlock\n  reseal unlock --for 15m")]
    Unlock(UnlockArgs),
    /// End the agent
    #[command(after_help = "Examples:\n  reseal lock")]
    Lock,
    /// Key slots: the ways to open the vault
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal key list\n  reseal key add --name ops\n  reseal key passwd"
    )]
    Key(KeyCommand),
    /// Store a value as the next version of a secret
    #[command(
        after_help = "The value comes from a prompt (asked twice), `-` (stdin; one line end, LF or CR LF, is removed but from --kind file),\n\
        --value-file or --value-fd (kept byte for byte). Never from the command line.\n\n\
        Examples:\n  reseal put crm/smtp/password\n  pass show smtp | reseal put crm/smtp/password -\n  \
        reseal put crm/db-key --pending --value-fd 3 3< key.txt"
    )]
    Put(PutArgs),
    /// Write the value of a secret to stdout
    #[command(
        after_help = "Examples:\n  reseal get crm/smtp/password\n  reseal get crm/db-key --label previous\n  \
        reseal get crm/tls/key --output key.pem"
    )]
    Get(GetArgs),
    /// List secrets
    #[command(
        alias = "ls",
        after_help = "Examples:\n  reseal list\n  reseal list 'crm/*'\n  reseal ls --json"
    )]
    List(ListArgs),
    /// Show what is known about a secret, never its value
    #[command(after_help = "Examples:\n  reseal show crm/db-key")]
    Show(NameArg),
    /// Show the versions of a secret
    #[command(after_help = "Examples:\n  reseal history crm/db-key\n  reseal history crm/db-key --json")]
    History(NameArg),
    /// Make an old version current again, as a new version
    #[command(after_help = "Examples:\n  reseal revert crm/smtp/password --to 3")]
    Revert(RevertArgs),
    /// Let the pending version wait no longer; it stays in the history
    #[command(after_help = "Examples:\n  reseal discard crm/db-key\n  \
        reseal discard crm/db-key --reason 'drawn with the wrong kind'")]
    Discard(ReasonArgs),
    /// Hide a secret; nothing is lost
    #[command(after_help = "Examples:\n  reseal delete crm/old/password\n  reseal list --deleted")]
    Delete(DeleteArgs),
    /// Bring a deleted secret back as it was
    #[command(after_help = "Examples:\n  reseal undelete crm/old/password")]
    Undelete(ReasonArgs),
    /// Destroy the value of a version for good
    #[command(
        after_help = "A version that is current or pending stays. A column key goes only with --reason: what shows that no\n\
        backup, replica or archive of the database needs it any more. Older backups of the vault still hold it.\n\n\
        Examples:\n  reseal destroy crm/smtp/password --version 3\n  \
        reseal destroy crm/db-key --version 1 --reason 'verified 2026-01-31, oldest backup 2026-02-02'"
    )]
    Destroy(DestroyArgs),
    /// Write values out, in the format another program reads
    #[command(after_help = "Examples:\n  reseal export 'crm/*' --format env\n  \
        reseal export 'crm/*' --format k8s | kubectl apply -f -")]
    Export(ExportArgs),
    /// Draw a new value: stored under NAME, or printed without one
    #[command(
        after_help = "Examples:\n  reseal generate\n  reseal generate crm/db-key --kind key --pending\n  \
        reseal generate --format words --length 6"
    )]
    Generate(GenerateArgs),
    /// Store the values of a file as secrets, all or none
    #[command(
        after_help = "REDIS_PASSWORD becomes PREFIX/redis-password and keeps its variable for exports; keys in objects become names with `/`.\n\
        --delete-source removes the file after every value was read back from the vault.\n\n\
        Examples:\n  reseal import .env --prefix crm\n  reseal import .env REDIS_PASSWORD SECRET_KEY --prefix crm\n  \
        reseal import secrets.json -n\n  reseal import old.env --prefix crm --update --delete-source"
    )]
    Import(ImportArgs),
    /// From living `.env` and compose files to a plan and a filled vault; changes nothing else
    #[command(
        after_help = "Finds passwords, keys and tokens by the names of variables and by URLs, tries every login, and writes\n\
        `reseal.toml`. What is not sure is a comment there and a warning here. An existing plan stays as it is.\n\
        Ends with 14 if a server refuses a value: that one is not stored.\n\n\
        Examples:\n  reseal adopt --dry-run\n  reseal adopt /srv/crm --prefix crm/\n  \
        reseal adopt --systemd gunicorn --except .env.test\n  reseal adopt --changed-at 2026-01-31"
    )]
    Adopt(AdoptArgs),
    /// Whole files and streams, kept encrypted: instead of `.env.backup` and `backup.sql`
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal snapshot add .env.backup.* --delete-source\n  \
        pg_dump crm | reseal snapshot add crm/before-rotation -\n  reseal snapshot list\n  reseal snapshot restore 3f9a1c07"
    )]
    Snapshot(SnapshotCommand),
    /// Copies of the vault itself
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal backup create /mnt/usb/crm.vault\n  reseal backup verify /mnt/usb/crm.vault"
    )]
    Backup(BackupCommand),
    /// The log of every action, and its proof
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal audit log --since 2026-01-01\n  reseal audit verify"
    )]
    Audit(AuditCommand),
    /// Change a credential at its service, in its files and in its applications
    #[command(
        after_help = "Rehearsed first, journalled, and taken back where it fails. The same command after an interruption\n\
        is `reseal rotate resume`.\n\n\
        Examples:\n  reseal rotate redis/password\n  reseal rotate --all --dry-run\n  reseal rotate --due\n  \
        reseal rotate smtp/password --value-fd 3 3< new.txt\n  reseal rotate retire"
    )]
    Rotate(RotateCommand),
    /// Look whether the plan is true now: every login, file, running process, overlap and right
    #[command(
        after_help = "One line for each thing; changes nothing. Ends with 14 if something is not as it should\n\
        be, with 1 if it cannot be told, and with 10 in the middle of a rotation.\n\n\
        Examples:\n  reseal check\n  reseal check redis/password\n  reseal check --json"
    )]
    Check(CheckArgs),
    /// Make the plan true with the current values: write, bring over, check; no new value
    #[command(
        after_help = "Touches only what is not as it should be; taken back where it fails. After an interruption\n\
        the same command goes on, and `reseal rotate rollback NAME` goes back.\n\n\
        Examples:\n  reseal sync --dry-run\n  reseal sync\n  reseal sync redis/password --reason 'edited by hand'"
    )]
    Sync(SyncArgs),
    /// How every secret stands: when it changed, when it is due, what waits for a person
    #[command(
        after_help = "The most urgent first. A secret is due from `warn` before its date on, at once when it is owed, and\n\
        where nobody knows how old its value is.\n\n\
        Examples:\n  reseal status\n  reseal status --exit-code --quiet\n  reseal status --markdown > SECRETS.md\n  \
        reseal status --notify"
    )]
    Status(StatusArgs),
    /// Let the system run reseal every day: systemd timers, or lines in the crontab
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal schedule install --dry-run\n  reseal schedule install --rotate\n  reseal schedule show"
    )]
    Schedule(ScheduleCommand),
    /// Re-encrypt database columns under a new key
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal reencrypt plan\n  reseal reencrypt run client-preferences\n  reseal reencrypt status"
    )]
    Reencrypt(ReencryptCommand),
    /// Read and edit `.env` files: the safe `sed -i`, without a vault
    #[command(
        subcommand,
        after_help = "Examples:\n  reseal env set .env REDIS_PASSWORD\n  \
        reseal env get .env DATABASE_URL --part url.password\n  reseal env check .env --reader compose"
    )]
    Env(EnvCommand),
    /// Show the whole job on a private database: re-encrypt, kill, resume, prove
    #[command(after_help = "Examples:\n  reseal demo\n  reseal demo --rows 1000000\n  reseal demo --json")]
    Demo(DemoArgs),
    /// Print shell completions
    #[command(after_help = "Examples:\n  reseal completions bash > /etc/bash_completion.d/reseal\n  \
        reseal completions zsh > ~/.zfunc/_reseal")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print what each exit code means
    #[command(after_help = "Examples:\n  reseal exit-codes\n  reseal exit-codes --json")]
    ExitCodes,
    /// Serve a vault key (started by `unlock`)
    #[command(hide = true, name = "agent-serve")]
    AgentServe(AgentArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn check(command: &clap::Command) {
            if !command.is_hide_set() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
