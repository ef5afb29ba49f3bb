//! What each command does.

mod meta;

use crate::app::App;
use crate::args::Command;
use crate::exit::Exit;
use crate::failure::Outcome;

/// Runs one command.
///
/// # Errors
///
/// Whatever the command failed with.
pub(crate) fn run(app: &App, command: Command) -> Outcome<Exit> {
    match command {
        Command::Completions { shell } => meta::completions(app, shell),
        Command::ExitCodes => meta::exit_codes(app),
    }
}
