//! The command line: every command, flag and example, and nothing that acts.

mod global;
mod secrets;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

pub(crate) use global::{Global, Opener};
pub(crate) use secrets::ValueArgs;
/// An encrypted local vault, and the fastest safe way to re-encrypt database columns under a new key.
#[derive(Debug, Parser)]
#[command(
    name = "reseal",
    version,
    propagate_version = true,
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
            let leaf = command.get_subcommands().next().is_none();
            if leaf && !command.is_hide_set() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:"), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
