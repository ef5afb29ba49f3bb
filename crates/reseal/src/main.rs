//! The command `reseal`: arguments in, words and exit codes out.

mod app;
mod args;
mod causes;
mod commands;
mod demo;
mod exit;
mod failure;
mod input;
mod log;
mod managed;
mod new_file;
mod open;
mod parse;
mod readers;
mod signals;
mod ui;
mod units;
mod values;
mod when;
mod whole_file;

use std::process::ExitCode;

/// Batches are megabytes that come and go on several threads: the system's allocator gives them back to the kernel and
/// has every page cleared again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let as_json = parse::wants_json(&arguments);
    let ended = parse::command_line(arguments).and_then(|cli| {
        let Some(cli) = cli else { return Ok(exit::Exit::Done) };
        let app = app::App::new(cli.global)?;
        commands::run(&app, cli.command)
    });
    ended
        .unwrap_or_else(|failure| {
            failure.report(as_json);
            failure.exit()
        })
        .into()
}
