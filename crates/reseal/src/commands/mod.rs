//! What each command does.

mod adopt;
mod agent;
mod audit;
mod backup;
mod difference;
mod ends;
mod env;
mod export;
mod import;
mod lifecycle;
mod meta;
mod notices;
mod reencrypt;
mod restore;
mod rotate;
mod schedule;
mod secrets;
mod snapshots;
mod status;
mod vault;

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
        Command::Init(args) => vault::init(app, &args),
        Command::Unlock(args) => agent::unlock(app, &args),
        Command::Lock => agent::lock(app),
        Command::Key(command) => vault::key(app, command),
        Command::Put(args) => secrets::put(app, &args),
        Command::Get(args) => secrets::get(app, &args),
        Command::List(args) => secrets::list(app, &args),
        Command::Show(args) => secrets::show(app, &args),
        Command::History(args) => secrets::history(app, &args),
        Command::Revert(args) => lifecycle::revert(app, &args),
        Command::Discard(args) => lifecycle::discard(app, &args),
        Command::Delete(args) => lifecycle::delete(app, &args),
        Command::Undelete(args) => lifecycle::undelete(app, &args),
        Command::Destroy(args) => lifecycle::destroy(app, &args),
        Command::Export(args) => export::run(app, &args),
        Command::Generate(args) => secrets::generate_value(app, &args),
        Command::Import(args) => import::run(app, &args),
        Command::Adopt(args) => adopt::run(app, &args),
        Command::Snapshot(command) => snapshots::run(app, &command),
        Command::Backup(command) => backup::run(app, &command),
        Command::Audit(command) => audit::run(app, &command),
        Command::Rotate(command) => rotate::run(app, &command),
        Command::Check(args) => rotate::check(app, &args),
        Command::Sync(args) => rotate::sync(app, &args),
        Command::Status(args) => status::run(app, &args),
        Command::Schedule(command) => schedule::run(app, &command),
        Command::Reencrypt(command) => reencrypt::run(app, &command),
        Command::Env(command) => env::run(app, command),
        Command::Demo(args) => crate::demo::run(app, &args),
        Command::Completions { shell } => meta::completions(app, shell),
        Command::ExitCodes => meta::exit_codes(app),
        Command::AgentServe(args) => agent::serve(&args),
    }
}
