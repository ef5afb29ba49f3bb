//! Side-by-side benchmarks of reseal: every comparison happens in one run, on one machine, against one private server.
//!
//! ```text
//! cargo run --release -p reseal-bench -- engine --rows 1000000 --json
//! cargo build --release --workspace && target/release/reseal-bench vault
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go to the terminal")]

mod engine;
mod key_file;
mod vault;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// As in the command.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What goes wrong here is told to a person and ends the run.
type BoxError = Box<dyn Error + Send + Sync>;

/// Side-by-side benchmarks of reseal.
#[derive(Debug, Parser)]
#[command(name = "reseal-bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Re-encryption of Postgres columns against a plain UPDATE, the runbook's UPDATE and a Python loop.
    Engine(engine::Options),
    /// `status` over a large vault, and a rotation of many secrets over many files: whole processes.
    Vault(vault::Options),
    /// One run of reseal as a process of its own, so that its memory and CPU time can be told from the rest.
    #[command(hide = true)]
    Side(engine::SideOptions),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Engine(options) => engine::run(&options),
        Command::Vault(options) => vault::run(&options),
        Command::Side(options) => engine::run_side(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
